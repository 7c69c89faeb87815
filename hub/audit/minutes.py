"""Which minutes are asked for: drawn by a seed, so that nobody could have known them and anybody can draw them again.

Decides the draw and what else is needed to decide a minute. The draw is over what the gateways themselves signed: the
scheduled windows of a line's business day, in order of time. A seed is worth something only if it came after these
windows were in the log: the log's root hash at a checkpoint that covers them, or what a committee threw with dice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import islice

from protocols.measurement.account import CalendarKind, Window
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.resample import draws

Span = tuple[int, int]


def draw(seed: bytes, line_id: str, windows: Iterable[Window], days: tuple[date, date], minutes: int) -> list[Span]:
    """(start_ms, end_ms) of `minutes` windows of each business day of [first, last], in order of time.

    Of a day with fewer scheduled windows, all. Draw i of a day is number d_i of that day's windows, d being
    `resample.draws(seed, "audit/<line>/<YYYY-MM-DD>", ..., count)`; a number that was drawn before is passed over.
    """
    by_day: dict[str, list[Span]] = {}
    first, last = days[0].isoformat(), days[1].isoformat()
    for window in windows:
        day = window.shift.partition("/")[0]
        if window.kind is CalendarKind.SCHEDULED and first <= day <= last:
            by_day.setdefault(day, []).append((window.start_ms, window.end_ms))
    out: list[Span] = []
    for day, spans in by_day.items():
        spans.sort()
        out += sorted(spans[i] for i in _different(seed, f"audit/{line_id}/{day}", minutes, len(spans)))
    return sorted(out)


def _different(seed: bytes, label: str, wanted: int, below: int) -> list[int]:
    """The first `wanted` different draws below `below`, or all of them."""
    if wanted >= below:
        return list(range(below))
    count = 2 * wanted
    while True:
        found = list(islice(dict.fromkeys(draws(seed, label, count, below)), wanted))
        if len(found) == wanted:
            return found
        count *= 2


def decide_ms(configuration: LineConfiguration) -> int:
    """How long after a window's end it may take until a stop in it is known to be minor or not."""
    definition = configuration.definition
    return definition.minor_stop_ms + definition.min_stop_ms + definition.min_run_ms


def needed(windows: Sequence[Span], decide: Mapping[Span, int]) -> list[Span]:
    """The spans whose chunks decide these windows, in order, none over another.

    From the chunk before a window (what the meter remembers at the window's start is then replayed, not believed) to
    the one that ends after the last stop in it is decided. `decide`: `decide_ms` of each window's configuration.
    """
    out: list[Span] = []
    for start_ms, end_ms in sorted(windows):
        span = (start_ms - 1, end_ms + decide[start_ms, end_ms] + 1)
        if out and span[0] <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], span[1]))
        else:
            out.append(span)
    return out
