"""Testimony: what the gateways' records say, each record checked before it is heard.

Decides whether a gateway's chain of records may be believed, and gathers its windows, gaps and configurations. Who may
speak was decided in `authority`; what the windows mean is decided in `measurement`. Many records may be heard at once
where nothing is unusual about them (`swift`); whatever is, is heard here, one record after the other, with its words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocols.errors import Refused, Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence.authority import Gateway, RegisteredPlan
from protocols.evidence.chain import ChainState, is_beginning
from protocols.evidence.clockwatch import ClockFound, ClockRow, ClockWatch
from protocols.evidence.continuity import LineTime
from protocols.evidence.cose import Kid
from protocols.evidence.dated import Calendar
from protocols.evidence.examination import At, Entry, Examination, Failed
from protocols.evidence.keys import load_public_key
from protocols.evidence.late import Places
from protocols.evidence.proof_plan import DAY_MS
from protocols.evidence.record import (
    ROOT_TYPES,
    Amendment,
    Configurations,
    Gap,
    LineStatement,
    Measurement,
    RawGap,
    RecordType,
    SignedRecord,
)
from protocols.evidence.verdict import Step
from protocols.measurement.amendment import Included, Source
from protocols.measurement.definition import data_hash
from protocols.measurement.outcome import Outcome, outcome_of
from protocols.measurement.periods import period_sums_of
from protocols.measurement.plan import Plan

BASELINE, REPORTING = "baseline", "reporting"
_BATCH_BYTES = 1 << 23
_BATCH_RECORDS = 4_096


@dataclass(slots=True)
class Hearing:
    """One key's chain while it is heard. `at`, `index`: place and log index (if proven) of its last record."""

    file: str
    kid: Kid
    gateway: Gateway
    public_key: Ed25519PublicKey
    proven: frozenset[int]
    places: Places
    at: At
    clock: ClockWatch
    state: ChainState | None = None
    begun: bool = False  # the reporting period
    day: int | None = None
    proven_day: int | None = None
    index: int | None = None
    last_index: int = -1  # of the last record that is proven


class Swift(Protocol):
    """Hears many records at once: all of them, or, giving False, none. `takes`: which may stand in a batch."""

    def takes(self, raw: bytes) -> bool: ...

    def hear(self, testimony: Testimony, hearing: Hearing, entries: Sequence[Entry]) -> bool: ...


@dataclass(slots=True)
class Testimony:
    """What was heard. `times`: by line of the plan. `configurations`: by hash.

    `reporting_indices`: log index of each chain's first record of the reporting period.
    """

    registered: RegisteredPlan
    examination: Examination
    swift: Swift | None = None
    calendar: Calendar = field(default_factory=Calendar)
    times: dict[str, LineTime] = field(init=False)
    configurations: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    clock_sources: set[str] = field(default_factory=set)
    reporting_indices: list[int] = field(default_factory=list)
    late_starts: dict[str, int] = field(default_factory=dict)  # file to first sequence, where it is not 0
    raw_gaps: list[RawGap] = field(default_factory=list)
    record_count: int = 0
    clocks: ClockFound = field(default_factory=ClockFound)
    _late: list[tuple[Amendment, Source]] = field(default_factory=list)

    def __post_init__(self) -> None:
        periods = {BASELINE: self.plan.baseline, REPORTING: self.plan.reporting}
        self.times = {line_id: LineTime(line_id, periods) for line_id in self.plan.line_ids}

    @property
    def plan(self) -> Plan:
        return self.registered.plan

    @property
    def amendments(self) -> list[Included]:
        """What came late about the plan's periods, in the order of keys and sequences."""
        found = (each for time in self.times.values() for each in time.revisions.included)
        return sorted(found, key=lambda each: each.source)

    def outcome(self) -> Outcome:
        """The figures that follow from what was heard, with every amendment made."""
        baseline, reporting = (
            period_sums_of(self.plan, period, [self.times[line_id].tallies[name] for line_id in self.plan.line_ids])
            for name, period in ((BASELINE, self.plan.baseline), (REPORTING, self.plan.reporting))
        )
        return outcome_of(self.plan, baseline, reporting, self.amendments)

    def hear_chain(self, kid: Kid, gateway: Gateway) -> None:
        """Check and gather one key's records. Raises Failed at the first that does not hold."""
        file, bundle = bundles.records_file(kid), self.examination.bundle
        proven, public_key = bundle.proof_sequences(kid), load_public_key(gateway.public_key)
        places = Places(kid, lambda offset: bundle.record_at(file, offset))
        hearing = Hearing(
            file, kid, gateway, public_key, proven, places, At(Step.INCLUSION, file), ClockWatch(self.calendar)
        )
        for batch in self._batches(file):
            first = 0
            if hearing.state is None:
                self.hear(hearing, batch[0])
                first = 1
            rest = batch[first:]
            if not (rest and self.swift is not None and self.swift.hear(self, hearing, rest)):
                for entry in rest:
                    self.hear(hearing, entry)
            self.examination.done(batch)
        if hearing.index is None:
            at = hearing.at
            raise At(Step.INCLUSION, file, at.index, at.sequence).failed("the chain's last record has no proof")
        for amendment, source in self._late:
            self.times[amendment.line_id].revisions.amend(amendment, source)
        self._late.clear()
        self.clocks += hearing.clock.found

    def _batches(self, file: str) -> Iterator[list[Entry]]:
        """The file's records, some at a time. Raises Failed, after all that came before."""
        batch: list[Entry] = []
        size = 0
        try:
            for entry in self.examination.entries(file, Step.RECORDS):
                if self.swift is not None and not self.swift.takes(entry.raw):
                    if batch:
                        yield batch
                    yield [entry]
                    batch, size = [], 0
                    continue
                batch.append(entry)
                size += len(entry.raw)
                if size >= _BATCH_BYTES or len(batch) >= _BATCH_RECORDS:
                    yield batch
                    batch, size = [], 0
        except Failed:
            if batch:
                yield batch
            raise
        if batch:
            yield batch

    def hear(self, hearing: Hearing, entry: Entry) -> None:
        """One more record of the chain. Raises Failed."""
        gateway = hearing.gateway
        at, record = self.examination.signed_record(entry, Step.RECORDS)
        hearing.at, hearing.index = at, None
        sequence, body_type = record.record.sequence, record.record.type
        with at:
            record.verify(hearing.public_key)
            if record.issuer != gateway.gateway_id:
                raise Refused("wrong-issuer", f"issued by {record.issuer}, the key is {gateway.gateway_id}'s")
            if body_type in ROOT_TYPES:
                raise Refused("wrong-signer", f"a gateway does not sign records of type {body_type}")
            at.step = Step.CHAIN
            if hearing.state is None:
                hearing.places.first_sequence = sequence
                if not is_beginning(record):
                    self.late_starts[hearing.file] = sequence
            hearing.state = ChainState.after(record) if hearing.state is None else hearing.state.follow(record)
            at.step = Step.INCLUSION
            hearing.places.offsets.append(entry.offset)
            hearing.index = self.log_index(hearing, sequence, entry.raw)
            if hearing.index is None and body_type is RecordType.CONFIG:
                raise Unverified("a configuration needs a proof that it is in the log")
            self.hear_body(record, hearing, at)
            if not hearing.begun and self.is_reporting(body_type, record.record.end_ms):
                at.step = Step.PLAN
                self.reporting_indices.append(self.after_the_plan(hearing.index))
                hearing.begun = True
            at.step = Step.CLOCK
            hearing.clock.add(_clock_row(record), hearing.index)
        self.pass_day(hearing, record.record.start_ms)
        self.record_count += 1

    def log_index(self, hearing: Hearing, sequence: int, raw: bytes) -> int | None:
        """Where in the log a record is, if it has a proof. Raises Refused past a revocation, Unverified, Malformed."""
        if sequence not in hearing.proven:
            return None
        index = self.examination.included(hearing.kid, sequence, raw)
        # An index, not a time: a thief chooses the times in what he signs, not the order of the log.
        first = hearing.gateway.first_invalid_index
        if first is not None and index >= first:
            raise Refused("revoked", f"entry {index} of the log; revoked from {first}")
        # Whoever has the log can log old bytes once more, to let them come after what they came before.
        if index <= hearing.last_index:
            raise Unverified(f"entry {index} of the log, and a record before it is entry {hearing.last_index}")
        hearing.last_index = index
        return index

    def pass_day(self, hearing: Hearing, start_ms: int) -> None:
        """Raises Failed where a UTC day is left whose last record has no proof."""
        today = start_ms // DAY_MS
        if hearing.day is not None and today != hearing.day and hearing.proven_day != hearing.day:
            words = f"no record of UTC day {hearing.day} (since 1970) has a proof"
            raise At(Step.INCLUSION, hearing.file).failed(words)
        hearing.day, hearing.proven_day = today, today if hearing.index is not None else hearing.proven_day

    def hear_body(self, record: SignedRecord, hearing: Hearing, at: At) -> None:
        """What a record says. Raises what `at` turns into Failed."""
        gateway, sequence = hearing.gateway, record.record.sequence
        self.clock_sources.add(record.record.clock.source)
        match record.record.body:
            case Configurations(configurations):
                for data in configurations:
                    self.configurations[data_hash(data)] = dict(data)
            case Gap() as gap:
                if gap.line_id in self.times:
                    self.times[gap.line_id].gaps.append(gap)
            case RawGap() as raw_gap:  # nothing that was measured depends on it
                if raw_gap.line_id in self.times and raw_gap.line_id in gateway.line_ids:
                    self.raw_gaps.append(raw_gap)
            case Amendment() as amendment:
                at.step = Step.RECORDS
                check_line(gateway, amendment.line_id)
                if amendment.line_id in self.times:
                    self._late.append((amendment, Source(record.kid, sequence)))
            case Measurement(lines):
                for line in lines:
                    at.step = Step.RECORDS
                    check_line(gateway, line.line_id)
                    at.step = Step.CONFIGURATION
                    self._check_configuration(line)
                    at.step = Step.TIME
                    if line.line_id in self.times:
                        self.times[line.line_id].add(line.windows, sequence, hearing.places)

    def _check_configuration(self, line: LineStatement) -> None:
        starts = line.windows[0].start_ms, line.windows[-1].start_ms
        self.check_configuration(line.line_id, line.configuration_hash, *starts)

    def check_configuration(self, line_id: str, configuration_hash: bytes, first_ms: int, last_ms: int) -> None:
        """Raises Unverified unless windows that start in [first_ms, last_ms] may be measured under it."""
        data = self.configurations.get(configuration_hash)
        if data is None or data.get("line_id") != line_id:
            raise Unverified(f"line {line_id}: its configuration is not in the log before this record")
        periods = (self.plan.baseline, self.plan.reporting)
        counts = line_id in self.times and any(p.from_ms <= last_ms and first_ms < p.to_ms for p in periods)
        if counts and data.get("definition") != self.plan.definition.to_data():
            raise Unverified(f"line {line_id}: measured by another definition of OEE than the plan's")

    def is_reporting(self, record_type: RecordType, end_ms: int) -> bool:
        """Whether it measures time of the reporting period (or, at its edge, ends in it)."""
        return record_type is RecordType.MEASUREMENT and end_ms > self.plan.reporting.from_ms

    def after_the_plan(self, index: int | None) -> int:
        """Raises Unverified unless the log index is known and after the plan's."""
        if index is None:
            raise Unverified("the first record of the reporting period needs a proof of its place in the log")
        planned = self.registered.log_index
        if index <= planned:
            raise Unverified(f"the reporting period's first record is entry {index}, the plan only entry {planned}")
        return index


def _clock_row(signed: SignedRecord) -> ClockRow:
    record, clock, seen = signed.record, signed.record.clock, signed.record.checkpoint_seen
    return ClockRow(
        record.sequence,
        record.type,
        record.boot_id,
        record.start_ms,
        record.end_ms,
        clock.boot_start_ms,
        clock.boot_end_ms,
        clock.source,
        clock.error_ms,
        clock.age_ms,
        None if seen is None else seen.size,
    )


def check_line(gateway: Gateway, line_id: str) -> None:
    """Raises Refused for a line that the gateway may not speak about."""
    if line_id not in gateway.line_ids:
        raise Refused("wrong-line", f"{gateway.gateway_id} is not enrolled for line {line_id}")
