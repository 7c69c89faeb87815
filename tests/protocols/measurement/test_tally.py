"""The tally that lets windows go gives the sums of the loop that keeps them all."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from protocols.errors import Malformed
from protocols.measurement.account import CalendarKind, TimeAccount, Window
from protocols.measurement.periods import period_sums, period_sums_of, tally
from protocols.measurement.plan import Period
from tests.reference import period_loop
from tests.reference.outcome_windows import DAY_MS, START_MS, plan

PERIOD = Period(START_MS, START_MS + 15 * DAY_MS)
PLAN = replace(plan(), baseline=PERIOD, line_ids=("filling", "packing"))


def line(seed: int) -> list[Window]:
    """Windows of minutes to hours, some outside the period, some holes, time outside every shift, new products."""
    chance = random.Random(seed)
    found: list[Window] = []
    at = START_MS - 7_000_000
    while at < PERIOD.to_ms + 7_000_000:
        at += chance.choice((0, 0, 0, 0, 90_000))
        length = chance.choice((60_000, 900_000, 3_600_000, 7_654_321))
        shift = chance.choice(("", "", "a/A", "b/B", "c/A"))
        product = chance.choice(("", "Dumpling 12", "Wonton 20", "new"))
        found.append(Window(at, at + length, CalendarKind.SCHEDULED, product, "", shift, account(length, chance)))
        at += length
    return found


def account(length: int, chance: random.Random) -> TimeAccount:
    times = [0] * 11
    for _ in range(3):
        times[chance.randrange(11)] += chance.randrange(length // 3)
    times[0] *= chance.random() < 0.3
    times[1] += length - sum(times)
    made = chance.randrange(500)
    good = made - chance.randrange(made + 1) // 5
    estimated = chance.randrange(made + 1) if chance.random() < 0.2 else 0
    return TimeAccount(tuple(times), length - times[10], made, good, made - good, estimated_count=estimated)


@pytest.mark.parametrize("seed", range(20))
def test_the_sums_are_those_of_the_loop(seed: int) -> None:
    windows = {"filling": line(seed), "packing": line(seed + 100)}
    assert period_sums(PLAN, PERIOD, windows) == period_loop.period_sums(PLAN, PERIOD, windows)


@pytest.mark.parametrize("seed", range(10))
def test_a_restated_window_counts_as_it_stands(seed: int) -> None:
    chance = random.Random(seed)
    windows = line(seed)
    found = tally("filling", PERIOD, windows)
    for _ in range(40):
        i = chance.randrange(len(windows))
        if windows[i].start_ms in PERIOD:
            changed = account(windows[i].length_ms, chance)
            found.restate(windows[i], changed)
            windows[i] = replace(windows[i], account=changed)
    one = replace(PLAN, line_ids=("filling",))
    assert period_sums_of(one, PERIOD, [found]) == period_loop.period_sums(one, PERIOD, {"filling": windows})


def test_overlapping_windows_are_refused() -> None:
    windows = line(1)
    with pytest.raises(Malformed, match="overlap"):
        tally("filling", PERIOD, [*windows, replace(windows[20], end_ms=windows[20].end_ms - 1)])
