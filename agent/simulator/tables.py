"""The kinds of value that only a plant file has: decimal numbers in a range, times of day, local instants.

Decides their written form. How a table is read and a mistake is said is `agent.toml_table`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.toml_table import Table

_MILLIONTHS: Final = 1_000_000
_MINUTE: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\Z")
_MINUTES_A_DAY: Final = 1440


def number(table: Table, key: str, default: float | None, low: float, high: float) -> float:
    """A decimal number of at most six decimals; required when the default is None."""
    whole = None if default is None else round(default * _MILLIONTHS)
    value = table.scaled(key, whole, _MILLIONTHS, round(low * _MILLIONTHS), round(high * _MILLIONTHS))
    return value / _MILLIONTHS


def identifier(table: Table, key: str) -> str:
    """A name that may stand in a node's id, a path or a topic."""
    value = table.text(key, example='"filling"')
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise table.wrong(key, f'"{value}" is no id', "use letters, digits, - and _, at most 64")
    return value


def zone(table: Table, key: str, default: str) -> ZoneInfo:
    """An IANA time zone."""
    value = table.text(key, default, example='"Asia/Hong_Kong"')
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        mend = 'an IANA name, e.g. "Asia/Hong_Kong"'
        raise table.wrong(key, f'"{value}" is no time zone', mend) from None


def instant(table: Table, key: str, local: ZoneInfo) -> int:
    """Unix ms of an ISO 8601 text, local time unless it has an offset."""
    return _instant(table, key, table.text(key, example='"2026-03-01T06:00"'), local)


def instants(table: Table, key: str, local: ZoneInfo) -> tuple[int, ...]:
    """A list of them, in time order; empty when it is left out."""
    values = table.items(key, str, '["2026-03-01T06:00"]')
    return tuple(sorted(_instant(table, key, value, local) for value in values))


def _instant(table: Table, key: str, value: str, local: ZoneInfo) -> int:
    mend = f'write: {key} = "2026-03-01T06:00" (local time), or with an offset'
    moment = table.parsed(key, value, datetime.fromisoformat, mend)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=local)).timestamp() * 1000)


def minute(table: Table, key: str) -> int:
    """Minutes after local midnight of "06:00"; "24:00" is the day's end."""
    return _minute(table, key, table.text(key, example='"06:00"'))


def minute_ranges(table: Table, key: str) -> tuple[tuple[int, int], ...]:
    """A list of "12:00-12:30"; empty when it is left out."""
    ranges: list[tuple[int, int]] = []
    for value in table.items(key, str, '["12:00-12:30"]'):
        start, _, end = value.partition("-")
        ranges.append((_minute(table, key, start), _minute(table, key, end)))
    return tuple(ranges)


def _minute(table: Table, key: str, value: str) -> int:
    if value == "24:00":
        return _MINUTES_A_DAY
    match = _MINUTE.match(value)
    if match is None:
        raise table.wrong(key, f'"{value}" is no time of day', "write it as 06:00")
    return int(match[1]) * 60 + int(match[2])


def weekdays(table: Table, key: str) -> frozenset[int]:
    """ISO weekdays, 1 = Monday; every day when it is left out."""
    days = table.items(key, int, "[1, 2, 3, 4, 5]")
    if not all(1 <= day <= 7 for day in days):
        raise table.wrong(key, "a day is out of range", "1 is Monday, 7 is Sunday")
    return frozenset(days or range(1, 8))
