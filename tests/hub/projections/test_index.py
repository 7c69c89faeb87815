"""The index against an independent sum over the same records, on SQLite and on PostgreSQL; rebuilt, it is the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub import database as db
from hub.projections import projector
from hub.projections.index import Group, Index
from hub.projections.projector import IndexBehindLog
from hub.projections.sums import sums
from protocols.evidence.bodies import Configurations, Gap, Heartbeat, Measurement, PlanStatement
from protocols.evidence.record import NO_PREVIOUS, SignedRecord
from protocols.measurement.account import Window, total
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.plan import Period, Plan
from protocols.measurement.rollup import By
from protocols.plc.roles import SignalRole
from tests.support.evidence import START_MS, WINDOW_MS, line_statement, record, signed
from tests.support.hub import LINES, HubInFolder, hub_in, measurements, table_rows
from tests.support.postgres import postgres_in

HOUR_MS = 3_600_000
CONFIGURATION = LineConfiguration(
    line_id="filling", name="Filling line 3", calendar=Calendar("Asia/Hong_Kong", ()),
    products=(Product(1, "Cola 330 ml", 500_000_000),), counters=(Counter(SignalRole.TOTAL, 65536),),
)  # fmt: skip
PLAN = Plan(
    project_id="P-7", scheme="manufacturing-plus", title="Upgrade", enterprise="Acme Foods", line_ids=LINES,
    baseline=Period(1, 2), commissioning=Period(2, 3), reporting=Period(3, 4),
    ideal_cycles_ns={"Cola 330 ml": 500_000_000, "蘋果汁": 420_000_000},
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def hub(request: pytest.FixtureRequest, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[HubInFolder]:
    """A hub whose log holds records of every kind; on both engines."""
    if request.param == "sqlite":
        with hub_in(tmp_path) as made:
            _fill(made)
            yield made
    else:
        with postgres_in(tmp_path, free_port()) as url, hub_in(tmp_path, url) as made:
            _fill(made)
            yield made


def _fill(hub: HubInFolder) -> None:
    chain = measurements(10)
    extra = [
        Configurations((CONFIGURATION.to_data(),)),
        Gap("filling", START_MS + 9_000_000, START_MS + 9_600_000, "PLC off"),
        Heartbeat(),
        # Half an hour that was stated before, and a quarter that was not.
        Measurement((line_statement("filling", START_MS + 120 * WINDOW_MS, 45),)),
    ]
    for body in extra:
        last = chain[-1]
        start = START_MS + 120 * WINDOW_MS
        chain.append(
            signed(
                record(
                    body, sequence=last.record.sequence + 1, previous=last.hash, start_ms=start,
                    end_ms=start + 45 * WINDOW_MS,
                )
            )
        )  # fmt: skip
    hub.take(*(made.raw for made in chain[:7]))
    hub.take(*(made.raw for made in chain[7:]))
    hub.root_signed(PlanStatement(PLAN.to_data()))
    assert hub.log.size == 1 + 14 + 1


def _naive(hub: HubInFolder, line_id: str) -> list[Window]:
    """Every window of the line in the log, the first statement of each instant only."""
    taken: list[Window] = []
    for raw in hub.log.entries(0, hub.log.size):
        body = SignedRecord(raw).record.body
        if isinstance(body, Measurement):
            for line in body.lines:
                for window in line.windows if line.line_id == line_id else ():
                    if all(w.end_ms <= window.start_ms or w.start_ms >= window.end_ms for w in taken):
                        taken.append(window)
    return sorted(taken, key=lambda window: window.start_ms)


def test_index_answers_as_the_log_says_and_rebuilds_to_the_same(hub: HubInFolder) -> None:
    index = Index(hub.engine)
    assert index.size() == hub.log.size

    for line_id in LINES:
        windows = _naive(hub, line_id)
        assert [row.window for row in index.windows([line_id])] == windows
        columns = index.columns([line_id])[line_id]
        assert [columns.window(place) for place in range(len(columns))] == windows
        assert index.span(line_id) == (windows[0].start_ms, windows[-1].end_ms)
        (whole,) = index.totals([line_id], None, None)
        expected = windows[0].account
        for window in windows[1:]:
            expected += window.account
        assert whole.account == expected
        hours: defaultdict[int, int] = defaultdict(int)
        for window in windows:
            hours[window.start_ms // HOUR_MS * HOUR_MS] += window.account.total_count
        rows = index.hours([line_id], 0, 2**60)
        assert {row.hour_ms: row.account.total_count for row in rows} == hours

    edge = START_MS + 37 * WINDOW_MS
    for found in sums(hub.engine, ["filling"], edge, 2**50, [By.DAY, By.SHIFT, By.PRODUCT, By.ORDER]):
        day, shift, product, order = found.key
        same = [w for w in _naive(hub, "filling") if w.start_ms >= edge and w.shift == f"{day}/{shift}"]
        same = [w for w in same if (w.product, w.order) == (product, order)]
        assert same and found.account == total(w.account for w in same)

    assert len(index.windows(["filling"])) == 165
    assert len(index.windows(["filling"], START_MS + 90_000, START_MS + 150_000)) == 2
    assert index.windows(["nobody"]) == []
    by = index.totals(LINES, START_MS, START_MS + HOUR_MS, [Group.PRODUCT, Group.SHIFT, Group.DAY, Group.SHIFT_NAME])
    assert [(t.line_id, t.key) for t in by] == [
        (line_id, ("Cola 330 ml", "2026-06-01/A", "2026-06-01", "A")) for line_id in LINES
    ]
    (gap,) = index.gaps(["filling"])
    assert (gap.from_ms, gap.reason, gap.leaf_index) == (START_MS + 9_000_000, "PLC off", 12)
    assert index.gaps(["filling"], gap.to_ms, None) == []
    (configuration,) = index.configurations(["filling"])
    assert LineConfiguration.from_data(configuration.data) == CONFIGURATION
    assert configuration.hash == CONFIGURATION.hash
    (plan,) = index.plans("P-7")
    assert Plan.from_data(plan.data) == PLAN and plan.hash == PLAN.hash and plan.leaf_index == 15
    assert index.enrolment_leaves(["gateway-1"]) == [0]
    records = index.records(limit=2)
    assert [r.leaf_index for r in records] == [14, 15] and records[0].issuer == "gateway-1"
    found = index.record_by_hash(records[0].hash)
    assert found == records[0]
    assert index.leaves_of_windows(["packing"], START_MS, START_MS + 20 * WINDOW_MS) == [1, 2]
    first, second = index.windows_from_leaf(0, 2)
    assert (first.leaf_index, first.line_id, second.window.start_ms) == (1, "filling", START_MS + WINDOW_MS)
    assert len(index.windows_of_leaves(1, 3)) == 60

    before = table_rows(hub.engine, db.PROJECTIONS)
    assert len(before["overlap"]) == 30 and before["window"] and before["enrolment"]
    steps: list[tuple[int, int]] = []
    assert projector.rebuild(hub.engine, hub.log, lambda done, total: steps.append((done, total))) == 16
    assert table_rows(hub.engine, db.PROJECTIONS) == before
    assert steps[-1] == (16, 16)


def test_an_index_ahead_of_its_log_is_refused_in_words(tmp_path: Path) -> None:
    class Shorter:
        size = 1

        def entries(self, _start: int, _stop: int) -> Iterator[bytes]:
            raise AssertionError("nothing is read")

    with hub_in(tmp_path) as hub:
        hub.take(*(made.raw for made in measurements(2)))
        with pytest.raises(IndexBehindLog, match="has only 1"):
            projector.catch_up(hub.engine, Shorter())


def test_a_rebuild_that_was_killed_goes_on_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "_BATCH", 4)
    with hub_in(tmp_path) as hub:
        hub.take(*(made.raw for made in measurements(12)))
        before = table_rows(hub.engine, db.PROJECTIONS)

        def die(done: int, _total: int) -> None:
            if done >= 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            projector.rebuild(hub.engine, hub.log, die)
        assert Index(hub.engine).size() == 8
    with hub_in(tmp_path) as hub:
        assert table_rows(hub.engine, db.PROJECTIONS) == before


def test_a_chain_starts_with_zeros() -> None:
    assert measurements(1)[0].record.previous == NO_PREVIOUS
