"""The outcome of an upgrade: what a project's windows say, by the rules of its plan.

Decides every figure of a report and the verdict word. Pure and deterministic: the hub writes it, and an auditor
computes it again offline and compares `Outcome.to_data()` to the last integer.
The method in plain words: docs/outcome.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from protocols.measurement import ratios
from protocols.measurement.account import TimeAccount, Window
from protocols.measurement.amendment import Included
from protocols.measurement.definition import Definition
from protocols.measurement.elements import Elements, elements
from protocols.measurement.finding import Finding, Reason, Side, judge
from protocols.measurement.losses import Loss, losses
from protocols.measurement.mix import Mix, product_mix
from protocols.measurement.notes import excess_note
from protocols.measurement.outcome_data import outcome_data
from protocols.measurement.periods import Frozen, PeriodSums, period_sums
from protocols.measurement.plan import PRIMARY, Period, Plan
from protocols.measurement.ratios import NS_PER_MS
from protocols.measurement.resample import (
    Placebo,
    Ratio,
    block_length,
    exact_change_ppm,
    intervals,
    placebo,
    shift_rates_ppm,
    widened,
)

__all__ = ["RESAMPLES", "Figure", "Finding", "Outcome", "Period", "Plan", "Reason", "outcome", "outcome_of"]

RESAMPLES: Final = 2_000
CHANGE_SHOWN_FROM: Final = Fraction(80, 100)
"""Ours: with less coverage than this on a side, no change is shown."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure before and after, with its interval.

    `unit`: "share" (of 1) or "pieces/h". `relative`: the change is reporting / baseline - 1; else the difference.
    Changes in parts per million (a difference of shares: 10,000 is one percentage point). None is undefined.
    """

    name: str
    unit: str
    formula: str
    definition_hash: bytes
    relative: bool
    baseline: Fraction | None
    reporting: Fraction | None
    change_ppm: int | None
    low_ppm: int | None
    high_ppm: int | None


@dataclass(frozen=True, slots=True)
class Interval:
    """How the intervals were made: block length in shifts, and the placebo that widened them."""

    block: int
    resamples: int
    placebo: Placebo


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a report shows. `figures[0]` is the primary one.

    `observed_change_ppm`: the primary change without pieces that were estimated over gaps.
    `bounds_ppm`: the primary change if all unseen planned time had been the worst for it, and the best.
    `amendments`: what came late about the periods; the sums are with them (docs/measurement.md, late data).
    """

    plan: Plan
    finding: Finding
    reasons: tuple[Reason, ...]
    figures: tuple[Figure, ...]
    interval: Interval
    baseline: PeriodSums
    reporting: PeriodSums
    mix: Mix
    losses: tuple[Loss, ...]
    observed_change_ppm: int | None
    bounds_ppm: tuple[int, int] | None
    amendments: tuple[Included, ...] = ()

    @property
    def primary(self) -> Figure:
        return self.figures[0]

    def figure(self, name: str) -> Figure:
        """The figure of that name. Raises KeyError."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    @property
    def withholds_changes(self) -> bool:
        """Whether so much of a side went unseen that no change is shown."""
        sides = [(sums.account.known_planned_ms, sums.planned_ms) for sums in (self.baseline, self.reporting)]
        return any(planned <= 0 or Fraction(known, planned) < CHANGE_SHOWN_FROM for known, planned in sides)

    @property
    def excess(self) -> tuple[str, ...]:
        """Why Effectiveness is over 100 % before or after, a sentence for each side on which it is."""
        sides = (("before", self.baseline), ("after", self.reporting))
        found = ((name, excess_note(sums.account, self.plan.definition)) for name, sums in sides)
        return tuple(f"Effectiveness {name}: {note.sentence}." for name, note in found if note is not None)

    def to_data(self) -> dict[str, Any]:
        """Plain maps, lists, strings, integers and None: the content of report.json."""
        return outcome_data(self)


# The columns that are resampled, one entry a shift.
_COLUMNS: Final[tuple[Callable[[TimeAccount, Elements, Frozen], int], ...]] = (
    lambda _, __, frozen: frozen.standard_good_ns,
    lambda _, __, frozen: frozen.known_ms * NS_PER_MS,
    lambda _, e, __: int(e.good_standard_ns),
    lambda account, _, __: account.standard_total_ns,
    lambda _, e, __: e.pbt_ms * NS_PER_MS,
    lambda _, e, __: e.apt_ms * NS_PER_MS,
    lambda _, e, __: e.good_count * ratios.MS_PER_HOUR * NS_PER_MS,
    lambda account, _, __: account.good_count * ratios.MS_PER_HOUR * NS_PER_MS,
    lambda account, _, __: account.total_count * ratios.MS_PER_HOUR * NS_PER_MS,
)
(
    _FROZEN,
    _FROZEN_KNOWN,
    _STANDARD_GOOD,
    _STANDARD_TOTAL,
    _KNOWN,
    _PRODUCING,
    _GOOD,
    _FIRST_PASS,
    _TOTAL,
) = range(len(_COLUMNS))
_PRIMARY: Final = Ratio(_FROZEN, _FROZEN_KNOWN, relative=True)

_Exact = Callable[[PeriodSums, Definition], Fraction | None]


def _rate(sums: PeriodSums, _: Definition) -> Fraction | None:
    """theta: the primary figure of one period."""
    frozen = sums.frozen
    return Fraction(frozen.standard_good_ns, frozen.known_ms * NS_PER_MS) if frozen.known_ms > 0 else None


def _of_account(ratio: ratios.Figure) -> _Exact:
    return lambda sums, definition: ratio(sums.account, definition)


_FIGURES: Final[tuple[tuple[str, str, str, Ratio, _Exact], ...]] = (
    (PRIMARY, "share", "sum(PRI_0 * GQ) / PBT observed, without new products", _PRIMARY, _rate),
    ("oee", "share", "sum(PRI * GQ) / PBT observed", Ratio(_STANDARD_GOOD, _KNOWN, False), _of_account(ratios.oee)),
    ("availability", "share", "APT / PBT observed", Ratio(_PRODUCING, _KNOWN, False), _of_account(ratios.availability)),
    (
        "effectiveness",
        "share",
        "sum(PRI * PQ) / APT",
        Ratio(_STANDARD_TOTAL, _PRODUCING, False),
        _of_account(ratios.effectiveness),
    ),
    ("quality", "share", "GQ / PQ", Ratio(_GOOD, _TOTAL, False), _of_account(ratios.quality)),
    (
        "first-pass-yield",
        "share",
        "GQ / PQ; no rework is counted in GQ",
        Ratio(_FIRST_PASS, _TOTAL, False),
        _of_account(ratios.first_pass_yield),
    ),
    (
        "throughput",
        "pieces/h",
        "PQ / PBT observed",
        Ratio(_TOTAL, _KNOWN, True),
        _of_account(ratios.throughput_per_hour),
    ),
    (
        "good-throughput",
        "pieces/h",
        "GQ / PBT observed",
        Ratio(_FIRST_PASS, _KNOWN, True),
        _of_account(ratios.good_per_hour),
    ),
)


def outcome(plan: Plan, windows: Mapping[str, Sequence[Window]], amendments: Sequence[Included] = ()) -> Outcome:
    """The outcome of `plan` from the windows of its lines, by line id, in any order.

    The windows are as they stand, with `amendments` made, which pin their versions. Windows of other lines, and those
    that do not start in one of the two periods, are passed over. Raises Malformed when two windows of a line overlap.
    """
    baseline = period_sums(plan, plan.baseline, windows)
    reporting = period_sums(plan, plan.reporting, windows)
    return outcome_of(plan, baseline, reporting, amendments)


def outcome_of(plan: Plan, baseline: PeriodSums, reporting: PeriodSums, amendments: Sequence[Included] = ()) -> Outcome:
    """The outcome of `plan` from the sums of its two periods."""
    before, after = _columns(plan, baseline), _columns(plan, reporting)
    block = block_length(shift_rates_ppm(before, _PRIMARY), baseline.shifts_a_day)
    no_effect = placebo(before, _PRIMARY, block=block, confidence_permille=plan.confidence_permille, seed=plan.hash)
    enough = min(len(baseline.units), len(reporting.units)) >= 2
    ends: Sequence[tuple[int, int] | None] = [None] * len(_FIGURES)
    if enough:
        ends = intervals(
            before,
            after,
            [ratio for _, _, _, ratio, _ in _FIGURES],
            block=block,
            resamples=RESAMPLES,
            confidence_permille=plan.confidence_permille,
            seed=plan.hash,
            label="interval",
        )
    figures = tuple(
        _figure(plan, spec, baseline, reporting, end, no_effect.widening_permille)
        for spec, end in zip(_FIGURES, ends, strict=True)
    )
    observed = _observed_change(baseline.frozen, reporting.frozen)
    sides = (Side.of(baseline), Side.of(reporting))
    primary = figures[0]
    finding, reasons = judge(plan, *sides, (primary.change_ppm, primary.low_ppm, primary.high_ppm), observed)
    return Outcome(
        plan=plan,
        finding=finding,
        reasons=reasons,
        figures=figures,
        interval=Interval(block, RESAMPLES, no_effect),
        baseline=baseline,
        reporting=reporting,
        mix=product_mix(plan, baseline, reporting),
        losses=losses(baseline.account, reporting.account, plan.definition),
        observed_change_ppm=observed,
        bounds_ppm=_bounds(baseline, reporting),
        amendments=tuple(amendments),
    )


def _columns(plan: Plan, sums: PeriodSums) -> list[list[int]]:
    units = [(account, elements(account, plan.definition), frozen) for _, account, frozen in sums.units]
    return [[column(*unit) for unit in units] for column in _COLUMNS]


def _figure(
    plan: Plan,
    spec: tuple[str, str, str, Ratio, _Exact],
    baseline: PeriodSums,
    reporting: PeriodSums,
    end: tuple[int, int] | None,
    widening_permille: int,
) -> Figure:
    name, unit, formula, ratio, exact = spec
    before, after = exact(baseline, plan.definition), exact(reporting, plan.definition)
    change = low = high = None
    if before is not None and after is not None and (before > 0 or not ratio.relative):
        change = exact_change_ppm(before, after, ratio.relative)
        if end is not None:
            low, high = widened(change, *end, widening_permille)
    return Figure(name, unit, formula, plan.definition.hash, ratio.relative, before, after, change, low, high)


def _observed_change(before: Frozen, after: Frozen) -> int | None:
    if before.known_ms <= 0 or after.known_ms <= 0 or before.observed_good_ns <= 0:
        return None
    rate0, rate1 = (Fraction(frozen.observed_good_ns, frozen.known_ms) for frozen in (before, after))
    return exact_change_ppm(rate0, rate1, relative=True)


def _bounds(before: PeriodSums, after: PeriodSums) -> tuple[int, int] | None:
    """Worst: unseen planned time made nothing more after, and ran at the ideal cycle before. Best: the reverse."""
    (low0, high0), (low1, high1) = _extremes(before), _extremes(after)
    if not low0 or not high0 or low1 is None or high1 is None:
        return None
    return exact_change_ppm(high0, low1, relative=True), exact_change_ppm(low0, high1, relative=True)


def _extremes(sums: PeriodSums) -> tuple[Fraction | None, Fraction | None]:
    frozen = sums.frozen
    planned = (frozen.planned_ms + sums.missing_planned_ms) * NS_PER_MS
    if planned <= 0:
        return None, None
    unseen = planned - frozen.known_ms * NS_PER_MS
    return Fraction(frozen.standard_good_ns, planned), Fraction(frozen.standard_good_ns + unseen, planned)
