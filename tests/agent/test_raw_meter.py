"""The raw meter: it measures as any meter, and each of its chunks gives the same windows again, from anywhere on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agent import raw_meter
from agent.raw_meter import ClosedChunk, Give, RawMeter
from protocols.evidence import canonical
from protocols.evidence.merkle import leaf_hash
from protocols.evidence.raw import Chunk, decode_chunk, decompress
from protocols.measurement.account import Window
from protocols.measurement.comparison import compare
from protocols.measurement.meter import LineMeter
from protocols.measurement.replay import RawRows, replay
from protocols.plc.sample import SampleBlock
from tests.protocols.measurement.test_meter import CONFIGURATION, START, TICK, Case, cases, simple

MINUTE = 60_000
DAY = 86_400_000


class Source:
    """Rows of a block, given out up to one time after the other, as an agent's image does it."""

    def __init__(self, block: SampleBlock) -> None:
        self.block = block
        self.at = 0

    def into(self, meter: RawMeter, *, by_row: bool = False) -> Give:
        """`by_row`: whether the meter gets them one by one."""

        def give(until_ms: int) -> None:
            first, self.at = self.at, int(self.block.time_ms.searchsorted(until_ms, "right"))
            part = slice(first, self.at)
            block = SampleBlock(self.block.time_ms[part], self.block.values[part], self.block.valid[part])
            if not by_row:
                meter.push(block)
                return
            times, listed, valid = block.time_ms.tolist(), block.values.tolist(), block.valid.tolist()
            for at, values, mask in zip(times, listed, valid, strict=True):
                meter.push_row(at, tuple(values), mask)

        return give


def opened(closed: ClosedChunk) -> Chunk:
    plain = decompress(closed.compressed)
    assert leaf_hash(plain) == closed.leaf
    chunk = decode_chunk(plain)
    assert (chunk.line_id, chunk.configuration_hash) == (closed.line_id, closed.configuration_hash)
    assert (chunk.start_ms, chunk.end_ms, len(chunk.block)) == (closed.start_ms, closed.end_ms, closed.samples)
    return chunk


def rows_of(chunk: Chunk) -> RawRows:
    return RawRows(chunk.start_ms, chunk.end_ms, chunk.carry, chunk.block)


def restarted(meter: RawMeter) -> RawMeter:
    """The meter as it comes back from what was kept of it."""
    carry = canonical.decode(canonical.encode(meter.carry()), 10**7)
    return RawMeter(meter.configuration, carry["closed_ms"], carry, meter.open_chunk())


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(cases(), st.data())
def test_every_run_of_chunks_gives_the_signed_windows(case: Case, data: st.DataObject) -> None:
    end_ms = case.start_ms + case.end * TICK
    ticks = sorted({case.start_ms + data.draw(st.integers(1, case.end * TICK)) for _ in range(12)} | {end_ms + 1})
    block = case.block(0, len(case.rows))
    source, meter = Source(block), RawMeter(case.configuration, case.start_ms)
    signed: list[Window] = []
    closed: list[ClosedChunk] = []
    for tick in ticks:
        signed += meter.measure(tick, source.into(meter, by_row=data.draw(st.booleans())))
        closed += meter.take_chunks()
        if data.draw(st.booleans()):
            meter = restarted(meter)
    plain = LineMeter(case.configuration, case.start_ms)
    plain.push(block)
    assert plain.advance(end_ms + 1) == signed, "keeping the rows changes nothing"

    chunks = [opened(each) for each in closed]
    assert chunks[0].start_ms == case.start_ms and chunks[0].carry is None
    assert all(one.end_ms == other.start_ms for one, other in pairwise(chunks))
    grid = min(MINUTE, case.configuration.window_ms)
    assert all(chunk.end_ms % grid == 0 for chunk in chunks)
    assert signed == [] or chunks[-1].end_ms >= signed[-1].end_ms // grid * grid, "no window closes before its chunk"
    first = data.draw(st.integers(0, len(chunks) - 1))
    last = data.draw(st.integers(first + 1, len(chunks)))
    gather = data.draw(st.sampled_from((1, 1, 3)))
    for some in (chunks[first:last], chunks[first : first + 1], chunks):
        found = replay(case.configuration, map(rows_of, some), gather)
        told = compare(signed, found.windows)
        assert told.first is None and told.equal == told.compared
        assert found.memory_faults == []
    # What a stop is that was under way at the end of the last chunk is decided after it.
    definition = case.configuration.definition
    open_ms = definition.minor_stop_ms + definition.min_run_ms + definition.min_stop_ms
    assert told.compared >= len([w for w in signed if w.end_ms < chunks[-1].end_ms - open_ms])


def test_a_chunk_without_news_is_one_however_long(caplog: pytest.LogCaptureFixture) -> None:
    block = simple([(0, 6, 1), (2, 6, 3)])
    source, meter = Source(block), RawMeter(CONFIGURATION, START)
    meter.measure(START + 30_000, source.into(meter))
    meter.measure(START + 3 * DAY + 1000, source.into(meter))
    chunks = meter.take_chunks()
    assert [(c.start_ms - START, c.end_ms - START, c.samples) for c in chunks] == [
        (0, MINUTE, 2),
        (MINUTE, 3 * DAY, 0),
    ]
    # While time goes on as usual there is one each minute, so that a window's chunks are there before it is signed.
    windows = meter.measure(START + 3 * DAY + MINUTE + 1000, source.into(meter))
    assert windows[-1].end_ms == START + 3 * DAY + MINUTE == meter.take_chunks()[-1].end_ms


def test_a_row_that_came_late_belongs_to_the_chunk_in_which_it_was_measured() -> None:
    meter = RawMeter(CONFIGURATION, START)
    meter.measure(START + MINUTE + 500, Source(simple([(0, 6, 1)])).into(meter))
    late = simple([(121, 6, 9)])
    assert late.time_ms[0] == meter.floor_ms + 500 == START + MINUTE + 500
    meter.measure(START + 2 * MINUTE + 500, Source(late).into(meter))
    at_the_edge = simple([(240, 2, 9)])
    meter.push(at_the_edge)
    meter.measure(START + 3 * MINUTE + 500, Source(simple([])).into(meter))
    chunks = [opened(each) for each in meter.take_chunks()]
    assert [len(chunk.block) for chunk in chunks] == [1, 1, 1]
    assert chunks[2].start_ms == at_the_edge.time_ms[0] == chunks[2].block.time_ms[0]
    assert replay(CONFIGURATION, map(rows_of, chunks)).memory_faults == []


def test_very_many_rows_end_a_chunk_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_meter, "ROWS_A_CHUNK", 10)
    block = simple([(at, 6, at % 100) for at in range(300)])
    source, meter = Source(block), RawMeter(CONFIGURATION, START)
    signed = [w for ms in range(1000, 150_001, 1000) for w in meter.measure(START + ms, source.into(meter))]
    chunks = [opened(each) for each in meter.take_chunks()]
    assert max(len(chunk.block) for chunk in chunks) <= 12
    assert {START + MINUTE, START + 2 * MINUTE} <= {chunk.end_ms for chunk in chunks}
    found = replay(CONFIGURATION, map(rows_of, chunks))
    assert found.windows == signed and found.memory_faults == []


def test_without_room_chunks_are_counted_and_the_next_ones_still_stand_alone() -> None:
    block = simple([(at, 6, at % 100) for at in range(0, 900, 2)])
    source, meter = Source(block), RawMeter(CONFIGURATION, START)
    signed = meter.measure(START + MINUTE + 1, source.into(meter))
    meter.no_room = "no room"
    signed += meter.measure(START + 4 * MINUTE + 1, source.into(meter))
    assert [(lost.from_ms - START, lost.reason) for lost in meter.take_lost()] == [
        (MINUTE, "no room"),
        (2 * MINUTE, "no room"),
        (3 * MINUTE, "no room"),
    ]
    meter.no_room = None
    signed += meter.measure(START + 7 * MINUTE + 1, source.into(meter))
    chunks = [opened(each) for each in meter.take_chunks()]
    assert [(c.start_ms - START) // MINUTE for c in chunks] == [0, 4, 5, 6]
    told = compare(signed, replay(CONFIGURATION, map(rows_of, chunks)).windows)
    assert told.equal == told.compared == 2, "a window at the end of a run may still get a row of the next chunk"


def test_a_chunk_that_cannot_be_written_is_said_and_not_fatal() -> None:
    rows = 70_000
    block = SampleBlock(np.full(rows, START + 5, np.int64), np.zeros((rows, 7), np.int64), np.zeros(rows, np.uint32))
    meter = RawMeter(CONFIGURATION, START)
    meter.push(block)
    assert meter.open_chunk() is None
    meter.measure(START + MINUTE + 1, Source(simple([])).into(meter))
    assert [lost.reason for lost in meter.take_lost()] == ["raw chunk: 70000 rows; at most 65536"]
    assert not meter.has_chunks


def test_it_can_be_switched_off() -> None:
    block = simple([(at, 6, at % 100) for at in range(0, 900, 2)])
    meter = RawMeter(CONFIGURATION, START, keeps=False)
    windows = meter.measure(START + 7 * MINUTE + 1, Source(block).into(meter))
    assert len(windows) == 7 and not meter.has_chunks and meter.open_chunk() is None
