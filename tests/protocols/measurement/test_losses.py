"""The losses add up to the whole: in time and in pieces, under every definition."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given

from protocols.measurement import ratios
from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import ISO, OEE_INDUSTRY_STANDARD, TPM, Charge, Definition
from protocols.measurement.elements import elements
from protocols.measurement.figure import Undefined
from protocols.measurement.loss_tree import BigLoss, Factor, big_losses, loss_tree
from protocols.measurement.losses import DEFECTS, GOOD, LOSS_NAMES, SPEED, loss_parts, losses
from tests.protocols.measurement.accounts import SECOND_NS, account, accounts, definitions

MIN = 60_000
# 8 h outside, 30 min break, 7.5 h planned, 10 of its minutes not seen. 300 pieces at 1 min, 30 rejects, 10 at start-up.
SHIFT = account(
    {
        Category.NOT_SCHEDULED: 480 * MIN,
        Category.PLANNED_DOWN: 30 * MIN,
        Category.UNKNOWN: 10 * MIN,
        Category.PRODUCING: 350 * MIN,
        Category.SETUP: 20 * MIN,
        Category.FAILURE: 25 * MIN,
        Category.MINOR_STOP: 15 * MIN,
        Category.RESTRAINT: 5 * MIN,
        Category.HELD: 5 * MIN,
        Category.UNASSIGNED: 10 * MIN,
        Category.NO_ORDER: 10 * MIN,
    },
    total_count=300,
    good_count=270,
    reject_count=30,
    startup_reject_count=10,
    standard_total_ns=300 * 60 * SECOND_NS,
    standard_good_ns=270 * 60 * SECOND_NS,
)


def minutes(name: str, definition: Definition = ISO) -> Fraction:
    return loss_tree(SHIFT, definition).find(name).ms / MIN


def test_by_hand() -> None:
    levels = ("calendar", "planned-busy", "production", "net-production", "fully-productive")
    assert [minutes(name) for name in levels] == [960, 440, 350, 300, 270]
    assert [minutes(name, TPM) for name in levels] == [960, 430, 365, 300, 270]
    assert [minutes(name, OEE_INDUSTRY_STANDARD) for name in levels] == [960, 460, 365, 300, 270]
    assert [minutes(name) for name in ("reduced-speed", "startup-rejects", "rejects")] == [50, 10, 20]


def test_the_six_big_losses_by_hand() -> None:
    found = big_losses(SHIFT, TPM)
    assert {loss: ms / MIN for loss, ms in found.ms.items()} == {
        BigLoss.BREAKDOWN: 25, BigLoss.SETUP: 20, BigLoss.MINOR_STOPS: 15, BigLoss.SPEED: 50, BigLoss.DEFECTS: 20,
        BigLoss.STARTUP: 10, BigLoss.OTHER_STOPS: 20,
    }  # fmt: skip
    assert found.fully_productive_ms == 270 * MIN
    assert found.pieces is not None
    assert found.pieces[BigLoss.STARTUP] == 10 and found.pieces[BigLoss.DEFECTS] == 20  # a piece a minute


@given(sums=accounts(), definition=definitions)
def test_every_level_is_the_sum_of_its_parts_and_the_whole_is_all_time(
    sums: TimeAccount, definition: Definition
) -> None:
    tree = loss_tree(sums, definition)
    assert tree.ms == sums.length_ms == sum(leaf.ms for leaf in tree.leaves)
    for part in tree:
        if part.children:
            assert part.ms == sum(child.ms for child in part.children)
            if part.pieces is not None:
                assert part.pieces == sum((child.pieces or 0 for child in part.children), Fraction(0))


@given(sums=accounts(), definition=definitions)
def test_the_levels_are_those_of_the_figures(sums: TimeAccount, definition: Definition) -> None:
    tree, found = loss_tree(sums, definition), elements(sums, definition)
    assert tree.find("planned-busy").ms == found.pbt_ms
    assert tree.find("production").ms == found.apt_ms
    if found.pbt_ms > 0:
        assert ratios.oee(sums, definition) == tree.find("fully-productive").ms / found.pbt_ms
        assert ratios.availability(sums, definition) == tree.find("production").ms / found.pbt_ms
    if sums.total_count and definition.rework == "bad":
        assert tree.find("fully-productive").pieces == sums.good_count
        quality = [leaf.pieces or 0 for leaf in tree.leaves if leaf.factor is Factor.QUALITY]
        assert sum(quality) == sums.reject_count


@given(sums=accounts(), definition=definitions)
def test_the_big_losses_and_good_production_are_the_planned_busy_time(
    sums: TimeAccount, definition: Definition
) -> None:
    found = big_losses(sums, definition)
    assert found.fully_productive_ms is not None
    assert sum(found.ms.values()) + found.fully_productive_ms == found.planned_busy_ms
    assert found.planned_busy_ms == elements(sums, definition).pbt_ms
    assert (BigLoss.SETUP in found.ms) is (definition.setup is Charge.AVAILABILITY)


@given(sums=accounts(ideal=False).filter(lambda a: a.total_count > 0), definition=definitions)
def test_production_without_an_ideal_cycle_is_not_put_at_zero(sums: TimeAccount, definition: Definition) -> None:
    tree = loss_tree(sums, definition)
    assert tree.ms == sums.length_ms
    assert tree.pieces is None
    assert tree.find("unvalued-production").ms == sums.producing_ms
    with pytest.raises(KeyError):
        tree.find("fully-productive")
    found = big_losses(sums, definition)
    assert found.undefined_because is Undefined.NO_IDEAL_CYCLE
    assert found.pieces is None and found.fully_productive_ms is None
    assert not {BigLoss.SPEED, BigLoss.DEFECTS, BigLoss.STARTUP} & found.ms.keys()


def test_unknown_time_is_apart_and_charged_to_nobody() -> None:
    unknown = loss_tree(SHIFT).find("unknown")
    assert (unknown.factor, unknown.big_loss) == (Factor.NOT_OBSERVED, None)
    assert unknown not in loss_tree(SHIFT).find("planned-busy").children


@given(sums=accounts(), definition=definitions)
def test_the_parts_in_whole_milliseconds_add_up_too(sums: TimeAccount, definition: Definition) -> None:
    parts = loss_parts(sums, definition)
    assert sum(parts.values()) == elements(sums, definition).pbt_ms
    assert set(parts) <= set(LOSS_NAMES)
    assert {SPEED, DEFECTS, GOOD} <= set(parts)


def test_a_loss_outside_planned_busy_time_is_in_no_table() -> None:
    names = [loss.name for loss in losses(SHIFT, SHIFT, TPM)]
    assert "no-order" not in names and "planned-down" not in names and "setup" in names
    table = {loss.name: loss for loss in losses(SHIFT, TimeAccount())}
    assert (table["failure"].baseline_ms, table["failure"].baseline_ms_per_hour) == (25 * MIN, 204_545)
    assert table["failure"].reporting_ms_per_hour is None
