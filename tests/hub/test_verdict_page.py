"""The page of a verdict: everything in it is escaped, nothing is fetched, and it prints on one sheet."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

from hub.verdict_page import Circumstances, page
from hub.verify import CANNOT, PROVES, main
from protocols.evidence import policy
from protocols.evidence.bodies import RawGap
from protocols.evidence.verdict import GapFound, GapKind, Verdict
from protocols.evidence.verify import verify
from tests.support.bundle import HOUR_MS, PLAN, POLICY, TRUST, sample_bundle
from tests.support.evidence import START_MS

BUNDLE = sample_bundle()
VERDICT = verify(io.BytesIO(BUNDLE), TRUST)
OF = Circumstances(
    "outcome.zip", "ab" * 32, "scheme.policy", "cd" * 32, "ada on desk", datetime(2026, 11, 22, 3, 4, tzinfo=UTC), UTC,
    PROVES, CANNOT,
)  # fmt: skip
EVIL = "</title><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"


class Tags(HTMLParser):
    """Which elements a page has, and which attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def crowded(words: str) -> Verdict:
    """As much as the page ever shows, with `words` wherever the bundle has a say."""
    lines = [f"line-{i:02d}-{words}" for i in range(20)]
    coverage = tuple(replace(each, line_id=line) for line in lines for each in VERDICT.coverage[:2])
    gaps = tuple(
        GapFound(line, START_MS + i * HOUR_MS, START_MS + (i + 1) * HOUR_MS, HOUR_MS // (i + 1), kind, words)
        for line in lines
        for i, kind in enumerate((GapKind.NO_RECORD, GapKind.NOT_OBSERVED) * 10)
    )
    plan = dict(VERDICT.plan or {}) | {"title": words, "enterprise": words}
    notes = (f"{words} " * 30,) * 40
    raw_gaps = tuple(RawGap(line, START_MS, START_MS + HOUR_MS, 60, words) for line in lines)
    return replace(VERDICT, coverage=coverage, gaps=gaps, plan=plan, notes=notes, log_origin=words, raw_gaps=raw_gaps)


def test_it_says_what_matters() -> None:
    text = parsed(page(VERDICT, OF)).text
    for words in (
        "PASS", "A faster filler", "Are the records in the log?", "filling", "gateway without power", "OEE",
        "+14.9 %", "It cannot prove", "ab" * 32, "cd" * 32, VERDICT.log_root.hex(),
        f"SHA-256 {VERDICT.evidence_sha256.hex()}", "ada on desk, 2026-11-22 03:04 UTC",
    ):  # fmt: skip
        assert words in text
    assert "FAIL" not in text and "Raw samples" not in text
    gap = RawGap("filling", START_MS, START_MS + HOUR_MS, 60, "older than 35 days")
    text = parsed(page(replace(VERDICT, raw_gaps=(gap,)), OF)).text
    assert "Raw samples not held: 60 chunks: filling" in text and "older than 35 days" in text


@pytest.mark.parametrize("verdict", [crowded(EVIL), replace(crowded(EVIL), ok=False)])
def test_everything_is_escaped(verdict: Verdict) -> None:
    html = page(verdict, replace(OF, bundle_name=EVIL, policy_name=EVIL, who=EVIL))
    plain, evil = parsed(page(crowded("x"), OF)), parsed(html)
    assert evil.found == plain.found
    assert evil.attributes == plain.attributes
    assert "script" not in evil.found
    assert EVIL in evil.text


def test_nothing_is_fetched() -> None:
    html = page(VERDICT, OF)
    assert "default-src 'none'" in html
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img| on[a-z]+=", html)


def test_a_failure_comes_first_and_shows_no_figures() -> None:
    broken = bytearray(BUNDLE)
    broken[BUNDLE.index(b"measurement") + 700] ^= 1
    verdict = verify(io.BytesIO(bytes(broken)), TRUST)
    text = parsed(page(verdict, OF)).text
    assert text.index("FAIL") < text.index("Where: records/") < text.index("What was checked")
    assert "Nothing in this bundle should be relied on" in text
    assert "This proves" not in text and "+14.9" not in text


def test_unseen_seconds_are_drawn_small_and_a_lost_hour_is_not() -> None:
    lost = VERDICT.gaps[0]
    barely = replace(lost, kind=GapKind.NOT_OBSERVED, missing_ms=5_000)
    heights = []
    for gap, style in ((lost, "hole"), (barely, "unseen")):
        drawn = re.search(rf'class="{style}"[^>]* height="([0-9.]+)"', page(replace(VERDICT, gaps=(gap,)), OF))
        assert drawn is not None
        heights.append(float(drawn[1]))
    assert heights[0] > 4 * heights[1] > 0


@pytest.mark.needs("chromium")
def test_it_prints_on_one_sheet(tmp_path: Path) -> None:
    file = tmp_path / "verdict.html"
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for verdict in (VERDICT, crowded("some words of a person")):
            file.write_text(page(verdict, OF))
            sheet = browser.new_page()
            sheet.goto(file.as_uri())
            printed = PdfReader(io.BytesIO(sheet.pdf(prefer_css_page_size=True)))
            assert len(printed.pages) == 1
        browser.close()


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, trust, out = tmp_path / "outcome.zip", tmp_path / "scheme.policy", tmp_path / "verdict.html"
    bundle.write_bytes(BUNDLE)
    trust.write_bytes(policy.format(POLICY))
    assert main([str(bundle), "--policy", str(trust), "--quiet", "--html", str(out)]) == 0
    assert "PASS" in out.read_text() and PLAN.title in out.read_text()
    assert main([str(bundle), "--policy", str(trust), "--html", str(tmp_path / "no" / "x.html")]) == 2
    assert "Cannot write" in capsys.readouterr().err
