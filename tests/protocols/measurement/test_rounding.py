"""Rounding: halves away from zero, once, from the exact number."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as some

from protocols.measurement.rounding import rounded


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [
        (Fraction(1, 2), 0, 1), (Fraction(-1, 2), 0, -1), (Fraction(3, 2), 0, 2), (Fraction(-5, 2), 0, -3),
        (Fraction(1_061_496, 10_000), 1, 1061), (Fraction(25, 100), 1, 3), (Fraction(-1, 100), 1, 0), (7, 0, 7),
    ],
)  # fmt: skip
def test_halves_go_away_from_zero(value: Fraction, decimals: int, expected: int) -> None:
    assert rounded(value, decimals) == expected


@given(some.integers(-(10**12), 10**12), some.integers(0, 4))
def test_as_decimal_arithmetic_rounds(millionths: int, decimals: int) -> None:
    exact = Decimal(millionths) / 1_000_000
    expected = (exact * 10**decimals).quantize(Decimal(1), ROUND_HALF_UP)  # ROUND_HALF_UP: halves away from zero
    assert rounded(Fraction(millionths, 1_000_000), decimals) == int(expected)
