"""The verdict: what an offline verification found, as data.

Decides the form only; `verify` finds it, and `hub.verify` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from protocols.evidence.bodies import RawGap


class Step(StrEnum):
    """The checks, in their order. Each value is the question that it answers."""

    BUNDLE = "Is the bundle complete and well formed?"
    LOG = "Did the log sign the checkpoint?"
    ROOT = "Did the scheme's root key enrol the gateways and register the plan?"
    RECORDS = "Is every record signed by an enrolled gateway, and unchanged?"
    CHAIN = "Does every record follow the one before it?"
    INCLUSION = "Are the records in the log?"
    CONFIGURATION = "Was every window measured under a configuration that is in the log?"
    TIME = "Is no stretch of time counted twice?"
    CLOCK = "Do the records' times agree with the log's and its witnesses'?"
    PLAN = "Was the plan in the log before the reporting period began?"
    FIGURES = "Do the report's figures follow from the records, to the last integer?"
    MANIFEST = "Is every file as it was when the bundle was written?"


class Result(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_FINISHED = "not finished"  # another check failed before


@dataclass(frozen=True, slots=True)
class Check:
    step: Step
    result: Result
    words: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The first thing that does not hold. `index`: of the record in `file`, from 0; `offset`: of it, in bytes."""

    step: Step
    words: str
    file: str | None = None
    index: int | None = None
    sequence: int | None = None
    offset: int | None = None

    @property
    def place(self) -> str:
        """Where, in words; "" if it has no place."""
        if self.file is None:
            return ""
        parts = [self.file]
        if self.index is not None:
            parts.append(f"record {self.index + 1}")
        if self.sequence is not None:
            parts.append(f"sequence {self.sequence}")
        if self.offset is not None:
            parts.append(f"byte {self.offset}")
        return ", ".join(parts)


class GapKind(StrEnum):
    NO_RECORD = "no record"  # no window at all
    NOT_OBSERVED = "not observed"  # windows, with UNKNOWN time in them


@dataclass(frozen=True, slots=True)
class GapFound:
    """A stretch [from_ms, to_ms) of a line's periods without knowledge. `missing_ms`: how much of it is unknown.

    `reason`: what the gateway signed about it; "" if it said nothing.
    """

    line_id: str
    from_ms: int
    to_ms: int
    missing_ms: int
    kind: GapKind
    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """One line over one period of the plan, in ms. `observed_ms` is what was recorded and not UNKNOWN."""

    line_id: str
    period: str
    from_ms: int
    to_ms: int
    recorded_ms: int
    observed_ms: int

    @property
    def permille(self) -> int:
        """Rounded down: what is not complete is never shown as complete."""
        length = self.to_ms - self.from_ms
        return self.observed_ms * 1000 // length if length else 0


@dataclass(frozen=True, slots=True)
class ClockVerdict:
    """What bounds the gateways' clocks. `flags`: the first of `flag_count`, whole sentences.

    `bounded`: proven records that others can date from both sides; `widest_ms`: the worst of these, None without any.
    """

    dated_checkpoints: int
    bounded: int
    widest_ms: int | None
    flag_count: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`: every check passed. `figures`: `Outcome.to_data()`, computed here from the records; None if not reached.

    `notes`: true things that a reader should know, which are not failures. `raw_gaps`: raw samples of the plan's lines
    that a gateway has signed not to hold, or no more; no figure depends on them, but an audit does. What follows
    without a break for the same reason is one. `evidence_sha256`: what the PDF shows (`bundle.evidence_hash`); b"" if
    the verification did not come so far.
    """

    ok: bool
    checks: tuple[Check, ...]
    first_failure: Failure | None
    coverage: tuple[Coverage, ...]
    gaps: tuple[GapFound, ...]
    notes: tuple[str, ...]
    figures: Mapping[str, Any] | None
    plan: Mapping[str, Any] | None
    records: int
    log_origin: str
    log_size: int
    log_root: bytes = b""
    clock: ClockVerdict | None = None
    raw_gaps: tuple[RawGap, ...] = ()
    evidence_sha256: bytes = b""

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        failure = self.first_failure
        return {
            "ok": self.ok,
            "checks": [{"step": c.step.name, "result": c.result.value, "words": c.words} for c in self.checks],
            "first_failure": None
            if failure is None
            else {
                "step": failure.step.name,
                "words": failure.words,
                "file": failure.file,
                "index": failure.index,
                "sequence": failure.sequence,
                "offset": failure.offset,
            },
            "coverage": [
                {
                    "line_id": c.line_id,
                    "period": c.period,
                    "from_ms": c.from_ms,
                    "to_ms": c.to_ms,
                    "recorded_ms": c.recorded_ms,
                    "observed_ms": c.observed_ms,
                    "permille": c.permille,
                }
                for c in self.coverage
            ],
            "gaps": [
                {
                    "line_id": g.line_id,
                    "from_ms": g.from_ms,
                    "to_ms": g.to_ms,
                    "missing_ms": g.missing_ms,
                    "kind": g.kind.value,
                    "reason": g.reason,
                }
                for g in self.gaps
            ],
            "raw_gaps": [asdict(each) for each in self.raw_gaps],
            "notes": list(self.notes),
            "figures": self.figures,
            "plan": self.plan,
            "records": self.records,
            "log": {"origin": self.log_origin, "size": self.log_size, "root": self.log_root.hex()},
            "evidence_sha256": self.evidence_sha256.hex(),
            "clock": None if self.clock is None else asdict(self.clock),
        }
