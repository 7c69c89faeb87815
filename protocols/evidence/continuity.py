"""Continuity: whether a line's windows cover its time, each instant at most once.

Decides what is a hole, what is an overlap, and what a gateway said about a hole. A hole is honest and is shown; an
overlap would count time and pieces twice, and is refused.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protocols.errors import Unverified
from protocols.evidence.record import Gap
from protocols.evidence.verdict import Coverage, GapFound, GapKind
from protocols.measurement.account import Window
from protocols.measurement.plan import Period
from protocols.measurement.revisions import LineRevisions, Source


@dataclass(slots=True)
class LineTime:
    """The windows of one line within the periods of a plan, as they come, in order of time.

    `periods`: by name, apart from each other and in order. A window belongs to the period in which it starts;
    `revisions` has those of all periods as they stand amended, and the others are only checked.
    """

    line_id: str
    periods: Mapping[str, Period]
    revisions: LineRevisions = field(init=False)
    gaps: list[Gap] = field(default_factory=list)
    end_ms: int | None = None

    def __post_init__(self) -> None:
        self.revisions = LineRevisions(self.line_id, self._counts)

    def _counts(self, start_ms: int) -> bool:
        return any(start_ms in period for period in self.periods.values())

    def _windows(self, period: Period) -> list[Window]:
        windows = self.revisions.windows
        first, last = (
            bisect_left(windows, edge, key=lambda window: window.start_ms) for edge in (period.from_ms, period.to_ms)
        )
        return windows[first:last]

    def add(self, windows: Sequence[Window], source: Source) -> None:
        """Raises Unverified if a window begins before the last one ended."""
        for window in windows:
            if self.end_ms is not None and window.start_ms < self.end_ms:
                raise Unverified(
                    f"line {self.line_id}: a window begins at {window.start_ms} ms, "
                    f"but the one before ends at {self.end_ms} ms: time would count twice"
                )
            self.end_ms = window.end_ms
        self.revisions.add(windows, source)

    def coverage(self) -> list[Coverage]:
        """One for each period."""
        found = []
        for name, period in self.periods.items():
            windows = self._windows(period)
            recorded = sum(window.length_ms for window in windows)
            unknown = sum(window.account.unknown_ms for window in windows)
            found.append(Coverage(self.line_id, name, period.from_ms, period.to_ms, recorded, recorded - unknown))
        return found

    def found_gaps(self) -> list[GapFound]:
        """Holes and unobserved stretches of every period, in order of time, with the signed reasons."""
        found: list[GapFound] = []
        for period in self.periods.values():
            at = period.from_ms
            for window in self._windows(period):
                if window.start_ms > at:
                    found.append(self._gap(at, window.start_ms, window.start_ms - at, GapKind.NO_RECORD))
                if window.account.unknown_ms:
                    self._add_unobserved(found, window)
                at = window.end_ms
            if at < period.to_ms:
                found.append(self._gap(at, period.to_ms, period.to_ms - at, GapKind.NO_RECORD))
        return found

    def _add_unobserved(self, found: list[GapFound], window: Window) -> None:
        """Join the window to the gap before it where they touch: one outage is one line for the reader."""
        start, missing = window.start_ms, window.account.unknown_ms
        if found and found[-1].kind is GapKind.NOT_OBSERVED and found[-1].to_ms == start:
            last = found.pop()
            start, missing = last.from_ms, missing + last.missing_ms
        found.append(self._gap(start, window.end_ms, missing, GapKind.NOT_OBSERVED))

    def _gap(self, from_ms: int, to_ms: int, missing_ms: int, kind: GapKind) -> GapFound:
        reasons = (gap.reason for gap in self.gaps if gap.from_ms < to_ms and gap.to_ms > from_ms)
        return GapFound(self.line_id, from_ms, to_ms, missing_ms, kind, "; ".join(dict.fromkeys(reasons)))
