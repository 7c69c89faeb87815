"""report.json: an outcome as plain data.

Decides the form that is hashed, published and compared; it holds no rule of its own. Integers, text, lists, maps
with ASCII keys, and null where a figure is undefined. Fractions are [numerator, denominator] in lowest terms.
Exact fractions may have integers above 2**53: read them with a parser that keeps integers whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from protocols.measurement.account import ACCOUNT_FIELDS
from protocols.measurement.amendment import Included, as_counted
from protocols.measurement.periods import Frozen, PeriodSums

if TYPE_CHECKING:
    from protocols.measurement.mix import Mix
    from protocols.measurement.outcome import Figure, Outcome

REPORT_VERSION: Final = 1


def outcome_data(outcome: Outcome) -> dict[str, Any]:
    """The whole content of report.json."""
    interval = outcome.interval
    return {
        "account_fields": list(ACCOUNT_FIELDS),
        "amendments": [included.to_data() for included in outcome.amendments],
        "baseline": _period(outcome.baseline, outcome.amendments),
        "bounds_ppm": None if outcome.bounds_ppm is None else list(outcome.bounds_ppm),
        "definition": outcome.plan.definition.to_data(),
        "definition_hash": outcome.plan.definition.hash.hex(),
        "figures": [_figure(figure) for figure in outcome.figures],
        "finding": outcome.finding.value,
        "interval": {
            "block_shifts": interval.block,
            "confidence_permille": outcome.plan.confidence_permille,
            "method": "circular block bootstrap of shifts, percentiles, SHA-256 counter seeded with the plan's hash",
            "placebo_cuts": interval.placebo.cuts,
            "placebo_false_positives": interval.placebo.false_positives,
            "resamples": interval.resamples,
            "widening_permille": interval.placebo.widening_permille,
        },
        "losses": [list(loss) for loss in outcome.losses],
        "mix": _mix(outcome.mix),
        "observed_change_ppm": outcome.observed_change_ppm,
        "plan": outcome.plan.to_data(),
        "plan_hash": outcome.plan.hash.hex(),
        "reasons": [list(reason) for reason in outcome.reasons],
        "reporting": _period(outcome.reporting, outcome.amendments),
        "version": REPORT_VERSION,
    }


def _fraction(value: Fraction | None) -> list[int] | None:
    return None if value is None else [value.numerator, value.denominator]


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "baseline": _fraction(figure.baseline),
        "change_ppm": figure.change_ppm,
        "definition_hash": figure.definition_hash.hex(),
        "formula": figure.formula,
        "high_ppm": figure.high_ppm,
        "low_ppm": figure.low_ppm,
        "name": figure.name,
        "relative": int(figure.relative),
        "reporting": _fraction(figure.reporting),
        "unit": figure.unit,
    }


def _frozen(frozen: Frozen) -> list[int]:
    return [frozen.standard_good_ns, frozen.observed_good_ns, frozen.known_ms, frozen.planned_ms]


def _period(sums: PeriodSums, amendments: Sequence[Included]) -> dict[str, Any]:
    counted = as_counted(sums.account, amendments, sums.period.__contains__)
    return {
        "account": list(sums.account.as_ints()),
        "account_as_counted": list(counted.as_ints()),
        "by_line": [[key, list(account.as_ints()), _frozen(frozen)] for key, account, frozen in sums.by_line],
        "by_product": [[key, list(account.as_ints())] for key, account in sums.by_product],
        "by_shift": [[key, list(account.as_ints())] for key, account in sums.by_shift],
        "by_week": [[key, list(account.as_ints()), _frozen(frozen)] for key, account, frozen in sums.by_week],
        "from_ms": sums.period.from_ms,
        "frozen": _frozen(sums.frozen),
        "gap_count": sums.gap_count,
        "gaps": [[gap.line_id, gap.from_ms, gap.to_ms, gap.unknown_ms, int(gap.missing)] for gap in sums.gaps],
        "missing_ms": sums.missing_ms,
        "missing_planned_ms": sums.missing_planned_ms,
        "planned_ms": sums.planned_ms,
        "shifts": sums.shifts,
        "to_ms": sums.period.to_ms,
    }


def _mix(mix: Mix) -> dict[str, Any]:
    return {
        "apart": [
            [apart.product, list(apart.baseline.as_ints()), list(apart.reporting.as_ints())] for apart in mix.apart
        ],
        "at_baseline_mix_ppm": None if mix.at_baseline_mix is None else list(mix.at_baseline_mix),
        "at_reporting_mix_ppm": None if mix.at_reporting_mix is None else list(mix.at_reporting_mix),
        "fisher_ppm": None if mix.fisher_ppm is None else list(mix.fisher_ppm),
        "laspeyres_ppm": mix.laspeyres_ppm,
        "one_sided": list(mix.one_sided),
        "paasche_ppm": mix.paasche_ppm,
        "products": [list(product) for product in mix.products],
    }
