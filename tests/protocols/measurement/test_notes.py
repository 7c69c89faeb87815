"""What is said beside an account's figures."""

from __future__ import annotations

from dataclasses import replace

from protocols.measurement.account import TimeAccount
from protocols.measurement.definition import ISO, Rework
from protocols.measurement.notes import notes


def test_nothing_doubtful_needs_no_note() -> None:
    assert notes(TimeAccount(total_count=10, good_count=9, reject_count=1)) == ()


def test_each_doubt_is_told_once_with_its_count() -> None:
    found = notes(
        TimeAccount(
            total_count=10, good_count=5, reject_count=5, rework_count=2, startup_reject_count=3, estimated_count=4,
            lower_bound_count=1, without_ideal_count=6,
        )
    )  # fmt: skip
    assert {note.code: note.count for note in found} == {
        "without-ideal": 6, "lower-bound": 1, "estimated": 4, "startup-share": 3, "rework-mean-cycle": 2,
    }  # fmt: skip


def test_rework_is_attributed_as_the_definition_says() -> None:
    sums = TimeAccount(rework_count=2)
    [bad], [good] = notes(sums, ISO), notes(sums, replace(ISO, rework=Rework.GOOD))
    assert "never good" in bad.words and "mean ideal cycle" in good.words
