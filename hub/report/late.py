"""What came late: the amendments of a report, as rows for its page and its workbook.

Decides how one change is said. Which amendments there are, and their effect, is the outcome's.
"""

from __future__ import annotations

from typing import Any, Final
from zoneinfo import ZoneInfo

from hub.report import wording
from hub.report.context import ReportContext
from protocols.measurement.account import ACCOUNT_FIELDS
from protocols.measurement.amendment import Included, ReasonChange, as_counted

ROWS_SHOWN: Final = 8
_REJECT: Final = ACCOUNT_FIELDS.index("reject_count")

TITLES: Final = (
    "line", "kind", "key", "record", "window or stop", "end", "version", "field", "old", "new", "who", "why",
    "no effect because",
)  # fmt: skip


def rows(included: Included) -> list[tuple[str, ...]]:
    """One row for each value that an amendment changes, in the order of `TITLES`; times in Unix ms."""
    amendment = included.amendment
    head = (amendment.line_id, amendment.kind.value, included.source.key_id.hex(), str(included.source.sequence))
    if isinstance(amendment.change, ReasonChange):
        change = amendment.change
        values = ("reason", change.old, change.new, amendment.who, amendment.why, included.refusals[0])
        return [(*head, str(change.stop_ms), "", "", *values)]
    return [
        (
            *head, str(window.start_ms), str(window.end_ms), str(version), ACCOUNT_FIELDS[index], str(old), str(new),
            amendment.who, amendment.why, refusal,
        )
        for window, version, refusal in zip(amendment.change, included.versions, included.refusals, strict=True)
        for index, old, new in window.fields
    ]  # fmt: skip


def late_table(context: ReportContext, zone: ZoneInfo) -> dict[str, Any]:
    """For the page: one row for each amendment, and the rejects of both views."""
    outcome = context.outcome
    sides = []
    for name, sums in (("baseline", outcome.baseline), ("reporting period", outcome.reporting)):
        counted = as_counted(sums.account, outcome.amendments, sums.period.__contains__)
        sides.append(f"{name}: {counted.reject_count:,} rejects as counted, {sums.account.reject_count:,} by lot")
    return {
        "rows": [
            [
                context.line_names.get(each.amendment.line_id, each.amendment.line_id),
                wording.minute(_start_ms(each), zone),
                _words(each),
                each.amendment.who,
                each.amendment.why,
            ]
            for each in outcome.amendments[:ROWS_SHOWN]
        ],
        "count": f"{len(outcome.amendments):,}",
        "more": f"{max(0, len(outcome.amendments) - ROWS_SHOWN):,}",
        "all": len(outcome.amendments) <= ROWS_SHOWN,
        "views": "; ".join(sides),
    }


def _start_ms(included: Included) -> int:
    change = included.amendment.change
    return change.stop_ms if isinstance(change, ReasonChange) else change[0].start_ms


def _words(included: Included) -> str:
    change = included.amendment.change
    if isinstance(change, ReasonChange):
        said = f"reason: {change.old or wording.UNDEFINED} → {change.new}"
    else:
        by = sum(f.new - f.old for window in change for f in window.fields if f.field == _REJECT)
        windows = "1 window" if len(change) == 1 else f"{len(change):,} windows"
        said = f"{included.amendment.kind.value}: {windows}, {by:+,} rejects"
    refused = sum(1 for refusal in included.refusals if refusal)
    if not refused:
        return said
    return f"{said}; without effect" + ("" if refused == len(included.refusals) else f" in {refused:,}")
