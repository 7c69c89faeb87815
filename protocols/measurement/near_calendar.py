"""A calendar that is asked again and again about now: what it said of the hours around is kept.

Decides what is kept and for how long. What the calendar says is its own (`calendar`).
"""

from __future__ import annotations

from typing import Final

from protocols.measurement.calendar import Calendar, Segment, clipped

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000


class NearCalendar:
    """`shift_at` is asked each second, and what it keeps serves `segments` of the same days."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._around: tuple[int, list[Segment]] = (-1, [])  # about an hour, which begins then
        self._here: tuple[list[Segment], Segment, tuple[int, int, int]] | None = None  # of `_around`

    def segments(self, from_ms: int, to_ms: int) -> list[Segment]:
        """The calendar of [from_ms, to_ms): of what is kept of it, where that reaches."""
        kept = self._around[1]
        if not kept or kept[0].start_ms > from_ms or kept[-1].end_ms < to_ms:
            return self._calendar.segments(from_ms, to_ms)
        return clipped(kept, from_ms, to_ms)

    def shift_at(self, now_ms: int) -> tuple[Segment, tuple[int, int, int]]:
        """The segment at `now_ms`, and (start_ms, end_ms, scheduled ms) of its shift, kept while it lasts."""
        around = self._segments_around(now_ms)
        kept = self._here
        if kept is None or kept[0] is not around or not kept[1].start_ms <= now_ms < kept[1].end_ms:
            here = next(s for s in around if s.start_ms <= now_ms < s.end_ms)
            parts = [s for s in around if s.shift == here.shift]
            scheduled = sum(s.end_ms - s.start_ms for s in parts if s.kind == 0)
            kept = self._here = around, here, (parts[0].start_ms, parts[-1].end_ms, scheduled)
        return kept[1], kept[2]

    def _segments_around(self, now_ms: int) -> list[Segment]:
        """From a day before the hour of `now_ms` to a day after it."""
        hour_ms = now_ms - now_ms % _HOUR_MS
        if self._around[0] != hour_ms:
            segments = self._calendar.segments(hour_ms - _DAY_MS, hour_ms + _HOUR_MS + _DAY_MS)
            self._around = (hour_ms, segments)
        return self._around[1]
