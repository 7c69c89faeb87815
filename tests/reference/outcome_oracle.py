"""A second, naive computation of the outcome: loops over windows, exact fractions, no shared code with the first.

The bootstrap is written from the text of docs/outcome.md, with modular indices instead of prefix sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

from protocols.measurement.account import Window
from protocols.measurement.plan import Period, Plan


def theta(plan: Plan, period: Period, windows: Sequence[Window]) -> Fraction:
    """sum(PRI_0 * GQ) / observed planned time, without new products."""
    good_ns = known_ms = 0
    for window in windows:
        if not period.from_ms <= window.start_ms < period.to_ms:
            continue
        if window.product and window.product not in plan.ideal_cycles_ns:
            continue
        good_ns += plan.ideal_cycles_ns.get(window.product, 0) * window.account.good_count
        known_ms += window.account.planned_ms - window.account.category_ms[0]
    return Fraction(good_ns, known_ms * 10**6)


def sums(period: Period, windows: Sequence[Window]) -> list[int]:
    """The account's integers, added one window at a time."""
    out = [0] * 27
    for window in windows:
        if period.from_ms <= window.start_ms < period.to_ms:
            for i, value in enumerate(window.account.as_ints()):
                out[i] += value
    return out


def word(seed: bytes, label: str, i: int) -> int:
    digest = hashlib.sha256(seed + label.encode() + b"\x00" + (i // 8).to_bytes(8, "big")).digest()
    return int.from_bytes(digest[4 * (i % 8) : 4 * (i % 8) + 4], "big")


def resample(column: Sequence[int], block: int, number: int, seed: bytes, label: str) -> int:
    """The sum of the `number`-th resample, shift by shift."""
    n = len(column)
    total = taken = 0
    for i in range(n // block):
        start = word(seed, label, number * (n // block) + i) * n >> 32
        for j in range(block):
            total += column[(start + j) % n]
            taken += 1
    if taken < n:
        start = word(seed, label + "/rest", number) * n >> 32
        while taken < n:
            total += column[start % n]
            start, taken = start + 1, taken + 1
    return total
