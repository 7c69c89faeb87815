"""Numbers as a reader sees them: the one place of the report where figures are rounded.

Decides signs, decimals and separators; how it is rounded is `rounding`'s, so that the report of the same data reads
the same everywhere. Undefined is "–", never 0.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from protocols.measurement.rounding import rounded

UNDEFINED: Final = "–"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def decimal(value: Fraction | None, decimals: int = 1, *, sign: bool = False) -> str:
    """1,234.5; with `sign`, +1,234.5 and −1,234.5."""
    if value is None:
        return UNDEFINED
    whole = abs(rounded(value, decimals))
    digits = f"{whole // 10**decimals:,}"
    if decimals:
        digits += f".{whole % 10**decimals:0{decimals}}"
    if value < 0 and whole:
        return f"−{digits}"
    return f"+{digits}" if sign and whole else digits


def percent(share: Fraction | None, *, sign: bool = False) -> str:
    """59.4 %: a share of 1 as a percentage with one decimal."""
    return UNDEFINED if share is None else f"{decimal(share * 100, sign=sign)} %"


def ppm(value: int | None, *, relative: bool = True, unit: bool = True) -> str:
    """A change in parts per million: +14.1 % if relative, else +8.4 points."""
    if value is None:
        return UNDEFINED
    digits = decimal(Fraction(value, 10_000), sign=True)
    return digits if not unit else f"{digits} %" if relative else f"{digits} points"


def span_ppm(low: int | None, high: int | None, *, relative: bool = True) -> str:
    """+10.8 to +17.4 %."""
    if low is None or high is None:
        return UNDEFINED
    return f"{ppm(low, unit=False)} to {ppm(high, relative=relative)}"


def hours(milliseconds: int) -> str:
    """1,234:05: hours and minutes, cut to whole minutes."""
    minutes = abs(milliseconds) // 60_000
    return f"{'−' if milliseconds < 0 and minutes else ''}{minutes // 60:,}:{minutes % 60:02}"


def minutes_of_hour(milliseconds: int | None) -> str:
    """4.3: what of a planned hour, in minutes."""
    return decimal(None if milliseconds is None else Fraction(milliseconds, 60_000))


def money(amount: int | None) -> str:
    return UNDEFINED if amount is None else f"HK${amount:,}"


def day(instant_ms: int, zone: ZoneInfo) -> str:
    """2026-03-01, in the site's zone."""
    return _local(instant_ms, zone).strftime("%Y-%m-%d")


def last_day(to_ms: int, zone: ZoneInfo) -> str:
    """The day that holds the last instant before `to_ms`."""
    return day(to_ms - 1, zone)


def minute(instant_ms: int, zone: ZoneInfo) -> str:
    """2026-03-01 14:05, in the site's zone."""
    return _local(instant_ms, zone).strftime("%Y-%m-%d %H:%M")


def _local(instant_ms: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=instant_ms)).astimezone(zone)
