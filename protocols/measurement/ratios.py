"""Ratios: the one place where sums become figures.

Decides each figure's formula. A figure is called with a `TimeAccount` and a `Definition` (ISO when left out) and gives
an exact Fraction, or None where it is undefined; `undefined_because` says why. Nothing is capped and nothing is
rounded; rounding belongs to whoever shows it. What APT, PBT and GQ are under a definition is decided in `elements`.

Names and formulas are ISO 22400-2:2014's, as public transcriptions give them; *ours* is marked. Common to all: time
that nobody observed is in no sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final

from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import ISO, Definition, Mtbf, TeepCalendar
from protocols.measurement.elements import NS_PER_MS, Elements, elements
from protocols.measurement.figure import Direction, Figure, Undefined, Unit

__all__ = ["FIGURES", "MS_PER_HOUR", "NS_PER_MS", "Direction", "Figure", "Undefined", "Unit"]

MS_PER_HOUR: Final = 3_600_000
_ISO: Final = "ISO 22400-2:2014"
_HIGHER, _LOWER, _NEITHER = Direction.HIGHER, Direction.LOWER, Direction.NEITHER

_Formula = Callable[[TimeAccount, Elements, Definition], Fraction | Undefined]
_OfElements = Callable[[TimeAccount, Elements], int]


def _divide(numerator: int | Fraction, denominator: int | Fraction, undefined: Undefined) -> Fraction | Undefined:
    return Fraction(numerator, denominator) if denominator > 0 else undefined


def _ratio(numerator: _OfElements, denominator: _OfElements, undefined: Undefined) -> _Formula:
    return lambda account, e, _: _divide(numerator(account, e), denominator(account, e), undefined)


def _scrap(account: TimeAccount) -> int:
    """SQ: rejects that did not go through again."""
    return account.reject_count - account.rework_count


def _effectiveness(account: TimeAccount, e: Elements, _: Definition) -> Fraction | Undefined:
    if account.without_ideal_count:
        return Undefined.NO_IDEAL_CYCLE
    return _divide(account.standard_total_ns, e.apt_ms * NS_PER_MS, Undefined.NO_PRODUCTION)


def _weighted_quality(account: TimeAccount, e: Elements, _: Definition) -> Fraction | Undefined:
    if account.without_ideal_count:
        return Undefined.NO_IDEAL_CYCLE
    return _divide(e.good_standard_ns, account.standard_total_ns, Undefined.NO_PIECES)


def _of_time(time_ms: Callable[[TimeAccount, Elements, Definition], int], undefined: Undefined) -> _Formula:
    """The good pieces' ideal time as a share of some time."""

    def exact(account: TimeAccount, e: Elements, definition: Definition) -> Fraction | Undefined:
        if account.without_ideal_count:
            return Undefined.NO_IDEAL_CYCLE
        return _divide(e.good_standard_ns, time_ms(account, e, definition) * NS_PER_MS, undefined)

    return exact


def _nee(account: TimeAccount, e: Elements, _: Definition) -> Fraction | Undefined:
    if account.without_ideal_count:
        return Undefined.NO_IDEAL_CYCLE
    # PBT with set-up, whatever the definition: NEE is the figure to which a changeover is no loss.
    pbt = e.pbt_ms + (e.aust_ms - _setup_in_pbt(e))
    processing = _divide(e.aupt_ms, pbt, Undefined.NO_PLANNED_TIME)
    speed = _divide(e.good_standard_ns, e.apt_ms * NS_PER_MS, Undefined.NO_PRODUCTION)
    if isinstance(processing, Undefined):
        return processing
    return speed if isinstance(speed, Undefined) else processing * speed


def _setup_in_pbt(e: Elements) -> int:
    return e.aubt_ms - e.apt_ms - e.adet_ms


def _calendar(_: TimeAccount, e: Elements, definition: Definition) -> int:
    return e.pot_ms if definition.teep_calendar is TeepCalendar.SHIFTS else e.calendar_ms


def _mttf(account: TimeAccount, e: Elements, _: Definition) -> Fraction | Undefined:
    return _divide(e.aupt_ms, account.failure_count, Undefined.NO_FAILURE)


def _mttr(account: TimeAccount, _: Elements, __: Definition) -> Fraction | Undefined:
    return _divide(account.category_ms[Category.FAILURE], account.failure_count, Undefined.NO_FAILURE)


def _mtbf(account: TimeAccount, e: Elements, definition: Definition) -> Fraction | Undefined:
    time_ms = {
        Mtbf.UPTIME: e.aupt_ms,
        Mtbf.TTF_AND_TTR: e.aupt_ms + account.category_ms[Category.FAILURE],
        Mtbf.PLANNED_TIME: e.pot_ms,
    }[definition.mtbf]
    return _divide(time_ms, account.failure_count, Undefined.NO_FAILURE)


def _coverage(account: TimeAccount, _: Elements, __: Definition) -> Fraction | Undefined:
    return _divide(account.known_planned_ms, account.planned_ms, Undefined.NO_PLANNED_TIME)


def _per_hour(count: Callable[[TimeAccount], int]) -> _Formula:
    return lambda account, e, _: _divide(count(account) * MS_PER_HOUR, e.pbt_ms, Undefined.NO_PLANNED_TIME)


def _figure(
    name: str,
    title: str,
    formula: str,
    exact: _Formula,
    direction: Direction = _HIGHER,
    unit: Unit = Unit.SHARE,
    source: str = _ISO,
    of_order: bool = False,
    formulas: Mapping[Mtbf, str] | None = None,
) -> Figure:
    return Figure(
        name=name,
        title=title,
        formula=formula,
        unit=unit,
        direction=direction,
        source=source,
        exact=lambda account, definition: exact(account, elements(account, definition), definition),
        of_order=of_order,
        formulas=formulas or {},
    )


# The three factors and their product.
availability: Final = _figure(
    "availability",
    "Availability",
    "APT / PBT",
    _ratio(lambda _, e: e.apt_ms, lambda _, e: e.pbt_ms, Undefined.NO_PLANNED_TIME),
)
effectiveness: Final = _figure("effectiveness", "Effectiveness (Performance)", "sum(PRI * PQ) / APT", _effectiveness)
quality: Final = _figure(
    "quality",
    "Quality ratio",
    "GQ / PQ",
    _ratio(lambda _, e: e.good_count, lambda a, _: a.total_count, Undefined.NO_PIECES),
)
weighted_quality: Final = _figure(
    "weighted_quality",
    "Quality ratio, weighted by ideal time",
    "sum(PRI * GQ) / sum(PRI * PQ)",
    _weighted_quality,
    source="ours: of one product it is the quality ratio; of several, the factor of OEE",
)
oee: Final = _figure(
    "oee",
    "OEE index",
    "sum(PRI * GQ) / PBT = Availability * Effectiveness * weighted quality ratio",
    _of_time(lambda _, e, __: e.pbt_ms, Undefined.NO_PLANNED_TIME),
)
nee: Final = _figure("nee", "NEE index", "AUPT / PBT * Effectiveness * weighted quality ratio", _nee)
ooe: Final = _figure(
    "ooe",
    "OOE",
    "sum(PRI * GQ) / POT",
    _of_time(lambda _, e, __: e.pot_ms, Undefined.NO_PLANNED_TIME),
    source="common use; not in ISO 22400-2",
)
teep: Final = _figure(
    "teep",
    "TEEP",
    "sum(PRI * GQ) / calendar time",
    _of_time(_calendar, Undefined.NO_TIME),
    source="SMRP 2.1.2; not in ISO 22400-2",
)

# How the time was used.
utilization: Final = _figure(
    "utilization",
    "Utilization of the calendar",
    "PBT / calendar time; OEE * utilization = TEEP",
    lambda account, e, definition: _divide(e.pbt_ms, _calendar(account, e, definition), Undefined.NO_TIME),
    _NEITHER,
    source="SMRP 2.5 (utilization time); not in ISO 22400-2, which has utilization efficiency",
)
utilization_efficiency: Final = _figure(
    "utilization_efficiency",
    "Utilization efficiency",
    "APT / AUBT",
    _ratio(lambda _, e: e.apt_ms, lambda _, e: e.aubt_ms, Undefined.NO_BUSY_TIME),
)
allocation_efficiency: Final = _figure(
    "allocation_efficiency",
    "Allocation efficiency",
    "AUBT / PBT",
    _ratio(lambda _, e: e.aubt_ms, lambda _, e: e.pbt_ms, Undefined.NO_PLANNED_TIME),
)
allocation_ratio: Final = _figure(
    "allocation_ratio",
    "Allocation ratio",
    "sum(AUBT) / AOET",
    _ratio(lambda _, e: e.aubt_ms, lambda _, e: e.calendar_ms, Undefined.NO_TIME),
    of_order=True,
)
production_process_ratio: Final = _figure(
    "production_process_ratio",
    "Production process ratio",
    "sum(APT) / AOET",
    _ratio(lambda _, e: e.apt_ms, lambda _, e: e.calendar_ms, Undefined.NO_TIME),
    of_order=True,
)
setup_ratio: Final = _figure(
    "setup_ratio",
    "Set-up ratio",
    "AUST / AUPT",
    _ratio(lambda _, e: e.aust_ms, lambda _, e: e.aupt_ms, Undefined.NO_BUSY_TIME),
    _LOWER,
)
technical_efficiency: Final = _figure(
    "technical_efficiency",
    "Technical efficiency",
    "APT / (APT + ADET)",
    _ratio(lambda _, e: e.apt_ms, lambda _, e: e.apt_ms + e.adet_ms, Undefined.NO_BUSY_TIME),
)

# Quality.
scrap_ratio: Final = _figure(
    "scrap_ratio",
    "Scrap ratio",
    "SQ / PQ",
    _ratio(lambda a, _: _scrap(a), lambda a, _: a.total_count, Undefined.NO_PIECES),
    _LOWER,
)
rework_ratio: Final = _figure(
    "rework_ratio",
    "Rework ratio",
    "RQ / PQ",
    _ratio(lambda a, _: a.rework_count, lambda a, _: a.total_count, Undefined.NO_PIECES),
    _LOWER,
)
first_pass_yield: Final = _figure(
    "first_pass_yield",
    "First pass yield",
    "GP / IP: good at the first pass / inspected; every piece is inspected",
    _ratio(lambda a, _: a.good_count, lambda a, _: a.total_count, Undefined.NO_PIECES),
)

# Output.
throughput_rate: Final = _figure(
    "throughput_rate",
    "Throughput rate",
    "PQ / AOET",
    lambda account, e, _: _divide(account.total_count * MS_PER_HOUR, e.calendar_ms, Undefined.NO_TIME),
    unit=Unit.PIECES_PER_HOUR,
    of_order=True,
)
throughput_per_hour: Final = _figure(
    "throughput_per_hour",
    "Throughput",
    "PQ / PBT",
    _per_hour(lambda account: account.total_count),
    unit=Unit.PIECES_PER_HOUR,
    source="ours",
)
good_per_hour: Final = _figure(
    "good_per_hour",
    "Good throughput",
    "GQ / PBT, good at the first pass",
    _per_hour(lambda account: account.good_count),
    unit=Unit.PIECES_PER_HOUR,
    source="ours",
)

# Failures: closed stops that began with a failure and were no minor stops, counted where they began.
mttf: Final = _figure(
    "mttf",
    "MTTF",
    "(APT + AUST) / failures",
    _mttf,
    unit=Unit.MS,
    source=f"{_ISO} (TTF: operating time to a failure)",
)
mttr: Final = _figure(
    "mttr", "MTTR", "time of failure / failures", _mttr, _LOWER, Unit.MS, source=f"{_ISO} (TTR: time to restoration)"
)
mtbf: Final = _figure(
    "mtbf",
    "MTBF",
    "(APT + AUST) / failures",
    _mtbf,
    unit=Unit.MS,
    source=f"{_ISO} (TBF has production and set-up time, no delays)",
    formulas={
        Mtbf.UPTIME: "(APT + AUST) / failures",
        Mtbf.TTF_AND_TTR: "MTTF + MTTR = (APT + AUST + time of failure) / failures",
        Mtbf.PLANNED_TIME: "POT / failures",
    },
)

coverage: Final = _figure("coverage", "Coverage", "observed planned time / planned time", _coverage, source="ours")

FIGURES: Final[Mapping[str, Figure]] = {
    figure.name: figure
    for figure in (
        oee, availability, effectiveness, quality, weighted_quality, nee, ooe, teep, utilization,
        utilization_efficiency, allocation_efficiency, allocation_ratio, production_process_ratio, setup_ratio,
        technical_efficiency, scrap_ratio, rework_ratio, first_pass_yield,
        throughput_rate, throughput_per_hour, good_per_hour, mttf, mttr, mtbf, coverage,
    )
}  # fmt: skip
"""Every figure of one account, by name, in the order of a report."""


def availability_bounds(account: TimeAccount, definition: Definition = ISO) -> tuple[Fraction, Fraction] | None:
    """Availability if all unknown time had been a stop, and if all of it had been production (ours)."""
    e = elements(account, definition)
    return _bounds(Fraction(e.apt_ms), e, account)


def oee_bounds(account: TimeAccount, definition: Definition = ISO) -> tuple[Fraction, Fraction] | None:
    """OEE if nothing good was made in unknown time, and if all of it ran at the ideal cycle without a reject (ours)."""
    e = elements(account, definition)
    return None if account.without_ideal_count else _bounds(e.good_standard_ns / NS_PER_MS, e, account)


def _bounds(part_ms: Fraction, e: Elements, account: TimeAccount) -> tuple[Fraction, Fraction] | None:
    whole = e.pbt_ms + account.unknown_ms
    return (part_ms / whole, (part_ms + account.unknown_ms) / whole) if whole > 0 else None


def takt_ms(account: TimeAccount, demand_count: int, definition: Definition = ISO) -> Fraction | None:
    """Observed PBT for each piece of a demand: what the customer allows. Never an ideal cycle. None without demand."""
    e = elements(account, definition)
    return Fraction(e.pbt_ms, demand_count) if demand_count > 0 and e.pbt_ms > 0 else None
