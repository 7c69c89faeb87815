"""How an exact number is cut to the digits that a reader is shown: one rule for pages, reports, verdicts and commands.

Decides it: halves go away from zero, in integers. A number is cut once, from the exact value: cut to two digits and
then to one, 106.1496 would read 106.2.
"""

from __future__ import annotations

from fractions import Fraction


def rounded(value: Fraction | int, decimals: int = 0) -> int:
    """`value` in units of 10^-decimals, to the nearest; halves away from zero."""
    scaled = abs(Fraction(value)) * Fraction(10) ** decimals
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return -whole if value < 0 else whole
