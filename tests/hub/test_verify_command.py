"""linetally-verify: exit codes, words, and how little it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hub.verify import main
from protocols.evidence import policy
from protocols.evidence.bodies import RawGap
from protocols.evidence.bundle import read, records_file
from tests.support.bundle import POLICY, Site, sample_bundle
from tests.support.evidence import START_MS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    bundle, trust = tmp_path / "outcome.zip", tmp_path / "scheme.policy"
    bundle.write_bytes(sample_bundle())
    trust.write_bytes(policy.format(POLICY))
    return bundle, trust


def changed(bundle: Path, index: int = 24) -> Path:
    """One bit of a record's signature."""
    data = bytearray(bundle.read_bytes())
    with bundle.open("rb") as file:
        opened = read(file)
        _, record = list(opened.records(records_file(opened.kids()[0])))[index]
    data[data.index(record) + len(record) - 10] ^= 1
    bundle.write_bytes(data)
    return bundle


def test_pass(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust = files
    assert main([str(bundle), "--policy", str(trust)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("PASS outcome.zip")
    for words in ("A faster filler", "95.0 %", "gateway without power", "Asia/Hong_Kong", "It cannot prove"):
        assert words in out.replace("\n", " ") or words.split()[-1] in out


def test_raw_samples_that_are_not_held_and_the_evidence_hash_are_said(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, trust = files
    site = Site.ordinary()
    at = site.bodies[-1][0] + 1
    for day in range(20):
        from_ms = START_MS + day * 86_400_000
        site.bodies.append((at, at, RawGap("filling", from_ms, from_ms + 3_600_000, 60, "older than 35 days")))
    bundle.write_bytes(sample_bundle(site.parts()))
    assert main([str(bundle), "--policy", str(trust), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert len(verdict["raw_gaps"]) == 20
    assert main([str(bundle), "--policy", str(trust)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Evidence SHA-256 {verdict['evidence_sha256']}" in said
    assert "Raw samples not held: 1,200 chunks in 20 stretches." in said
    assert said.count("older than 35 days") == 12 and "and 8 shorter ones" in said
    assert main([str(changed(bundle)), "--policy", str(trust)]) == 1
    assert "Evidence SHA-256" not in capsys.readouterr().out


def test_fail_names_the_record(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust = files
    assert main([str(changed(bundle)), "--policy", str(trust)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL outcome.zip")
    assert "record 25, sequence 24" in out
    assert "PASS" not in out


def test_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust = files
    assert main([str(bundle), "--policy", str(trust), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"] is True
    assert verdict["first_failure"] is None
    assert len(verdict["gaps"]) == 2
    assert main([str(changed(bundle)), "--policy", str(trust), "--json"]) == 1
    failure = json.loads(capsys.readouterr().out)["first_failure"]
    assert (failure["index"], failure["sequence"], failure["step"]) == (24, 24, "RECORDS")


def test_quiet(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust = files
    assert main([str(bundle), "--policy", str(trust), "--quiet"]) == 0
    assert main([str(changed(bundle)), "--policy", str(trust), "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_simulated_clock_is_said(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust = files
    site = Site.ordinary()
    site.clock = "simulated"
    bundle.write_bytes(sample_bundle(site.parts()))
    assert main([str(bundle), "--policy", str(trust)]) == 0
    assert "The clock was simulated" in capsys.readouterr().out


def test_used_wrongly(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust = files
    assert main([str(bundle.parent / "nowhere.zip"), "--policy", str(trust)]) == 2
    assert "nowhere.zip: No such file" in capsys.readouterr().err
    trust.write_text("log nonsense\nquorum none\n")
    assert main([str(bundle), "--policy", str(trust)]) == 2
    assert "scheme.policy, line 1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main([str(bundle)])
    assert caught.value.code == 2


def test_something_that_is_no_bundle_fails(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust = files
    bundle.write_bytes(b"\x1b[2J not a ZIP")
    assert main([str(bundle), "--policy", str(trust)]) == 1
    assert capsys.readouterr().out.startswith("FAIL")


@pytest.mark.parametrize("options", [[], ["--one-by-one"]])
def test_it_needs_no_more_than_the_verify_extra(files: tuple[Path, Path], options: list[str]) -> None:
    """numpy too only where many records are checked at once."""
    bundle, trust = files
    numpy = "numpy" if options else "numba"
    program = (
        "import sys\n"
        "from hub.verify import main\n"
        f"code = main([{str(bundle)!r}, '--policy', {str(trust)!r}, *{options!r}])\n"
        "allowed = ('hub', 'hub.verify', 'hub.verdict_page')\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in"
        f" ({numpy!r}, 'numba', 'sqlalchemy', 'fastapi', 'paho', 'agent', 'socket', 'jinja2', 'typst')"
        " or m.startswith('hub.') and m not in allowed]\n"
        "print(bad, file=sys.stderr)\n"
        "sys.exit(code or bool(bad))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS")
