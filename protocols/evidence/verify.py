"""Verification: from a bundle and what one trusts, to a verdict. Offline, and without trust in whoever wrote it.

Decides in which order the checks run, and what each of them needs. The first that fails ends the verification: what
would follow from broken evidence is not worth telling. What a check rests on is decided elsewhere: signatures in
`cose`, links in `chain`, who may speak in `authority`, time in `continuity`, figures in `measurement.outcome`.

Every proof in a bundle must be at the bundle's own checkpoint. So there is one tree, and no question whether two
checkpoints are consistent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence import merkle, proof
from protocols.evidence.authority import Authority, Gateway, RegisteredPlan, read_authority
from protocols.evidence.bundle import CHECKPOINT_FILE, REPORT_FILE, ROOT_FILE, Bundle
from protocols.evidence.chain import ChainState, is_beginning
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.continuity import LineTime
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.keys import load_public_key
from protocols.evidence.policy import Trust
from protocols.evidence.record import (
    ROOT_TYPES,
    Configurations,
    Gap,
    LineStatement,
    Measurement,
    RecordType,
    SignedRecord,
)
from protocols.evidence.verdict import Check, Failure, Result, Step, Verdict
from protocols.measurement.definition import data_hash
from protocols.measurement.outcome import outcome
from protocols.measurement.plan import Plan

Progress = Callable[[int, int], None]
"""Called with (bytes of records checked, bytes in all)."""

_FAULTS: Final = (Malformed, Unverified, Refused)
_DAY_MS: Final = 86_400_000


def verify(file: BinaryIO, trust: Trust, progress: Progress = lambda done, total: None) -> Verdict:
    """The verdict on the bundle in `file` (seekable). Never raises for what the bundle holds.

    Memory: the windows of the plan's periods, and one chunk of records at a time.
    """
    verification = _Verification(trust, progress)
    failure = None
    try:
        verification.run(file)
    except _Failed as failed:
        failure = failed.failure
    return verification.verdict(failure)


def sequences_to_prove(records: Iterable[tuple[int, RecordType, int, int]], from_ms: Collection[int] = ()) -> list[int]:
    """Which records of a chain need a tlog-proof in a bundle, given (sequence, type, start_ms, end_ms) of each.

    Each configuration and each record of the root key; the last record of each UTC day and the last of all (the
    chain covers what is before it); and for each of `from_ms`, the first measurement that ends after it.
    """
    wanted: set[int] = set()
    last_of_day: dict[int, int] = {}
    waiting = set(from_ms)
    last = None
    for sequence, record_type, start_ms, end_ms in records:
        if record_type is RecordType.CONFIG or record_type in ROOT_TYPES:
            wanted.add(sequence)
        if record_type is RecordType.MEASUREMENT and (reached := {at for at in waiting if end_ms > at}):
            waiting -= reached
            wanted.add(sequence)
        last_of_day[start_ms // _DAY_MS] = last = sequence
    wanted.update(last_of_day.values(), () if last is None else (last,))
    return sorted(wanted)


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


@dataclass(slots=True)
class _At:
    """What is being checked, so that whatever goes wrong can be laid at its door."""

    step: Step
    file: str | None = None
    index: int | None = None
    sequence: int | None = None
    offset: int | None = None

    def __enter__(self) -> _At:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _FAULTS):
            raise self.failed(str(error)) from error

    def failed(self, words: str) -> _Failed:
        return _Failed(Failure(self.step, words, self.file, self.index, self.sequence, self.offset))


@dataclass(slots=True)
class _Verification:
    trust: Trust
    progress: Progress
    words: dict[Step, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    checkpoint_note: bytes = b""
    plan: Plan | None = None
    times: dict[str, LineTime] = field(default_factory=dict)
    configurations: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    figures: dict[str, Any] | None = None
    records: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    clock_sources: set[str] = field(default_factory=set)

    def run(self, file: BinaryIO) -> None:
        with _At(Step.BUNDLE):
            bundle = bundles.read(file)
            for name in (CHECKPOINT_FILE, ROOT_FILE, REPORT_FILE):
                if not bundle.has(name):
                    raise Malformed(f"the bundle has no {name}")
        self.words[Step.BUNDLE] = f"{len(bundle.members)} files"
        self.total_bytes = sum(m.size for name, m in bundle.members.items() if name.endswith(".cbor-seq"))
        with _At(Step.LOG, CHECKPOINT_FILE):
            self.checkpoint_note = bundle.read(CHECKPOINT_FILE)
            self.checkpoint = self.trust.policy.accepts(self.checkpoint_note)
        self.words[Step.LOG] = f"{self.checkpoint.origin}, {self.checkpoint.size:,} entries"
        authority = self._root_chain(bundle)
        registered = self._registered_plan(bundle, authority)
        self._gateway_chains(bundle, authority, registered)
        self._figures(bundle, registered.plan)
        with _At(Step.MANIFEST):
            if changed := bundle.changed_files():
                raise Unverified(f"changed since the bundle was written: {', '.join(changed[:5])}")
        self.words[Step.MANIFEST] = "all files, the PDF among them; a forger can redo this check, the others not"

    def _root_chain(self, bundle: Bundle) -> Authority:
        keys = {key_id(key.public): key for key in self.trust.root_keys}
        state: ChainState | None = None
        found: list[tuple[SignedRecord, int]] = []
        for at, record in self._signed_records(bundle, ROOT_FILE, Step.ROOT):
            with at:
                if record.kid not in keys:
                    raise Unverified(f"signed with key {record.kid.hex()}, which the policy does not name as root")
                record.verify(load_public_key(keys[record.kid].public))
                if record.record.type not in ROOT_TYPES:
                    raise Refused("wrong-signer", f"the root key does not sign records of type {record.record.type}")
                if state is None and not is_beginning(record):
                    raise Unverified("the root key's chain does not begin with sequence 0")
                state = ChainState.after(record) if state is None else state.follow(record)
                found.append((record, self._included(bundle, record)))
        with _At(Step.ROOT, ROOT_FILE):
            authority = read_authority(found)
        self.words[Step.ROOT] = f"{len(authority.gateways)} gateway keys, {len(authority.plans)} plans"
        return authority

    def _registered_plan(self, bundle: Bundle, authority: Authority) -> RegisteredPlan:
        """The logged plan that the report was made by."""
        with _At(Step.PLAN, REPORT_FILE):
            try:
                stated = json.loads(bundle.read(REPORT_FILE))["plan"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Malformed("report.json does not parse, or names no plan") from error
            matching = [each for each in authority.plans if each.plan.to_data() == stated]
            if not matching:
                raise Unverified("the report's plan is not among those that the root key registered")
        registered = min(matching, key=lambda each: each.log_index)
        plan = self.plan = registered.plan
        others = {each.plan.hash for each in authority.plans if each.plan.project_id == plan.project_id}
        if len(others) > 1:
            self.notes.append(f"{len(others)} different plans were registered for this project; this is one of them.")
        periods = {"baseline": plan.baseline, "reporting": plan.reporting}
        self.times = {line_id: LineTime(line_id, periods) for line_id in plan.line_ids}
        return registered

    def _gateway_chains(self, bundle: Bundle, authority: Authority, registered: RegisteredPlan) -> None:
        started: list[tuple[int, Kid]] = []
        for kid in bundle.kids():
            with _At(Step.RECORDS, bundles.records_file(kid), index=0):
                first = next(bundle.records(bundles.records_file(kid)), None)
                if first is None:
                    raise Malformed("the file has no record")
                started.append((SignedRecord(first[1]).record.start_ms, kid))
        before: list[int] = []
        for _, kid in sorted(started):  # a new key goes on where the old one ended, so windows come in order of time
            with _At(Step.RECORDS, bundles.records_file(kid)):
                gateway = authority.gateways.get(kid)
                if gateway is None:
                    raise Refused("not-enrolled", f"key {kid.hex()} was never enrolled by the scheme's root key")
                if registered.plan.project_id not in gateway.project_ids:
                    raise Refused("wrong-project", f"{gateway.gateway_id} is not enrolled for this project")
            before += self._gateway_chain(bundle, kid, gateway, registered)
        self.words[Step.RECORDS] = f"{self.records:,} records of {len(started)} gateway keys"
        self.words[Step.CHAIN] = "none left out, none twice"
        self.words[Step.INCLUSION] = "the last of each chain and one a day are proven; the chains tie the rest to them"
        self.words[Step.CONFIGURATION] = f"{len(self.configurations)} configurations"
        self.words[Step.TIME] = "gaps are listed below"
        self.words[Step.PLAN] = (
            f"the plan is entry {registered.log_index:,}; the first reporting record entry {min(before):,}"
            if before
            else f"the plan is entry {registered.log_index:,}; there is no reporting record yet"
        )
        if "simulated" in self.clock_sources:
            self.notes.append("The clock was simulated: these records are a demonstration, not a real line's time.")
        for source in sorted(self.clock_sources & {"none"}):
            self.notes.append(f"Some records were made with an unsynchronized clock (source {source!r}).")

    def _gateway_chain(self, bundle: Bundle, kid: Kid, gateway: Gateway, registered: RegisteredPlan) -> list[int]:
        """Check one key's records. Returns the log index of its first reporting record, if there is one."""
        file = bundles.records_file(kid)
        proven = bundle.proof_sequences(kid)
        public_key = load_public_key(gateway.public_key)
        state: ChainState | None = None
        begun: list[int] = []
        day, proven_day, index = None, None, None
        at = _At(Step.RECORDS, file)
        for at, record in self._signed_records(bundle, file, Step.RECORDS):
            with at:
                record.verify(public_key)
                if record.issuer != gateway.gateway_id:
                    raise Refused("wrong-issuer", f"issued by {record.issuer}, the key is {gateway.gateway_id}'s")
                if record.record.type in ROOT_TYPES:
                    raise Refused("wrong-signer", f"a gateway does not sign records of type {record.record.type}")
                at.step = Step.CHAIN
                state = ChainState.after(record) if state is None else state.follow(record)
                at.step = Step.INCLUSION
                index = None
                if record.record.sequence in proven:
                    index = self._included(bundle, record)
                    if gateway.first_invalid_index is not None and index >= gateway.first_invalid_index:
                        raise Refused(
                            "revoked", f"entry {index} of the log; revoked from {gateway.first_invalid_index}"
                        )
                elif record.record.type is RecordType.CONFIG:
                    raise Unverified("a configuration needs a proof that it is in the log")
                self._take(record, gateway, at)
                if not begun and _is_reporting(record, registered.plan):
                    at.step = Step.PLAN
                    begun.append(_logged_after(index, registered))
            today = record.record.start_ms // _DAY_MS
            if day is not None and today != day and proven_day != day:
                raise _At(Step.INCLUSION, file).failed(f"no record of UTC day {day} (since 1970) has a proof")
            day, proven_day = today, today if index is not None else proven_day
        if index is None:
            raise _At(Step.INCLUSION, file, at.index, at.sequence).failed("the chain's last record has no proof")
        return begun

    def _take(self, record: SignedRecord, gateway: Gateway, at: _At) -> None:
        """What a record says, into the state of the verification."""
        self.clock_sources.add(record.record.clock.source)
        match record.record.body:
            case Configurations(configurations):
                for data in configurations:
                    self.configurations[data_hash(data)] = dict(data)
            case Gap() as gap:
                if gap.line_id in self.times:
                    self.times[gap.line_id].gaps.append(gap)
            case Measurement(lines):
                for line in lines:
                    at.step = Step.RECORDS
                    if line.line_id not in gateway.line_ids:
                        raise Refused("wrong-line", f"{gateway.gateway_id} is not enrolled for line {line.line_id}")
                    at.step = Step.CONFIGURATION
                    self._check_configuration(line)
                    at.step = Step.TIME
                    if line.line_id in self.times:
                        self.times[line.line_id].add(line.windows)

    def _check_configuration(self, line: LineStatement) -> None:
        data = self.configurations.get(line.configuration_hash)
        if data is None or data.get("line_id") != line.line_id:
            raise Unverified(f"line {line.line_id}: its configuration is not in the log before this record")
        if self.plan and line.line_id in self.times and data.get("definition") != self.plan.definition.to_data():
            raise Unverified(f"line {line.line_id}: measured by another definition of OEE than the plan's")

    def _figures(self, bundle: Bundle, plan: Plan) -> None:
        with _At(Step.FIGURES, REPORT_FILE):
            windows = {line_id: time.windows for line_id, time in self.times.items()}
            self.figures = outcome(plan, windows).to_data()
            stated, computed = bundle.read(REPORT_FILE), bundles.report_bytes(self.figures)
            if stated != computed:
                where = _first_difference(json.loads(stated), json.loads(computed), "")
                raise Unverified(f"the report does not follow from the records: {where or 'written in another form'}")
        self.words[Step.FIGURES] = f"{len(computed):,} bytes computed again, all equal"

    def _signed_records(self, bundle: Bundle, file: str, step: Step) -> Iterator[tuple[_At, SignedRecord]]:
        """Each record of a file with its place. Its form is checked, nothing else."""
        records = bundle.records(file)
        index = 0
        while True:
            at = _At(step, file, index)
            try:
                entry = next(records, None)
            except Malformed as error:
                at.offset = error.offset
                raise at.failed(error.what) from error
            if entry is None:
                return
            at.offset, raw = entry
            with at:
                record = SignedRecord(raw)
            at.sequence = record.record.sequence
            yield at, record
            index += 1
            self.records += file != ROOT_FILE
            self.done_bytes += len(raw)
            self.progress(self.done_bytes, self.total_bytes)

    def _included(self, bundle: Bundle, record: SignedRecord) -> int:
        """The record's index in the log, proven at the bundle's checkpoint. Raises Unverified or Malformed."""
        assert self.checkpoint is not None
        parsed = proof.parse(bundle.read(bundles.proof_file(record.kid, record.record.sequence)))
        if parsed.checkpoint_note != self.checkpoint_note:
            raise Unverified("the proof is at another checkpoint than the bundle's")
        tree = self.checkpoint
        merkle.verify_inclusion(merkle.leaf_hash(record.raw), parsed.index, tree.size, parsed.hashes, tree.root)
        return parsed.index

    def verdict(self, failure: Failure | None) -> Verdict:
        checks = []
        for step in Step:
            if failure is not None and step is failure.step:
                checks.append(Check(step, Result.FAILED, failure.words))
            elif step in self.words:
                checks.append(Check(step, Result.PASSED, self.words[step]))
            else:
                checks.append(Check(step, Result.NOT_FINISHED, ""))
        times = self.times.values() if self.figures is not None else ()
        return Verdict(
            ok=failure is None,
            checks=tuple(checks),
            first_failure=failure,
            coverage=tuple(each for time in times for each in time.coverage()),
            gaps=tuple(each for time in times for each in time.found_gaps()),
            notes=tuple(self.notes),
            figures=self.figures,
            plan=None if self.plan is None else self.plan.to_data(),
            records=self.records,
            log_origin="" if self.checkpoint is None else self.checkpoint.origin,
            log_size=0 if self.checkpoint is None else self.checkpoint.size,
        )


def _is_reporting(record: SignedRecord, plan: Plan) -> bool:
    """Whether it measures time of the reporting period (or, at its edge, ends in it)."""
    return record.record.type is RecordType.MEASUREMENT and record.record.end_ms > plan.reporting.from_ms


def _logged_after(index: int | None, registered: RegisteredPlan) -> int:
    if index is None:
        raise Unverified("the first record of the reporting period needs a proof of its place in the log")
    if index <= registered.log_index:
        raise Unverified(
            f"the first record of the reporting period is entry {index}, the plan only entry {registered.log_index}"
        )
    return index


def _first_difference(stated: Any, computed: Any, path: str) -> str:
    """The first place where two JSON values differ, in words; "" if they are equal."""
    if isinstance(stated, dict) and isinstance(computed, dict) and stated.keys() == computed.keys():
        parts = (_first_difference(stated[key], computed[key], f"{path}.{key}") for key in sorted(stated))
    elif isinstance(stated, list) and isinstance(computed, list) and len(stated) == len(computed):
        pairs = enumerate(zip(stated, computed, strict=True))
        parts = (_first_difference(one, other, f"{path}[{i}]") for i, (one, other) in pairs)
    else:
        same = type(stated) is type(computed) and stated == computed
        return "" if same else f"{path.lstrip('.')} is {_short(stated)}, computed {_short(computed)}"
    return next(filter(None, parts), "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "…"
