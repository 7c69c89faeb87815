"""Product mix: what the change would be if the mix of products had stayed the same.

Decides the indices and which products stand apart. A line that makes more of its easy products looks faster; the
indices hold the mix of one side fixed. Weights are shares of observed planned time; a product's rate is its
PRI_0 * GQ / PBT on the windows in which it ran.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt
from typing import NamedTuple

from protocols.measurement.account import TimeAccount
from protocols.measurement.elements import elements
from protocols.measurement.periods import PeriodSums
from protocols.measurement.plan import Plan
from protocols.measurement.ratios import NS_PER_MS
from protocols.measurement.resample import PPM, parts_per_million


class Apart(NamedTuple):
    """A product without a frozen ideal cycle: shown, and part of no rate."""

    product: str
    baseline: TimeAccount
    reporting: TimeAccount


class ProductRate(NamedTuple):
    """A product of both periods: its rates, and its shares of their observed planned time. Parts per million."""

    product: str
    baseline_rate_ppm: int
    reporting_rate_ppm: int
    baseline_share_ppm: int
    reporting_share_ppm: int


class Mix(NamedTuple):
    """Rates at a fixed mix, and the changes between them. All in parts per million, halves upward.

    Laspeyres: at the baseline's mix. Paasche: at the reporting period's. Fisher: the geometric mean of the two as
    a pair (low, high) of neighbouring parts per million that hold it. None where no product ran in both periods.
    """

    products: tuple[ProductRate, ...]
    one_sided: tuple[str, ...]  # frozen products that ran in one period only: in the primary rate, not in the indices
    apart: tuple[Apart, ...]
    at_baseline_mix: tuple[int, int] | None  # (baseline rate, reporting rate)
    at_reporting_mix: tuple[int, int] | None
    laspeyres_ppm: int | None
    paasche_ppm: int | None
    fisher_ppm: tuple[int, int] | None


def product_mix(plan: Plan, baseline: PeriodSums, reporting: PeriodSums) -> Mix:
    """The mix of both periods."""
    before, after = dict(baseline.by_product), dict(reporting.by_product)
    zero = TimeAccount()
    names = sorted(name for name in before.keys() | after.keys() if name)
    apart = tuple(
        Apart(name, before.get(name, zero), after.get(name, zero))
        for name in names
        if name not in plan.ideal_cycles_ns and (_ran(plan, before, name) or _ran(plan, after, name))
    )
    frozen = [name for name in names if name in plan.ideal_cycles_ns]
    both = [name for name in frozen if _ran(plan, before, name) and _ran(plan, after, name)]
    one_sided = tuple(name for name in frozen if _ran(plan, before, name) != _ran(plan, after, name))
    if not both:
        return Mix((), one_sided, apart, None, None, None, None, None)
    time0, rates0 = _times_and_rates(plan, before, both)
    time1, rates1 = _times_and_rates(plan, after, both)
    products = tuple(
        ProductRate(name, _ppm(r0), _ppm(r1), parts_per_million(t0, sum(time0)), parts_per_million(t1, sum(time1)))
        for name, r0, r1, t0, t1 in zip(both, rates0, rates1, time0, time1, strict=True)
    )
    old0, old1 = _weighted(time0, rates0), _weighted(time0, rates1)
    new0, new1 = _weighted(time1, rates0), _weighted(time1, rates1)
    laspeyres = old1 / old0 if old0 else None
    paasche = new1 / new0 if new0 else None
    return Mix(
        products,
        one_sided,
        apart,
        (_ppm(old0), _ppm(old1)),
        (_ppm(new0), _ppm(new1)),
        None if laspeyres is None else _ppm(laspeyres - 1),
        None if paasche is None else _ppm(paasche - 1),
        None if laspeyres is None or paasche is None else _fisher(laspeyres, paasche),
    )


def _ran(plan: Plan, accounts: dict[str, TimeAccount], product: str) -> bool:
    return product in accounts and elements(accounts[product], plan.definition).pbt_ms > 0


def _times_and_rates(
    plan: Plan, accounts: dict[str, TimeAccount], names: list[str]
) -> tuple[list[int], list[Fraction]]:
    found = [elements(accounts[name], plan.definition) for name in names]
    rates = [
        Fraction(plan.ideal_cycles_ns[name] * e.good_count, e.pbt_ms * NS_PER_MS)
        for name, e in zip(names, found, strict=True)
    ]
    return [e.pbt_ms for e in found], rates


def _weighted(times: list[int], rates: list[Fraction]) -> Fraction:
    return sum((time * rate for time, rate in zip(times, rates, strict=True)), Fraction()) / sum(times)


def _fisher(laspeyres: Fraction, paasche: Fraction) -> tuple[int, int]:
    """sqrt(L * P) - 1 between two integers, by the integer square root: exact, and the same on every machine."""
    square = laspeyres * paasche * PPM * PPM
    floor = isqrt(square.numerator // square.denominator)
    return floor - PPM, floor - PPM + (floor * floor != square)


def _ppm(value: Fraction) -> int:
    return parts_per_million(value.numerator, value.denominator)
