"""Rows that are taken one by one: the same integers and the same memory as by the kernel, and most without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.measurement.configuration import Counter
from protocols.measurement.kernels import scan
from protocols.measurement.machine import Speed
from protocols.measurement.meter import LineMeter
from protocols.measurement.replay import remembered
from protocols.plc.roles import SignalRole
from protocols.plc.sample import Row, SampleBlock
from tests.protocols.measurement.test_meter import CONFIGURATION, START, TICK, Case, cases

WIDE = 14
VALID = 0b1111111 | 1 << 13
LINE = replace(
    CONFIGURATION,
    counters=(Counter(SignalRole.TOTAL, 65_536), Counter(SignalRole.TOTAL, 65_536), Counter(SignalRole.REJECT, 65_536)),
)


def rows_of(block: SampleBlock) -> list[Row]:
    times, values, valid = block.time_ms.tolist(), block.values.tolist(), block.valid.tolist()
    return [(at, tuple(row), mask) for at, row, mask in zip(times, values, valid, strict=True)]


@settings(max_examples=60, deadline=None)
@given(cases(), st.data())
def test_row_by_row_is_what_the_kernel_makes_of_a_block(case: Case, data: st.DataObject) -> None:
    rows = rows_of(case.block(0, len(case.rows)))
    by_row, by_block = (LineMeter(case.configuration, case.start_ms) for _ in range(2))
    for at, row in enumerate(rows):
        by_row.push_row(*row)
        by_block.push(SampleBlock.from_rows([row]))
        next_ms = rows[at + 1][0] if at + 1 < len(rows) else case.start_ms + case.end * TICK + 1
        watermark_ms = data.draw(st.integers(row[0], next_ms))
        if data.draw(st.booleans()):
            assert by_row.live(watermark_ms) == by_block.live(watermark_ms)
        if data.draw(st.booleans()):
            assert by_row.advance(watermark_ms) == by_block.advance(watermark_ms)
        if data.draw(st.integers(0, 9)) == 0:
            one, other = (remembered(case.configuration, meter.memory(), next_ms) for meter in (by_row, by_block))
            assert one == other
    end_ms = case.start_ms + case.end * TICK + 1
    assert by_row.advance(end_ms) == by_block.advance(end_ms)
    assert by_row.take_stops() == by_block.take_stops()


def row(tick: int, *, total: int, lane: int = 0, state: int = 6, speed: int = 0) -> Row:
    values = (state, 1, total, 0, 0, 1, 1, 0, 0, 0, speed, 0, 0, lane)
    return START + tick * TICK, values, VALID | (1 << SignalRole.SPEED if speed else 0)


class Count:
    """How often the kernel was asked."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        inner = scan.scan

        def counted(*args: object) -> object:
            self.calls += 1
            return inner(*args)  # type: ignore[arg-type]

        patch.setattr(scan, "scan", counted)


def push(meter: LineMeter, rows: Sequence[Row]) -> None:
    for each in rows:
        meter.push_row(*each)


def test_a_line_that_runs_does_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, kernel = LineMeter(LINE, START), Count(monkeypatch)
    push(meter, [row(tick, total=tick, lane=2 * tick) for tick in range(1, 100)])
    assert kernel.calls == 1  # the first, before which nothing was known
    push(meter, [row(100, total=100, lane=200, state=2)])
    assert kernel.calls == 2
    closed = meter.advance(START + 240 * TICK)
    assert sum(window.account.total_count for window in closed) == 3 * 99


def test_steps_of_a_cell_are_one_count_of_a_role() -> None:
    meter = LineMeter(LINE, START)
    push(meter, [row(tick, total=tick, lane=tick) for tick in range(1, 100)])
    start_ms = START - START % 60_000
    assert meter.memory()["deltas"] == [[start_ms + 99 * TICK, SignalRole.TOTAL, 2 * 98, 0]]
    push(meter, [row(tick, total=tick, lane=tick) for tick in range(100, 122)])
    assert [each[0] - start_ms for each in meter.memory()["deltas"]] == [60_000, 121 * TICK]


@pytest.mark.parametrize("speed", [1500, 1501])
def test_a_speed_matters_only_where_it_crosses_what_counts_as_running(
    speed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = LineMeter(replace(LINE, mapping=Speed(1500)), START)
    push(meter, [row(1, total=1, speed=1400)])
    kernel = Count(monkeypatch)
    push(meter, [row(2, total=2, speed=speed)])
    assert kernel.calls == (1 if speed > 1500 else 0)


def test_a_row_that_reaches_back_is_refused() -> None:
    meter = LineMeter(LINE, START)
    push(meter, [row(tick, total=tick) for tick in (5, 6, 7)])
    with pytest.raises(Malformed, match="reaches back"):
        meter.push_row(*row(6, total=7))
    meter.advance(START + 240 * TICK)  # also where it is only a closed window
    with pytest.raises(Malformed, match="reaches back"):
        meter.push_row(*row(8, total=7))


def test_a_quiet_row_of_a_closed_window_is_refused() -> None:
    """The window closes before the line's last state is stale: rows after it are still quiet."""
    edge = (60_000 - START % 60_000) // TICK
    meter = LineMeter(LINE, START)
    push(meter, [row(tick, total=tick) for tick in range(1, edge - 2)])
    assert meter.advance(START + (edge + 1) * TICK)
    with pytest.raises(Malformed, match="reaches back"):
        meter.push_row(*row(edge - 1, total=edge))
    meter.push_row(*row(edge + 2, total=edge + 2))


def test_a_carry_is_whole_in_the_midst_of_quiet_rows() -> None:
    meter = LineMeter(LINE, START)
    push(meter, [row(tick, total=3 * tick) for tick in range(1, 50)])
    again = LineMeter(LINE, 0, meter.carry())
    assert again.last_sample_ms == meter.last_sample_ms == START + 49 * TICK
    later = [row(tick, total=3 * tick) for tick in range(50, 200)]
    for one in (meter, again):
        push(one, later)
    assert meter.advance(START + 200 * TICK) == again.advance(START + 200 * TICK) != []
