"""Windows: where the time of a line is cut, and what falls on which side of a cut.

Decides the cuts (the grid, the calendar's edges, product changes) and how runs and counter deltas become the
account of each piece. A window is half-open in time; pieces are credited to (start, end], since a count read at a
cut was made before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocols.measurement.account import CATEGORIES, CalendarKind, Category, TimeAccount, Window
from protocols.measurement.calendar import Calendar
from protocols.measurement.kernels.scan import BREAK, ESTIMATED
from protocols.measurement.timeline import Stop
from protocols.plc.roles import SignalRole


@dataclass(frozen=True, slots=True)
class Delta:
    """Pieces that a counter was found to have counted when it was read at `read_ms`.

    After a gap in the data they were made at some time in the gap: they are real, and booked where they were read,
    flagged ESTIMATED. (Sharing them out over windows that may be closed already would make the sums depend on when
    a window was closed.)
    """

    read_ms: int
    role: SignalRole
    pieces: int
    flags: int  # of kernels.scan


@dataclass(frozen=True, slots=True)
class Cut:
    """A window before it has an account."""

    start_ms: int
    end_ms: int
    kind: CalendarKind
    shift: str
    product: str


def cuts(
    start_ms: int, end_ms: int, window_ms: int, calendar: Calendar, product: str, changes: Sequence[tuple[int, str]]
) -> list[Cut]:
    """The windows that tile [start_ms, end_ms), with `product` at the start and `changes` as (time_ms, product)."""
    out: list[Cut] = []
    at = 0
    for segment in calendar.segments(start_ms, end_ms):
        first = segment.start_ms
        while first < segment.end_ms:
            while at < len(changes) and changes[at][0] <= first:
                product = changes[at][1]
                at += 1
            last = min(segment.end_ms, (first // window_ms + 1) * window_ms)
            if at < len(changes):
                last = min(last, changes[at][0])
            out.append(Cut(first, last, segment.kind, segment.shift, product))
            first = last
    return out


def accounts(
    windows: Sequence[Cut],
    runs: Iterable[tuple[int, int, Category]],
    deltas: Iterable[Delta],
    stops: Iterable[Stop],
    counters: Collection[SignalRole],
    ideal_cycle_ns: Mapping[str, int | None],
) -> list[Window]:
    """The windows with their accounts.

    `runs`: (start_ms, end_ms, category), in order, covering the windows. `counters`: the one or two that the line
    has; what is not counted follows from them (good = total - reject, and so on).
    """
    if not windows:
        return []
    edges = [*(cut.start_ms for cut in windows), windows[-1].end_ms]
    tallies = [_Tally() for _ in windows]
    at = 0
    for start, end, category in runs:
        while at < len(tallies) and edges[at + 1] <= start:
            at += 1
        if at < len(tallies) and edges[at] <= start < end:
            tallies[at].transitions += 1
        into = at
        while into < len(tallies) and edges[into] < end:
            tallies[into].category_ms[category] += min(end, edges[into + 1]) - max(start, edges[into])
            into += 1
    for delta in deltas:
        tally = tallies[min(max(bisect_left(edges, delta.read_ms) - 1, 0), len(tallies) - 1)]
        tally.pieces[delta.role] += delta.pieces
        if delta.flags & ESTIMATED and delta.role is not SignalRole.REJECT:
            tally.estimated += delta.pieces
        tally.breaks += delta.flags & BREAK != 0
    for stop in stops:
        if edges[0] <= stop.start_ms < edges[-1]:
            tally = tallies[bisect_right(edges, stop.start_ms) - 1]
            tally.minor_stops += stop.minor
            tally.stops += stop.long
    return [_window(cut, tally, counters, ideal_cycle_ns) for cut, tally in zip(windows, tallies, strict=True)]


class _Tally:
    """What falls into one window, before the calendar has its say."""

    def __init__(self) -> None:
        self.category_ms = [0] * CATEGORIES
        self.pieces = {SignalRole.TOTAL: 0, SignalRole.GOOD: 0, SignalRole.REJECT: 0}
        self.estimated = 0
        self.breaks = 0
        self.transitions = 0
        self.stops = 0
        self.minor_stops = 0


def _window(
    cut: Cut, tally: _Tally, counters: Collection[SignalRole], ideal_cycle_ns: Mapping[str, int | None]
) -> Window:
    category_ms = tally.category_ms
    length = cut.end_ms - cut.start_ms
    planned = length
    if cut.kind is not CalendarKind.SCHEDULED:
        # The calendar beats tags: only production counts, and its time is planned time then.
        planned = category_ms[Category.PRODUCING]
        category_ms = [0] * CATEGORIES
        category_ms[Category.PRODUCING] = planned
        down = Category.PLANNED_DOWN if cut.kind is CalendarKind.PLANNED_DOWN else Category.NOT_SCHEDULED
        category_ms[down] = length - planned
    total, good, reject = quantities(tally.pieces, counters)
    ideal = ideal_cycle_ns.get(cut.product)
    return Window(
        cut.start_ms,
        cut.end_ms,
        cut.kind,
        cut.product,
        "",
        cut.shift,
        TimeAccount(
            tuple(category_ms),
            planned_ms=planned,
            total_count=total,
            good_count=good,
            reject_count=reject,
            estimated_count=tally.estimated,
            lower_bound_count=tally.breaks,
            standard_total_ns=0 if ideal is None else ideal * total,
            standard_good_ns=0 if ideal is None else ideal * good,
            without_ideal_count=total if ideal is None else 0,
            transition_count=tally.transitions,
            stop_count=tally.stops,
            minor_stop_count=tally.minor_stops,
        ),
    )


def quantities(pieces: Mapping[SignalRole, int], counters: Collection[SignalRole]) -> tuple[int, int, int]:
    """(total, good, reject) from the counters that a line has; good + reject = total, always.

    A reject that is counted in a later window than its piece makes that window's good count smaller, even
    negative: sums over windows stay exact, and nothing is clamped.
    """
    total, good, reject = (pieces[role] for role in (SignalRole.TOTAL, SignalRole.GOOD, SignalRole.REJECT))
    has_total, has_good, has_reject = (
        role in counters for role in (SignalRole.TOTAL, SignalRole.GOOD, SignalRole.REJECT)
    )
    if has_total and has_reject:
        return total, total - reject, reject
    if has_total and has_good:
        return total, good, total - good
    if has_good and has_reject:
        return good + reject, good, reject
    made = total if has_total else good
    return made, made, 0
