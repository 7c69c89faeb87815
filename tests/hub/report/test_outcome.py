"""A bundle from a real log and index, judged by the offline verifier."""

from __future__ import annotations

import argparse
import hashlib
import io
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from pypdf import PdfReader
from sqlalchemy import delete

from hub import database as db
from hub.report.command import add_parser, run
from hub.report.outcome import write_bundle, write_report
from hub.report.reading import Entries, FolderLog, opened
from protocols.errors import Refused
from protocols.evidence.record import PlanStatement, Revocation
from protocols.evidence.verify import verify
from tests.hub.report.report_kit import hub_folder, site
from tests.support.bundle import PLAN, PROJECT, TRUST
from tests.support.evidence import GATEWAY


def test_the_bundle_passes_the_offline_verifier(tmp_path: Path) -> None:
    path = write_report(hub_folder(tmp_path), PROJECT)
    assert path == tmp_path / "reports" / f"{PROJECT}.zip"
    with path.open("rb") as file:
        verdict = verify(file, TRUST)
    assert verdict.ok, verdict.first_failure
    assert verdict.plan == PLAN.to_data()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_printed_hash_is_over_the_evidence(tmp_path: Path) -> None:
    """As a person with sha256sum would do it."""
    path = write_report(hub_folder(tmp_path), PROJECT)
    with ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.split("/")[0] in EVIDENCE]
        lines = sorted((name, hashlib.sha256(archive.read(name)).hexdigest()) for name in names)
        text = "".join(f"{digest}  {name}\n" for name, digest in lines)
        pages = PdfReader(io.BytesIO(archive.read("report.pdf"))).pages
        assert len(pages) <= 8
        for page in pages:
            assert hashlib.sha256(text.encode()).hexdigest() in page.extract_text()


EVIDENCE = ("records", "proofs", "root.cbor-seq", "checkpoint", "report.json")


def test_the_same_hub_gives_the_same_evidence(tmp_path: Path) -> None:
    first, second = (write_report(hub_folder(tmp_path / name), PROJECT) for name in ("a", "b"))
    with ZipFile(first) as one, ZipFile(second) as other:
        for name in one.namelist():
            if name.split("/")[0] in EVIDENCE:
                assert one.read(name) == other.read(name)


def test_nothing_after_a_revocation_counts(tmp_path: Path) -> None:
    """The root revokes the gateway's key in the middle of the reporting period."""
    told = site()
    kid = told.chain()[0].kid
    told.root_bodies.append(Revocation(GATEWAY, kid, 43, "key was copied"))
    path = write_report(hub_folder(tmp_path, told), PROJECT)
    with path.open("rb") as file:
        verdict = verify(file, TRUST)
    assert verdict.ok, verdict.first_failure
    assert verdict.records == 40  # entries 3 to 42


def test_the_first_registered_plan_binds(tmp_path: Path) -> None:
    told = site()
    told.root_bodies.append(PlanStatement(replace(PLAN, title="A later, kinder plan").to_data()))
    path = write_report(hub_folder(tmp_path, told), PROJECT)
    with path.open("rb") as file:
        verdict = verify(file, TRUST)
    assert verdict.plan == PLAN.to_data()


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    config = hub_folder(tmp_path)
    with pytest.raises(Refused, match="known projects: project-1"):
        write_report(config, "nobody")
    with opened(config) as sources:
        engine = sources.registry._engine
        with engine.begin() as connection:
            connection.execute(delete(db.record).where(db.record.c.sequence == 5))
    with pytest.raises(Refused, match="rebuild"):
        write_report(config, PROJECT)
    with opened(config) as sources, sources.registry._engine.begin() as connection:
        connection.execute(delete(db.plan))
    with pytest.raises(Refused, match="no registered plan"):
        write_report(config, PROJECT)
    with pytest.raises(Refused, match="linetally-hub init"):
        FolderLog(tmp_path / "nothing")


def test_progress_is_told_and_the_pdf_written_apart(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with opened(hub_folder(tmp_path)) as sources:
        out = tmp_path / "new" / "b.zip"
        write_bundle(sources, PROJECT, out, lambda *step: told.append(step), tmp_path / "r.pdf")
    assert [done for _, done, _ in told] == list(range(6))
    with ZipFile(out) as archive:
        assert archive.read("report.pdf") == (tmp_path / "r.pdf").read_bytes()


def test_entries_are_read_in_order_again_and_again(tmp_path: Path) -> None:
    log = FolderLog(hub_folder(tmp_path).log_folder)
    entries = Entries(log, [0, 3, 4, 9])
    assert list(entries) == list(entries) == [log.entry(i) for i in (0, 3, 4, 9)]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    config = hub_folder(tmp_path)
    out = tmp_path / "b.zip"
    assert run(parser.parse_args(["report", PROJECT, "--out", str(out)]), config) == 0
    assert f"Verify it: linetally-verify {out} --policy POLICY-FILE" in capsys.readouterr().out
    assert run(parser.parse_args(["report", "nobody"]), config) == 1
    assert "there is no project 'nobody'" in capsys.readouterr().err
    unwritable = tmp_path / "b.zip" / "c.zip"
    assert run(parser.parse_args(["report", PROJECT, "--out", str(unwritable)]), config) == 1
    assert "cannot be written" in capsys.readouterr().err
