"""Verification: from a bundle and what one trusts, to a verdict. Offline, and without trust in whoever wrote it.

Decides in which order the checks run. The first that fails ends the verification: what would follow from broken
evidence is not worth telling. What a check rests on is decided elsewhere: signatures in `cose`, links in `chain`, who
may speak in `authority`, what was said in `testimony`, time in `continuity`, figures in `measurement.outcome`.

Every proof in a bundle must be at the bundle's own checkpoint. So there is one tree, and no question whether two
checkpoints are consistent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence import dated
from protocols.evidence.authority import Authority, RegisteredPlan, read_authority
from protocols.evidence.bodies import RawGap
from protocols.evidence.bundle import CHECKPOINT_FILE, REPORT_FILE, ROOT_FILE, Bundle
from protocols.evidence.chain import ChainState, is_beginning
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.dated import Calendar
from protocols.evidence.examination import At, Examination, Failed, Progress
from protocols.evidence.keys import load_public_key
from protocols.evidence.policy import Trust
from protocols.evidence.record import ROOT_TYPES, SignedRecord
from protocols.evidence.testimony import Swift, Testimony
from protocols.evidence.verdict import Check, ClockVerdict, Failure, Result, Step, Verdict
from protocols.measurement.amendment import Included


def verify(
    file: BinaryIO, trust: Trust, progress: Progress = lambda done, total: None, swift: Swift | None = None
) -> Verdict:
    """The verdict on the bundle in `file` (seekable). Raises nothing for what the bundle holds.

    `swift`: hears many records at once, some ten times as fast; the verdict is the same with it and without it.
    Memory: a few megabytes of records at a time, and sums.
    """
    verification = _Verification(trust, progress, swift)
    failure = None
    try:
        verification.run(file)
    except Failed as failed:
        failure = failed.failure
    return verification.verdict(failure)


@dataclass(slots=True)
class _Verification:
    """What was found so far. `words`: of each check that has passed."""

    trust: Trust
    progress: Progress
    swift: Swift | None
    words: dict[Step, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    examination: Examination | None = None
    testimony: Testimony | None = None
    figures: dict[str, Any] | None = None
    evidence_sha256: bytes = b""

    def run(self, file: BinaryIO) -> None:
        """Raises Failed at the first check that does not hold."""
        with At(Step.BUNDLE):
            bundle = bundles.read(file)
            for name in (CHECKPOINT_FILE, ROOT_FILE, REPORT_FILE):
                if not bundle.has(name):
                    raise Malformed(f"the bundle has no {name}")
        self.words[Step.BUNDLE] = f"{len(bundle.members)} files"
        with At(Step.LOG, CHECKPOINT_FILE):
            note = bundle.read(CHECKPOINT_FILE)
            checkpoint = self.trust.policy.accepts(note)
        self.words[Step.LOG] = f"{checkpoint.origin}, {_count(checkpoint.size, 'entry', 'entries')}"
        self.examination = Examination(bundle, checkpoint, note, self.progress)
        authority = self._root_chain(self.examination)
        self.testimony = Testimony(
            self._registered_plan(bundle, authority), self.examination, self.swift, self._dated(self.examination)
        )
        self._gateway_chains(self.examination, self.testimony, authority)
        self._figures(bundle, self.testimony)
        with At(Step.MANIFEST):
            compared = bundle.compared()
            if compared.changed:
                raise Unverified(f"changed since the bundle was written: {', '.join(compared.changed[:5])}")
        self.evidence_sha256 = compared.evidence_sha256
        self.words[Step.MANIFEST] = "against accidents; the checks above are against forgers"

    def _dated(self, examination: Examination) -> Calendar:
        """The dated checkpoints: what the witnesses say of time."""
        found: list[dated.Dated] = []
        undated = 0
        for name in examination.bundle.dated_files():
            with At(Step.LOG, name):
                data = examination.bundle.read(name)
                try:
                    found.append(dated.open(data, self.trust.policy, examination.checkpoint))
                except dated.Undated:
                    undated += 1
                    continue
                if name != bundles.dated_file(found[-1].size):
                    raise Malformed(f"it is a checkpoint of {found[-1].size} entries")
        if undated:
            self.notes.append(
                f"{_count(undated, 'dated checkpoint')} without enough witnesses of the policy: not used."
            )
        return Calendar(found)

    def _root_chain(self, examination: Examination) -> Authority:
        keys = {key_id(key.public): key for key in self.trust.root_keys}
        state: ChainState | None = None
        found: list[tuple[SignedRecord, int]] = []
        for entry in examination.entries(ROOT_FILE, Step.ROOT):
            at, record = examination.signed_record(entry, Step.ROOT)
            with at:
                if record.kid not in keys:
                    raise Unverified(f"signed with key {record.kid.hex()}, which the policy does not name as root")
                record.verify(load_public_key(keys[record.kid].public))
                if record.record.type not in ROOT_TYPES:
                    raise Refused("wrong-signer", f"the root key does not sign records of type {record.record.type}")
                if state is None and not is_beginning(record):
                    raise Unverified("the root key's chain does not begin with sequence 0")
                state = ChainState.after(record) if state is None else state.follow(record)
                index = examination.included(record.kid, record.record.sequence, record.raw)
                if found and index <= found[-1][1]:
                    raise Unverified(f"entry {index} of the log, and a record before it is entry {found[-1][1]}")
                found.append((record, index))
            examination.done([entry])
        with At(Step.ROOT, ROOT_FILE):
            authority = read_authority(found, self.trust.policy.revoked)
        gateways, plans = len(authority.gateways), len(authority.plans)
        self.words[Step.ROOT] = f"{_count(gateways, 'gateway key')}, {_count(plans, 'plan')}"
        return authority

    def _registered_plan(self, bundle: Bundle, authority: Authority) -> RegisteredPlan:
        """The logged plan that the report was made by."""
        with At(Step.PLAN, REPORT_FILE):
            try:
                stated = json.loads(bundle.read(REPORT_FILE))["plan"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Malformed("report.json does not parse, or names no plan") from error
            matching = [each for each in authority.plans if each.plan.to_data() == stated]
            if not matching:
                raise Unverified("the report's plan is not among those that the root key registered")
        registered = min(matching, key=lambda each: each.log_index)
        project_id = registered.plan.project_id
        others = {each.plan.hash for each in authority.plans if each.plan.project_id == project_id}
        if len(others) > 1:
            self.notes.append(f"{len(others)} different plans were registered for this project; this is one of them.")
        return registered

    def _gateway_chains(self, examination: Examination, testimony: Testimony, authority: Authority) -> None:
        project_id = testimony.plan.project_id
        # A new key goes on where the old one ended: heard in order of time, windows come in order too.
        started = sorted(_first_start(examination.bundle, kid) for kid in examination.bundle.kids())
        for _, kid in started:
            with At(Step.RECORDS, bundles.records_file(kid)):
                gateway = authority.gateways.get(kid)
                if gateway is None:
                    raise Refused("not-enrolled", f"key {kid.hex()} was never enrolled by the scheme's root key")
                if project_id not in gateway.project_ids:
                    raise Refused("wrong-project", f"{gateway.gateway_id} is not enrolled for project {project_id}")
            testimony.hear_chain(kid, gateway)
        planned, reporting = testimony.registered.log_index, testimony.reporting_indices
        first = f"the first reporting record entry {min(reporting):,}" if reporting else "there is no such record yet"
        self.words |= {
            Step.RECORDS: f"{_count(testimony.record_count, 'record')} of {_count(len(started), 'gateway key')}",
            Step.CHAIN: "none left out, none twice",
            Step.INCLUSION: "one a day and the last are proven, the chain ties the rest to them",
            Step.CONFIGURATION: _count(len(testimony.configurations), "configuration"),
            Step.TIME: "gaps are listed below",
            Step.CLOCK: self._clock_words(testimony),
            Step.PLAN: f"the plan is entry {planned:,}; {first}",
        }
        self._note_clocks(testimony)

    def _clock_words(self, testimony: Testimony) -> str:
        if not len(testimony.calendar):
            return "no dated checkpoints in the bundle: the times are the gateways' own"
        widest = testimony.clocks.widest_ms
        bounded = "" if widest is None else f", at most {widest / 3_600_000:.1f} h apart"
        return f"{_count(len(testimony.calendar), 'dated checkpoint')}{bounded}"

    def _note_clocks(self, testimony: Testimony) -> None:
        if "simulated" in testimony.clock_sources:
            self.notes.append("The clock was simulated: these records are a demonstration, not a real line's time.")
        if "none" in testimony.clock_sources:
            self.notes.append("Some records were made while the gateway's clock was not synchronized.")
        self.notes += testimony.clocks.flags
        if (more := testimony.clocks.flag_count - len(testimony.clocks.flags)) > 0:
            self.notes.append(f"{_count(more, 'more flag')} of the same kind about clocks.")
        for file, sequence in testimony.late_starts.items():
            self.notes.append(f"{file} begins with sequence {sequence}: earlier records are not in the bundle.")

    def _figures(self, bundle: Bundle, testimony: Testimony) -> None:
        with At(Step.FIGURES, REPORT_FILE):
            outcome = testimony.outcome()
            figures = outcome.to_data()
            stated, computed = bundle.read(REPORT_FILE), bundles.report_bytes(figures)
            if stated != computed:
                where = _first_difference(json.loads(stated), json.loads(computed), "")
                raise Unverified(f"the report does not follow from the records: {where or 'written in another form'}")
        self.figures = figures
        self.words[Step.FIGURES] = "computed again from the records, all equal"
        self._note_amendments(testimony.amendments)
        self.notes += outcome.excess

    def _note_amendments(self, amendments: list[Included]) -> None:
        if amendments:
            self.notes.append(f"{_count(len(amendments), 'amendment')} came late; report.json lists each, old and new.")
        for amendment in amendments:
            if refusal := next(filter(None, amendment.refusals), ""):
                self.notes.append(f"Record {amendment.source.sequence} amends what it cannot: {refusal}.")

    def verdict(self, failure: Failure | None) -> Verdict:
        checks = []
        for step in Step:
            if failure is not None and step is failure.step:
                checks.append(Check(step, Result.FAILED, failure.words))
            elif step in self.words:
                checks.append(Check(step, Result.PASSED, self.words[step]))
            else:
                checks.append(Check(step, Result.NOT_FINISHED, ""))
        testimony, examination = self.testimony, self.examination
        times = [] if testimony is None or self.figures is None else list(testimony.times.values())
        return Verdict(
            ok=failure is None,
            checks=tuple(checks),
            first_failure=failure,
            coverage=tuple(each for time in times for each in time.coverage()),
            gaps=tuple(each for time in times for each in time.found_gaps()),
            notes=tuple(self.notes),
            figures=self.figures,
            plan=None if testimony is None else testimony.plan.to_data(),
            records=0 if testimony is None else testimony.record_count,
            log_origin="" if examination is None else examination.checkpoint.origin,
            log_size=0 if examination is None else examination.checkpoint.size,
            log_root=b"" if examination is None else examination.checkpoint.root,
            clock=None if testimony is None else _clock(testimony),
            raw_gaps=() if testimony is None or self.figures is None else tuple(_joined(testimony.raw_gaps)),
            evidence_sha256=self.evidence_sha256,
        )


def _joined(gaps: Iterable[RawGap]) -> list[RawGap]:
    """By line and in order of time; what follows without a break for the same reason is one."""
    joined: list[RawGap] = []
    for gap in sorted(gaps, key=lambda each: (each.line_id, each.from_ms, each.to_ms)):
        last = joined[-1] if joined else None
        if last is not None and (last.line_id, last.to_ms, last.reason) == (gap.line_id, gap.from_ms, gap.reason):
            joined[-1] = replace(last, to_ms=gap.to_ms, chunks=last.chunks + gap.chunks)
        else:
            joined.append(gap)
    return joined


def _clock(testimony: Testimony) -> ClockVerdict:
    found = testimony.clocks
    return ClockVerdict(len(testimony.calendar), found.bounded, found.widest_ms, found.flag_count, tuple(found.flags))


def _first_start(bundle: Bundle, kid: Kid) -> tuple[int, Kid]:
    with At(Step.RECORDS, bundles.records_file(kid), index=0):
        for _, raw in bundle.records(bundles.records_file(kid)):
            return SignedRecord(raw).record.start_ms, kid
        raise Malformed("the file has no record")


def _first_difference(stated: Any, computed: Any, path: str) -> str:
    """The first place where two JSON values differ, in words; "" if they are equal."""
    if isinstance(stated, dict) and isinstance(computed, dict) and stated.keys() == computed.keys():
        found = (_first_difference(stated[key], computed[key], f"{path}.{key}") for key in sorted(stated))
    elif isinstance(stated, list) and isinstance(computed, list) and len(stated) == len(computed):
        pairs = enumerate(zip(stated, computed, strict=True))
        found = (_first_difference(one, other, f"{path}[{i}]") for i, (one, other) in pairs)
    else:
        same = type(stated) is type(computed) and stated == computed
        return "" if same else f"{path.lstrip('.')} is {_short(stated)}, computed {_short(computed)}"
    return next(filter(None, found), "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "…"


def _count(number: int, thing: str, things: str = "") -> str:
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
