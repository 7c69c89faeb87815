"""The calendar of a line: which shift an instant belongs to, and whether production is planned then.

Decides where planned time begins and ends. Shifts are patterns in local time of an IANA zone; their instances are
half-open intervals of UTC, so a day of 23 or 25 hours is simply shorter or longer.

A wall-clock time stands for the first instant at which the local clock shows it or a later one. So a time that comes
twice is its first coming, one that is skipped is the instant of the change, and patterns that do not overlap on the
wall never overlap in time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from protocols.errors import Malformed
from protocols.measurement.account import CalendarKind

DAY_MINUTES: Final = 24 * 60
_MINUTE_MS: Final = 60_000
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

    `holidays`: business days ("2026-12-25") whose shifts are planned downtime. `planned_downs`: (from_ms, to_ms,
    words), half-open, absolute, at whole minutes: what of them lies inside a shift is planned downtime, outside they
    change nothing. Raises Malformed for a planned stop within a minute.
    """

    timezone: str
    shifts: tuple[Shift, ...] = ()
    holidays: frozenset[str] = frozenset()
    planned_downs: tuple[tuple[int, int, str], ...] = ()

    def __post_init__(self) -> None:
        # Pieces of one minute are counted together: nothing may be cut within it.
        if any(at_ms % _MINUTE_MS for from_ms, to_ms, _ in self.planned_downs for at_ms in (from_ms, to_ms)):
            raise Malformed("a planned stop must begin and end at a whole minute")

    def segments(self, start_ms: int, end_ms: int) -> list[Segment]:
        """The stretches that tile [start_ms, end_ms), in order and without a hole; neighbours differ."""
        out: list[Segment] = []
        at = start_ms
        for segment in self._instances(start_ms, end_ms):
            first, last = max(segment.start_ms, at), min(segment.end_ms, end_ms)
            if first >= last:
                continue
            if first > at:
                _append(out, Segment(at, first, CalendarKind.NOT_SCHEDULED, ""))
            for part in self._parts(Segment(first, last, segment.kind, segment.shift)):
                _append(out, part)
            at = last
        if at < end_ms:
            _append(out, Segment(at, end_ms, CalendarKind.NOT_SCHEDULED, ""))
        return out

    def _instances(self, start_ms: int, end_ms: int) -> Iterator[Segment]:
        zone = ZoneInfo(self.timezone)
        # A shift may have started the day before and still run; a day ahead is read for zones east of UTC.
        day = (_EPOCH + timedelta(milliseconds=start_ms)).astimezone(zone).date() - timedelta(days=1)
        last = (_EPOCH + timedelta(milliseconds=end_ms)).astimezone(zone).date()
        while day <= last:
            yield from _day_segments(self, day)
            day += timedelta(days=1)

    def _parts(self, segment: Segment) -> Iterator[Segment]:
        """The segment, cut where a planned stop takes some of it. They may overlap, and need no order."""
        if segment.kind is not CalendarKind.SCHEDULED:
            yield segment
            return
        at = segment.start_ms
        for from_ms, to_ms, _ in sorted(self.planned_downs):
            first, last = max(from_ms, at), min(to_ms, segment.end_ms)
            if first < last:
                if at < first:
                    yield Segment(at, first, segment.kind, segment.shift)
                yield Segment(first, last, CalendarKind.PLANNED_DOWN, segment.shift)
                at = last
        if at < segment.end_ms:
            yield Segment(at, segment.end_ms, segment.kind, segment.shift)

    def to_data(self) -> dict[str, Any]:
        return {
            "holidays": sorted(self.holidays),
            "planned_downs": [list(down) for down in sorted(self.planned_downs)],
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
            tuple((from_ms, to_ms, words) for from_ms, to_ms, words in data["planned_downs"]),
        )


def clipped(segments: Sequence[Segment], start_ms: int, end_ms: int) -> list[Segment]:
    """What lies in [start_ms, end_ms) of segments that tile more than that."""
    if start_ms >= end_ms:
        return []
    first = bisect_right(segments, start_ms, key=lambda s: s.end_ms)
    last = bisect_left(segments, end_ms, first, key=lambda s: s.start_ms)
    return [Segment(max(s.start_ms, start_ms), min(s.end_ms, end_ms), s.kind, s.shift) for s in segments[first:last]]


def local_ms(zone: ZoneInfo, day: date, minute: int) -> int:
    """The UTC milliseconds of a wall-clock minute, counted from local midnight of `day`; may lie past that day."""
    return wall_ms(zone, datetime.combine(day, time()) + timedelta(minutes=minute))


def wall_ms(zone: ZoneInfo, wall: datetime) -> int:
    """The UTC milliseconds of the first instant at which the clock of `zone` shows `wall` (naive) or later."""
    before, after = (wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    instant = wall.replace(tzinfo=UTC) - before
    if before < after:  # PEP 495: only of a skipped time is the first reading's offset the smaller one
        instant = _change(zone, wall.replace(tzinfo=UTC, microsecond=0) - after, instant)
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The instant in (low, high] at which the zone's offset changes. IANA's changes are at whole seconds."""
    old = low.astimezone(zone).utcoffset()
    seconds = range(1, (high - low) // timedelta(seconds=1) + 1)
    first = bisect_left(seconds, True, key=lambda s: (low + timedelta(seconds=s)).astimezone(zone).utcoffset() != old)
    return low + timedelta(seconds=first + 1)


def _append(segments: list[Segment], segment: Segment) -> None:
    """Adds a segment that begins where the last one ended; taken together with it where nothing changes."""
    if segments and (segments[-1].kind, segments[-1].shift) == (segment.kind, segment.shift):
        segment = Segment(segments.pop().start_ms, segment.end_ms, segment.kind, segment.shift)
    segments.append(segment)


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
