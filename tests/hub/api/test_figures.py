"""Figures say what they are made of, and why they are undefined."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from hub.api.figures import Standing, Undefined, every_figure, figures, share, standing
from hub.web.words import TABLES
from protocols.measurement import ratios
from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import PRESETS, SMRP, Definition
from protocols.measurement.excess import Excess


def account(**changes: object) -> TimeAccount:
    category = [0] * len(Category)
    category[Category.PRODUCING], category[Category.FAILURE], category[Category.UNKNOWN] = 3_000_000, 500_000, 100_000
    base = {
        "category_ms": tuple(category), "planned_ms": 3_600_000, "total_count": 1900, "good_count": 1880,
        "reject_count": 20, "standard_total_ns": 1900 * 1_500_000_000, "standard_good_ns": 1880 * 1_500_000_000,
    }  # fmt: skip
    return TimeAccount(**(base | changes))  # type: ignore[arg-type]


def test_each_share_is_the_exact_ratio() -> None:
    found, sums = figures(account()), account()
    for name in ("oee", "availability", "effectiveness", "quality", "coverage"):
        exact, shown = getattr(ratios, name)(sums), getattr(found, name)
        assert Fraction(shown.numerator, shown.denominator) == exact
        assert shown.percent == pytest.approx(float(exact * 100), abs=0.05) and shown.undefined_because is None
    assert found.standing is Standing.FIRM


def test_a_percentage_is_rounded_once() -> None:
    """106.1496 % would read 106.2 if it were rounded to 106.15 on its way to the page."""
    assert share(Fraction(1_061_496, 1_000_000), Undefined.NO_TIME).percent == 106.1
    assert share(Fraction(1235, 10_000), Undefined.NO_TIME).percent == 12.4


def test_losses_add_up_to_the_whole() -> None:
    sums = account()
    lost = figures(sums).losses
    assert lost.effectiveness_ms is not None and lost.quality_ms is not None
    good_ms = sums.standard_good_ns // ratios.NS_PER_MS
    assert lost.availability_ms + lost.effectiveness_ms + lost.quality_ms + good_ms == sums.known_planned_ms
    assert sum(lost.by_category_ms.values()) == lost.availability_ms


@pytest.mark.parametrize(
    ("sums", "name", "because"),
    [
        (TimeAccount(), "oee", Undefined.NO_PLANNED_TIME),
        (TimeAccount(), "quality", Undefined.NO_PIECES),
        (TimeAccount(), "effectiveness", Undefined.NO_PRODUCTION),
        (account(without_ideal_count=1), "oee", Undefined.NO_IDEAL_CYCLE),
        (account(without_ideal_count=1), "effectiveness", Undefined.NO_IDEAL_CYCLE),
        (TimeAccount(), "throughput_per_hour", Undefined.NO_PLANNED_TIME),
    ],
)
def test_undefined_is_null_with_its_reason_and_never_zero(sums: TimeAccount, name: str, because: Undefined) -> None:
    shown = getattr(figures(sums), name)
    assert (shown.numerator, shown.denominator, shown.undefined_because) == (None, None, because)
    assert getattr(shown, "percent", getattr(shown, "value", None)) is None


@pytest.mark.parametrize(
    ("coverage", "word"),
    [(None, "none"), (Fraction(1), "firm"), (Fraction(95, 100), "firm"), (Fraction(949, 1000), "indicative"),
     (Fraction(80, 100), "indicative"), (Fraction(799, 1000), "withheld")],
)  # fmt: skip
def test_standing(coverage: Fraction | None, word: str) -> None:
    assert standing(coverage).value == word


def test_every_reason_has_words_for_the_pages() -> None:
    assert {because.value for because in Undefined} <= set(TABLES["en"])


def test_figures_are_under_the_definition_that_is_given() -> None:
    sums = account(category_ms=(0, 3_000_000, 0, 400_000, 100_000, 0, 0, 0, 100_000, 50_000, 0))
    for definition in PRESETS.values():
        found = figures(sums, definition)
        exact = ratios.availability(sums, definition)
        assert exact is not None
        assert (found.availability.numerator, found.availability.denominator) == exact.as_integer_ratio()
        lost = found.losses
        assert lost.effectiveness_ms is not None and lost.quality_ms is not None
    assert figures(sums, SMRP).losses.by_category_ms == {"FAILURE": 400_000, "PLANNED_DOWN": 50_000}


@pytest.mark.parametrize("definition", PRESETS.values(), ids=PRESETS)
def test_every_figure_is_told_with_its_formula(definition: Definition) -> None:
    told = {figure.name: figure for figure in every_figure(account(), definition)}
    assert list(told) == list(ratios.FIGURES)
    for name, figure in told.items():
        exact = ratios.FIGURES[name](account(), definition)
        assert figure.formula and figure.source
        if exact is None:
            assert figure.undefined_because is not None and figure.numerator is None
        else:
            assert (figure.numerator, figure.denominator) == exact.as_integer_ratio()


def test_over_100_percent_is_told_with_its_cause() -> None:
    """Unknown time that could have held the pieces is no sign of a wrong ideal cycle."""
    fast = account(total_count=2060, standard_total_ns=2060 * 1_500_000_000)
    assert figures(account()).excess is None and figures(fast).excess is Excess.UNOBSERVED
    assert figures(replace(fast, category_ms=(0, *fast.category_ms[1:]))).excess is Excess.IDEAL_CYCLE
    assert {why.value for why in Excess} <= set(TABLES["en"])
