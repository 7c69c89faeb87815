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
from protocols.measurement.definition import ISO, Charge, Definition
from protocols.measurement.elements import charge, elements
from protocols.measurement.excess import Excess, excess
from protocols.measurement.figure import Undefined
from protocols.measurement.rounding import rounded

__all__ = [
    "Figures", "Frozen", "NamedFigure", "Rate", "Share", "Standing", "Undefined",
    "every_figure", "figures", "rate", "share", "standing",
]  # fmt: skip

FIRM_FROM: Final = Fraction(95, 100)
"""Ours: coverage under 95 % makes a figure indicative."""
SHOWN_FROM: Final = Fraction(80, 100)
"""Ours: coverage under 80 % is too little to lean on; reports withhold such a figure, live pages grey it."""


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
    """An exact ratio. `percent` is rounded to one decimal for show; null where `undefined_because` says why."""

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

    `effectiveness_ms` is negative when more was counted than the production time holds at the ideal cycle; null
    without an ideal cycle. Minor stops are in it, rather than in `availability_ms`, where the definition says so.
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
    excess: Excess | None = Field(description="why effectiveness is over 100 %: what nobody saw, or the ideal cycle")


class NamedFigure(Frozen):
    """One of all figures, exact, with the formula that was used. `unit`: share, pieces/h or ms."""

    name: str
    title: str
    formula: str
    unit: ratios.Unit
    better: ratios.Direction
    source: str
    numerator: int | None
    denominator: int | None
    undefined_because: Undefined | None


def share(value: Fraction | None, because: Undefined) -> Share:
    """The JSON form of a ratio; `because` is told only where `value` is None."""
    if value is None:
        return Share(numerator=None, denominator=None, percent=None, undefined_because=because)
    return Share(numerator=value.numerator, denominator=value.denominator, percent=rounded(value, 3) / 10)


def rate(value: Fraction | None, because: Undefined) -> Rate:
    """The JSON form of pieces an hour."""
    if value is None:
        return Rate(numerator=None, denominator=None, value=None, undefined_because=because)
    return Rate(numerator=value.numerator, denominator=value.denominator, value=rounded(value, 1) / 10)


def standing(coverage: Fraction | None) -> Standing:
    """FIRM from 95 % of the planned time observed, INDICATIVE from 80 %, else WITHHELD; NONE when none was planned."""
    if coverage is None:
        return Standing.NONE
    if coverage >= FIRM_FROM:
        return Standing.FIRM
    return Standing.INDICATIVE if coverage >= SHOWN_FROM else Standing.WITHHELD


def losses(account: TimeAccount, definition: Definition = ISO) -> Losses:
    """The loss of each factor over an account, in milliseconds and pieces."""
    found = elements(account, definition)
    effectiveness_ms: int | None = None
    quality_ms: int | None = None
    if not account.without_ideal_count:
        effectiveness_ms = found.apt_ms - account.standard_total_ns // ratios.NS_PER_MS
        quality_ms = int(account.standard_total_ns - found.good_standard_ns) // ratios.NS_PER_MS
    lost = (c for c in Category if charge(c, definition) is Charge.AVAILABILITY)
    return Losses(
        availability_ms=max(0, found.pbt_ms - found.apt_ms),
        by_category_ms={c.name: account.category_ms[c] for c in lost if account.category_ms[c]},
        effectiveness_ms=effectiveness_ms,
        quality_ms=quality_ms,
        quality_count=account.total_count - found.good_count,
    )


def every_figure(account: TimeAccount, definition: Definition = ISO) -> list[NamedFigure]:
    """All of `ratios.FIGURES`, in its order."""
    out = []
    for figure in ratios.FIGURES.values():
        value = figure(account, definition)
        out.append(
            NamedFigure(
                name=figure.name,
                title=figure.title,
                formula=figure.formula_under(definition),
                unit=figure.unit,
                better=figure.direction,
                source=figure.source,
                numerator=None if value is None else value.numerator,
                denominator=None if value is None else value.denominator,
                undefined_because=figure.undefined_because(account, definition),
            )
        )
    return out


def figures(account: TimeAccount, definition: Definition = ISO) -> Figures:
    """Every figure of an account that pages show, under a definition."""

    def share_of(figure: ratios.Figure) -> Share:
        because = figure.undefined_because(account, definition)
        return share(figure(account, definition), because or Undefined.NO_TIME)

    def rate_of(figure: ratios.Figure) -> Rate:
        because = figure.undefined_because(account, definition)
        return rate(figure(account, definition), because or Undefined.NO_TIME)

    return Figures(
        oee=share_of(ratios.oee),
        availability=share_of(ratios.availability),
        effectiveness=share_of(ratios.effectiveness),
        quality=share_of(ratios.quality),
        coverage=share_of(ratios.coverage),
        throughput_per_hour=rate_of(ratios.throughput_per_hour),
        good_per_hour=rate_of(ratios.good_per_hour),
        standing=standing(ratios.coverage(account)),
        losses=losses(account, definition),
        total_count=account.total_count,
        good_count=account.good_count,
        reject_count=account.reject_count,
        estimated_count=account.estimated_count,
        planned_ms=account.planned_ms,
        unknown_ms=account.unknown_ms,
        excess=excess(account, definition),
    )
