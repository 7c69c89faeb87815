"""Figures: known answers by hand, identities that hold exactly, and undefined that is never 0."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given

from protocols.measurement import ratios
from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import (
    ISO,
    OEE_INDUSTRY_STANDARD,
    PRESETS,
    SMRP,
    TPM,
    Charge,
    Definition,
    Mtbf,
    Rework,
    TeepCalendar,
)
from protocols.measurement.ratios import FIGURES, Undefined, availability_bounds, oee_bounds, takt_ms
from tests.protocols.measurement.accounts import SECOND_NS, account, accounts, definitions

MIN = 60_000
# A day: 8 h outside, 1 h of breaks, 15 h planned of which 1 h was not seen. 600 pieces at 1 min, 540 good, 20 of the
# 60 rejects went through again.
DAY = account(
    {
        Category.NOT_SCHEDULED: 480 * MIN,
        Category.PLANNED_DOWN: 60 * MIN,
        Category.UNKNOWN: 60 * MIN,
        Category.PRODUCING: 660 * MIN,
        Category.SETUP: 40 * MIN,
        Category.FAILURE: 50 * MIN,
        Category.MINOR_STOP: 20 * MIN,
        Category.RESTRAINT: 10 * MIN,
        Category.HELD: 15 * MIN,
        Category.UNASSIGNED: 15 * MIN,
        Category.NO_ORDER: 30 * MIN,
    },
    total_count=600,
    good_count=540,
    reject_count=60,
    rework_count=20,
    standard_total_ns=600 * 60 * SECOND_NS,
    standard_good_ns=540 * 60 * SECOND_NS,
    failure_count=5,
)


@pytest.mark.parametrize(
    ("definition", "pbt_min", "apt_min"),
    [(ISO, 840, 660), (TPM, 810, 680), (OEE_INDUSTRY_STANDARD, 870, 680), (SMRP, 870, 680)],
    ids=["iso", "tpm", "oee-is", "smrp"],
)
def test_one_day_under_four_definitions(definition: Definition, pbt_min: int, apt_min: int) -> None:
    assert ratios.availability(DAY, definition) == Fraction(apt_min, pbt_min)
    assert ratios.effectiveness(DAY, definition) == Fraction(600, apt_min)
    assert ratios.quality(DAY, definition) == Fraction(9, 10)
    assert ratios.oee(DAY, definition) == Fraction(540, pbt_min)
    assert ratios.teep(DAY, definition) == Fraction(540, 24 * 60 - 60)
    assert ratios.ooe(DAY, definition) == Fraction(540, 900)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nee", Fraction(700, 840) * Fraction(600, 660) * Fraction(9, 10)),
        ("utilization_efficiency", Fraction(660, 810)),
        ("allocation_efficiency", Fraction(810, 840)),
        ("allocation_ratio", Fraction(810, 1380)),
        ("production_process_ratio", Fraction(660, 1380)),
        ("setup_ratio", Fraction(40, 700)),
        ("technical_efficiency", Fraction(660, 770)),
        ("scrap_ratio", Fraction(40, 600)),
        ("rework_ratio", Fraction(20, 600)),
        ("first_pass_yield", Fraction(9, 10)),
        ("throughput_rate", Fraction(600, 23)),
        ("throughput_per_hour", Fraction(600, 14)),
        ("good_per_hour", Fraction(540, 14)),
        ("mttf", Fraction(140 * MIN)),
        ("mttr", Fraction(10 * MIN)),
        ("mtbf", Fraction(140 * MIN)),
        ("coverage", Fraction(840, 900)),
    ],
)
def test_iso_by_hand(name: str, value: Fraction) -> None:
    assert FIGURES[name](DAY) == value


@pytest.mark.parametrize(
    ("switches", "name", "value"),
    [
        ({"mtbf": Mtbf.TTF_AND_TTR}, "mtbf", Fraction(150 * MIN)),
        ({"mtbf": Mtbf.PLANNED_TIME}, "mtbf", Fraction(180 * MIN)),
        ({"teep_calendar": TeepCalendar.SHIFTS}, "teep", Fraction(540, 900)),
        ({"rework": Rework.GOOD}, "quality", Fraction(560, 600)),
        ({"rework": Rework.GOOD}, "oee", Fraction(560, 840)),
        ({"rework": Rework.GOOD}, "first_pass_yield", Fraction(540, 600)),
        ({"setup": Charge.EXCLUDED}, "oee", Fraction(540, 800)),
        ({"setup": Charge.EXCLUDED}, "nee", Fraction(700, 840) * Fraction(600, 660) * Fraction(9, 10)),
        ({"setup": Charge.EXCLUDED}, "setup_ratio", Fraction(40, 700)),
        ({"restraint": Charge.EXCLUDED}, "oee", Fraction(540, 830)),
        ({"restraint": Charge.EXCLUDED}, "technical_efficiency", Fraction(660, 760)),
        ({"no_order": Charge.EXCLUDED}, "allocation_efficiency", Fraction(1)),
        ({"planned_down": Charge.AVAILABILITY}, "availability", Fraction(660, 900)),
        ({"minor_stop_side": Charge.PERFORMANCE}, "effectiveness", Fraction(600, 680)),
    ],
)
def test_one_switch_by_hand(switches: dict[str, object], name: str, value: Fraction) -> None:
    assert FIGURES[name](DAY, replace(ISO, **switches)) == value


def test_bounds_and_takt_by_hand() -> None:
    assert availability_bounds(DAY) == (Fraction(660, 900), Fraction(720, 900))
    assert oee_bounds(DAY) == (Fraction(540, 900), Fraction(600, 900))
    assert takt_ms(DAY, 420) == 2 * MIN
    assert takt_ms(DAY, 0) is None and takt_ms(TimeAccount(), 5) is None


@given(sums=accounts(), definition=definitions)
def test_oee_is_the_product_of_its_factors(sums: TimeAccount, definition: Definition) -> None:
    a, e = ratios.availability(sums, definition), ratios.effectiveness(sums, definition)
    q, weighted = ratios.quality(sums, definition), ratios.weighted_quality(sums, definition)
    if a is not None and e is not None and q is not None:
        assert weighted == q  # one product
        assert ratios.oee(sums, definition) == a * e * q


@given(first=accounts(), second=accounts(), definition=definitions)
def test_of_several_products_oee_is_the_product_with_the_weighted_quality(
    first: TimeAccount, second: TimeAccount, definition: Definition
) -> None:
    both = first + second
    factors = [f(both, definition) for f in (ratios.availability, ratios.effectiveness, ratios.weighted_quality)]
    if None not in factors and definition.rework is Rework.BAD:
        a, e, q = factors
        assert a is not None and e is not None and q is not None
        assert ratios.oee(both, definition) == a * e * q


@given(sums=accounts(), definition=definitions)
def test_identities_of_the_standard(sums: TimeAccount, definition: Definition) -> None:
    def value(name: str) -> Fraction | None:
        return FIGURES[name](sums, definition)

    availability, allocation, utilization = map(
        value, ("availability", "allocation_efficiency", "utilization_efficiency")
    )
    breaks_in = definition.planned_down is Charge.AVAILABILITY
    if availability is not None and allocation is not None and utilization is not None:
        assert availability == allocation * utilization
        assert breaks_in or definition.no_order is Charge.AVAILABILITY or allocation == 1
    oee, ooe, teep, nee = map(value, ("oee", "ooe", "teep", "nee"))
    if oee is not None and ooe is not None and teep is not None:
        assert oee >= ooe >= teep
        if definition.teep_calendar is TeepCalendar.SHIFTS:
            assert ooe == teep
    if nee is not None and oee is not None and definition.setup is Charge.AVAILABILITY:
        assert nee >= oee
    scrap, rework, quality, first = map(value, ("scrap_ratio", "rework_ratio", "quality", "first_pass_yield"))
    if quality is not None and scrap is not None and rework is not None and first is not None:
        assert first + scrap + rework == 1  # PQ = GQ + SQ + RQ
        assert quality == (first + rework if definition.rework is Rework.GOOD else first)
    mttf, mttr = value("mttf"), value("mttr")
    if mttf is not None and mttr is not None and definition.mtbf is Mtbf.TTF_AND_TTR:
        assert value("mtbf") == mttf + mttr


@given(sums=accounts(), definition=definitions)
def test_the_figure_lies_in_its_bounds(sums: TimeAccount, definition: Definition) -> None:
    availability, bounds = ratios.availability(sums, definition), availability_bounds(sums, definition)
    if availability is not None:
        assert bounds is not None
        assert bounds[0] <= availability <= bounds[1] <= 1
    oee, bounds = ratios.oee(sums, definition), oee_bounds(sums, definition)
    if oee is not None and oee <= 1:
        assert bounds is not None
        assert bounds[0] <= oee <= bounds[1]


@pytest.mark.parametrize("definition", PRESETS.values(), ids=PRESETS)
def test_nothing_observed_is_undefined_and_never_zero(definition: Definition) -> None:
    for figure in FIGURES.values():
        assert figure(TimeAccount(), definition) is None, figure.name
        assert figure.undefined_because(TimeAccount(), definition) in Undefined


@given(sums=accounts(), definition=definitions)
def test_a_figure_has_a_value_or_a_reason(sums: TimeAccount, definition: Definition) -> None:
    for figure in FIGURES.values():
        assert (figure(sums, definition) is None) is (figure.undefined_because(sums, definition) is not None)


@given(sums=accounts(ideal=False).filter(lambda a: a.total_count > 0), definition=definitions)
def test_without_an_ideal_cycle_what_needs_one_is_undefined(sums: TimeAccount, definition: Definition) -> None:
    for name in ("oee", "effectiveness", "weighted_quality", "nee", "ooe", "teep"):
        assert FIGURES[name].undefined_because(sums, definition) is Undefined.NO_IDEAL_CYCLE
    assert ratios.quality(sums, definition) is not None
    assert oee_bounds(sums, definition) is None


def test_reasons() -> None:
    stopped = account({Category.FAILURE: 1000})
    assert ratios.availability(stopped) == 0
    assert ratios.effectiveness.undefined_because(stopped) is Undefined.NO_PRODUCTION
    assert ratios.quality.undefined_because(stopped) is Undefined.NO_PIECES
    assert ratios.mtbf.undefined_because(stopped) is Undefined.NO_FAILURE
    assert ratios.setup_ratio.undefined_because(stopped) is Undefined.NO_BUSY_TIME
    unseen = account({Category.UNKNOWN: 1000})
    assert ratios.oee.undefined_because(unseen) is Undefined.NO_PLANNED_TIME
    assert ratios.coverage(unseen) == 0
    assert availability_bounds(unseen) == (0, 1)


def test_faster_than_ideal_is_shown_as_it_is() -> None:
    fast = account(
        {Category.PRODUCING: 1000},
        total_count=2,
        good_count=2,
        standard_total_ns=2 * SECOND_NS,
        standard_good_ns=2 * SECOND_NS,
    )
    assert ratios.effectiveness(fast) == ratios.oee(fast) == 2


@given(sums=accounts(), definition=definitions)
def test_oee_by_utilization_is_teep(sums: TimeAccount, definition: Definition) -> None:
    """Multiplied out: what is used of the calendar times what was made of it."""
    oee, utilization, teep = (FIGURES[name](sums, definition) for name in ("oee", "utilization", "teep"))
    if oee is not None and utilization is not None:
        assert oee * utilization == teep
