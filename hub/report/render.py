"""The report as a PDF.

Decides how the content reaches the page: as JSON through typst's inputs, never as markup, so that a product called
`#import("x")` is only a strange name. The layout stands in templates/report.typ.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typst

from hub.report.context import ReportContext
from hub.report.view import report_view

TEMPLATES: Final = Path(__file__).parent / "templates"


def render(context: ReportContext, *, system_fonts: bool = True) -> bytes:
    """The PDF of a report; the same content gives the same pages.

    Latin text is set in fonts that typst brings along; Chinese needs one of the system's ("Noto Sans CJK TC"), and
    shows as empty boxes without.
    """
    made = datetime.fromtimestamp(context.made_ms // 1000, UTC)  # typst takes whole seconds
    return compile_template("report.typ", report_view(context), made, system_fonts=system_fonts)


def compile_template(name: str, view: dict[str, Any], made: datetime, *, system_fonts: bool = True) -> bytes:
    """Lays out `view` with a template of this package. Reads no file outside the templates' folder and the fonts."""
    pdf = typst.compile(
        str(TEMPLATES / name),
        root=str(TEMPLATES),
        format="pdf",
        ignore_system_fonts=not system_fonts,
        sys_inputs={"view": json.dumps(view, ensure_ascii=False, allow_nan=False)},
        timestamp=made,
    )
    assert isinstance(pdf, bytes)
    return pdf
