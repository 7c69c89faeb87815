"""The finding: one word for an outcome, and the reasons for it.

Decides when a change counts as shown. The order matters: first whether the data can carry any answer, then what
the answer is. Limits come from the plan, which was fixed before anyone could see the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from protocols.measurement.periods import PeriodSums
from protocols.measurement.plan import Plan


class Finding(StrEnum):
    """The verdict in one word."""

    IMPROVED = "improved"
    NOT_SHOWN = "not shown"
    WORSENED = "worsened"
    INSUFFICIENT = "insufficient data"


class Reason(NamedTuple):
    """Why, as a stable code for machines and translations, and in words. Shares in the words are rounded."""

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Side:
    """What the data of one period can carry. Shares are None where nothing was planned."""

    shifts: int
    coverage: Fraction | None
    apart: Fraction | None  # the share of observed planned time on new products

    @classmethod
    def of(cls, sums: PeriodSums) -> Side:
        known = sums.account.known_planned_ms
        return cls(
            sums.shifts,
            Fraction(known, sums.planned_ms) if sums.planned_ms > 0 else None,
            Fraction(sums.known_ms - sums.frozen.known_ms, sums.known_ms) if sums.known_ms > 0 else None,
        )


def judge(
    plan: Plan,
    baseline: Side,
    reporting: Side,
    change: tuple[int | None, int | None, int | None],
    observed_ppm: int | None,
) -> tuple[Finding, tuple[Reason, ...]]:
    """The word and its reasons. `change`: the primary figure's change and interval ends, parts per million."""
    lacking = _lacking(plan, baseline, reporting)
    point, low, high = change
    if point is None or (not lacking and (low is None or high is None)):
        lacking.append(Reason("undefined", "The good output rate is undefined: its baseline is zero or not observed."))
    if lacking or point is None or low is None or high is None:
        return Finding.INSUFFICIENT, tuple(lacking)
    span = f"{_percent(low)} to {_percent(high)} %"
    if high < 0:
        return Finding.WORSENED, (Reason("interval-below-zero", f"The whole interval, {span}, lies below zero."),)
    if low <= 0:
        return Finding.NOT_SHOWN, (Reason("interval-holds-zero", f"The interval, {span}, includes no change."),)
    minimum = plan.minimum_effect_permille * 1000
    if point < minimum:
        words = f"The change, {_percent(point)} %, is smaller than the plan's minimum effect of {_percent(minimum)} %."
        return Finding.NOT_SHOWN, (Reason("below-minimum-effect", words),)
    if observed_ppm is None or observed_ppm < max(1, minimum):
        words = "The change rests on pieces that were estimated over gaps in the data; without them it is not shown."
        return Finding.NOT_SHOWN, (Reason("rests-on-estimates", words),)
    reasons = [Reason("interval-above-zero", f"The whole interval, {span}, lies above zero.")]
    if minimum:
        words = f"The change, {_percent(point)} %, reaches the plan's minimum effect of {_percent(minimum)} %."
        reasons.append(Reason("minimum-effect-reached", words))
    return Finding.IMPROVED, tuple(reasons)


def _lacking(plan: Plan, baseline: Side, reporting: Side) -> list[Reason]:
    """Whatever keeps the data from carrying an answer."""
    out: list[Reason] = []
    for name, side in (("baseline", baseline), ("reporting period", reporting)):
        if side.shifts < plan.min_shifts:
            words = f"The {name} has {side.shifts} of the {plan.min_shifts} shifts that the plan needs."
            out.append(Reason("too-few-shifts", words))
        if side.coverage is None:
            out.append(Reason("nothing-planned", f"The {name} has no planned time."))
        elif side.coverage * 1000 < plan.coverage_minimum_permille:
            words = (
                f"Coverage of the {name} is {_share(side.coverage)} %; "
                f"the plan needs {plan.coverage_minimum_permille / 10:g} %."
            )
            out.append(Reason("coverage-too-low", words))
        if side.apart is not None and side.apart * 1000 > plan.apart_maximum_permille:
            words = (
                f"New products took {_share(side.apart)} % of the {name}; "
                f"the plan allows {plan.apart_maximum_permille / 10:g} %."
            )
            out.append(Reason("too-many-new-products", words))
    if baseline.coverage is not None and reporting.coverage is not None:
        difference = abs(baseline.coverage - reporting.coverage)
        if difference * 1000 > plan.coverage_difference_permille:
            words = (
                f"Coverage differs by {_share(difference)} points between the periods; "
                f"the plan allows {plan.coverage_difference_permille / 10:g}."
            )
            out.append(Reason("coverage-differs", words))
    return out


def _percent(ppm: int) -> str:
    """+11.8: one decimal, halves away from zero, by integers so that the words are the same everywhere."""
    tenths = (abs(ppm) + 500) // 1000
    sign = "+" if ppm > 0 else "−" if ppm < 0 else ""
    return f"{sign}{tenths // 10}.{tenths % 10}"


def _share(value: Fraction) -> str:
    tenths = value.numerator * 1000 // value.denominator
    return f"{tenths // 10}.{tenths % 10}"
