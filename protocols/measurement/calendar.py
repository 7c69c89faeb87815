"""The calendar of a line: which shift an instant belongs to, and whether production is planned then.

Decides where planned time begins and ends. Shifts are patterns in local time of an IANA zone; their instances are
half-open intervals of UTC, so a day of 23 or 25 hours is simply shorter or longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from protocols.measurement.account import CalendarKind

DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shift:
    """A shift's pattern. Minutes count from local midnight of the business day, the day on which it starts.

    `end_minute` may lie past 1440: the shift then ends on the next day. `breaks` are (start, end) minutes in it.
    `weekdays`: 0 is Monday.
    """

    name: str
    weekdays: tuple[int, ...]
    start_minute: int
    end_minute: int
    breaks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A half-open stretch [start_ms, end_ms) of one kind and one shift ("<business day>/<name>", or "")."""

    start_ms: int
    end_ms: int
    kind: CalendarKind
    shift: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """Shifts of a line. Without any shift all time is scheduled, and a shift is a local calendar day.

    `holidays`: business days ("2026-12-25") whose shifts are planned downtime.
    """

    timezone: str
    shifts: tuple[Shift, ...] = ()
    holidays: frozenset[str] = frozenset()

    def segments(self, start_ms: int, end_ms: int) -> list[Segment]:
        """The stretches that tile [start_ms, end_ms), in order and without a hole."""
        out: list[Segment] = []
        at = start_ms
        for segment in self._instances(start_ms, end_ms):
            first, last = max(segment.start_ms, at), min(segment.end_ms, end_ms)
            if first >= last:
                continue
            if first > at:
                out.append(Segment(at, first, CalendarKind.NOT_SCHEDULED, ""))
            out.append(Segment(first, last, segment.kind, segment.shift))
            at = last
        if at < end_ms:
            out.append(Segment(at, end_ms, CalendarKind.NOT_SCHEDULED, ""))
        return out

    def _instances(self, start_ms: int, end_ms: int) -> Iterator[Segment]:
        zone = ZoneInfo(self.timezone)
        # A shift may have started the day before and still run; a day ahead is read for zones east of UTC.
        day = (_EPOCH + timedelta(milliseconds=start_ms)).astimezone(zone).date() - timedelta(days=1)
        last = (_EPOCH + timedelta(milliseconds=end_ms)).astimezone(zone).date()
        while day <= last:
            yield from _day_segments(self, day)
            day += timedelta(days=1)

    def to_data(self) -> dict[str, Any]:
        return {
            "holidays": sorted(self.holidays),
            "shifts": [
                {
                    "breaks": [list(pause) for pause in shift.breaks],
                    "end_minute": shift.end_minute,
                    "name": shift.name,
                    "start_minute": shift.start_minute,
                    "weekdays": list(shift.weekdays),
                }
                for shift in self.shifts
            ],
            "timezone": self.timezone,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Calendar:
        """The inverse of `to_data`."""
        return cls(
            data["timezone"],
            tuple(
                Shift(
                    shift["name"],
                    tuple(shift["weekdays"]),
                    shift["start_minute"],
                    shift["end_minute"],
                    tuple((first, last) for first, last in shift["breaks"]),
                )
                for shift in data["shifts"]
            ),
            frozenset(data["holidays"]),
        )


def local_ms(zone: ZoneInfo, day: date, minute: int) -> int:
    """The UTC milliseconds of a wall-clock minute, counted from local midnight of `day`.

    A time that the spring change skips is read as the instant of the change would have it (PEP 495, fold=0).
    """
    wall = datetime.combine(day + timedelta(days=minute // DAY_MINUTES), time()) + timedelta(
        minutes=minute % DAY_MINUTES
    )
    return round((wall.replace(tzinfo=zone) - _EPOCH) / timedelta(milliseconds=1))


@lru_cache(maxsize=4096)
def _day_segments(calendar: Calendar, day: date) -> tuple[Segment, ...]:
    """The segments of all shifts whose business day is `day`, in order of time."""
    zone = ZoneInfo(calendar.timezone)
    if not calendar.shifts:
        kind = CalendarKind.PLANNED_DOWN if day.isoformat() in calendar.holidays else CalendarKind.SCHEDULED
        return (Segment(local_ms(zone, day, 0), local_ms(zone, day, DAY_MINUTES), kind, f"{day.isoformat()}/day"),)
    out: list[Segment] = []
    todays: Sequence[Shift] = sorted(calendar.shifts, key=lambda shift: shift.start_minute)
    for shift in todays:
        if day.weekday() not in shift.weekdays:
            continue
        name = f"{day.isoformat()}/{shift.name}"
        if day.isoformat() in calendar.holidays:
            out.append(_segment(zone, day, shift.start_minute, shift.end_minute, CalendarKind.PLANNED_DOWN, name))
            continue
        at = shift.start_minute
        for first, last in sorted(shift.breaks):
            out.append(_segment(zone, day, at, first, CalendarKind.SCHEDULED, name))
            out.append(_segment(zone, day, first, last, CalendarKind.PLANNED_DOWN, name))
            at = last
        out.append(_segment(zone, day, at, shift.end_minute, CalendarKind.SCHEDULED, name))
    return tuple(segment for segment in out if segment.start_ms < segment.end_ms)


def _segment(zone: ZoneInfo, day: date, first: int, last: int, kind: CalendarKind, name: str) -> Segment:
    return Segment(local_ms(zone, day, first), local_ms(zone, day, last), kind, name)
