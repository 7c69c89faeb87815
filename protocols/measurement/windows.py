"""Windows: where the time of a line is cut, and what falls on which side of a cut.

Decides the cuts (the grid, the calendar's edges, product changes) and how runs and counter deltas become the
account of each window. A window is half-open in time; pieces are credited to (start, end], since a count read at a
cut was made before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from protocols.measurement.account import CATEGORIES, CalendarKind, Category, TimeAccount, Window
from protocols.measurement.calendar import Segment
from protocols.measurement.kernels.scan import BREAK, ESTIMATED, I64
from protocols.measurement.timeline import Stop, Stretch
from protocols.plc.roles import COUNTER_ROLES, ROLES, SignalRole

Pieces = tuple[list[list[int]], list[list[int]], list[int], list[int]]
"""By window: pieces by role, start-up rejects by role, estimated pieces, and breaks."""
_TOTAL, _GOOD, _REJECT, _REWORK = COUNTER_ROLES
_DOWN: Final = {
    CalendarKind.PLANNED_DOWN: Category.PLANNED_DOWN,
    CalendarKind.NOT_SCHEDULED: Category.NOT_SCHEDULED,
}


@dataclass(frozen=True, slots=True)
class Cut:
    """A window before it has an account."""

    start_ms: int
    end_ms: int
    kind: CalendarKind
    shift: str
    product: str


def cuts(segments: Iterable[Segment], window_ms: int, product: str, changes: Sequence[tuple[int, str]]) -> list[Cut]:
    """The windows that tile `segments` of the calendar, with `product` at their start and `changes` as (time_ms,
    product)."""
    out: list[Cut] = []
    at = 0
    for segment in segments:
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


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to share out over windows.

    `stretches` cover the windows. `deltas`: rows of time_ms, role, pieces, flags of kernels.scan: pieces that a
    counter was found to have counted when it was read; lists, or int64[n, 4] where they are many. After a gap in the
    data they were made at some time in the gap: they are real, and booked where they were read, flagged ESTIMATED.
    (Sharing them out over windows that may be closed already would make the sums depend on when a window was closed.)
    `moves`: time_ms of a move between states, and whether PackML does not know it. `started_ms`: starts of production,
    rising; rejects read within `startup_ms` after one are start-up rejects.
    """

    stretches: Sequence[Stretch]
    deltas: I64 | list[list[int]]
    moves: Sequence[tuple[int, int]]
    stops: Sequence[Stop]
    started_ms: Sequence[int]
    startup_ms: int


def accounts(
    windows: Sequence[Cut], seen: Seen, counters: Collection[SignalRole], ideal_cycle_ns: Mapping[str, int | None]
) -> list[Window]:
    """The windows with their accounts.

    `counters`: the roles of the line's counters; what is not counted follows from them (good = total - reject, and
    so on).
    """
    if not windows:
        return []
    times = _times(windows, seen.stretches)
    count = _few_pieces if isinstance(seen.deltas, list) else _pieces
    pieces, startup, estimated, breaks = count(windows, seen, counters)
    moves = _moves(windows, seen.moves)
    stops = _stops(windows, seen.stops)
    return [
        _window(
            cut, times[i], pieces[i], startup[i], estimated[i], breaks[i], moves[i], stops[i], counters, ideal_cycle_ns
        )
        for i, cut in enumerate(windows)
    ]


def _times(windows: Sequence[Cut], stretches: Sequence[Stretch]) -> list[list[int]]:
    """By window, the ms of each category."""
    out = [[0] * CATEGORIES for _ in windows]
    last = len(stretches) - 1
    at = 0
    for cut, times in zip(windows, out, strict=True):
        from_ms = cut.start_ms
        while at < last and stretches[at + 1][0] <= from_ms:
            at += 1
        while from_ms < cut.end_ms:
            until_ms = cut.end_ms if at == last else min(cut.end_ms, stretches[at + 1][0])
            times[stretches[at][2]] += until_ms - from_ms
            from_ms = until_ms
            at += from_ms < cut.end_ms
    return out


def _few_pieces(windows: Sequence[Cut], seen: Seen, counters: Collection[SignalRole]) -> Pieces:
    """`_pieces` of a few rows, as each line has each second: numpy takes longer to begin."""
    last = len(windows) - 1
    ends = [cut.end_ms for cut in windows]
    pieces, startup = [[0] * ROLES for _ in windows], [[0] * ROLES for _ in windows]
    estimated, breaks = [0] * len(windows), [0] * len(windows)
    for time_ms, role, count, flags in seen.deltas:
        at = min(bisect_left(ends, time_ms), last) if last else 0
        pieces[at][role] += count
        if seen.startup_ms > 0:
            started = bisect_left(seen.started_ms, time_ms) - 1  # a count read at the start was made before it
            if started >= 0 and time_ms <= seen.started_ms[started] + seen.startup_ms:
                startup[at][role] += count
        if flags & ESTIMATED and role in _that_make_the_total(counters):
            estimated[at] += count
        if flags & BREAK:
            breaks[at] += 1
    return pieces, startup, estimated, breaks


def _pieces(cuts: Sequence[Cut], seen: Seen, counters: Collection[SignalRole]) -> Pieces:
    """By window: pieces by role, start-up rejects by role, estimated pieces, and breaks."""
    windows = len(cuts)
    edges = np.array([*(cut.start_ms for cut in cuts), cuts[-1].end_ms], np.int64)
    time_ms, role, count, flags = np.asarray(seen.deltas, np.int64).T
    pieces, startup = np.zeros((windows, ROLES), np.int64), np.zeros((windows, ROLES), np.int64)
    at = np.minimum(np.maximum(np.searchsorted(edges, time_ms, "left") - 1, 0), windows - 1)
    np.add.at(pieces.reshape(-1), at * ROLES + role, count)
    if seen.startup_ms > 0 and seen.started_ms:
        started = np.array(seen.started_ms, np.int64)
        last = np.searchsorted(started, time_ms, "left") - 1  # a count read at the start was made before it
        during = (last >= 0) & (time_ms <= started[np.maximum(last, 0)] + seen.startup_ms)
        np.add.at(startup, (at[during], role[during]), count[during])
    estimated, breaks = np.zeros(windows, np.int64), np.zeros(windows, np.int64)
    if flags.any():
        of_total = [int(r) for r in _that_make_the_total(counters)]
        gap = (flags & ESTIMATED != 0) & np.isin(role, of_total)
        np.add.at(estimated, at[gap], count[gap])
        np.add.at(breaks, at, (flags & BREAK != 0).astype(np.int64))
    return pieces.tolist(), startup.tolist(), estimated.tolist(), breaks.tolist()


def _moves(windows: Sequence[Cut], moves: Sequence[tuple[int, int]]) -> list[list[int]]:
    """By window: moves between states, and those that PackML does not know."""
    out = [[0, 0] for _ in windows]
    if moves:
        starts = [cut.start_ms for cut in windows]
        for time_ms, illegal in moves:
            if starts[0] <= time_ms < windows[-1].end_ms:
                found = out[bisect_right(starts, time_ms) - 1]
                found[0] += 1
                found[1] += illegal
    return out


def _that_make_the_total(counters: Collection[SignalRole]) -> tuple[SignalRole, ...]:
    if _TOTAL in counters:
        return (_TOTAL,)
    return (_GOOD, _REJECT)


def _stops(windows: Sequence[Cut], stops: Sequence[Stop]) -> list[list[int]]:
    """By window: of the stops that began in it the long ones, the minor ones, and of the long ones failures.

    The calendar beats tags: a stop that begins where no production is planned is none of these.
    """
    out = [[0, 0, 0] for _ in windows]
    if stops:
        starts = [cut.start_ms for cut in windows]
        for stop in stops:
            if not starts[0] <= stop.start_ms < windows[-1].end_ms:
                continue
            at = bisect_right(starts, stop.start_ms) - 1
            if windows[at].kind is CalendarKind.SCHEDULED:
                out[at][0] += stop.long
                out[at][1] += stop.minor
                out[at][2] += stop.long and stop.category is Category.FAILURE
    return out


def _window(
    cut: Cut,
    category_ms: list[int],
    pieces: list[int],
    startup: list[int],
    estimated: int,
    breaks: int,
    moves: list[int],
    stops: list[int],
    counters: Collection[SignalRole],
    ideal_cycle_ns: Mapping[str, int | None],
) -> Window:
    length = cut.end_ms - cut.start_ms
    planned = length
    if cut.kind is not CalendarKind.SCHEDULED:
        # The calendar beats tags: only production counts, and its time is planned time then.
        planned = category_ms[Category.PRODUCING]
        category_ms = [0] * CATEGORIES
        category_ms[Category.PRODUCING] = planned
        category_ms[_DOWN[cut.kind]] = length - planned
    total, good, reject = quantities(pieces, counters)
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
            rework_count=pieces[_REWORK],
            startup_reject_count=quantities(startup, counters)[2] if any(startup) else 0,
            estimated_count=estimated,
            lower_bound_count=breaks,
            standard_total_ns=0 if ideal is None else ideal * total,
            standard_good_ns=0 if ideal is None else ideal * good,
            without_ideal_count=total if ideal is None else 0,
            transition_count=moves[0],
            illegal_count=moves[1],
            stop_count=stops[0],
            minor_stop_count=stops[1],
            failure_count=stops[2],
        ),
    )


def quantities(pieces: Sequence[int], counters: Collection[SignalRole]) -> tuple[int, int, int]:
    """(total, good, reject) from pieces by role and the counters that a line has; good + reject = total, always.

    A reject that is counted in a later window than its piece makes that window's good count smaller, even
    negative: sums over windows stay exact, and nothing is clamped.
    """
    total, good, reject = pieces[_TOTAL], pieces[_GOOD], pieces[_REJECT]
    has_total, has_good, has_reject = _TOTAL in counters, _GOOD in counters, _REJECT in counters
    if has_total and has_reject:
        return total, total - reject, reject
    if has_total and has_good:
        return total, good, total - good
    if has_good and has_reject:
        return good + reject, good, reject
    made = total if has_total else good
    return made, made, 0
