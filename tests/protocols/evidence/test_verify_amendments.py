"""Amended bundles: the verdict makes the same amendments, lists them, and catches whoever leaves one out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from protocols.evidence import cose
from protocols.evidence.record import Amendment
from protocols.evidence.verdict import Step, Verdict
from protocols.evidence.verify import verify
from protocols.measurement.account import ACCOUNT_FIELDS, Window, total
from protocols.measurement.amendment import AmendmentKind, FieldChange, Included, ReasonChange, Source, WindowChange
from protocols.measurement.outcome import outcome
from tests.support.bundle import HOUR_MS, LENGTH_MS, PLAN, TRUST, Site, log_parts, sample_bundle
from tests.support.evidence import GATEWAY_KEY, START_MS

KID = cose.key_id(GATEWAY_KEY.public_key().public_bytes_raw())
GOOD, REJECT, STANDARD_GOOD = map(ACCOUNT_FIELDS.index, ("good_count", "reject_count", "standard_good_ns"))
COMMISSIONING_MS = PLAN.commissioning.from_ms if PLAN.commissioning else 0


def judge(site: Site, windows: dict[str, list[Window]], included: Sequence[Included] = ()) -> Verdict:
    report = outcome(PLAN, windows, included).to_data()
    return verify(io.BytesIO(sample_bundle(log_parts(site.chain(), site.root_chain(), 0, PLAN, report))), TRUST)


def rejects(hour: int, pieces: int, *, good: int = 95, start_ms: int | None = None) -> WindowChange:
    """`pieces` of the hour's first window found bad; `good`: what stood."""
    start = START_MS + hour * HOUR_MS if start_ms is None else start_ms
    bad = 100 - good
    fields = (
        FieldChange(GOOD, good, good - pieces),
        FieldChange(REJECT, bad, bad + pieces),
        FieldChange(STANDARD_GOOD, good * 500_000_000, (good - pieces) * 500_000_000),
    )
    return WindowChange(start, start + LENGTH_MS, 1 + hour, fields)


def late(change: ReasonChange | tuple[WindowChange, ...]) -> Amendment:
    kind = AmendmentKind.REASON if isinstance(change, ReasonChange) else AmendmentKind.REJECT
    return Amendment("filling", kind, change, "QC lab", "sample 4711")


def amended(*amendments: Amendment) -> Site:
    """The ordinary two days, with amendments at the end of the chain."""
    site = Site.ordinary()
    end = site.bodies[-1][1]
    site.bodies += [(end, end, amendment) for amendment in amendments]
    return site


def naive(site: Site, moved: dict[int, int]) -> dict[str, list[Window]]:
    """The site's windows with so many good pieces of "filling" turned bad, by the window's start."""
    windows = site.windows()
    for i, window in enumerate(windows["filling"]):
        account = window.account
        pieces = moved.get(window.start_ms, 0)
        account = replace(
            account,
            good_count=account.good_count - pieces,
            reject_count=account.reject_count + pieces,
            standard_good_ns=account.standard_good_ns - pieces * 500_000_000,
        )
        windows["filling"][i] = replace(window, account=account)
    return windows


FIRST = late((rejects(2, 7), rejects(3, 1)))
SECOND = late((rejects(2, 3, good=88),))
REASON = late(ReasonChange(START_MS + 5 * HOUR_MS, "", "film torn"))
SITE = amended(FIRST, SECOND, REASON)
MOVED = {START_MS + 2 * HOUR_MS: 10, START_MS + 3 * HOUR_MS: 1}
AT = len(Site.ordinary().bodies)
INCLUDED = (
    Included(Source(KID, AT), FIRST, (2, 2), ("", "")),
    Included(Source(KID, AT + 1), SECOND, (3,), ("",)),
    Included(Source(KID, AT + 2), REASON, (), ("",)),
)


def test_figures_are_over_what_stands_and_the_report_says_what_was_counted() -> None:
    verdict = judge(SITE, naive(SITE, MOVED), INCLUDED)
    assert verdict.ok, verdict.first_failure
    figures: dict[str, Any] = dict(verdict.figures or {})
    assert [(each["sequence"], each["kind"]) for each in figures["amendments"]] == [
        (AT, "reject"),
        (AT + 1, "reject"),
        (AT + 2, "reason"),
    ]
    assert figures["amendments"][0]["windows"][0][3:] == [
        2,
        [["good_count", 95, 88], ["reject_count", 5, 12], ["standard_good_ns", 47_500_000_000, 44_000_000_000]],
    ]
    counted = total(
        w.account for line in SITE.windows().values() for w in line if w.start_ms in PLAN.baseline
    )  # fmt: skip
    assert figures["baseline"]["account_as_counted"] == list(counted.as_ints())
    assert figures["baseline"]["account"][REJECT] == counted.reject_count + 11
    assert any("3 amendments came late" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("moved", "included"),
    [
        ({}, ()),  # as if nothing had come late
        ({}, INCLUDED),
        (MOVED, ()),
        (MOVED, INCLUDED[:2]),
        ({START_MS + 2 * HOUR_MS: 7, START_MS + 3 * HOUR_MS: 1}, INCLUDED[:1]),  # the last word left out
        (MOVED, (*INCLUDED[:2], replace(INCLUDED[2], amendment=replace(REASON, who="nobody")))),
    ],
)
def test_a_report_that_leaves_something_out_does_not_follow(
    moved: dict[int, int], included: tuple[Included, ...]
) -> None:
    verdict = judge(SITE, naive(SITE, moved), included)
    assert verdict.first_failure is not None
    assert verdict.first_failure.step is Step.FIGURES


def test_an_amendment_that_contradicts_the_chain_changes_nothing_and_is_told() -> None:
    site = amended(late((rejects(2, 7, good=96),)))
    words = "good_count stands at 95, not at 96"
    (said,) = (body for _, _, body in site.bodies if isinstance(body, Amendment))
    verdict = judge(site, site.windows(), (Included(Source(KID, AT), said, (0,), (words,)),))
    assert verdict.ok, verdict.first_failure
    assert any(words in note for note in verdict.notes)


def test_what_is_outside_the_periods_is_no_part_of_the_report() -> None:
    """The commissioning's windows are not in a verdict: of a lot that reaches into it only the rest counts."""
    hour = (COMMISSIONING_MS - START_MS) // HOUR_MS
    both = late((rejects(2, 7), rejects(hour, 7)))
    within = replace(both, change=both.change[:1] if isinstance(both.change, tuple) else both.change)
    site = amended(both)
    verdict = judge(
        site, naive(site, {START_MS + 2 * HOUR_MS: 7}), (Included(Source(KID, AT), within, (2,), ("",)),)
    )  # fmt: skip
    assert verdict.ok, verdict.first_failure


def test_a_gateway_amends_its_own_lines_only() -> None:
    site = amended(replace(REASON, line_id="labelling"))
    verdict = judge(site, site.windows())
    assert verdict.first_failure is not None
    assert (verdict.first_failure.step, verdict.first_failure.sequence) == (Step.RECORDS, AT)
    assert "not enrolled for line labelling" in verdict.first_failure.words
