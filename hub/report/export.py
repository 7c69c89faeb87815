"""The report as a workbook: figures, and the accounts of each line and day, for whoever wants to compute further.

Decides the sheets. Every text is written as text: a product called `=cmd()` must not become a formula.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from io import BytesIO
from typing import Any, Final
from zoneinfo import ZoneInfo

import xlsxwriter

from hub.report import wording
from hub.report.context import ReportContext
from hub.report.late import TITLES, rows
from hub.report.view import NAMES
from protocols.measurement import ratios
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount, Window, total

_OPTIONS: Final = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


def workbook(context: ReportContext, windows: Mapping[str, Sequence[Window]]) -> bytes:
    """The XLSX file. The same content gives the same bytes."""
    memory = BytesIO()
    book = xlsxwriter.Workbook(memory, _OPTIONS)
    book.set_properties({"created": datetime.fromtimestamp(context.made_ms // 1000, UTC).replace(tzinfo=None)})
    bold = book.add_format({"bold": True, "bottom": 1})
    _figures(book.add_worksheet("Figures"), bold, book.add_format({"num_format": "0.00%"}), context)
    _days(book.add_worksheet("Days"), bold, context, windows)
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


def _days(sheet: Any, bold: Any, context: ReportContext, windows: Mapping[str, Sequence[Window]]) -> None:
    """A row for each line, local day and product; a window belongs to the day on which it starts."""
    plan = context.outcome.plan
    zone = ZoneInfo(plan.timezone)
    groups: dict[tuple[str, str, str, str], list[TimeAccount]] = defaultdict(list)
    for line_id, line in windows.items():
        for window in line:
            for name, period in (("baseline", plan.baseline), ("reporting", plan.reporting)):
                if window.start_ms in period:
                    groups[(line_id, wording.day(window.start_ms, zone), name, window.product)].append(window.account)
    titles = ("line", "day", "period", "product", *ACCOUNT_FIELDS, "oee", "availability", "effectiveness", "quality")
    for column, title in enumerate(titles):
        sheet.write_string(0, column, title, bold)
    for row, (key, accounts) in enumerate(sorted(groups.items(), key=lambda item: item[0]), 1):
        account = total(accounts)
        for column, text in enumerate(key):
            sheet.write_string(row, column, text)
        for column, value in enumerate(account.as_ints(), len(key)):
            sheet.write_number(row, column, value)
        figures = (ratios.oee, ratios.availability, ratios.effectiveness, ratios.quality)
        for column, ratio in enumerate(figures, len(key) + len(ACCOUNT_FIELDS)):
            _number(sheet, row, column, ratio(account, plan.definition), None)
    sheet.freeze_panes(1, 4)


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
