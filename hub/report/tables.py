"""The report's tables as rows of text: losses, lines, product mix, gaps and evidence.

Decides what a row says and how many rows are shown, so that a report stays within its pages; all of them are in
report.json or in the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from hub.report import wording
from hub.report.context import GapReason, ReportContext
from protocols.measurement.account import TimeAccount
from protocols.measurement.outcome import Outcome
from protocols.measurement.periods import Gap
from protocols.measurement.ratios import MS_PER_HOUR, NS_PER_MS

GAPS_SHOWN: Final = 14
ROWS_SHOWN: Final = 12
LOSSES: Final = {
    "setup": "Set-up, changeover",
    "failure": "Failure",
    "minor-stops": "Minor stops",
    "restraint": "Blocked or starved",
    "held": "Held",
    "unassigned": "Stopped, no reason",
    "no-order": "No order",
    "planned-down": "Breaks and planned downtime",
    "reduced-speed": "Reduced speed",
    "defects": "Defects",
    "good-production": "Good production",
}


def losses_table(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "name": LOSSES[loss.name],
            "good": loss.name == "good-production",
            "baseline": wording.minutes_of_hour(loss.baseline_ms_per_hour),
            "reporting": wording.minutes_of_hour(loss.reporting_ms_per_hour),
            "change": wording.UNDEFINED
            if loss.baseline_ms_per_hour is None or loss.reporting_ms_per_hour is None
            else wording.decimal(Fraction(loss.reporting_ms_per_hour - loss.baseline_ms_per_hour, 60_000), sign=True),
            "hours": [wording.hours(loss.baseline_ms), wording.hours(loss.reporting_ms)],
            "bars": [
                max(0.0, min(1.0, (per_hour or 0) / MS_PER_HOUR))
                for per_hour in (loss.baseline_ms_per_hour, loss.reporting_ms_per_hour)
            ],
        }
        for loss in outcome.losses
    ]


def lines_table(context: ReportContext) -> list[list[str]]:
    """A row for each line: its rate before and after, exact, without an interval of its own."""
    if len(context.outcome.plan.line_ids) < 2:
        return []
    rates: list[dict[str, Fraction]] = []
    for sums in (context.outcome.baseline, context.outcome.reporting):
        found = ((line_id, frozen.standard_good_ns, frozen.known_ms * NS_PER_MS) for line_id, _, frozen in sums.by_line)
        rates.append({line_id: Fraction(good, known) for line_id, good, known in found if known > 0})
    out: list[list[str]] = []
    for line_id in context.outcome.plan.line_ids:
        before, after = (rate.get(line_id) for rate in rates)
        change = after / before - 1 if before and after is not None else None
        name = context.line_names.get(line_id, line_id)
        out.append([name, wording.percent(before), wording.percent(after), wording.percent(change, sign=True)])
    return out


def mix_table(outcome: Outcome) -> dict[str, Any]:
    mix = outcome.mix

    def share(value: int) -> str:
        return wording.percent(Fraction(value, 10**6))

    def per_hour(account: TimeAccount) -> str:
        known = account.known_planned_ms
        return wording.decimal(Fraction(account.good_count * MS_PER_HOUR, known) if known > 0 else None)

    return {
        "products": [
            [
                each.product,
                share(each.baseline_share_ppm),
                share(each.reporting_share_ppm),
                share(each.baseline_rate_ppm),
                share(each.reporting_rate_ppm),
                wording.ppm(each.reporting_rate_ppm - each.baseline_rate_ppm, relative=False),
            ]
            for each in mix.products[:ROWS_SHOWN]
        ],
        "more": max(0, len(mix.products) - ROWS_SHOWN),
        "indices": [
            ["As it was (primary figure)", wording.ppm(outcome.primary.change_ppm)],
            ["At the baseline's mix (Laspeyres)", wording.ppm(mix.laspeyres_ppm)],
            ["At the reporting period's mix (Paasche)", wording.ppm(mix.paasche_ppm)],
            ["Geometric mean of the two (Fisher)", wording.ppm(mix.fisher_ppm[0] if mix.fisher_ppm else None)],
        ],
        "one_sided": ", ".join(mix.one_sided[:ROWS_SHOWN]),
        "apart": [
            [
                each.product,
                f"{each.baseline.good_count:,}",
                per_hour(each.baseline),
                f"{each.reporting.good_count:,}",
                per_hour(each.reporting),
            ]
            for each in mix.apart[:ROWS_SHOWN]
        ],
    }


def gaps_table(context: ReportContext, zone: ZoneInfo) -> dict[str, Any]:
    outcome = context.outcome
    found = [*outcome.baseline.gaps, *outcome.reporting.gaps]
    longest = sorted(found, key=lambda gap: (-gap.unknown_ms, gap.from_ms))[:GAPS_SHOWN]
    count = outcome.baseline.gap_count + outcome.reporting.gap_count
    return {
        "rows": [
            [
                context.line_names.get(gap.line_id, gap.line_id),
                wording.minute(gap.from_ms, zone),
                wording.minute(gap.to_ms, zone),
                wording.hours(gap.unknown_ms),
                _reason(gap, context.evidence.gap_reasons),
            ]
            for gap in sorted(longest, key=lambda gap: (gap.from_ms, gap.line_id))
        ],
        "count": f"{count:,}",
        "all": len(longest) == count,
        "shown": f"{len(longest)}",
    }


def _reason(gap: Gap, reasons: Sequence[GapReason]) -> str:
    """The reasons that the gateways signed for the stretch; for a hole without any word, that there was none."""
    said = [
        each
        for each in reasons
        if each.line_id == gap.line_id and each.from_ms < gap.to_ms and gap.from_ms < each.to_ms
    ]
    words = sorted({f"{each.reason} (entry {each.leaf_index:,})" for each in said})[:2]
    return "; ".join(words) or ("no record at all" if gap.missing else "not observed; no reason signed")


def evidence_table(context: ReportContext) -> dict[str, Any]:
    evidence = context.evidence
    return {
        "sha256": evidence.sha256.hex(),
        "origin": evidence.origin,
        "size": f"{evidence.size:,}",
        "root": evidence.root.hex(),
        "chains": [
            [
                chain.gateway_id,
                chain.kid.hex(),
                f"{chain.records:,}",
                f"{chain.first_sequence:,} to {chain.last_sequence:,}",
                f"{chain.first_index:,} to {chain.last_index:,}",
            ]
            for chain in evidence.chains[:ROWS_SHOWN]
        ],
        "records": f"{sum(chain.records for chain in evidence.chains):,}",
        "range": f"{min((chain.first_index for chain in evidence.chains), default=0):,} to "
        f"{max((chain.last_index for chain in evidence.chains), default=0):,}",
        "proofs": f"{evidence.proof_count:,}",
        "configurations": [
            [
                context.line_names.get(used.line_id, used.line_id),
                used.hash.hex()[:16],
                f"{used.leaf_index:,}",
                used.definition + ("" if used.agrees else " — NOT the plan's definition"),
            ]
            for used in evidence.configurations[:ROWS_SHOWN]
        ],
    }
