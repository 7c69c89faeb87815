"""Shares over windows: a few rows counted one by one give what many give at once."""

from __future__ import annotations

import random

import numpy as np
import pytest

from protocols.measurement.account import CalendarKind, Category
from protocols.measurement.calendar import Segment
from protocols.measurement.kernels.scan import BREAK, ESTIMATED
from protocols.measurement.timeline import Stop
from protocols.measurement.windows import Seen, accounts, cuts
from protocols.plc.roles import SignalRole

COUNTERS = (
    {SignalRole.TOTAL}, {SignalRole.GOOD, SignalRole.REJECT}, {SignalRole.TOTAL, SignalRole.REJECT, SignalRole.REWORK},
)  # fmt: skip


@pytest.mark.parametrize("counters", COUNTERS)
@pytest.mark.parametrize("startup_ms", [0, 700])
def test_few_rows_are_counted_as_many_are(counters: set[SignalRole], startup_ms: int) -> None:
    choice = random.Random(5)
    for _ in range(150):
        end = choice.randrange(1, 4_000)
        kinds = (CalendarKind.SCHEDULED, CalendarKind.PLANNED_DOWN)
        segments = [Segment(0, end, kinds[0], "A"), Segment(end, end + 1_500, choice.choice(kinds), "B")]
        changes = sorted((choice.randrange(end), choice.choice("xy")) for _ in range(choice.randrange(3)))
        windows = cuts(segments, 1_000, "x", changes)
        roles = [int(role) for role in counters]
        rows = [
            [choice.randrange(-5, end + 1_600), choice.choice(roles), choice.randrange(9), choice.choice((0, 0, flags))]
            for flags in (ESTIMATED, BREAK, ESTIMATED | BREAK, 0)
            for _ in range(choice.randrange(8))
        ]
        stops = [Stop(at, at + 400, Category.FAILURE, 0, at % 2 == 0, at % 2 == 1) for at in range(0, end, 700)]
        moves = [(at, at % 2) for at in range(-300, end + 2_000, 333)]
        stretches = [(0, end, Category.PRODUCING), (end, end + 1_500, Category.SETUP)]
        starts = sorted(choice.randrange(end) for _ in range(choice.randrange(4)))

        few = Seen(stretches, rows, moves, stops, starts, startup_ms)
        many = Seen(stretches, np.array(rows, np.int64).reshape(-1, 4), moves, stops, starts, startup_ms)
        found = accounts(windows, few, counters, {"x": 10})
        assert found == accounts(windows, many, counters, {"x": 10})
        assert sum(w.account.transition_count for w in found) == sum(0 <= at < end + 1_500 for at, _ in moves)
