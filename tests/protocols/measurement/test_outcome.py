"""The outcome against naive loops, its edges, its verdict words and its form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from fractions import Fraction

import pytest

from protocols.errors import Malformed
from protocols.evidence import canonical
from protocols.measurement.account import CalendarKind, TimeAccount, Window, total
from protocols.measurement.finding import Finding, Side, judge
from protocols.measurement.losses import loss_parts
from protocols.measurement.outcome import Outcome, outcome
from protocols.measurement.plan import Period, Plan
from tests.reference import outcome_oracle
from tests.reference.outcome_windows import CYCLES_NS, DAY_MS, HOUR_MS, plan, windows

FULL = Fraction(99, 100)


@pytest.fixture(scope="module")
def the_plan() -> Plan:
    return plan()


@pytest.fixture(scope="module")
def line(the_plan: Plan) -> list[Window]:
    return windows(the_plan, new_product="Gyoza 16")


@pytest.fixture(scope="module")
def found(the_plan: Plan, line: list[Window]) -> Outcome:
    return outcome(the_plan, {"filling": line})


def test_rates_and_sums_equal_the_naive_ones(the_plan: Plan, line: list[Window], found: Outcome) -> None:
    for sums, exact in ((found.baseline, found.primary.baseline), (found.reporting, found.primary.reporting)):
        assert list(sums.account.as_ints()) == outcome_oracle.sums(sums.period, line)
        assert exact == outcome_oracle.theta(the_plan, sums.period, line)
    before, after = (outcome_oracle.theta(the_plan, p, line) for p in (the_plan.baseline, the_plan.reporting))
    change = after / before - 1
    assert found.primary.change_ppm is not None
    assert abs(found.primary.change_ppm - change * 10**6) <= Fraction(1, 2)


def test_every_division_of_a_period_adds_up_to_it(found: Outcome) -> None:
    for sums in (found.baseline, found.reporting):
        for parts in (sums.by_line, sums.by_product, sums.by_shift, sums.by_week):
            assert total(part[1] for part in parts) == sums.account
        frozen = [sum(unit[2].standard_good_ns for unit in parts) for parts in (sums.units, sums.by_week, sums.by_line)]
        assert frozen == [sums.frozen.standard_good_ns] * 3
        assert sums.shifts == 84
        assert sums.shifts_a_day == 2


def test_interval_equals_the_naive_bootstrap(found: Outcome) -> None:
    """A few resamples, shift by shift, through the public figures of the units."""
    from protocols.measurement.resample import Ratio, intervals

    columns = [
        [[f.standard_good_ns for _, _, f in sums.units], [f.known_ms for _, _, f in sums.units]]
        for sums in (found.baseline, found.reporting)
    ]
    seed, block = found.plan.hash, 4
    changes = sorted(
        Fraction(
            outcome_oracle.resample(columns[1][0], block, i, seed, "x/after")
            * outcome_oracle.resample(columns[0][1], block, i, seed, "x/before"),
            outcome_oracle.resample(columns[1][1], block, i, seed, "x/after")
            * outcome_oracle.resample(columns[0][0], block, i, seed, "x/before"),
        )
        - 1
        for i in range(40)
    )
    point = Fraction(sum(columns[1][0]) * sum(columns[0][1]), sum(columns[1][1]) * sum(columns[0][0])) - 1
    stretch = Fraction(1000 + 1750 // (84 // 4 - 1), 1000)
    ((low, high),) = intervals(
        columns[0],
        columns[1],
        [Ratio(0, 1, True)],
        block=block,
        resamples=40,
        confidence_permille=950,
        seed=seed,
        label="x",
    )
    assert abs(low - (point - (point - changes[0]) * stretch) * 10**6) <= 3
    assert abs(high - (point + (changes[-1] - point) * stretch) * 10**6) <= 3


def test_the_same_data_give_the_same_outcome_in_any_order(the_plan: Plan, line: list[Window], found: Outcome) -> None:
    again = outcome(the_plan, {"other": line[:5], "filling": list(reversed(line))})
    assert json.dumps(again.to_data()) == json.dumps(found.to_data())


def test_golden() -> None:
    """Fixed for ever: a change here changes every report that was ever signed."""
    the_plan = plan(2, min_shifts=20)
    data = outcome(the_plan, {"filling": golden_windows(the_plan)}).to_data()
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert the_plan.hash.hex() == GOLDEN_PLAN
    assert data["figures"][0]["change_ppm"] == GOLDEN_CHANGE
    assert (data["figures"][0]["low_ppm"], data["figures"][0]["high_ppm"]) == GOLDEN_INTERVAL
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN_DATA


def golden_windows(the_plan: Plan) -> list[Window]:
    """Hours of a line by arithmetic alone: no random numbers of any library."""
    out = []
    for i, at in enumerate(range(the_plan.baseline.from_ms, the_plan.reporting.to_ms, HOUR_MS)):
        day, hour = divmod(i, 24)
        if not 6 <= hour < 22:
            account = TimeAccount((0,) * 10 + (HOUR_MS,))
            out.append(Window(at, at + HOUR_MS, CalendarKind.NOT_SCHEDULED, "", "", "", account))
            continue
        wobble = (i * 7919 + day * 104_729) % 400_000
        stopped = 900_000 + wobble
        product = ("Dumpling 12", "Wonton 20")[day % 2]
        good = 4_000 + (wobble // 1_000) + (300 if at >= the_plan.reporting.from_ms else 0)
        cycle = CYCLES_NS[product]
        category = (0, HOUR_MS - stopped, stopped // 2, stopped - stopped // 2, 0, 0, 0, 0, 0, 0, 0)
        account = TimeAccount(category, HOUR_MS, good + 9, good, 9, 0, 0, 0, 0, cycle * (good + 9), cycle * good)
        shift = f"{day}/{'A' if hour < 14 else 'B'}"
        out.append(Window(at, at + HOUR_MS, CalendarKind.SCHEDULED, product, "", shift, account))
    return out


GOLDEN_PLAN = "65f645f8cd660c2e586f959f352483e6ccf5316c14733b3291bc86de4c3b09de"
GOLDEN_CHANGE = 70_264
GOLDEN_INTERVAL = (-23_063, 164_532)
GOLDEN_DATA = "dc14c1e0bf1721887794ab804651b7f9932cb662966da484486c68d45ea6bdb1"


def test_a_window_counts_to_the_period_in_which_it_starts(the_plan: Plan) -> None:
    edge = the_plan.baseline.to_ms

    def at(start: int, end: int, good: int) -> Window:
        account = TimeAccount((0, end - start) + (0,) * 9, end - start, good, good)
        return Window(start, end, CalendarKind.SCHEDULED, "Wonton 20", "", "d/A", account)

    line = [
        at(edge - 10, edge + 50, 1),
        at(edge + 50, edge + 90, 2),
        at(the_plan.reporting.from_ms, edge + 8 * DAY_MS, 4),
    ]
    found = outcome(the_plan, {"filling": line})
    assert found.baseline.account.good_count == 1
    assert found.reporting.account.good_count == 4


def test_new_products_stand_apart(the_plan: Plan, line: list[Window], found: Outcome) -> None:
    (apart,) = found.mix.apart
    assert apart.product == "Gyoza 16"
    made = [w.account for w in line if w.product == "Gyoza 16" and w.start_ms in the_plan.reporting]
    assert apart.reporting == total(made)
    assert found.reporting.frozen.known_ms == found.reporting.account.known_planned_ms - total(made).known_planned_ms


def test_mix_indices_by_hand(found: Outcome, the_plan: Plan) -> None:
    names = ("Dumpling 12", "Wonton 20")
    sides = [dict(sums.by_product) for sums in (found.baseline, found.reporting)]
    times = [[side[name].known_planned_ms for name in names] for side in sides]
    rates = [
        [Fraction(CYCLES_NS[name] * side[name].good_count, side[name].known_planned_ms) for name in names]
        for side in sides
    ]

    def weighted(weights: list[int], values: list[Fraction]) -> Fraction:
        return sum((w * v for w, v in zip(weights, values, strict=True)), Fraction())

    laspeyres = weighted(times[0], rates[1]) / weighted(times[0], rates[0])
    paasche = weighted(times[1], rates[1]) / weighted(times[1], rates[0])
    mix = found.mix
    assert mix.laspeyres_ppm is not None and abs(mix.laspeyres_ppm - (laspeyres - 1) * 10**6) <= Fraction(1, 2)
    assert mix.paasche_ppm is not None and abs(mix.paasche_ppm - (paasche - 1) * 10**6) <= Fraction(1, 2)
    assert mix.fisher_ppm is not None
    low, high = (Fraction(10**6 + end, 10**6) for end in mix.fisher_ppm)
    assert low * low <= laspeyres * paasche <= high * high
    assert mix.fisher_ppm[1] - mix.fisher_ppm[0] <= 1


def test_losses_add_up_to_the_observed_planned_time(found: Outcome) -> None:
    for sums in (found.baseline, found.reporting):
        assert sum(loss_parts(sums.account).values()) == sums.account.known_planned_ms


def test_holes_and_unknown_time_lower_coverage(the_plan: Plan, line: list[Window]) -> None:
    start = the_plan.reporting.from_ms + 3 * DAY_MS
    holed = [window for window in line if not start <= window.start_ms < start + 2 * DAY_MS]
    found = outcome(the_plan, {"filling": holed}).reporting
    assert found.missing_ms == 2 * DAY_MS
    seen = found.account
    assert found.missing_planned_ms == -(-2 * DAY_MS * seen.planned_ms // seen.length_ms)
    (hole,) = [gap for gap in found.gaps if gap.missing]
    assert (hole.line_id, hole.from_ms, hole.to_ms) == ("filling", start, start + 2 * DAY_MS)
    unknown = sum(gap.unknown_ms for gap in found.gaps if not gap.missing)
    assert found.gap_count == len(found.gaps)
    assert unknown == seen.unknown_ms


def test_no_windows_at_all(the_plan: Plan) -> None:
    found = outcome(the_plan, {})
    assert found.finding is Finding.INSUFFICIENT
    assert found.primary.change_ppm is None
    assert found.baseline.missing_ms == the_plan.baseline.length_ms
    json.dumps(found.to_data())


def test_overlapping_windows_are_refused(the_plan: Plan, line: list[Window]) -> None:
    doubled = replace(line[40], start_ms=line[40].start_ms + 1)
    with pytest.raises(Malformed, match="overlap"):
        outcome(the_plan, {"filling": [*line, doubled]})


def test_bounds_hold_the_change(found: Outcome) -> None:
    assert found.bounds_ppm is not None and found.primary.change_ppm is not None
    assert found.bounds_ppm[0] <= found.primary.change_ppm <= found.bounds_ppm[1]


def test_pieces_estimated_over_gaps_cannot_make_an_improvement(the_plan: Plan) -> None:
    """A link that is cut now and then after the upgrade: its pieces count, its time does not."""
    base = windows(the_plan, effect=0.0, unknown=0.0)
    cheated = []
    for i, window in enumerate(base):
        account = window.account
        if window.start_ms in the_plan.reporting and account.planned_ms and i % 21 == 0:
            blind = (account.length_ms,) + (0,) * 10
            account = replace(account, category_ms=blind, estimated_count=account.total_count)
        cheated.append(replace(window, account=account))
    found = outcome(replace(the_plan, minimum_effect_permille=0), {"filling": cheated})
    assert found.observed_change_ppm is not None and found.primary.change_ppm is not None
    assert found.primary.change_ppm - found.observed_change_ppm > 40_000
    assert found.finding is not Finding.IMPROVED


@pytest.mark.parametrize(
    ("effect", "finding"), [(0.15, Finding.IMPROVED), (0.0, Finding.NOT_SHOWN), (-0.2, Finding.WORSENED)]
)
def test_finding_on_synthetic_lines(effect: float, finding: Finding) -> None:
    the_plan = plan(title="three lines")
    assert outcome(the_plan, {"filling": windows(the_plan, effect=effect)}).finding is finding


OK = Side(84, FULL, Fraction(0))


@pytest.mark.parametrize(
    ("baseline", "reporting", "change", "observed", "finding", "codes"),
    [
        (OK, OK, (100_000, 50_000, 150_000), 100_000, "improved", ["interval-above-zero", "minimum-effect-reached"]),
        (OK, OK, (20_000, 10_000, 30_000), 20_000, "not shown", ["below-minimum-effect"]),
        (OK, OK, (100_000, 0, 150_000), 100_000, "not shown", ["interval-holds-zero"]),
        (OK, OK, (100_000, 1, 150_000), 10_000, "not shown", ["rests-on-estimates"]),
        (OK, OK, (-100_000, -150_000, 0), -100_000, "not shown", ["interval-holds-zero"]),
        (OK, OK, (-100_000, -150_000, -1), -100_000, "worsened", ["interval-below-zero"]),
        (OK, OK, (None, None, None), None, "insufficient data", ["undefined"]),
        (Side(79, FULL, Fraction(0)), OK, (1, 1, 1), 1, "insufficient data", ["too-few-shifts"]),
        (OK, Side(84, Fraction(899, 1000), Fraction(0)), (1, 1, 1), 1, "insufficient data",
         ["coverage-too-low", "coverage-differs"]),
        (Side(84, Fraction(949, 1000), Fraction(0)), Side(84, Fraction(1), Fraction(0)), (1, 1, 1), 1,
         "insufficient data", ["coverage-differs"]),
        (OK, Side(84, FULL, Fraction(201, 1000)), (1, 1, 1), 1, "insufficient data", ["too-many-new-products"]),
        (OK, Side(84, None, None), (1, 1, 1), 1, "insufficient data", ["nothing-planned"]),
    ],
)  # fmt: skip
def test_verdict_words(
    baseline: Side,
    reporting: Side,
    change: tuple[int | None, int | None, int | None],
    observed: int | None,
    finding: str,
    codes: list[str],
) -> None:
    word, reasons = judge(plan(), baseline, reporting, change, observed)
    assert word.value == finding
    assert [reason.code for reason in reasons] == codes
    assert all(reason.words.endswith(".") for reason in reasons)


def test_plan_and_data_are_plain(the_plan: Plan, found: Outcome) -> None:
    assert Plan.from_data(the_plan.to_data()) == the_plan
    assert canonical.decode(canonical.encode(the_plan.to_data()), 65_536) == the_plan.to_data()
    data = found.to_data()
    assert json.loads(json.dumps(data)) == data
    assert not _floats(data)
    assert {figure["definition_hash"] for figure in data["figures"]} == {the_plan.definition.hash.hex()}


def _floats(data: object) -> bool:
    if isinstance(data, dict):
        return any(map(_floats, data.values()))
    if isinstance(data, list):
        return any(map(_floats, data))
    return isinstance(data, float | bool)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"baseline": [5, 1]},
        {"baseline": [1, 10**14]},
        {"ideal_cycles_ns": []},
        {"ideal_cycles_ns": [["Wonton 20", 1.5]]},
        {"ideal_cycles_ns": [["Wonton 20", 800_000_000], ["Dumpling 12", 500_000_000]]},
        {"confidence_permille": 1000},
        {"confidence_permille": True},
        {"line_ids": ["a", "a"]},
        {"line_ids": 7},
        {"primary": "oee"},
        {"extra": 1},
        {"definition": {}},
        {"min_shifts": 0},
    ],
)
def test_a_plan_has_one_form(the_plan: Plan, change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        Plan.from_data(the_plan.to_data() | change)


def test_periods_must_follow_each_other(the_plan: Plan) -> None:
    with pytest.raises(Malformed, match="follow"):
        replace(the_plan, reporting=Period(the_plan.baseline.from_ms, the_plan.reporting.to_ms))
