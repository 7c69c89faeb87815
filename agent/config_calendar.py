"""Shifts, breaks, holidays and planned stops of a line, from the configuration.

Decides the keys of `[[line.shift]]` and `[[line.planned_down]]`, and refuses shifts that overlap. What a calendar
means is decided in `protocols.measurement.calendar`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from agent.toml_table import Table
from protocols.measurement.calendar import DAY_MINUTES, Calendar, Shift, wall_ms

_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def read_calendar(table: Table, timezone: str) -> Calendar:
    """The calendar in a line's table. Raises ConfigurationError."""
    return Calendar(timezone, _shifts(table), _holidays(table), _planned_downs(table, ZoneInfo(timezone)))


def _shifts(table: Table) -> tuple[Shift, ...]:
    shifts: list[Shift] = []
    for inner in table.tables("shift"):
        name = inner.text("name", example='"A"')
        days = inner.items("days", str, '["mon", "tue"]') or list(_DAYS)
        for day in days:
            if day not in _DAYS:
                raise inner.wrong("days", f'"{day}" is not a day', f"one of: {', '.join(_DAYS)}")
        start = _minute(inner, "start", inner.text("start", example='"07:00"'))
        end = _minute(inner, "end", inner.text("end", example='"15:00"'))
        end = end if end > start else end + DAY_MINUTES
        breaks: list[tuple[int, int]] = []
        for pause in inner.items("breaks", list, '[["11:00", "11:30"]]'):
            if len(pause) != 2 or not all(isinstance(edge, str) for edge in pause):
                raise inner.wrong("breaks", f"{pause} is not a break", 'write: breaks = [["11:00", "11:30"]]')
            first, last = (_minute(inner, "breaks", edge) for edge in pause)
            first = first if first >= start else first + DAY_MINUTES
            last = last if last > first else last + DAY_MINUTES
            if not start <= first < last <= end or (breaks and first < breaks[-1][1]):
                raise inner.wrong("breaks", f"{pause} does not fit", "breaks lie inside the shift, in order")
            breaks.append((first, last))
        if name in {shift.name for shift in shifts}:
            raise inner.wrong("name", f'two shifts are called "{name}"', "give each shift its own name")
        inner.done()
        shifts.append(Shift(name, tuple(sorted(_DAYS.index(day) for day in set(days))), start, end, tuple(breaks)))
    _refuse_overlap(table, shifts)
    return tuple(shifts)


def _refuse_overlap(table: Table, shifts: list[Shift]) -> None:
    week = 7 * DAY_MINUTES
    spans = sorted(
        (day * DAY_MINUTES + shift.start_minute, day * DAY_MINUTES + shift.end_minute, shift.name)
        for shift in shifts
        for day in shift.weekdays
    )
    for (_, end, name), (start, _, other) in zip(
        spans, [*spans[1:], *[(s + week, e, n) for s, e, n in spans[:1]]], strict=True
    ):
        if start < end:
            raise table.wrong(
                "shift", f'the shifts "{name}" and "{other}" overlap', "let one end where the other starts"
            )


def _holidays(table: Table) -> frozenset[str]:
    days = table.items("holidays", str, '["2026-12-25"]')
    mend = 'write: holidays = ["2026-12-25"]'
    return frozenset(table.parsed("holidays", day, date.fromisoformat, mend).isoformat() for day in days)


def _planned_downs(table: Table, zone: ZoneInfo) -> tuple[tuple[int, int, str], ...]:
    """Planned stops, in the order of time: the configuration's hash must not depend on the file's order."""
    downs: list[tuple[int, int, str]] = []
    for inner in table.tables("planned_down"):
        from_ms, to_ms = (_instant_ms(inner, key, zone) for key in ("from", "to"))
        for key, at_ms in (("from", from_ms), ("to", to_ms)):
            if at_ms % 60_000:
                raise inner.wrong(key, "is not a whole minute", "leave the seconds away")
        words = inner.text("reason", example='"yearly service"')
        if to_ms <= from_ms:
            raise inner.wrong("to", "ends before it starts", "a time after `from`")
        inner.done()
        downs.append((from_ms, to_ms, words))
    return tuple(sorted(downs))


def _instant_ms(table: Table, key: str, zone: ZoneInfo) -> int:
    text = table.text(key, example='"2026-12-24T12:00"')
    mend = f'write: {key} = "2026-12-24T12:00" (the line\'s local time)'
    moment = table.parsed(key, text, datetime.fromisoformat, mend)
    # An hour that comes twice in autumn can be told apart with an offset: "2026-10-25T02:30+01:00".
    return wall_ms(zone, moment) if moment.tzinfo is None else wall_ms(ZoneInfo("UTC"), _naive_utc(moment))


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _minute(table: Table, key: str, text: str) -> int:
    if text == "24:00":
        return DAY_MINUTES
    match = _TIME.fullmatch(text)
    if match is None:
        raise table.wrong(key, f'"{text}" is not a time of day', 'write hours and minutes: "07:00"')
    return int(match[1]) * 60 + int(match[2])
