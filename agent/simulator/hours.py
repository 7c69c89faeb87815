"""Working hours: when a line is manned, as UTC intervals.

Decides how local shifts and breaks become half-open UTC intervals, over midnight and changes of daylight time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from agent.simulator.spec import LineSpec, ShiftSpec

_DAY = timedelta(days=1)


def working_intervals(spec: LineSpec, start_ms: int) -> Iterator[tuple[int, int]]:
    """Manned (from_ms, to_ms) in time order, without overlap, not before `start_ms`; without end.

    A handover gives two intervals that touch. A line without shifts is manned always.
    """
    last = start_ms
    for begin, end in _raw_intervals(spec, start_ms):
        clipped = max(begin, last), end
        for piece in _without_installation(spec, clipped):
            if piece[0] < piece[1]:
                yield piece
        last = max(last, end)


def _raw_intervals(spec: LineSpec, start_ms: int) -> Iterator[tuple[int, int]]:
    first = datetime.fromtimestamp(start_ms / 1000, UTC).astimezone(spec.timezone).date() - _DAY
    day = datetime(first.year, first.month, first.day)
    while True:
        if spec.shifts:
            intervals = [
                interval
                for shift in spec.shifts
                if day.isoweekday() in shift.days
                for interval in _of_shift(spec, shift, day)
            ]
            yield from sorted(intervals)
        else:
            yield _utc_ms(spec, day, 0), _utc_ms(spec, day, 24 * 60)
        day += _DAY


def _of_shift(spec: LineSpec, shift: ShiftSpec, day: datetime) -> Iterator[tuple[int, int]]:
    end_minute = shift.end_minute + (24 * 60 if shift.end_minute <= shift.start_minute else 0)
    at = shift.start_minute
    breaks = sorted(
        (begin + over, end + over + (24 * 60 if end < begin else 0))
        for begin, end in shift.breaks
        # A break at 02:00 in a shift that starts at 22:00 is on the next day.
        for over in ((24 * 60 if begin < shift.start_minute else 0),)
    )
    for begin, end in breaks:
        if at < begin < end_minute:
            yield _utc_ms(spec, day, at), _utc_ms(spec, day, begin)
        at = max(at, end)
    if at < end_minute:
        yield _utc_ms(spec, day, at), _utc_ms(spec, day, end_minute)


def _utc_ms(spec: LineSpec, day: datetime, minute: int) -> int:
    # Wall-clock arithmetic first, the zone afterwards: a shift from 22:00 to 06:00 ends at 06:00 on any night.
    local = (day + timedelta(minutes=minute)).replace(tzinfo=spec.timezone)
    return round(local.timestamp() * 1000)


def _without_installation(spec: LineSpec, interval: tuple[int, int]) -> Iterator[tuple[int, int]]:
    begin, end = interval
    if spec.upgrade is None or spec.upgrade.install_ms == 0:
        yield interval
        return
    down, up = spec.upgrade.at_ms, spec.upgrade.at_ms + spec.upgrade.install_ms
    yield begin, min(end, down)
    yield max(begin, up), end
