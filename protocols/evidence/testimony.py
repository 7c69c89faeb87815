"""Testimony: what the gateways' records say, each record checked before it is heard.

Decides whether a gateway's chain of records may be believed, and gathers its windows, gaps and configurations. Who may
speak was decided in `authority`; what the windows mean is decided in `measurement`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protocols.errors import Refused, Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence.authority import Gateway, RegisteredPlan
from protocols.evidence.chain import ChainState, is_beginning
from protocols.evidence.continuity import LineTime
from protocols.evidence.cose import Kid
from protocols.evidence.examination import At, Examination
from protocols.evidence.keys import load_public_key
from protocols.evidence.proof_plan import DAY_MS
from protocols.evidence.record import (
    ROOT_TYPES,
    Amendment,
    Configurations,
    Gap,
    LineStatement,
    Measurement,
    RecordType,
    SignedRecord,
)
from protocols.evidence.verdict import Step
from protocols.measurement.definition import data_hash
from protocols.measurement.plan import Plan
from protocols.measurement.revisions import Included, Source


@dataclass(slots=True)
class Testimony:
    """What was heard. `times`: by line of the plan. `configurations`: by hash.

    `reporting_indices`: log index of each chain's first record of the reporting period.
    """

    registered: RegisteredPlan
    times: dict[str, LineTime] = field(init=False)
    configurations: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    clock_sources: set[str] = field(default_factory=set)
    reporting_indices: list[int] = field(default_factory=list)
    late_starts: dict[str, int] = field(default_factory=dict)  # file to first sequence, where it is not 0
    record_count: int = 0

    def __post_init__(self) -> None:
        periods = {"baseline": self.plan.baseline, "reporting": self.plan.reporting}
        self.times = {line_id: LineTime(line_id, periods) for line_id in self.plan.line_ids}

    @property
    def plan(self) -> Plan:
        return self.registered.plan

    @property
    def amendments(self) -> list[Included]:
        """What came late about the plan's periods, in the order of keys and sequences."""
        found = (each for time in self.times.values() for each in time.revisions.included)
        return sorted(found, key=lambda each: each.source)

    def hear_chain(self, examination: Examination, kid: Kid, gateway: Gateway) -> None:
        """Check and gather one key's records. Raises Failed at the first that does not hold."""
        file = bundles.records_file(kid)
        proven = examination.bundle.proof_sequences(kid)
        public_key = load_public_key(gateway.public_key)
        state: ChainState | None = None
        begun = False
        day, proven_day, index = None, None, None
        at = At(Step.INCLUSION, file)
        for at, record in examination.signed_records(file, Step.RECORDS):
            with at:
                record.verify(public_key)
                if record.issuer != gateway.gateway_id:
                    raise Refused("wrong-issuer", f"issued by {record.issuer}, the key is {gateway.gateway_id}'s")
                if record.record.type in ROOT_TYPES:
                    raise Refused("wrong-signer", f"a gateway does not sign records of type {record.record.type}")
                at.step = Step.CHAIN
                if state is None and not is_beginning(record):
                    self.late_starts[file] = record.record.sequence
                state = ChainState.after(record) if state is None else state.follow(record)
                at.step = Step.INCLUSION
                index = None
                if record.record.sequence in proven:
                    index = examination.included(record)
                    # An index, not a time: a thief chooses the times in what he signs, not the order of the log.
                    if gateway.first_invalid_index is not None and index >= gateway.first_invalid_index:
                        raise Refused(
                            "revoked", f"entry {index} of the log; revoked from {gateway.first_invalid_index}"
                        )
                elif record.record.type is RecordType.CONFIG:
                    raise Unverified("a configuration needs a proof that it is in the log")
                self._hear(record, gateway, at)
                if not begun and self._is_reporting(record):
                    at.step = Step.PLAN
                    self.reporting_indices.append(self._after_the_plan(index))
                    begun = True
            today = record.record.start_ms // DAY_MS
            if day is not None and today != day and proven_day != day:
                raise At(Step.INCLUSION, file).failed(f"no record of UTC day {day} (since 1970) has a proof")
            day, proven_day = today, today if index is not None else proven_day
            self.record_count += 1
        if index is None:
            raise At(Step.INCLUSION, file, at.index, at.sequence).failed("the chain's last record has no proof")

    def _hear(self, record: SignedRecord, gateway: Gateway, at: At) -> None:
        self.clock_sources.add(record.record.clock.source)
        source = Source(record.kid, record.record.sequence)
        match record.record.body:
            case Configurations(configurations):
                for data in configurations:
                    self.configurations[data_hash(data)] = dict(data)
            case Gap() as gap:
                if gap.line_id in self.times:
                    self.times[gap.line_id].gaps.append(gap)
            case Amendment() as amendment:
                at.step = Step.RECORDS
                _check_line(gateway, amendment.line_id)
                if amendment.line_id in self.times:
                    self.times[amendment.line_id].revisions.amend(amendment, source)
            case Measurement(lines):
                for line in lines:
                    at.step = Step.RECORDS
                    _check_line(gateway, line.line_id)
                    at.step = Step.CONFIGURATION
                    self._check_configuration(line)
                    at.step = Step.TIME
                    if line.line_id in self.times:
                        self.times[line.line_id].add(line.windows, source)

    def _check_configuration(self, line: LineStatement) -> None:
        data = self.configurations.get(line.configuration_hash)
        if data is None or data.get("line_id") != line.line_id:
            raise Unverified(f"line {line.line_id}: its configuration is not in the log before this record")
        first, last = line.windows[0].start_ms, line.windows[-1].start_ms
        periods = (self.plan.baseline, self.plan.reporting)
        counts = line.line_id in self.times and any(p.from_ms <= last and first < p.to_ms for p in periods)
        if counts and data.get("definition") != self.plan.definition.to_data():
            raise Unverified(f"line {line.line_id}: measured by another definition of OEE than the plan's")

    def _is_reporting(self, record: SignedRecord) -> bool:
        """Whether it measures time of the reporting period (or, at its edge, ends in it)."""
        return record.record.type is RecordType.MEASUREMENT and record.record.end_ms > self.plan.reporting.from_ms

    def _after_the_plan(self, index: int | None) -> int:
        if index is None:
            raise Unverified("the first record of the reporting period needs a proof of its place in the log")
        planned = self.registered.log_index
        if index <= planned:
            raise Unverified(f"the reporting period's first record is entry {index}, the plan only entry {planned}")
        return index


def _check_line(gateway: Gateway, line_id: str) -> None:
    """Raises Refused for a line that the gateway may not speak about."""
    if line_id not in gateway.line_ids:
        raise Refused("wrong-line", f"{gateway.gateway_id} is not enrolled for line {line_id}")
