"""The report's content as plain text and numbers, ready to be laid out.

Decides which figure stands where, in which words and how rounded. Does not decide how it looks (the template), and
computes nothing that `Outcome` does not hold.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

import segno

from hub.report import tables, wording
from hub.report.context import ReportContext
from hub.report.late import late_table
from hub.report.tables import ROWS_SHOWN
from protocols.measurement.outcome import Figure, Finding, Outcome, Period
from protocols.measurement.periods import WEEK_MS, PeriodSums
from protocols.measurement.ratios import NS_PER_MS

HEADLINE: Final = ("good-output-rate", "oee", "availability", "quality")
NAMES: Final = {
    "good-output-rate": "Good output rate",
    "oee": "OEE",
    "availability": "Availability",
    "effectiveness": "Effectiveness (Performance)",
    "quality": "Quality ratio",
    "first-pass-yield": "First pass yield",
    "throughput": "Throughput",
    "good-throughput": "Good pieces an hour",
}
_VERDICTS: Final = {
    Finding.IMPROVED: ("Improved", "up"),
    Finding.NOT_SHOWN: ("Not shown", "level"),
    Finding.WORSENED: ("Worsened", "down"),
    Finding.INSUFFICIENT: ("Insufficient data", "empty"),
}
WITHHELD: Final = "withheld"


def report_view(context: ReportContext) -> dict[str, Any]:
    """Plain maps, lists, texts and numbers: what the template reads as JSON."""
    outcome, plan = context.outcome, context.outcome.plan
    zone = ZoneInfo(plan.timezone)
    word, shape = _VERDICTS[outcome.finding]
    withheld = outcome.withholds_changes
    return {
        "scheme": context.scheme_name,
        "scheme_zh": context.scheme_name_zh,
        "bodies": " · ".join(filter(None, (context.committee, context.secretariat))),
        "title": plan.title,
        "project_id": plan.project_id,
        "enterprise": " ".join(filter(None, (context.enterprise, context.enterprise_zh))),
        "agreement": context.agreement_number or wording.UNDEFINED,
        "grant": wording.money(context.approved_grant_hkd),
        "cost": wording.money(context.project_cost_hkd),
        "lines": ", ".join(context.line_names.get(line_id, line_id) for line_id in plan.line_ids),
        "simulated": ", ".join(context.simulated),
        "zone": plan.timezone,
        "made": wording.minute(context.made_ms, zone),
        "baseline_days": _days(outcome.baseline, zone),
        "reporting_days": _days(outcome.reporting, zone),
        "finding": outcome.finding.value,
        "word": word,
        "shape": shape,
        "sentence": _sentence(outcome),
        "reasons": [reason.words for reason in outcome.reasons],
        "cards": [_figure(outcome.figure(name), withheld) for name in HEADLINE],
        "figures": [_figure(figure, withheld) for figure in outcome.figures],
        "chart": _chart(context, zone),
        "coverage": [_coverage("Baseline", outcome.baseline), _coverage("Reporting period", outcome.reporting)],
        "confidence": f"{plan.confidence_permille / 10:g}",
        "definition": plan.definition.words,
        "definition_hash": plan.definition.hash.hex(),
        "method": _method(outcome),
        "plan": _plan(context, zone),
        "losses": tables.losses_table(outcome),
        "excess": list(outcome.excess),
        "lines_table": tables.lines_table(context),
        "mix": tables.mix_table(outcome),
        "gaps": tables.gaps_table(context, zone),
        "late": late_table(context, zone),
        "milestones": [
            {key: str(milestone.get(key) or wording.UNDEFINED) for key in ("title", "planned", "done", "evidence")}
            for milestone in context.milestones[:ROWS_SHOWN]
        ],
        "evidence": tables.evidence_table(context),
        "qr": segno.make(f"linetally evidence SHA-256 {context.evidence.sha256.hex()}", error="m").svg_inline(border=0),
    }


def _days(sums: PeriodSums, zone: ZoneInfo) -> str:
    return f"{wording.day(sums.period.from_ms, zone)} to {wording.last_day(sums.period.to_ms, zone)}"


def _sentence(outcome: Outcome) -> str:
    primary = outcome.primary
    if outcome.finding is Finding.INSUFFICIENT:
        return "The data do not meet the plan's limits; the figures can only hint."
    if primary.change_ppm is None:
        return "The good output rate cannot be compared."
    interval = wording.span_ppm(primary.low_ppm, primary.high_ppm)
    level = f"{outcome.plan.confidence_permille / 10:g} %"
    return f"{wording.ppm(primary.change_ppm)} good output for each planned hour; {level} interval {interval}"


def _figure(figure: Figure, withheld: bool) -> dict[str, str]:
    def value(exact: Fraction | None) -> str:
        return wording.percent(exact) if figure.unit == "share" else wording.decimal(exact)

    return {
        "name": NAMES[figure.name],
        "unit": "" if figure.unit == "share" else figure.unit,
        "baseline": value(figure.baseline),
        "reporting": value(figure.reporting),
        "change": WITHHELD if withheld else wording.ppm(figure.change_ppm, relative=figure.relative),
        "interval": WITHHELD
        if withheld
        else wording.span_ppm(figure.low_ppm, figure.high_ppm, relative=figure.relative),
        "formula": figure.formula,
    }


def _chart(context: ReportContext, zone: ZoneInfo) -> dict[str, Any]:
    """Weekly bars: heights in percent of the axis' top, the next round tenth above the highest."""
    outcome = context.outcome
    bars: list[tuple[str, str, Fraction | None, bool]] = []
    for side, sums in (("baseline", outcome.baseline), ("reporting", outcome.reporting)):
        weeks = {week: frozen for week, _, frozen in sums.by_week}
        count = -(-sums.period.length_ms // WEEK_MS)
        for week in range(count):
            frozen = weeks.get(week)
            start = sums.period.from_ms + week * WEEK_MS
            known = frozen.known_ms if frozen is not None else 0
            rate = Fraction(frozen.standard_good_ns, known * NS_PER_MS) if frozen is not None and known > 0 else None
            whole = start + WEEK_MS <= sums.period.to_ms
            bars.append((side, wording.day(start, zone)[5:], rate, whole))
    highest = max((rate for _, _, rate, _ in bars if rate is not None), default=Fraction(1))
    top = Fraction(max(1, -(-highest * Fraction(21, 2) // 1)), 10)  # a twentieth more, for the highest bar's number
    return {
        "top": float(top),
        "ticks": [[float(top * i / 4), wording.percent(top * i / 4)] for i in range(5)],
        "bars": [
            {
                "side": side,
                "label": label,
                "height": None if rate is None else float(rate / top),
                "value": wording.UNDEFINED if rate is None else wording.decimal(rate * 100),
                "whole": whole,
            }
            for side, label, rate, whole in bars
        ],
        "upgrade": f"Upgrade {wording.day(outcome.plan.commissioning.from_ms, zone)}",
    }


def _coverage(name: str, sums: PeriodSums) -> dict[str, str]:
    known, planned = sums.account.known_planned_ms, sums.planned_ms
    return {
        "name": name,
        "share": wording.percent(Fraction(known, planned) if planned else None),
        "known": wording.hours(known),
        "planned": wording.hours(planned),
        "unknown": wording.hours(sums.account.unknown_ms),
        "missing": wording.hours(sums.missing_planned_ms),
        "shifts": f"{sums.shifts:,}",
        "gaps": f"{sums.gap_count:,}",
        "estimated": f"{sums.account.estimated_count:,}",
        "resets": f"{sums.account.lower_bound_count:,}",
        "pieces": f"{sums.account.total_count:,}",
        "good": f"{sums.account.good_count:,}",
    }


def _method(outcome: Outcome) -> dict[str, str]:
    interval, placebo = outcome.interval, outcome.interval.placebo
    rate = Fraction(placebo.false_positives, placebo.cuts) if placebo.cuts else None
    return {
        "block": f"{interval.block}",
        "resamples": f"{interval.resamples:,}",
        "cuts": f"{placebo.cuts}",
        "false_positives": f"{placebo.false_positives}",
        "false_rate": wording.percent(rate),
        "widening": wording.decimal(Fraction(placebo.widening_permille, 1000), 2),
        "widened": "yes" if placebo.widening_permille > 1000 else "",
        "observed": wording.ppm(outcome.observed_change_ppm),
        "bounds": wording.span_ppm(*(outcome.bounds_ppm or (None, None))),
    }


def _plan(context: ReportContext, zone: ZoneInfo) -> list[list[str]]:
    plan, evidence = context.outcome.plan, context.evidence
    cycles = [
        f"{name}: {wording.decimal(Fraction(ns, 10**9), 3)} s" for name, ns in sorted(plan.ideal_cycles_ns.items())
    ]
    more = f" and {len(cycles) - ROWS_SHOWN} more" if len(cycles) > ROWS_SHOWN else ""
    commissioning = "none"
    if plan.commissioning.length_ms:
        commissioning = f"{_period(plan.commissioning, zone)}, dropped"
    return [
        ["Primary figure", "Good output rate (frozen baseline): sum(PRI_0 × GQ) / observed planned time"],
        ["Lines", ", ".join(plan.line_ids)],
        ["Baseline", _period(plan.baseline, zone)],
        ["Commissioning", commissioning],
        ["Reporting period", _period(plan.reporting, zone)],
        ["Frozen ideal cycles (PRI_0)", "; ".join(cycles[:ROWS_SHOWN]) + more],
        ["Minimum effect", f"{wording.decimal(Fraction(plan.minimum_effect_permille, 10))} %"],
        ["Confidence", f"{wording.decimal(Fraction(plan.confidence_permille, 10))} %"],
        [
            "Coverage",
            f"at least {plan.coverage_minimum_permille / 10:g} % on each side, "
            f"at most {plan.coverage_difference_permille / 10:g} points apart",
        ],
        ["Shifts", f"at least {plan.min_shifts} on each side"],
        ["Definition", plan.definition.words],
        ["Plan's hash", plan.hash.hex()],
        ["Registered", _registered(evidence.plan_index, evidence.first_reporting_index)],
    ]


def _registered(plan_index: int, first_reporting_index: int | None) -> str:
    where = f"entry {plan_index:,} of the log"
    if first_reporting_index is None:
        return where
    if plan_index < first_reporting_index:
        return f"{where}, before the first record of the reporting period (entry {first_reporting_index:,})"
    return (
        f"{where}, AFTER the first record of the reporting period (entry {first_reporting_index:,}): "
        "the rules were not fixed before their result"
    )


def _period(period: Period, zone: ZoneInfo) -> str:
    return f"{wording.minute(period.from_ms, zone)} to {wording.minute(period.to_ms, zone)}"
