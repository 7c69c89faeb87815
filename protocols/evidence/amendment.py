"""The wire form of an amendment.

Decides which amendments can be written at all: every change names its old value and its new one, and they differ. Does
not decide whether the old value is what stands (`protocols.measurement.revisions`).

    [line_id, "reason", [stop_ms, old, new], who, why]
    [line_id, "reject" or "window", [[start_ms, end_ms, sequence, [[field, old, new], ...]], ...], who, why]

`sequence` is of the record of the same key that states the window; `field` an index into the account's integers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from protocols.errors import Malformed
from protocols.evidence.fields import MAX_INT, as_id, as_int, as_list, as_text, as_time_ms
from protocols.evidence.statement import ACCOUNT_MAY_BE_NEGATIVE
from protocols.measurement.account import ACCOUNT_INTS
from protocols.measurement.amendment import (
    REJECT_FIELDS,
    Amendment,
    AmendmentKind,
    FieldChange,
    ReasonChange,
    WindowChange,
)

_KINDS: Final = {kind.value: kind for kind in AmendmentKind}


def amendment_to_wire(amendment: Amendment) -> list[Any]:
    change = amendment.change
    if isinstance(change, ReasonChange):
        wire: list[Any] = [change.stop_ms, change.old, change.new]
    else:
        wire = [[w.start_ms, w.end_ms, w.sequence, [list(map(int, each)) for each in w.fields]] for w in change]
    return [amendment.line_id, amendment.kind.value, wire, amendment.who, amendment.why]


def amendment_from_wire(value: object) -> Amendment:
    """Raises Malformed, naming the field."""
    line_id, kind_name, change, who, why = as_list(value, "body", 5)
    if not isinstance(kind_name, str) or kind_name not in _KINDS:
        raise Malformed(f"kind: {kind_name!r} is not a kind of amendment")
    kind = _KINDS[kind_name]
    return Amendment(
        as_id(line_id, "line id"),
        kind,
        _reason(change) if kind is AmendmentKind.REASON else _windows(change, kind),
        as_text(who, "who", empty=False),
        as_text(why, "why", empty=False),
    )


def _reason(value: object) -> ReasonChange:
    stop_ms, old, new = as_list(value, "change", 3)
    change = ReasonChange(
        as_time_ms(stop_ms, "stop"), as_text(old, "old reason"), as_text(new, "new reason", empty=False)
    )
    if change.old == change.new:
        raise Malformed("change: the new reason is the old one")
    return change


def _windows(value: object, kind: AmendmentKind) -> tuple[WindowChange, ...]:
    windows = tuple(_window(item, f"change[{i}]", kind) for i, item in enumerate(as_list(value, "change")))
    if not windows:
        raise Malformed("change: names no window")
    if any(one.end_ms > other.start_ms for one, other in pairwise(windows)):
        raise Malformed("change: its windows must be in order of time, each once")
    return windows


def _window(value: object, name: str, kind: AmendmentKind) -> WindowChange:
    start_ms, end_ms, sequence, fields = as_list(value, name, 4)
    change = WindowChange(
        as_time_ms(start_ms, f"{name}: start"),
        as_time_ms(end_ms, f"{name}: end"),
        as_int(sequence, f"{name}: sequence"),
        tuple(_field(item, f"{name}: fields[{i}]", kind) for i, item in enumerate(as_list(fields, f"{name}: fields"))),
    )
    if change.end_ms <= change.start_ms:
        raise Malformed(f"{name}: ends before it starts, or is empty")
    if not change.fields or any(one.field >= other.field for one, other in pairwise(change.fields)):
        raise Malformed(f"{name}: needs fields in ascending order, each once")
    return change


def _field(value: object, name: str, kind: AmendmentKind) -> FieldChange:
    index, old, new = as_list(value, name, 3)
    index = as_int(index, f"{name}: index", 0, ACCOUNT_INTS - 1)
    if kind is AmendmentKind.REJECT and index not in REJECT_FIELDS:
        raise Malformed(f"{name}: late rejects cannot change it")
    low = -MAX_INT if index in ACCOUNT_MAY_BE_NEGATIVE else 0
    change = FieldChange(index, as_int(old, f"{name}: old", low), as_int(new, f"{name}: new", low))
    if change.old == change.new:
        raise Malformed(f"{name}: the new value is the old one")
    return change
