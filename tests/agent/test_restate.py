"""A window restated: what follows from what a person gives, and that the account stays one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.restate import restated_window
from protocols.errors import Refused
from protocols.measurement.account import ACCOUNT_FIELDS
from protocols.measurement.amendment import AmendmentKind
from protocols.measurement.revisions import Stated, restated
from tests.agent import factory

CYCLE_NS = 1_200_000_000
WINDOW = factory.window(60_000)
WINDOW = replace(
    WINDOW, account=replace(WINDOW.account, standard_total_ns=50 * CYCLE_NS, standard_good_ns=50 * CYCLE_NS)
)


def changed(given: dict[str, int], cycle_ns: int | None = CYCLE_NS) -> dict[str, int]:
    """The change by names, after it was found to be one that has an effect."""
    change = restated_window(Stated(WINDOW, 4), given, cycle_ns)
    assert (change.start_ms, change.end_ms, change.sequence) == (60_000, 120_000, 4)
    restated(WINDOW.account, AmendmentKind.WINDOW, change.fields)
    return {ACCOUNT_FIELDS[each.field]: each.new for each in change.fields}


def test_counts_and_ideal_times_follow() -> None:
    less = {"good_count": 48, "reject_count": 2, "standard_good_ns": 48 * CYCLE_NS}
    assert changed({"good_count": 48}) == changed({"reject_count": 2}) == less
    assert changed({"good_count": 50, "reject_count": 1}) == {
        "total_count": 51, "reject_count": 1, "standard_total_ns": 51 * CYCLE_NS,
    }  # fmt: skip
    assert changed({"total_count": 0, "good_count": 0}) == {
        "total_count": 0, "good_count": 0, "standard_total_ns": 0, "standard_good_ns": 0,
    }  # fmt: skip
    assert changed({"producing_ms": 45_000, "failure_ms": 15_000}) == {"producing_ms": 45_000, "failure_ms": 15_000}


def test_a_window_without_pieces_takes_the_cycle_of_its_product() -> None:
    empty = Stated(factory.window(0, total=0), 1)
    for cycle_ns, standard, without in ((CYCLE_NS, 3 * CYCLE_NS, 0), (None, 0, 3)):
        change = restated_window(empty, {"total_count": 3, "good_count": 3}, cycle_ns)
        account = restated(empty.window.account, AmendmentKind.WINDOW, change.fields)
        assert (account.standard_good_ns, account.without_ideal_count) == (standard, without)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pieces": 1}, "there is no sum 'pieces'; there are: unknown_ms"),
        ({"good_count": 50}, "nothing changes"),
        ({"good_count": 2**60}, "out of all bounds"),
    ],
)
def test_what_cannot_be_is_said(given: dict[str, int], words: str) -> None:
    with pytest.raises(Refused) as caught:
        restated_window(Stated(WINDOW, 4), given, CYCLE_NS)
    assert words in caught.value.words


def test_what_does_not_add_up_is_refused_by_the_rules() -> None:
    change = restated_window(Stated(WINDOW, 4), {"failure_ms": 15_000}, CYCLE_NS)
    with pytest.raises(Refused, match="add up to 75000 ms"):
        restated(WINDOW.account, AmendmentKind.WINDOW, change.fields)
