"""The PDF's pages: their number, what stands on them, and that no text of a stranger is ever code."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from pypdf import PdfReader

from hub.report import wording
from hub.report.render import render
from hub.report.view import WITHHELD, report_view
from tests.hub.report.report_kit import context, hostile
from tests.reference.outcome_windows import DAY_MS, plan, windows

HOSTILE = [
    '#import "x.typ"',
    "#panic()",
    "*bold* _it_ $x$ @ref <label> `raw` \\ // /* = heading",
    '"; #read("/etc/passwd"); "',
    "=cmd|'/C calc'!A0",
    "#{while true {}}",
    "<script>alert(1)</script>",
    "a\u202eb\u0000\ufffe",
    "饺子 🥟 مرحبا",
]


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(BytesIO(pdf)).pages]


def test_pages_hold_the_figures_and_the_evidence() -> None:
    made, _ = context()
    texts = pages(render(made))
    assert 3 <= len(texts) <= 8
    primary = made.outcome.primary
    first = texts[0]
    assert "Improved" in first
    for text in (
        wording.ppm(primary.change_ppm),
        wording.span_ppm(primary.low_ppm, primary.high_ppm),
        "HK$250,000",
        "MP/2026/017",
        "Harbour Foods Ltd",
    ):
        assert text in first
    for number, text in enumerate(texts, 1):
        assert made.evidence.sha256.hex() in text
        assert f"{number} / {len(texts)}" in text
    whole = "\n".join(texts)
    for text in (
        made.outcome.plan.hash.hex(),
        "What this evidence cannot prove",
        "linetally-verify BUNDLE.zip --policy POLICY-FILE",
        "entry 11 of the log, before the first record of the reporting period",
        "link to the PLC was lost (entry 77)",
    ):
        assert text in whole
    assert "Simulated plant" not in whole


def test_an_effectiveness_over_100_percent_is_told_with_its_cause() -> None:
    the_plan = plan(2)
    fast = []
    for window in windows(the_plan):
        sums = window.account
        if window.start_ms in the_plan.baseline:  # made twice as fast as ideal
            sums = replace(sums, standard_total_ns=4 * sums.standard_total_ns)
        else:  # read after gaps
            blind = (sums.length_ms - sums.producing_ms // 9, sums.producing_ms // 9, *[0] * 9)
            sums = replace(sums, category_ms=blind, estimated_count=sums.total_count)
        fast.append(replace(window, account=sums))
    made, _ = context(the_plan, fast)
    before, after = report_view(made)["excess"]
    assert before.startswith("Effectiveness before: ") and "the configured ideal cycle is slower" in before
    assert after.startswith("Effectiveness after: ") and "the ideal cycle may be right" in after
    whole = " ".join("\n".join(pages(render(made))).split())
    assert before in whole and after in whole
    ordinary, _ = context()
    assert report_view(ordinary)["excess"] == []


def test_a_simulated_line_says_so_on_every_page() -> None:
    made, _ = context(simulated=True)
    assert all("Simulated plant" in text for text in pages(render(made)))


def test_the_same_content_gives_the_same_text() -> None:
    made, _ = context()
    assert pages(render(made)) == pages(render(made))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_only_texts(text: str) -> None:
    made, _ = hostile(text)
    found = pages(render(made))
    assert len(found) <= 8
    if text.isascii():
        assert text.split()[0] in found[0]


def test_long_texts_and_many_rows_stay_within_eight_pages() -> None:
    long_name = "A very long name of a product of a line, " * 4
    the_plan = plan(
        26,
        title="Upgrade " * 20,
        ideal_cycles_ns={f"{long_name}{i}": 500_000_000 + i for i in range(40)} | {"Wonton 20": 800_000_000},
    )
    line = windows(the_plan, unknown=0.05)
    line = [
        replace(window, product=f"{long_name}{i % 40}") if window.product else window for i, window in enumerate(line)
    ]
    made, _ = context(the_plan, line)
    crowded = replace(
        made,
        milestones=[{"title": long_name, "planned": "2026-01-01", "done": "", "evidence": long_name}] * 30,
        evidence=replace(
            made.evidence,
            chains=list(made.evidence.chains) * 30,
            configurations=list(made.evidence.configurations) * 30,
        ),
    )
    assert len(pages(render(crowded))) <= 8


def test_little_coverage_withholds_the_changes() -> None:
    the_plan = plan()
    start = the_plan.reporting.from_ms + DAY_MS
    line = [w for w in windows(the_plan) if not start <= w.start_ms < start + 14 * DAY_MS]
    made, _ = context(the_plan, line)
    view = report_view(made)
    assert view["finding"] == "insufficient data"
    assert {card["change"] for card in view["cards"]} == {WITHHELD}
    assert "%" not in view["sentence"]
    assert "withheld" in pages(render(made))[0]


def test_a_report_without_any_data() -> None:
    made, _ = context(plan(), [])
    texts = pages(render(made))
    assert "Insufficient data" in texts[0]
    assert len(texts) <= 8


def test_a_plan_registered_too_late_is_said() -> None:
    made, _ = context()
    late = replace(made, evidence=replace(made.evidence, plan_index=6000))
    assert "AFTER the first record of the reporting period" in "\n".join(pages(render(late)))


def test_without_a_chinese_font_there_is_still_a_report() -> None:
    made, _ = context()
    assert "Improved" in pages(render(made, system_fonts=False))[0]
