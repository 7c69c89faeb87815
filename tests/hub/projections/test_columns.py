"""Windows as columns: read from the tables, added up and cut into days as the windows one by one are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hub.projections import columns as module
from hub.projections.columns import LineColumns, summable
from hub.projections.index import Index
from hub.report import wording
from hub.report.export import day_sums
from protocols.errors import Malformed
from protocols.measurement.account import TimeAccount, Window, total
from protocols.measurement.outcome import outcome, outcome_of
from protocols.measurement.periods import period_sums_of
from protocols.measurement.plan import Period, Plan
from tests.hub.web.plant import make_plant
from tests.protocols.measurement.test_tally_columns import content, random_windows
from tests.reference.outcome_windows import plan, windows

MINUTE = 60_000


def by_columns(the_plan: Plan, line: list[Window]) -> object:
    one = LineColumns.of("filling", line)
    sides = (period_sums_of(the_plan, each, [one.tally(each)]) for each in (the_plan.baseline, the_plan.reporting))
    return outcome_of(the_plan, *sides)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_outcome_is_the_same(seed: int) -> None:
    the_plan = plan(3)
    line = windows(the_plan, seed=seed, new_product="Siu Mai 8")
    del line[5], line[40:44], line[-3:]
    assert by_columns(the_plan, line) == outcome(the_plan, {"filling": line})


def test_an_overlap_is_refused_in_the_same_words() -> None:
    the_plan = plan(3)
    line = windows(the_plan)
    line.insert(8, replace(line[7], start_ms=line[7].start_ms + 1))
    with pytest.raises(Malformed) as one:
        outcome(the_plan, {"filling": line})
    with pytest.raises(Malformed) as other:
        by_columns(the_plan, line)
    assert str(one.value) == str(other.value)


def test_sums_over_64_bits_are_exact() -> None:
    line = random_windows(5, largest=2**62)
    period = Period(line[0].start_ms, line[-1].end_ms)
    from protocols.measurement.periods import tally

    assert content(LineColumns.of("filling", line).tally(period)) == content(tally("filling", period, line))
    assert summable(np.array([[2**61, 1]])).dtype == object and summable(np.array([[2**60, 1]])).dtype == np.int64
    assert len(summable(np.empty((27, 0), np.int64))) == 27


def test_a_window_is_found_and_restated() -> None:
    line = random_windows(2)
    columns = LineColumns.of("filling", line)
    assert [columns.window(i) for i in range(len(columns))] == line
    for place, window in enumerate(line):
        assert columns.place(window.start_ms) == columns.place(window.end_ms - 1) == place
    holes = [a.end_ms for a, b in pairwise(line) if a.end_ms < b.start_ms]
    assert holes and all(columns.place(each) is None for each in (*holes, line[0].start_ms - 1, line[-1].end_ms))
    account = TimeAccount.from_ints(range(27))
    columns.restate(4, account)
    assert columns.window(4) == replace(line[4], account=account) and columns.window(5) == line[5]
    mask = np.array([window.product == "Cola" for window in line])
    kept = columns.where(mask)
    assert [kept.window(i).start_ms for i in range(len(kept))] == [w.start_ms for w in line if w.product == "Cola"]


@pytest.mark.parametrize("zone", ["Asia/Hong_Kong", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia", "UTC"])
def test_days_are_those_on_which_windows_begin(zone: str) -> None:
    """Also where a day begins within an hour of UTC, clocks go back over midnight, or a day is left out."""
    there = ZoneInfo(zone)
    changes = (1_325_203_200_000, 1_320_550_200_000, 1_772_323_200_000)  # Apia lost 2011-12-30; St John's went back
    line = [
        replace(window, start_ms=at + i * 7 * MINUTE, end_ms=at + (i + 1) * 7 * MINUTE)
        for at, seed in zip(sorted(c - 86_400_000 for c in changes), (1, 2, 3), strict=True)
        for i, window in enumerate(random_windows(seed, 700))
    ]
    half = line[1_000].start_ms
    the_plan = replace(
        plan(3), baseline=Period(line[0].start_ms, half), commissioning=Period(half, half + MINUTE),
        reporting=Period(half + MINUTE, line[-1].end_ms),
    )  # fmt: skip
    groups: dict[tuple[str, ...], list[TimeAccount]] = defaultdict(list)
    for window in line:
        for name, period in (("baseline", the_plan.baseline), ("reporting", the_plan.reporting)):
            if window.start_ms in period:
                groups["filling", wording.day(window.start_ms, there), name, window.product].append(window.account)
    expected = {key: total(accounts) for key, accounts in groups.items()}
    assert day_sums(LineColumns.of("filling", line), the_plan, there) == expected


def test_the_tables_are_read_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    made = make_plant(tmp_path, history=True)
    index = Index(made.services.engine)
    everything = index.windows(["filling"])
    for span in ((None, None), (everything[3].window.start_ms + 1, everything[-4].window.start_ms)):
        one_by_one = index.windows(["filling"], *span)
        found = index.columns(["filling", "nobody"], *span)
        columns = found["filling"]
        assert [columns.window(i) for i in range(len(columns))] == [each.window for each in one_by_one]
        assert columns.leaf_index.tolist() == [each.leaf_index for each in one_by_one]
        assert columns.version.tolist() == [each.version for each in one_by_one]
        assert columns.configurations == [one_by_one[0].configuration_hash]
        assert len(found["nobody"]) == 0 and found["nobody"].configurations == []
    made.services.engine.dispose()
