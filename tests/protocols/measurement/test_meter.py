"""The meter against the slow, obviously right loop: equal to the last integer, however the stream is cut up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.measurement.account import Category, Window
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.definition import Definition
from protocols.measurement.meter import LineMeter
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock
from tests.reference.oee_loop import Expected, Row, measure

TICK = 500  # ms of one tick of the slow loop
START = 1_772_400_000_000
PER_HOUR = 14_400
CONFIGURATION = LineConfiguration(
    line_id="filling",
    name="Filling",
    calendar=Calendar("Asia/Hong_Kong"),
    products=(Product(1, "a", 250_000_000), Product(2, "b", None)),
    counters=(Counter(SignalRole.TOTAL, 100), Counter(SignalRole.REJECT, 100)),
    max_pieces_per_hour=PER_HOUR,
    window_ms=60_000,
    staleness_ms=5_000,
    definition=Definition(minor_stop_ms=40_000),
)
ALL_VALID = 0b1111111


def block(rows: Sequence[Row]) -> SampleBlock:
    out = []
    for row in rows:
        valid = ALL_VALID & ~(1 << SignalRole.GOOD)
        for role, value in ((0, row.state), (2, row.total), (4, row.reject)):
            if value is None:
                valid &= ~(1 << role)
        values = (row.state or 0, 0, row.total or 0, 0, row.reject or 0, {"a": 1, "b": 2}[row.product], int(row.order))
        out.append((START + row.at * TICK, values, valid))
    return SampleBlock.from_rows(out)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """A line that mostly runs, and everything that can go wrong with it."""
    rows: list[Row] = []
    at = draw(st.integers(0, 8))
    total, reject = draw(st.integers(0, 99)), draw(st.integers(0, 99))
    product = "a"
    state = 6
    for _ in range(draw(st.integers(1, 60))):
        event = draw(st.integers(0, 19))
        step = draw(st.integers(1, 4))
        if event == 0:
            step = draw(st.integers(9, 400))
        elif event in (1, 2, 3):
            state = draw(st.integers(0, 17))
        elif event == 4:
            product = "b" if product == "a" else "a"
        elif event in (5, 6, 7):
            state = 6
        at += step
        made = draw(st.integers(0, 2 * step))
        total, reject = (total + made) % 100, (reject + draw(st.integers(0, 1))) % 100
        if event == 8:
            total = draw(st.integers(0, 99))
        rows.append(
            Row(
                at,
                None if event == 9 else state,
                event != 10,
                product,
                None if event == 11 else total,
                None if event == 12 else reject,
            )
        )
    return rows


def expected(rows: Sequence[Row], end: int) -> list[Expected]:
    return measure(
        rows,
        0,
        end,
        120,
        10,
        80,
        100,
        lambda ticks: PER_HOUR * ticks * TICK * 3 // 7_200_000 + 2,
        PER_HOUR * 3 // 720 + 2,
    )


def assert_equal(windows: Sequence[Window], slow: Sequence[Expected]) -> None:
    assert [(w.start_ms, w.end_ms, w.product) for w in windows] == [
        (START + e.start * TICK, START + e.end * TICK, e.product) for e in slow
    ]
    for window, e in zip(windows, slow, strict=True):
        account = window.account
        assert {c.name: ms // TICK for c, ms in zip(Category, account.category_ms, strict=True) if ms} == e.time
        assert account.length_ms == window.length_ms == account.planned_ms
        assert (account.total_count, account.reject_count, account.good_count) == (
            e.total,
            e.reject,
            e.total - e.reject,
        )
        assert (account.lower_bound_count, account.estimated_count) == (e.breaks, e.estimated)
        assert (account.minor_stop_count, account.stop_count) == (e.minor, e.long)
        ideal = 250_000_000 if e.product == "a" else 0
        assert account.standard_total_ns == ideal * e.total
        assert account.without_ideal_count == (0 if e.product == "a" else e.total)


@settings(max_examples=300, deadline=None)
@given(streams(), st.data())
def test_any_split_of_a_stream_gives_the_integers_of_the_slow_loop(rows: list[Row], data: st.DataObject) -> None:
    last = rows[-1].at
    end = (last // 120 + 3) * 120
    slow = expected(rows, end)

    meter = LineMeter(CONFIGURATION, START)
    windows: list[Window] = []
    at = 0
    while at < len(rows):
        size = data.draw(st.integers(1, len(rows) - at))
        meter.push(block(rows[at : at + size]))
        at += size
        if at < len(rows) and data.draw(st.booleans()):
            # All rows before the next one are there, so the watermark may be anywhere up to it.
            windows += meter.advance(START + data.draw(st.integers(rows[at - 1].at, rows[at].at)) * TICK)
            if data.draw(st.booleans()):
                meter.live(meter.last_sample_ms + 1_000)
            if data.draw(st.booleans()):
                meter = LineMeter(CONFIGURATION, 0, meter.carry())
    windows += meter.advance(START + end * TICK + 1)
    assert_equal(windows, slow)


def test_rows_that_reach_back_are_refused() -> None:
    meter = LineMeter(CONFIGURATION, START)
    meter.push(block([Row(10, 6, True, "a", 0, 0)]))
    with pytest.raises(Malformed, match="reach back"):
        meter.push(block([Row(9, 6, True, "a", 0, 0)]))


def test_live_agrees_with_the_windows_that_close_later() -> None:
    meter = LineMeter(CONFIGURATION, START)
    rows = [Row(t, 11 if 200 <= t < 240 else 6, True, "a", t % 100, 0) for t in range(1, 400)]
    meter.push(block(rows))
    closed = meter.advance(START + 300 * TICK)
    live = meter.live(START + 399 * TICK)
    assert live.state.name == "EXECUTE"
    assert live.shift_account.length_ms == 399 * TICK
    assert live.shift_account.total_count == 398
    assert live.shift_account.minor_stop_count == 1
    assert [stop.minor for stop in live.stops] == [True]
    assert sum(w.length_ms for w in closed) == 240 * TICK
    assert meter.live(START + 3_999 * TICK).category is Category.UNKNOWN
