"""Roll-up: sums of sums, the same in whatever order and over whatever way; the OEE of a line by its bottleneck."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.measurement import ratios
from protocols.measurement.account import CalendarKind, Category, TimeAccount, Window, total
from protocols.measurement.definition import TPM
from protocols.measurement.figure import Undefined
from protocols.measurement.rollup import (
    By,
    Constraint,
    Place,
    Row,
    bottlenecks,
    fall_off_ratio,
    line_oee,
    machine_oee,
    roll_up,
    row_of,
)
from tests.protocols.measurement.accounts import SECOND_NS, account, accounts

HOUR = 3_600_000
names = st.sampled_from(["", "a", "b"])
rows = st.lists(
    st.builds(Row, st.builds(Place, names, names, names, names, names, names), names, names, names, names, accounts()),
    max_size=8,
)


@given(rows=rows, by=st.lists(st.sampled_from(By), max_size=3, unique=True))
def test_sums_of_sums_are_the_sum(rows: list[Row], by: list[By]) -> None:
    parts = roll_up(rows, by)
    assert total(parts.values()) == total(row.account for row in rows)
    assert roll_up(list(reversed(rows)), by) == parts
    assert list(parts) == sorted(parts)
    if rows:
        assert roll_up(rows) == {(): total(row.account for row in rows)}
    else:
        assert parts == {}


@given(rows=rows)
def test_each_level_is_the_sum_of_the_one_below(rows: list[Row]) -> None:
    for upper, lower in ((By.ENTERPRISE, By.SITE), (By.SITE, By.AREA), (By.SCHEME, By.PROJECT)):
        below = roll_up(rows, [lower])
        for key, sums in roll_up(rows, [upper]).items():
            assert sums == total(part for each, part in below.items() if each[: len(key)] == key)


def test_two_enterprises_may_name_their_sites_alike() -> None:
    one = account({Category.PRODUCING: 1})
    found = roll_up(
        [Row(Place("s", e, "main", "hall", "p", "l" + e), "", "", "", "", one) for e in ("acme", "beta")], [By.AREA]
    )
    assert list(found) == [("acme", "main", "hall"), ("beta", "main", "hall")]


def test_a_window_knows_its_day_and_shift() -> None:
    place = Place("rita", "acme", "main", "hall 1", "p1", "filling")
    window = Window(0, HOUR, CalendarKind.SCHEDULED, "Dumpling", "4711", "2026-11-21/Night", TimeAccount())
    row = row_of(place, window)
    assert roll_up([row], [By.DAY, By.SHIFT, By.PRODUCT, By.ORDER]) == {
        ("2026-11-21", "Night", "Dumpling", "4711"): TimeAccount()
    }
    assert row_of(place, Window(0, 1, CalendarKind.NOT_SCHEDULED, "", "", "", TimeAccount())).day == ""


def test_a_ratio_is_made_of_the_sum_and_never_averaged() -> None:
    """Ten hours at 90 % and one at 10 %: 83 %, not 50 %."""
    big = account({Category.PRODUCING: 9 * HOUR, Category.FAILURE: HOUR})
    small = account({Category.PRODUCING: HOUR // 10, Category.FAILURE: HOUR - HOUR // 10})
    place = Place("", "acme", "", "", "", "x")
    [sums] = roll_up([Row(place, "", "", "", "", a) for a in (big, small)], [By.ENTERPRISE]).values()
    assert ratios.availability(sums) == Fraction(91, 110)


# A mixer of 2 s, an oven of 5 s for bread and 3 s for rolls, a packer of 4 s.
CYCLES = {
    "mixer": {"bread": 2 * SECOND_NS, "roll": 2 * SECOND_NS},
    "oven": {"bread": 5 * SECOND_NS, "roll": 3 * SECOND_NS},
    "packer": {"bread": 4 * SECOND_NS, "roll": 4 * SECOND_NS},
}
LINE = account({Category.PRODUCING: 7 * HOUR, Category.FAILURE: HOUR, Category.NO_ORDER: HOUR})
OVEN = account(
    {Category.PRODUCING: 6 * HOUR, Category.FAILURE: HOUR, Category.RESTRAINT: 2 * HOUR},
    total_count=4000,
    good_count=4000,
    standard_total_ns=4000 * 5 * SECOND_NS,
    standard_good_ns=4000 * 5 * SECOND_NS,
)


def test_line_oee_by_the_bottleneck() -> None:
    found = line_oee(LINE, {"bread": 3000, "roll": 1800}, CYCLES, {"oven": OVEN})
    assert found.constraints == {
        "bread": Constraint("oven", 5 * SECOND_NS), "roll": Constraint("packer", 4 * SECOND_NS),
    }  # fmt: skip
    assert found.oee == Fraction(3000 * 5 + 1800 * 4, 9 * 3600)
    assert line_oee(LINE, {"bread": 3000, "roll": 1800}, CYCLES, {}, TPM).oee == Fraction(22_200, 8 * 3600)
    assert found.undefined_because is None


def test_blocked_and_starved_are_not_charged_to_the_constraint() -> None:
    assert ratios.oee(OVEN) == Fraction(20_000, 9 * 3600)
    assert machine_oee(OVEN) == Fraction(20_000, 7 * 3600)
    assert line_oee(LINE, {}, CYCLES, {"oven": OVEN, "mixer": TimeAccount()}).machines == {
        "mixer": None,
        "oven": machine_oee(OVEN),
    }


@pytest.mark.parametrize(
    ("line", "good_out", "because"),
    [
        (LINE, {"bread": 1, "cake": 1}, Undefined.NO_IDEAL_CYCLE),
        (TimeAccount(), {"bread": 1}, Undefined.NO_PLANNED_TIME),
    ],
)
def test_line_oee_is_undefined_rather_than_zero(
    line: TimeAccount, good_out: dict[str, int], because: Undefined
) -> None:
    found = line_oee(line, good_out, CYCLES, {})
    assert (found.oee, found.undefined_because) == (None, because)


def test_a_machine_without_a_cycle_may_be_the_bottleneck() -> None:
    assert bottlenecks(CYCLES | {"cutter": {"roll": None}}).keys() == {"bread"}
    assert line_oee(LINE, {"roll": 0, "bread": 9}, CYCLES | {"cutter": {"roll": None}}, {}).oee is not None


def test_fall_off() -> None:
    first = account(total_count=1000, good_count=950, reject_count=50)
    second = account(total_count=950, good_count=920, reject_count=30, rework_count=10)
    assert fall_off_ratio(first, [first, second]) == Fraction(70, 1000)
    assert fall_off_ratio(TimeAccount(), []) is None
