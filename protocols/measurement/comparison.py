"""Signed windows against those that a replay makes: which are equal, and the first integer that differs.

Decides what of two windows is compared, and which two. Where either come from is decided by the caller.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.measurement.account import ACCOUNT_FIELDS, Window

WINDOW_FIELDS: Final = ("end_ms", "kind", "product", "order", "shift", *ACCOUNT_FIELDS)
"""What of two windows is compared, in this order, once they begin at the same time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A window that comes out otherwise. `field`: of `WINDOW_FIELDS`, or "start_ms" where the cuts differ."""

    start_ms: int
    field: str
    signed: int | str
    replayed: int | str


@dataclass(slots=True)
class Comparison:
    """`starts`: of the signed windows that were replayed; `different`: of those that came out otherwise.

    `first`: the earliest of these, by its first field.
    """

    starts: list[int] = field(default_factory=list)
    different: list[int] = field(default_factory=list)
    first: Difference | None = None

    @property
    def compared(self) -> int:
        return len(self.starts)

    @property
    def equal(self) -> int:
        return len(self.starts) - len(self.different)


def compare(signed: Sequence[Window], replayed: Iterable[Window]) -> Comparison:
    """Replayed windows against signed ones (in order of time, none over another); what was not signed is left out."""
    found = Comparison()
    starts = [window.start_ms for window in signed]
    for window in replayed:
        at = bisect_right(starts, window.start_ms) - 1
        if at < 0 or signed[at].end_ms <= window.start_ms:
            at += 1  # nothing signed holds its start; does the next begin inside it?
            if at == len(signed) or signed[at].start_ms >= window.end_ms:
                continue
        found.starts.append(signed[at].start_ms)
        difference = first_difference(signed[at], window)
        if difference is not None:
            found.different.append(signed[at].start_ms)
            if found.first is None or difference.start_ms < found.first.start_ms:
                found.first = difference
    return found


def first_difference(signed: Window, replayed: Window) -> Difference | None:
    """The first field in which two windows differ; None if they are equal."""
    if signed == replayed:
        return None
    if signed.start_ms != replayed.start_ms:
        return Difference(signed.start_ms, "start_ms", signed.start_ms, replayed.start_ms)
    for name, one, other in zip(WINDOW_FIELDS, _fields(signed), _fields(replayed), strict=True):
        if one != other:
            return Difference(signed.start_ms, name, one, other)
    return None


def _fields(window: Window) -> tuple[int | str, ...]:
    return (
        window.end_ms,
        int(window.kind),
        window.product,
        window.order,
        window.shift,
        *map(int, window.account.as_ints()),
    )
