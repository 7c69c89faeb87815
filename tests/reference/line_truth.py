"""What a line's windows must say, computed from what the plant itself knows: no kernel, no meter, no records.

A line's history is a list of `Moment`s (what holds from then on). Time goes into a row of one cell per millisecond;
stops are found as stretches of cells. Counts come from the plant's own true counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tests.reference.oee_loop import STOP, category

NAMES = (
    "UNKNOWN",
    "PRODUCING",
    "SETUP",
    "FAILURE",
    "MINOR_STOP",
    "RESTRAINT",
    "HELD",
    "UNASSIGNED",
    "NO_ORDER",
    "PLANNED_DOWN",
    "NOT_SCHEDULED",
)  # the categories in the order of docs/formats.md


@dataclass(frozen=True)
class Moment:
    """From `at_ms` on the line is in PackML state `state`, with an order or not, making `product`."""

    at_ms: int
    state: int
    order: bool
    product: int


@dataclass(frozen=True)
class Timeline:
    """Categories of [start_ms, start_ms + len(cells)), and the stops in it."""

    start_ms: int
    cells: NDArray[np.uint8]
    stops: tuple[tuple[int, int], ...]

    def sums(self, from_ms: int, to_ms: int, planned: bool) -> list[int]:
        """Milliseconds by category in [from_ms, to_ms)."""
        counts = np.bincount(self.cells[from_ms - self.start_ms : to_ms - self.start_ms], minlength=11).tolist()
        if not planned:
            counts = [0, counts[1], *[0] * 8, sum(counts) - counts[1]]
        return counts

    def touches_stop(self, from_ms: int, to_ms: int) -> list[tuple[int, int]]:
        """The stops that overlap [from_ms, to_ms)."""
        return [stop for stop in self.stops if stop[0] < to_ms and stop[1] > from_ms]


def timeline(
    moments: Iterable[Moment], start_ms: int, end_ms: int, minor_stop_ms: int, staleness_ms: int | None
) -> Timeline:
    """The categories of [start_ms, end_ms). `staleness_ms`: how long a moment is good for; None for ever."""
    listed: Sequence[Moment] = list(moments)
    cells = np.zeros(end_ms - start_ms, np.uint8)
    made: int | None = None
    for moment, following in pairwise([*listed, Moment(end_ms, 0, False, 0)]):
        changeover = made is not None and moment.product != made
        name = category(moment.state, moment.order, changeover)
        if name == "PRODUCING":
            made = moment.product
        until = following.at_ms if staleness_ms is None else min(following.at_ms, moment.at_ms + staleness_ms)
        cells[max(moment.at_ms - start_ms, 0) : max(until - start_ms, 0)] = NAMES.index(name)
    stop_cells = np.isin(cells, [NAMES.index(name) for name in STOP]).astype(np.int8)
    edges = np.flatnonzero(np.diff(stop_cells, prepend=0, append=0)).tolist()
    stops = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        stops.append((first + start_ms, last + start_ms))
        seen_whole = first > 0 and cells[first - 1] and last < len(cells) and cells[last]
        if seen_whole and last - first < minor_stop_ms:
            cells[first:last] = NAMES.index("MINOR_STOP")
    return Timeline(start_ms, cells, tuple(stops))
