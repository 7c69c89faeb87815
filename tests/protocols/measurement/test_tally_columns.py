"""Windows by columns add up to what they add up to one by one, to the last integer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from protocols.measurement.account import ACCOUNT_INTS, CATEGORIES, CalendarKind, TimeAccount, Window
from protocols.measurement.periods import tally
from protocols.measurement.plan import Period
from protocols.measurement.tally import Tally
from protocols.measurement.tally_columns import add_columns

MINUTE = 60_000
PERIOD = Period(1_772_323_200_000, 1_772_323_200_000 + 30 * 86_400_000)


def random_windows(seed: int, count: int = 300, largest: int = 10**6) -> list[Window]:
    """Shifts, products, time outside every shift, holes, unseen time and estimates, in any order and length."""
    chance = random.Random(seed)
    out: list[Window] = []
    at, shift, product = PERIOD.from_ms - 3 * MINUTE, "", ""
    for _ in range(count):
        if chance.random() < 0.05:
            shift = chance.choice(["", "2026-03-01/A", "2026-03-01/B", "2026-03-02/A"])
        if chance.random() < 0.05:
            product = chance.choice(["", "Cola", "Tea"])
        if chance.random() < 0.03:
            at += chance.randrange(1, 200) * MINUTE  # a hole, of any length
        length = chance.choice([MINUTE, 1, 7 * MINUTE])
        category = [0] * CATEGORIES
        unknown = chance.choice([0, 0, 0, length // 2])
        category[0], category[1] = unknown, length - unknown
        ints = [chance.randrange(-largest, largest) for _ in range(ACCOUNT_INTS - CATEGORIES)]
        ints[6] = chance.choice([0, 0, abs(ints[6])])  # estimated
        out.append(
            Window(at, at + length, CalendarKind.SCHEDULED, product, "", shift, TimeAccount.from_ints(category + ints))
        )
        at += length
    return out


def by_columns(windows: Sequence[Window], parts: int, kind: Any) -> Tally:
    """The tally of the windows that start in the period, added in so many parts."""
    found = Tally("filling", PERIOD)
    texts: list[str] = sorted({w.product for w in windows} | {w.shift for w in windows})
    inside = [w for w in windows if w.start_ms in PERIOD]
    for part in np.array_split(np.arange(len(inside)), parts):
        some = [inside[i] for i in part]
        if some:
            columns = [[w.start_ms, w.end_ms, texts.index(w.product), texts.index(w.shift)] for w in some]
            ints = np.array([w.account.as_ints() for w in some], kind).T
            add_columns(found, *np.array(columns, np.int64).T, texts.__getitem__, ints)
    return found


def content(of: Tally) -> object:
    of.flush()
    cells = {key: (sums.ints, sums.estimated_good, sums.first_ms) for key, sums in of.cells.items()}
    return cells, of.holes(), of.unknown_stretches(), of.recorded_ms, of.unknown_ms, of.unit


@pytest.mark.parametrize("seed", range(12))
def test_columns_add_up_to_the_same(seed: int) -> None:
    windows = random_windows(seed)
    expected = content(tally("filling", PERIOD, windows))
    for parts in (1, 7, 40):
        assert content(by_columns(windows, parts, np.int64)) == expected


def test_pythons_integers_add_up_where_64_bits_do_not_hold_the_sum() -> None:
    windows = random_windows(3, largest=2**62)
    assert content(by_columns(windows, 3, object)) == content(tally("filling", PERIOD, windows))
    assert any(
        abs(each) > 2**63
        for key, (ints, _, _) in content(tally("filling", PERIOD, windows))[0].items()
        for each in ints
    )  # type: ignore[index]
