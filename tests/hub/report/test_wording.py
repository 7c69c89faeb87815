"""Rounding and signs, by hand."""

from __future__ import annotations

from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from hub.report import wording

HONG_KONG = ZoneInfo("Asia/Hong_Kong")


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "expected"),
    [
        (None, 1, False, "–"),
        (Fraction(12_345, 10), 1, False, "1,234.5"),
        (Fraction(5, 100), 1, True, "+0.1"),
        (Fraction(-5, 100), 1, True, "−0.1"),
        (Fraction(-4, 100), 1, True, "0.0"),
        (Fraction(0), 1, True, "0.0"),
        (Fraction(-1234, 1), 0, False, "−1,234"),
    ],
)
def test_decimal(value: Fraction | None, decimals: int, sign: bool, expected: str) -> None:
    assert wording.decimal(value, decimals, sign=sign) == expected


def test_changes_and_spans() -> None:
    assert wording.ppm(118_000) == "+11.8 %"
    assert wording.ppm(-4_000, relative=False) == "−0.4 points"
    assert wording.span_ppm(82_000, 151_000) == "+8.2 to +15.1 %"
    assert wording.span_ppm(None, 1) == "–"


def test_times() -> None:
    assert wording.hours(3_600_000 * 1234 + 300_000) == "1,234:05"
    assert wording.hours(-90_000) == "−0:01"
    assert wording.minutes_of_hour(None) == "–"
    assert wording.day(1_772_294_400_000, HONG_KONG) == "2026-03-01"
    assert wording.last_day(1_772_294_400_000, HONG_KONG) == "2026-02-28"
    assert wording.minute(0, HONG_KONG) == "1970-01-01 08:00"
    assert wording.money(None) == "–"
