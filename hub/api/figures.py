"""A figure as everybody gets it: exact numerator and denominator, the rounded value, and why it is undefined.

Decides the JSON form of a ratio and how far one may lean on it. What the ratios are is decided in
`protocols.measurement.ratios`; nothing is computed here but the rounding for show.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from protocols.measurement import ratios
from protocols.measurement.account import Category, TimeAccount

FIRM_FROM: Final = Fraction(95, 100)
"""Ours: coverage under 95 % makes a figure indicative."""
SHOWN_FROM: Final = Fraction(80, 100)
"""Ours: coverage under 80 % is too little to lean on; reports withhold such a figure, live pages grey it."""


class Undefined(StrEnum):
    """Why a figure has no value. Pages turn each into words of the reader's language."""

    NO_PLANNED_TIME = "no-planned-time"  # nothing planned was observed: PBT is 0
    NO_PRODUCTION = "no-production"  # APT is 0
    NO_PIECES = "no-pieces"  # PQ is 0
    NO_IDEAL_CYCLE = "no-ideal-cycle"  # a product without PRI was made


class Standing(StrEnum):
    """How far the coverage lets one lean on a set of figures."""

    FIRM = "firm"
    INDICATIVE = "indicative"
    WITHHELD = "withheld"
    NONE = "none"


class Frozen(BaseModel):
    """The base of every answer: immutable, and no field that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(Frozen):
    """An exact ratio. `percent` is rounded to two decimals for show; null together with `undefined_because`."""

    numerator: int | None
    denominator: int | None
    percent: float | None
    undefined_because: Undefined | None = None


class Rate(Frozen):
    """Pieces an hour, exact, with `value` rounded to one decimal."""

    numerator: int | None
    denominator: int | None
    value: float | None
    undefined_because: Undefined | None = None


class Losses(Frozen):
    """What each of the three factors cost, in time and pieces.

    `effectiveness_ms` is negative when the line ran faster than its ideal cycle; null without an ideal cycle.
    """

    availability_ms: int
    by_category_ms: dict[str, int] = Field(description="availability_ms, divided by where the time went")
    effectiveness_ms: int | None
    quality_ms: int | None
    quality_count: int


class Figures(Frozen):
    """The ratios of one account, with its coverage."""

    oee: Share
    availability: Share
    effectiveness: Share
    quality: Share
    coverage: Share
    throughput_per_hour: Rate
    good_per_hour: Rate
    standing: Standing
    losses: Losses
    total_count: int
    good_count: int
    reject_count: int
    estimated_count: int
    planned_ms: int
    unknown_ms: int


def share(value: Fraction | None, because: Undefined) -> Share:
    """The JSON form of a ratio; `because` is told only where `value` is None."""
    if value is None:
        return Share(numerator=None, denominator=None, percent=None, undefined_because=because)
    return Share(numerator=value.numerator, denominator=value.denominator, percent=float(round(value * 100, 2)))


def rate(value: Fraction | None, because: Undefined) -> Rate:
    """The JSON form of pieces an hour."""
    if value is None:
        return Rate(numerator=None, denominator=None, value=None, undefined_because=because)
    return Rate(numerator=value.numerator, denominator=value.denominator, value=float(round(value, 1)))


def standing(coverage: Fraction | None) -> Standing:
    """FIRM from 95 % of the planned time observed, INDICATIVE from 80 %, else WITHHELD; NONE when none was planned."""
    if coverage is None:
        return Standing.NONE
    if coverage >= FIRM_FROM:
        return Standing.FIRM
    return Standing.INDICATIVE if coverage >= SHOWN_FROM else Standing.WITHHELD


_LOSS_CATEGORIES: Final = tuple(
    category
    for category in Category
    if category not in (Category.UNKNOWN, Category.PRODUCING, Category.PLANNED_DOWN, Category.NOT_SCHEDULED)
)


def losses(account: TimeAccount) -> Losses:
    """The loss of each factor over an account, in milliseconds and pieces."""
    effectiveness_ms: int | None = None
    quality_ms: int | None = None
    if not account.without_ideal_count:
        effectiveness_ms = account.producing_ms - account.standard_total_ns // ratios.NS_PER_MS
        quality_ms = (account.standard_total_ns - account.standard_good_ns) // ratios.NS_PER_MS
    return Losses(
        availability_ms=max(0, account.known_planned_ms - account.producing_ms),
        by_category_ms={c.name: account.category_ms[c] for c in _LOSS_CATEGORIES if account.category_ms[c]},
        effectiveness_ms=effectiveness_ms,
        quality_ms=quality_ms,
        quality_count=account.total_count - account.good_count,
    )


def figures(account: TimeAccount) -> Figures:
    """Every figure of an account."""
    no_ideal = account.without_ideal_count > 0
    ideal_or = Undefined.NO_IDEAL_CYCLE if no_ideal else Undefined.NO_PLANNED_TIME
    covered = ratios.coverage(account)
    return Figures(
        oee=share(ratios.oee(account), ideal_or),
        availability=share(ratios.availability(account), Undefined.NO_PLANNED_TIME),
        effectiveness=share(
            ratios.effectiveness(account), Undefined.NO_IDEAL_CYCLE if no_ideal else Undefined.NO_PRODUCTION
        ),
        quality=share(ratios.quality(account), Undefined.NO_PIECES),
        coverage=share(covered, Undefined.NO_PLANNED_TIME),
        throughput_per_hour=rate(ratios.throughput_per_hour(account), Undefined.NO_PLANNED_TIME),
        good_per_hour=rate(ratios.good_per_hour(account), Undefined.NO_PLANNED_TIME),
        standing=standing(covered),
        losses=losses(account),
        total_count=account.total_count,
        good_count=account.good_count,
        reject_count=account.reject_count,
        estimated_count=account.estimated_count,
        planned_ms=account.planned_ms,
        unknown_ms=account.unknown_ms,
    )
