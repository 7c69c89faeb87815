"""Starts of production after which rejects are start-up rejects.

Decides when a start is one: production that resumes after set-up, after a failure that was no minor stop, or after
time that the calendar did not schedule and in which the line did not produce.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from protocols.measurement.account import CalendarKind, Category
from protocols.measurement.calendar import Segment
from protocols.measurement.timeline import Stretch

_CAUSES = frozenset({Category.SETUP, Category.FAILURE})


@dataclass(slots=True)
class Starts:
    """The memory between windows. `armed`: the next production is a start. `started_ms`: starts, rising."""

    armed: bool = False
    started_ms: list[int] = field(default_factory=list)

    def watch(self, stretches: Iterable[Stretch], segments: Sequence[Segment], from_ms: int, until_ms: int) -> None:
        """Takes [from_ms, until_ms) of a decided timeline; calls follow each other without a hole or overlap.

        Production that goes on over `from_ms` has not resumed there: `armed` is then False already.
        """
        off = [(s.start_ms, s.end_ms) for s in segments if s.kind is not CalendarKind.SCHEDULED]
        at = 0
        for first, last, category in stretches:
            start_ms, end_ms = max(first, from_ms), min(last, until_ms)
            if start_ms >= end_ms:
                continue
            if category is Category.PRODUCING:
                if self.armed:
                    self.started_ms.append(start_ms)
                self.armed = False
                continue
            while at < len(off) and off[at][1] <= start_ms:
                at += 1
            self.armed |= category in _CAUSES or (at < len(off) and off[at][0] < end_ms)

    def forget(self, before_ms: int) -> None:
        """Drops starts before `before_ms`, but the newest."""
        while len(self.started_ms) > 1 and self.started_ms[0] < before_ms:
            del self.started_ms[0]

    def copy(self) -> Starts:
        return Starts(self.armed, list(self.started_ms))
