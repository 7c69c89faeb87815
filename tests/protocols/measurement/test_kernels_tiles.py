"""The fast forms of the kernel against `scan`: the same integers, whatever a stream does, compiled or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.samples import START_MS, Tables, line, tables
from protocols.measurement.kernels import columns, jit, tick, tiles
from protocols.measurement.kernels import scan as k
from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import SampleBlock


@dataclass
class Given:
    """What a kernel gave for one block."""

    runs: list[list[int]]
    deltas: dict[tuple[int, int, int], int]
    events: list[list[int]]
    carry: list[int]


class Room:
    """Room for what a kernel gives."""

    def __init__(self, rows: int, lanes: int) -> None:
        self.runs = np.zeros((k.RUNS_A_ROW * rows + 2, 2), np.int64)
        self.deltas = np.zeros((lanes * rows, 4), np.int64)
        self.events = np.zeros((k.EVENTS_A_ROW * rows + 2, 3), np.int64)

    @property
    def arrays(self) -> tuple[k.I64, k.I64, k.I64]:
        return self.runs, self.deltas, self.events

    def given(self, counted: tuple[int, int, int], carry: k.I64, cell_ms: int) -> Given:
        """Delta rows are summed by cell, since how many rows a cell's sum takes is left open."""
        sums: dict[tuple[int, int, int], int] = {}
        for time_ms, role, pieces, flags in self.deltas[: counted[1]].tolist():
            # What is flagged stays a row of its own.
            cell = time_ms + (-time_ms) % cell_ms if cell_ms and not flags else time_ms
            sums[cell, role, flags] = sums.get((cell, role, flags), 0) + pieces
        return Given(self.runs[: counted[0]].tolist(), sums, self.events[: counted[2]].tolist(), carry.tolist())


def by_scan(block: SampleBlock, line_tables: Tables, carry: k.I64) -> Given:
    room = Room(len(block), len(line_tables.counters))
    counted = k.scan(block.time_ms, block.values, block.valid, *line_tables.all, carry, *room.arrays)
    return room.given(counted, carry, int(line_tables.counters[0, k.CELL_MS]))


def quickly(block: SampleBlock, line_tables: Tables, carry: k.I64) -> Given:
    room = Room(len(block), len(line_tables.counters))
    held = np.zeros(32, np.int64)
    counted = tiles.scan_quickly(block.time_ms, block.values, block.valid, *line_tables.all, carry, *room.arrays, held)
    return room.given(counted, carry, int(line_tables.counters[0, k.CELL_MS]))


def by_columns(block: SampleBlock, line_tables: Tables, carry: k.I64, dtype: type) -> Given:
    """For a block of which only state and counters change, within 49 days."""
    room = Room(len(block), len(line_tables.counters))
    narrow = columns.narrow(block, line_tables.counters)
    assert narrow is not None
    counts = narrow.counts.astype(dtype)
    counted = columns.scan_columns(
        narrow.base_ms, narrow.after_ms, narrow.state, counts, narrow.image, narrow.mask, int(SignalRole.STATE),
        *line_tables.all, carry, *room.arrays, *columns.scratch(len(narrow.image)),
    )  # fmt: skip
    return room.given(counted, carry, int(line_tables.counters[0, k.CELL_MS]))


@st.composite
def lines(draw: st.DrawFn) -> Tables:
    """Tables with every switch that the fast forms must leave to `scan`."""
    made = tables()
    limits, counters = made.limits, made.counters
    limits[k.STALENESS_MS] = draw(st.sampled_from((500, 3_000, 10_000)))
    limits[k.MAX_PER_HOUR] = draw(st.sampled_from((0, 3_600, 100_000)))
    limits[k.HAS_HEARTBEAT] = draw(st.sampled_from((0, 0, 0, 1)))
    limits[k.KIND] = draw(st.sampled_from((k.BY_STATE, k.BY_STATE, k.BY_STATE, k.BY_PIECES)))
    counters[:, k.MODULUS] = draw(st.sampled_from((0, 10, 100, 65_536)))
    counters[:, k.CELL_MS] = draw(st.sampled_from((0, 7_000, 60_000)))
    counters[0, k.IS_BCD] = draw(st.sampled_from((0, 0, 0, 1)))
    cycles = np.array([[1, 4_000]], np.int64)
    return Tables(
        made.raw_states, made.states, made.categories, made.legal, made.production_modes, cycles, limits, counters
    )  # fmt: skip


@st.composite
def streams(draw: st.DrawFn, *, narrow: bool) -> SampleBlock:
    """Quiet stretches, some longer than a tile, with everything between them that can go wrong."""
    columns_ = (SignalRole.STATE, SignalRole.TOTAL, SignalRole.REJECT, SignalRole.PRODUCT, SignalRole.ORDER)
    valid = sum(1 << c for c in columns_)
    image = [0] * ROLES
    image[SignalRole.STATE], image[SignalRole.PRODUCT], image[SignalRole.ORDER] = 6, 1, 1
    image[SignalRole.TOTAL] = draw(st.integers(0, 65_535))
    now = START_MS
    rows: list[tuple[int, tuple[int, ...], int]] = []
    for _ in range(draw(st.integers(1, 8))):
        mask = valid
        event = draw(st.integers(0, 8))
        if event == 0:
            image[SignalRole.STATE] = draw(st.integers(0, 30))
        elif event == 1:
            image[draw(st.sampled_from((SignalRole.TOTAL, SignalRole.REJECT)))] = draw(st.integers(0, 65_535))
        elif event == 2:
            now += draw(st.integers(0, 60_000))
        elif event == 3:
            image[SignalRole.TOTAL] = max(0, image[SignalRole.TOTAL] - draw(st.integers(1, 5)))
        elif not narrow and event == 4:
            image[draw(st.sampled_from((SignalRole.PRODUCT, SignalRole.ORDER, SignalRole.REASON)))] ^= 1
        elif not narrow and event == 5:
            mask ^= 1 << draw(st.sampled_from(columns_))
        jitter, pace, length = draw(st.integers(0, 40)), draw(st.integers(1, 5)), draw(st.integers(1, 80))
        length = draw(st.sampled_from((length, length, columns.TILE + 200)))
        for i in range(length):
            now += 1_000 + (i * 7_919 % (2 * jitter + 1)) - jitter
            image[SignalRole.TOTAL] = (image[SignalRole.TOTAL] + (i % pace == 0)) % 65_536
            image[SignalRole.REJECT] = (image[SignalRole.REJECT] + (i % 50 == 49)) % 65_536
            rows.append((now, tuple(image), mask))
    return SampleBlock.from_rows(rows)


@settings(max_examples=200, deadline=None)
@given(streams(narrow=False), lines(), st.data())
def test_the_quick_form_gives_the_integers_of_scan(
    block: SampleBlock, line_tables: Tables, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(block)))
    slow, fast = line_tables.carry(), line_tables.carry()
    for part in (slice(0, cut), slice(cut, len(block))):
        rows = SampleBlock(block.time_ms[part], block.values[part], block.valid[part])
        assert quickly(rows, line_tables, fast) == by_scan(rows, line_tables, slow)


@settings(max_examples=200, deadline=None)
@given(streams(narrow=True), lines(), st.sampled_from((np.uint16, np.uint32)))
def test_narrow_columns_give_the_integers_of_scan(block: SampleBlock, line_tables: Tables, dtype: type) -> None:
    slow, fast = line_tables.carry(), line_tables.carry()
    assert by_columns(block, line_tables, fast, dtype) == by_scan(block, line_tables, slow)


@settings(max_examples=60, deadline=None)
@given(st.lists(streams(narrow=False), min_size=1, max_size=4), lines(), st.data())
def test_ticks_of_several_lines_give_the_integers_of_scan(
    blocks: list[SampleBlock], line_tables: Tables, data: st.DataObject
) -> None:
    count, rows = len(blocks), max(len(block) for block in blocks)
    shared = [array[None].copy() for array in line_tables.all]
    raw_states, states, _, legal, modes, cycles = shared[:6]
    limits, counters = np.repeat(shared[6], count, 0), np.repeat(shared[7], count, 0)
    carry, memory = np.repeat(line_tables.carry()[None], count, 0), tick.fresh_memory(count, ROLES)
    runs, deltas, events = Room(count, 2).arrays
    ends = np.zeros((count, 3), np.int64)
    given_runs: list[list[list[int]]] = [[] for _ in blocks]
    pieces = [0] * count
    settled = data.draw(st.integers(0, rows))
    for i in range(rows):
        time_ms = np.array([block.time_ms[i] if i < len(block) else -1 for block in blocks], np.int64)
        values = np.array([block.values[min(i, len(block) - 1)] for block in blocks], np.int64)
        valid = np.array([block.valid[min(i, len(block) - 1)] for block in blocks], np.uint32)
        if i == settled:
            # As the meter does when news is late: the state ends between two rows.
            carry[:, k.CATEGORY], carry[:, k.STATE] = 0, 0
        tick.tick(
            time_ms, values, valid, np.zeros(count, np.int64), raw_states, states, line_tables.categories, legal,
            modes, cycles, limits, counters, carry, memory, runs, deltas, events, ends,
        )  # fmt: skip
        starts = np.vstack([np.zeros((1, 3), np.int64), ends[:-1]])
        for at in range(count):
            given_runs[at] += runs[starts[at, 0] : ends[at, 0]].tolist()
            pieces[at] += int(deltas[starts[at, 1] : ends[at, 1], 2].sum())
    for at, block in enumerate(blocks):
        slow = line_tables.carry()
        expected_runs, expected_pieces = [], 0
        for part in (slice(0, settled), slice(settled, len(block))):
            if part.start == settled:
                slow[k.CATEGORY], slow[k.STATE] = 0, 0
            found = by_scan(SampleBlock(block.time_ms[part], block.values[part], block.valid[part]), line_tables, slow)
            expected_runs += found.runs
            expected_pieces += sum(found.deltas.values())
        assert given_runs[at] == expected_runs
        assert pieces[at] == expected_pieces
        if settled < len(block):
            assert carry[at].tolist() == slow.tolist()


def test_an_ordinary_line_is_measured_alike_by_every_form_compiled_or_not() -> None:
    block = line(4_000, seed=3).block()
    made = tables()
    results = []
    for compiled in (True, False):
        if compiled:
            results += [form(block, made, made.carry()) for form in (by_scan, quickly)]
            results.append(by_columns(block, made, made.carry(), np.uint16))
        else:
            with jit.uncompiled():
                results += [form(block, made, made.carry()) for form in (by_scan, quickly)]
                results.append(by_columns(block, made, made.carry(), np.uint16))
    assert all(result == results[0] for result in results)
    assert sum(results[0].deltas.values()) > 9_000


@pytest.mark.parametrize("role", [SignalRole.PRODUCT, SignalRole.ORDER])
def test_what_changes_more_than_state_and_counters_is_not_narrow(role: SignalRole) -> None:
    block = line(10).block()
    block.values[5:, role] = 2
    assert columns.narrow(block, tables().counters) is None


def test_what_does_not_fit_is_not_narrow() -> None:
    block = line(10).block()
    block.values[5:, SignalRole.TOTAL] = 2**32
    assert columns.narrow(block, tables().counters) is None
    block.values[5:, SignalRole.TOTAL] = 2**16
    narrow = columns.narrow(block, tables().counters)
    assert narrow is not None
    assert narrow.counts.dtype == np.uint32
    block.time_ms[5:] += 2**32
    assert columns.narrow(block, tables().counters) is None
