"""The workbook: right numbers, and no cell that a spreadsheet would run."""

from __future__ import annotations

from io import BytesIO
from zipfile import ZipFile

import pytest

from hub.projections.columns import LineColumns
from hub.report.export import workbook
from protocols.measurement.account import Window
from tests.hub.report.report_kit import context, hostile


def sheets(data: bytes) -> str:
    with ZipFile(BytesIO(data)) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".xml"))


def columns(windows: dict[str, list[Window]]) -> dict[str, LineColumns]:
    return {line_id: LineColumns.of(line_id, line) for line_id, line in windows.items()}


def test_the_workbook_holds_figures_and_days() -> None:
    made, windows = context()
    lines = columns(windows)
    data = workbook(made, lines)
    assert data == workbook(made, lines)
    text = sheets(data)
    assert made.evidence.sha256.hex() in text
    primary = made.outcome.primary
    assert primary.baseline is not None
    assert f"{float(primary.baseline):.16g}"[:12] in text
    assert text.count("<row ") > 80


@pytest.mark.parametrize("text", ["=cmd|'/C calc'!A0", "+1+1", "-1", "@SUM(1)", "http://example.org", "{=1}", "=1\n"])
def test_hostile_texts_are_never_formulas_nor_links(text: str) -> None:
    made, windows = hostile(text)
    found = sheets(workbook(made, columns(windows)))
    assert "<f>" not in found
    assert "<f " not in found
    assert "hyperlink" not in found
