"""PyPI's `oee` 0.2.0 as an independent oracle: written by others, in floats, from the same textbooks.

It agrees wherever it is defined. It differs in four things, each shown below: it caps Performance at 100 % (and with
it OEE, TEEP and the loss by speed); it refuses a total of 0 and a planned time of 0, which are undefined here; without
any run time its Performance is 0; and it calls a machine without failures 100 % available, with no MTBF.
"""

from __future__ import annotations

from fractions import Fraction

import oee as peer
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocols.measurement.account import CATEGORIES, Category, TimeAccount, total
from protocols.measurement.definition import TPM, Definition
from protocols.measurement.loss_tree import BigLoss, big_losses
from protocols.measurement.ratios import FIGURES

NEAR = 1e-9
MINUTE_MS = 60_000
UP_TO_DAY = st.integers(0, 86_400_000)
DEFINITION = Definition.from_data(TPM.to_data() | {"mtbf": "uptime/failures"})


def account(
    producing: int = 0,
    failure: int = 0,
    setup: int = 0,
    planned_down: int = 0,
    not_scheduled: int = 0,
    cycle_ns: int = 0,
    made: int = 0,
    good: int = 0,
    startup_rejects: int = 0,
    failures: int = 0,
) -> TimeAccount:
    category_ms = [0] * CATEGORIES
    category_ms[Category.PRODUCING] = producing
    category_ms[Category.FAILURE] = failure
    category_ms[Category.SETUP] = setup
    category_ms[Category.PLANNED_DOWN] = planned_down
    category_ms[Category.NOT_SCHEDULED] = not_scheduled
    return TimeAccount(
        tuple(category_ms),
        planned_ms=producing + failure + setup,
        total_count=made,
        good_count=good,
        reject_count=made - good,
        startup_reject_count=startup_rejects,
        standard_total_ns=cycle_ns * made,
        standard_good_ns=cycle_ns * good,
        failure_count=failures,
    )


@st.composite
def accounts(draw: st.DrawFn) -> tuple[TimeAccount, int]:
    """An account of one product in which something was made, no faster than ideal; and its ideal cycle in ns."""
    producing = draw(st.integers(1, 86_400_000))
    made = draw(st.integers(1, 1_000_000))
    cycle_ns = draw(st.integers(0, producing * 1_000_000 // made))
    assume(cycle_ns > 0)
    good = draw(st.integers(0, made))
    sums = account(
        producing,
        draw(UP_TO_DAY),
        draw(UP_TO_DAY),
        draw(UP_TO_DAY),
        draw(UP_TO_DAY),
        cycle_ns,
        made,
        good,
        draw(st.integers(0, made - good)),
    )
    return sums, cycle_ns


def theirs(sums: TimeAccount, cycle_ns: int) -> peer.OEEResult:
    """The peer's result, in milliseconds."""
    ms = sums.category_ms
    return peer.oee(
        sums.planned_ms,
        run_time=sums.producing_ms,
        ideal_cycle_time=cycle_ns / 1_000_000,
        total_count=sums.total_count,
        good_count=sums.good_count,
        all_time=sums.length_ms,
        planned_downtime=ms[Category.PLANNED_DOWN],
        setup_time=ms[Category.SETUP],
        startup_rejects=sums.startup_reject_count,
    )


def ours(name: str, sums: TimeAccount) -> Fraction | None:
    return FIGURES[name](sums, DEFINITION)


@given(accounts())
def test_the_same_figures_and_losses_up_to_a_performance_of_100_percent(drawn: tuple[TimeAccount, int]) -> None:
    sums, cycle_ns = drawn
    result = theirs(sums, cycle_ns)
    for name, value in (
        ("availability", result.availability),
        ("effectiveness", result.performance),
        ("quality", result.quality),
        ("oee", result.oee),
        ("ooe", result.ooe),
        ("teep", result.teep),
    ):
        assert ours(name, sums) == pytest.approx(value, rel=NEAR, abs=NEAR), name
    lost = big_losses(sums, DEFINITION).ms
    for big_loss, value in (
        (BigLoss.BREAKDOWN, result.six_losses["breakdowns"]),
        (BigLoss.SETUP, result.six_losses["setup_and_adjustments"]),
        (BigLoss.SPEED, result.six_losses["minor_stops_and_reduced_speed"]),
        (BigLoss.DEFECTS, result.six_losses["process_defects"]),
        (BigLoss.STARTUP, result.six_losses["reduced_yield"]),
    ):
        assert float(lost[big_loss]) == pytest.approx(value, rel=NEAR, abs=1e-3), big_loss


@given(st.lists(accounts(), min_size=1, max_size=6))
def test_the_same_sum_of_machines(machines: list[tuple[TimeAccount, int]]) -> None:
    sums = total(part for part, _ in machines)
    result = peer.aggregate([theirs(part, cycle_ns) for part, cycle_ns in machines])
    assert ours("availability", sums) == pytest.approx(result.availability, rel=NEAR, abs=NEAR)
    assert ours("effectiveness", sums) == pytest.approx(result.performance, rel=NEAR, abs=NEAR)
    assert ours("oee", sums) == pytest.approx(result.oee, rel=NEAR, abs=NEAR)
    assert ours("teep", sums) == pytest.approx(result.teep, rel=NEAR, abs=NEAR)
    # Its quality of several products is weighted by ideal time; ISO 22400's counts pieces.
    assert ours("weighted_quality", sums) == pytest.approx(result.quality, rel=NEAR, abs=NEAR)
    assert ours("quality", sums) == Fraction(sums.good_count, sums.total_count)


@given(st.integers(1, 86_400_000), UP_TO_DAY, st.integers(1, 1_000))
def test_the_same_reliability(uptime: int, repair: int, failures: int) -> None:
    sums = account(uptime, repair, failures=failures)
    result = peer.reliability(uptime, failures=failures, total_repair_time=repair)
    assert ours("mtbf", sums) == pytest.approx(result.mtbf, rel=NEAR)
    assert ours("mttr", sums) == pytest.approx(result.mttr, rel=NEAR)
    assert ours("availability", sums) == pytest.approx(result.availability, rel=NEAR)


def test_it_caps_performance_and_we_do_not() -> None:
    sums = account(100 * MINUTE_MS, 0, cycle_ns=60_000_000_000, made=150, good=150)
    result = theirs(sums, 60_000_000_000)
    assert (result.performance_raw, result.performance, result.oee, result.performance_loss) == (1.5, 1.0, 1.0, 0.0)
    assert ours("effectiveness", sums) == ours("oee", sums) == Fraction(3, 2)
    assert big_losses(sums, DEFINITION).ms[BigLoss.SPEED] == -50 * MINUTE_MS


def test_it_refuses_what_is_undefined() -> None:
    nothing_made, nothing_planned = account(MINUTE_MS), account(planned_down=MINUTE_MS)
    with pytest.raises(ValueError, match="total_count must be positive"):
        theirs(nothing_made, 1_000_000_000)
    with pytest.raises(ValueError, match="planned_production_time must be positive"):
        theirs(nothing_planned, 1_000_000_000)
    assert ours("quality", nothing_made) is None
    assert ours("availability", nothing_planned) is None
    # Nothing good in planned time is no question of definition: 0 %.
    assert ours("oee", nothing_made) == 0


def test_without_run_time_its_performance_is_zero() -> None:
    sums = account(0, MINUTE_MS, cycle_ns=1_000_000_000, made=1, good=1)
    assert theirs(sums, 1_000_000_000).performance == 0
    assert ours("effectiveness", sums) is None


def test_without_failures_both_give_no_mean() -> None:
    sums = account(MINUTE_MS)
    result = peer.reliability(MINUTE_MS, failures=0, total_repair_time=0)
    assert (result.mtbf, result.mttr, result.availability) == (None, None, 1.0)
    assert ours("mtbf", sums) is ours("mttr", sums) is None
