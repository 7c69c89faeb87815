"""Continuity: whether a line's windows cover its time, each instant at most once.

Decides what is a hole, what is an overlap, and what a gateway said about a hole. A hole is honest and is shown; an
overlap would count time and pieces twice, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby

from protocols.errors import Unverified
from protocols.evidence.late import Places, TalliedRevisions
from protocols.evidence.record import Gap
from protocols.evidence.verdict import Coverage, GapFound, GapKind
from protocols.measurement.account import Window
from protocols.measurement.plan import Period
from protocols.measurement.tally import Tally


@dataclass(slots=True)
class LineTime:
    """What is kept of the windows of one line as they come, in order of time.

    `periods`: by name, apart from each other and in order. A window belongs to the period in which it starts;
    `tallies` has one for each period, and windows outside of them are only checked.
    """

    line_id: str
    periods: Mapping[str, Period]
    tallies: dict[str, Tally] = field(init=False)
    revisions: TalliedRevisions = field(init=False)
    gaps: list[Gap] = field(default_factory=list)
    end_ms: int | None = None

    def __post_init__(self) -> None:
        self.tallies = {name: Tally(self.line_id, period) for name, period in self.periods.items()}
        self.revisions = TalliedRevisions(self.line_id, self._counts, tallies=tuple(self.tallies.values()))

    def _counts(self, start_ms: int) -> bool:
        return any(start_ms in period for period in self.periods.values())

    def refuse_overlap(self, start_ms: int, end_ms: int) -> None:
        """Raises Unverified if a window that begins at `start_ms` begins before `end_ms`, the end of the one before."""
        if start_ms < end_ms:
            raise Unverified(
                f"line {self.line_id}: a window begins at {start_ms} ms, "
                f"but the one before ends at {end_ms} ms: time would count twice"
            )

    def add(self, windows: Sequence[Window], sequence: int, places: Places) -> None:
        """Windows that record `sequence` states. Raises Unverified if one begins before the last one ended."""
        for window in windows:
            if self.end_ms is not None:
                self.refuse_overlap(window.start_ms, self.end_ms)
            self.end_ms = window.end_ms
        for tally, run in groupby(windows, key=lambda window: self.tally_of(window.start_ms)):
            if tally is not None:
                counted = list(run)
                for window in counted:
                    tally.add(window)
                self.revisions.stated([counted[0].start_ms], [counted[-1].end_ms], [sequence], places)

    def tally_of(self, start_ms: int) -> Tally | None:
        return next((tally for tally in self.tallies.values() if start_ms in tally.period), None)

    def coverage(self) -> list[Coverage]:
        """One for each period."""
        return [
            Coverage(
                self.line_id,
                name,
                tally.period.from_ms,
                tally.period.to_ms,
                tally.recorded_ms,
                tally.recorded_ms - tally.unknown_ms,
            )
            for name, tally in self.tallies.items()
        ]

    def found_gaps(self) -> list[GapFound]:
        """Holes and unobserved stretches of every period, in order of time, with the signed reasons."""
        found: list[GapFound] = []
        for tally in self.tallies.values():
            holes = ((*each, GapKind.NO_RECORD) for each in tally.holes())
            unseen = ((*each, GapKind.NOT_OBSERVED) for each in tally.unknown_stretches())
            found += [self._gap(*each) for each in merge(holes, unseen)]
        return found

    def _gap(self, from_ms: int, to_ms: int, missing_ms: int, kind: GapKind) -> GapFound:
        reasons = (gap.reason for gap in self.gaps if gap.from_ms < to_ms and gap.to_ms > from_ms)
        return GapFound(self.line_id, from_ms, to_ms, missing_ms, kind, "; ".join(dict.fromkeys(reasons)))
