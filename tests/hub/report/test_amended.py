"""A bundle of amended windows: the verifier agrees, whatever was amended after its checkpoint."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

from pypdf import PdfReader

from hub.database import open_database
from hub.log.sequencer import Log
from hub.projections.projector import catch_up
from hub.report.outcome import write_bundle, write_report
from hub.report.reading import opened
from protocols.evidence.record import Amendment, Measurement
from protocols.evidence.verify import verify
from protocols.measurement.account import ACCOUNT_FIELDS
from protocols.measurement.amendment import AmendmentKind, ReasonChange
from protocols.measurement.lots import late_rejects
from protocols.measurement.revisions import Stated
from tests.hub.report.report_kit import hub_folder, site
from tests.support.bundle import LOG, PROJECT, TRUST, Site

REJECT = ACCOUNT_FIELDS.index("reject_count")


def amended(count: int) -> Site:
    """The ordinary site with `count` amendments after it: one each hour's first window, twice the same."""
    made = site()
    end = made.bodies[-1][1]
    stated = [
        Stated(line.windows[0], sequence)
        for sequence, (_, _, body) in enumerate(made.bodies)
        for line in (body.lines if isinstance(body, Measurement) else ())
        if line.line_id == "filling"
    ]
    late = [
        Amendment("filling", AmendmentKind.REJECT, late_rejects([stated[i]], 7), "QC lab", f"sample {i}")
        for i in (2, 3, 3, 40)
    ]
    change = ReasonChange(stated[4].window.start_ms, "", "jam")
    late.append(Amendment("filling", AmendmentKind.REASON, change, "M. Chan", "seen late"))
    made.bodies += [(end, end, each) for each in late[:count]]
    return made


def test_the_verifier_makes_the_same_amendments(tmp_path: Path) -> None:
    path = write_report(hub_folder(tmp_path, amended(5)), PROJECT)
    with path.open("rb") as file:
        verdict = verify(file, TRUST)
    assert verdict.ok, verdict.first_failure
    with ZipFile(path) as archive:
        report = json.loads(archive.read("report.json"))
    assert [each["refusals"] for each in report["amendments"]] == [
        [""], [""], ["good_count stands at 88, not at 95"], [""], [""],
    ]  # fmt: skip
    baseline = report["baseline"]
    assert baseline["account"][REJECT] == baseline["account_as_counted"][REJECT] + 14
    assert any("amends what it cannot" in note for note in verdict.notes)


def test_an_index_that_is_ahead_of_the_checkpoint(tmp_path: Path) -> None:
    """An amendment that arrives while a report is made is no part of it."""
    config = hub_folder(tmp_path, amended(1))
    with opened(config) as sources:
        index = sources.index
        size = index.size()
        raws = [record.raw for record in amended(5).chain()[-4:]]
        engine = open_database(config.database_url)
        with Log.open(config.log_folder, LOG) as log:
            log.append(raws)
            catch_up(engine, log)
        engine.dispose()
        assert index.size() == size + 4
        path = write_bundle(sources, PROJECT, tmp_path / "out.zip")
    with path.open("rb") as file:
        verdict = verify(file, TRUST)
    assert verdict.ok, verdict.first_failure
    assert verdict.log_size == size
    figures = verdict.figures or {}
    assert [each["why"] for each in figures["amendments"]] == ["sample 2"]


def test_page_and_workbook_tell_what_came_late(tmp_path: Path) -> None:
    path = write_report(hub_folder(tmp_path, amended(5)), PROJECT)
    with ZipFile(path) as archive:
        pages = [page.extract_text() for page in PdfReader(BytesIO(archive.read("report.pdf"))).pages]
        book = archive.read("report.xlsx")
    text = " ".join(" ".join(pages).split())
    assert "What came late" in text and "sample 2" in text and "without effect" in text
    with ZipFile(BytesIO(book)) as archive:
        sheet, strings = (archive.read(f"xl/{name}.xml").decode() for name in ("worksheets/sheet3", "sharedStrings"))
    assert sheet.count("<row ") == 1 + 4 * 3 + 1
    for said in ("good_count stands at 88, not at 95", "QC lab", "jam", "standard_good_ns"):
        assert said in strings
