"""The audit's verdict: what was asked for, what was there, what came out equal; as words, data and a record.

Decides the one word and its reasons. Finding it is `examination`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.audit.gone import Gone
from hub.audit.inspection import Inspected, LineFound
from protocols.evidence.audit import Audit, AuditDifference, AuditedLine

_SHOWN: Final = 12
_NO_LENGTH: Final = 1


class Word(StrEnum):
    EQUAL = "EQUAL"
    DIFFERENT = "DIFFERENT"
    INCOMPLETE = "INCOMPLETE"
    NOTHING = "NOTHING TO COMPARE"


@dataclass(frozen=True, slots=True)
class LineVerdict:
    """One line. `asked`: starts (ms) of the windows that were asked for; of all that raw samples cover, where nothing
    was. `missing`: those that could not be replayed; of these, `gone`: those whose raw samples the gateway has signed
    not to hold, and `unanswered`: those of which nothing explains it."""

    line_id: str
    zone: str
    asked: frozenset[int]
    found: LineFound
    gone: tuple[Gone, ...] = ()

    @property
    def missing(self) -> list[int]:
        return sorted(self.asked - self.found.compared)

    @property
    def unanswered(self) -> list[int]:
        return sorted(set(self.missing) - {each.start_ms for each in self.gone})

    @property
    def difference(self) -> AuditDifference | None:
        """The first window that differs; or the memory that a gateway kept wrongly."""
        if self.found.differences:
            first = self.found.differences[0]
            return AuditDifference(self.line_id, first.start_ms, first.field, first.signed, first.replayed)
        if self.found.memory_faults:
            return AuditDifference(self.line_id, self.found.memory_faults[0], "memory", "as kept", "other")
        return None


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """`seed`: what the minutes were drawn with; b"" where they were named or everything was taken."""

    project_id: str
    seed: bytes
    lines: tuple[LineVerdict, ...]
    refused_count: int
    refused: tuple[str, ...]

    @classmethod
    def of(
        cls,
        project_id: str,
        seed: bytes,
        asked: Mapping[str, frozenset[int]] | None,
        zones: Mapping[str, str],
        found: Inspected,
    ) -> AuditVerdict:
        line_ids = sorted({*found.lines, *(asked or {})})
        lines = []
        for line_id in line_ids:
            one = found.lines.get(line_id) or LineFound()
            wanted = frozenset(one.compared) if asked is None else asked.get(line_id, frozenset())
            lines.append(LineVerdict(line_id, zones.get(line_id, "UTC"), wanted, one))
        return cls(project_id, seed, tuple(lines), found.refused_count, tuple(found.refused))

    def explained(self, gone: Mapping[str, Iterable[Gone]]) -> AuditVerdict:
        """With what the gateways' own records say of the windows that could not be replayed, by line."""
        return replace(self, lines=tuple(replace(each, gone=tuple(gone.get(each.line_id, ()))) for each in self.lines))

    @property
    def difference(self) -> AuditDifference | None:
        found = [line.difference for line in self.lines if line.difference is not None]
        return min(found, key=lambda each: each.start_ms, default=None)

    @property
    def word(self) -> Word:
        if self.difference is not None:
            return Word.DIFFERENT
        if not any(line.asked for line in self.lines):
            return Word.NOTHING
        return Word.INCOMPLETE if any(line.missing for line in self.lines) else Word.EQUAL

    @property
    def ok(self) -> bool:
        return self.word is Word.EQUAL

    def record(self, who: str) -> Audit:
        """What an auditor signs."""
        return Audit(
            self.project_id,
            who,
            self.seed,
            tuple(
                AuditedLine(
                    line.line_id, min(line.asked), max(line.asked) + _NO_LENGTH,
                    len(line.asked), len(line.found.compared), line.found.equal,
                )
                for line in self.lines
                if line.asked
            ),
            self.difference,
        )  # fmt: skip

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        first = self.difference
        return {
            "verdict": self.word.value,
            "ok": self.ok,
            "project_id": self.project_id,
            "seed": self.seed.hex(),
            "difference": None
            if first is None
            else {
                "line_id": first.line_id,
                "start_ms": first.start_ms,
                "field": first.field,
                "signed": first.signed,
                "replayed": first.replayed,
            },
            "lines": [
                {
                    "line_id": line.line_id,
                    "asked": len(line.asked),
                    "compared": len(line.found.compared),
                    "equal": line.found.equal,
                    "missing_ms": line.missing,
                    "unanswered_ms": line.unanswered,
                    "gone": [asdict(each) for each in line.gone],
                    "chunks": line.found.chunks,
                    "samples": line.found.rows,
                    "memory_checked": line.found.memory_checked,
                    "memory_faults": line.found.memory_fault_count,
                }
                for line in self.lines
            ],
            "refused_count": self.refused_count,
            "refused": list(self.refused),
        }

    def words(self) -> list[str]:
        """The verdict for a person: the word first, then why."""
        asked = sum(len(line.asked) for line in self.lines)
        equal = sum(line.found.equal for line in self.lines)
        out = [f"{self.word}  {self.project_id}"]
        match self.word:
            case Word.EQUAL:
                out.append(
                    f"All {asked:,} minutes came out of the raw samples as they were signed, to the last integer."
                )
            case Word.DIFFERENT:
                out.append(f"Of {asked:,} minutes {equal:,} came out as they were signed. The first that did not:")
                out.append(self._difference_words())
            case Word.INCOMPLETE:
                out.append(
                    f"Of {asked:,} minutes {equal:,} came out as they were signed; the others could not be replayed."
                )
                gone, unanswered = sum(len(x.gone) for x in self.lines), sum(len(x.unanswered) for x in self.lines)
                out.append(f"{gone:,} of these are gone, and signed records say so; {unanswered:,} are unanswered.")
            case Word.NOTHING:
                out.append("No raw samples are here. Ask for them: `linetally-hub audit challenge`.")
        for line in self.lines:
            found = line.found
            out.append(
                f"  {line.line_id}: asked {len(line.asked):,}, replayed {len(found.compared):,}, "
                f"equal {found.equal:,}; {found.chunks:,} chunks with {found.rows:,} samples, "
                "each one committed to in the log"
            )
            if found.memory_checked:
                words = "fits" if not found.memory_fault_count else f"does not fit {found.memory_fault_count:,} times"
                out.append(
                    f"    what the gateway remembered between chunks: {words} ({found.memory_checked:,} looked at)"
                )
            out += _missing_words(line)
        if self.refused_count:
            out.append(f"  {self.refused_count:,} pieces were refused:")
            out += [f"    {words}" for words in self.refused]
        return out

    def _difference_words(self) -> str:
        first = self.difference
        assert first is not None
        zone = next(line.zone for line in self.lines if line.line_id == first.line_id)
        at = times([first.start_ms], zone_of(zone))
        if first.field == "memory":
            return f"  line {first.line_id}, {at} ({zone}): the gateway kept another memory than its samples give"
        return (
            f"  line {first.line_id}, the minute of {at} ({zone}): {first.field} was signed as {first.signed!r}, "
            f"the raw samples give {first.replayed!r}"
        )


def _missing_words(line: LineVerdict) -> list[str]:
    """Why windows of a line were not replayed, those of one reason together."""
    together: dict[tuple[bool, str], list[int]] = {}
    for each in line.gone:
        together.setdefault((each.said_late, each.reason), []).append(each.start_ms)
    out = [
        f"    gone, and said {'only after they were asked for' if late else 'so'} ({reason}), {line.zone}: "
        f"{times(starts, zone_of(line.zone))}"
        for (late, reason), starts in sorted(together.items())
    ]
    if line.unanswered:
        out.append(f"    unanswered, {line.zone}: {times(line.unanswered, zone_of(line.zone))}")
    return out


def times(starts_ms: Sequence[int], zone: tzinfo) -> str:
    """Times for a person, the first few."""
    shown = [datetime.fromtimestamp(at_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S") for at_ms in starts_ms[:_SHOWN]]
    more = f" and {len(starts_ms) - _SHOWN:,} more" if len(starts_ms) > _SHOWN else ""
    return ", ".join(shown) + more


def zone_of(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC
