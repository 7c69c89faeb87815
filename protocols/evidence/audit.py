"""The wire form of an audit: what an auditor replayed from raw samples, and whether the signed integers came out.

Decides which findings can be written at all: nothing is equal that was not compared, and where something is not equal
the first difference is named. Does not decide what is asked for or how it is compared (the hub's audit).

    [project_id, who, seed, [[line_id, from_ms, to_ms, asked, compared, equal], ...], difference]

`asked`, `compared` and `equal` count windows that begin in [from_ms, to_ms). `difference` is null, or
[line_id, start_ms, field, signed, replayed] with integers or texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from protocols.errors import Malformed
from protocols.evidence.fields import MAX_INT, as_id, as_int, as_list, as_text, as_time_ms

MAX_SEED: Final = 64


@dataclass(frozen=True, slots=True)
class AuditedLine:
    """Windows of one line: asked for, replayed from raw samples that are committed to, and equal to the integer."""

    line_id: str
    from_ms: int
    to_ms: int
    asked: int
    compared: int
    equal: int


@dataclass(frozen=True, slots=True)
class AuditDifference:
    """The first thing that is not as it was signed. `start_ms`: of the window; `field`: its name in the account."""

    line_id: str
    start_ms: int
    field: str
    signed: int | str
    replayed: int | str


@dataclass(frozen=True, slots=True)
class Audit:
    """`who`: the auditor, for people. `seed`: what the minutes were drawn with (`hub.audit.minutes`); b"" for none."""

    project_id: str
    who: str
    seed: bytes
    lines: tuple[AuditedLine, ...]
    difference: AuditDifference | None

    @property
    def is_equal(self) -> bool:
        """Everything that was asked for was there and came out equal."""
        return self.difference is None and all(line.asked == line.equal for line in self.lines)


def audit_to_wire(audit: Audit) -> list[Any]:
    found = audit.difference
    return [
        audit.project_id,
        audit.who,
        audit.seed,
        [[each.line_id, each.from_ms, each.to_ms, each.asked, each.compared, each.equal] for each in audit.lines],
        None if found is None else [found.line_id, found.start_ms, found.field, found.signed, found.replayed],
    ]


def audit_from_wire(value: object) -> Audit:
    """Raises Malformed, naming the field."""
    project_id, who, seed, lines, difference = as_list(value, "body", 5)
    if not isinstance(seed, bytes) or len(seed) > MAX_SEED:
        raise Malformed(f"seed must be at most {MAX_SEED} bytes")
    audit = Audit(
        as_id(project_id, "project id"),
        as_text(who, "who", empty=False),
        seed,
        tuple(_line(item, f"lines[{i}]") for i, item in enumerate(as_list(lines, "lines"))),
        None if difference is None else _difference(difference),
    )
    if not audit.lines or any(one.line_id >= other.line_id for one, other in pairwise(audit.lines)):
        raise Malformed("lines: at least one, in ascending order, each once")
    if audit.difference is None and any(line.equal < line.compared for line in audit.lines):
        raise Malformed("difference: windows are not equal, and the first is not named")
    return audit


def _line(value: object, name: str) -> AuditedLine:
    line_id, from_ms, to_ms, asked, compared, equal = as_list(value, name, 6)
    line = AuditedLine(
        as_id(line_id, f"{name}: line id"),
        as_time_ms(from_ms, f"{name}: from"),
        as_time_ms(to_ms, f"{name}: to"),
        as_int(asked, f"{name}: asked"),
        as_int(compared, f"{name}: compared"),
        as_int(equal, f"{name}: equal"),
    )
    if line.to_ms <= line.from_ms:
        raise Malformed(f"{name}: ends before it starts, or is empty")
    if not line.equal <= line.compared <= line.asked:
        raise Malformed(f"{name}: equal, compared and asked must not rise in this order")
    return line


def _difference(value: object) -> AuditDifference:
    line_id, start_ms, field, signed, replayed = as_list(value, "difference", 5)
    found = AuditDifference(
        as_id(line_id, "difference: line id"),
        as_time_ms(start_ms, "difference: window"),
        as_text(field, "difference: field", empty=False),
        _value(signed, "difference: signed"),
        _value(replayed, "difference: replayed"),
    )
    if found.signed == found.replayed:
        raise Malformed("difference: the two values are the same")
    return found


def _value(value: object, name: str) -> int | str:
    return as_text(value, name) if isinstance(value, str) else as_int(value, name, -MAX_INT)
