"""The report as a workbook: figures, and the accounts of each line and day, for whoever wants to compute further.

Decides the sheets. Every text is written as text: a product called `=cmd()` must not become a formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from io import BytesIO
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import xlsxwriter

from hub.projections.columns import LineColumns, summable
from hub.report import wording
from hub.report.context import ReportContext
from hub.report.late import TITLES, rows
from hub.report.view import NAMES
from protocols.measurement import ratios
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount
from protocols.measurement.plan import Plan
from protocols.measurement.tally_columns import I64

HOUR_MS: Final = 3_600_000
_OPTIONS: Final = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


def workbook(context: ReportContext, lines: Mapping[str, LineColumns]) -> bytes:
    """The XLSX file. The same content gives the same bytes. `lines`: the windows that the outcome is made from."""
    memory = BytesIO()
    book = xlsxwriter.Workbook(memory, _OPTIONS)
    book.set_properties({"created": datetime.fromtimestamp(context.made_ms // 1000, UTC).replace(tzinfo=None)})
    bold = book.add_format({"bold": True, "bottom": 1})
    _figures(book.add_worksheet("Figures"), bold, book.add_format({"num_format": "0.00%"}), context)
    _days(book.add_worksheet("Days"), bold, context, lines)
    _late(book.add_worksheet("Amendments"), bold, context)
    book.close()
    return memory.getvalue()


def _figures(sheet: Any, bold: Any, percent: Any, context: ReportContext) -> None:
    outcome = context.outcome
    facts = (
        ("Project", outcome.plan.project_id),
        ("Title", outcome.plan.title),
        ("Enterprise", context.enterprise),
        ("Scheme", context.scheme_name),
        ("Verdict", outcome.finding.value),
        *(("Reason", reason.words) for reason in outcome.reasons),
        ("Simulated lines", ", ".join(context.simulated) or "none"),
        ("Definition", outcome.plan.definition.words),
        ("Definition hash", outcome.plan.definition.hash.hex()),
        ("Evidence SHA-256", context.evidence.sha256.hex()),
    )
    for row, (name, value) in enumerate(facts):
        sheet.write_string(row, 0, name)
        sheet.write_string(row, 1, value)
    top = len(facts) + 1
    titles = (
        "Figure",
        "Baseline",
        "Reporting",
        "Change",
        "Interval from",
        "Interval to",
        "Unit",
        "Change is",
        "Formula",
    )
    for column, title in enumerate(titles):
        sheet.write_string(top, column, title, bold)
    for row, figure in enumerate(outcome.figures, top + 1):
        shown = percent if figure.unit == "share" else None
        sheet.write_string(row, 0, NAMES[figure.name])
        _number(sheet, row, 1, figure.baseline, shown)
        _number(sheet, row, 2, figure.reporting, shown)
        for column, change in enumerate((figure.change_ppm, figure.low_ppm, figure.high_ppm), 3):
            _number(sheet, row, column, None if change is None else Fraction(change, 10**6), percent)
        sheet.write_string(row, 6, figure.unit)
        sheet.write_string(row, 7, "relative" if figure.relative else "difference in points")
        sheet.write_string(row, 8, figure.formula)
    sheet.set_column(0, 0, 22)
    sheet.set_column(1, 5, 14)


def _days(sheet: Any, bold: Any, context: ReportContext, lines: Mapping[str, LineColumns]) -> None:
    """A row for each line, local day and product; a window belongs to the day on which it starts."""
    plan = context.outcome.plan
    groups = [
        (key, account)
        for line in lines.values()
        for key, account in day_sums(line, plan, ZoneInfo(plan.timezone)).items()
    ]
    titles = ("line", "day", "period", "product", *ACCOUNT_FIELDS, "oee", "availability", "effectiveness", "quality")
    for column, title in enumerate(titles):
        sheet.write_string(0, column, title, bold)
    for row, (key, account) in enumerate(sorted(groups, key=lambda item: item[0]), 1):
        for column, text in enumerate(key):
            sheet.write_string(row, column, text)
        for column, value in enumerate(account.as_ints(), len(key)):
            sheet.write_number(row, column, value)
        figures = (ratios.oee, ratios.availability, ratios.effectiveness, ratios.quality)
        for column, ratio in enumerate(figures, len(key) + len(ACCOUNT_FIELDS)):
            _number(sheet, row, column, ratio(account, plan.definition), None)
    sheet.freeze_panes(1, 4)


def day_sums(line: LineColumns, plan: Plan, zone: ZoneInfo) -> dict[tuple[str, str, str, str], TimeAccount]:
    """The sums of a line by (line, local day, period, product)."""
    out: dict[tuple[str, str, str, str], TimeAccount] = {}
    for name, period in (("baseline", plan.baseline), ("reporting", plan.reporting)):
        part = line.where((period.from_ms <= line.start_ms) & (line.start_ms < period.to_ms))
        if not len(part):
            continue
        days, number = _local_days(part.start_ms, zone)
        order = np.lexsort((part.product, number))
        day, product = number[order], part.product[order]
        runs = np.concatenate(([0], np.flatnonzero((day[1:] != day[:-1]) | (product[1:] != product[:-1])) + 1))
        sums = np.add.reduceat(summable(part.ints)[:, order], runs, axis=1).T.tolist()
        for first, ints in zip(runs.tolist(), sums, strict=True):
            key = line.line_id, days[day[first]], name, line.values[product[first]]
            out[key] = TimeAccount.from_ints(ints)
    return out


def _local_days(start_ms: I64, zone: ZoneInfo) -> tuple[list[str], I64]:
    """(days, of each time the number of its day). Most hours lie in one day; only the others' times are looked at."""
    days: dict[str, int] = {}
    hours, of_hour = np.unique(start_ms // HOUR_MS, return_inverse=True)
    ends = [(wording.day(hour * HOUR_MS, zone), wording.day((hour + 1) * HOUR_MS - 1, zone)) for hour in hours.tolist()]
    number = np.array([days.setdefault(first, len(days)) for first, _ in ends], np.int64)[of_hour]
    for place in np.flatnonzero(np.array([first != last for first, last in ends])[of_hour]).tolist():
        number[place] = days.setdefault(wording.day(int(start_ms[place]), zone), len(days))
    return list(days), number


def _late(sheet: Any, bold: Any, context: ReportContext) -> None:
    """What came late: a row for each value that changed, the old one and the new one."""
    for column, title in enumerate(TITLES):
        sheet.write_string(0, column, title, bold)
    for row, texts in enumerate((row for each in context.outcome.amendments for row in rows(each)), 1):
        for column, text in enumerate(texts):
            sheet.write_string(row, column, text)
    sheet.freeze_panes(1, 0)


def _number(sheet: Any, row: int, column: int, value: Fraction | None, cell_format: Any) -> None:
    """An undefined figure is a dash, never 0."""
    if value is None:
        sheet.write_string(row, column, wording.UNDEFINED)
    else:
        sheet.write_number(row, column, float(value), cell_format)
