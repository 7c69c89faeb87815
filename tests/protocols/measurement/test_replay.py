"""Replay: from any chunk on, the windows that were signed come out again; and nothing forged reaches a kernel."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.measurement.account import Window
from protocols.measurement.comparison import compare
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.kept_memory import checked_carry
from protocols.measurement.kernels import scan as k
from protocols.measurement.meter import LineMeter
from protocols.measurement.replay import RawRows, replay
from protocols.plc.sample import SampleBlock, joined
from tests.protocols.measurement.test_meter import CONFIGURATION, START, TICK, Case, cases, simple

LINE = replace(CONFIGURATION, products=CONFIGURATION.products[:1])


@dataclass
class Recording:
    """What an agent signed of a stream, and the chunks that it kept."""

    windows: list[Window]
    chunks: list[RawRows]


def cut(block: SampleBlock, from_ms: int, to_ms: int) -> SampleBlock:
    """The rows of [from_ms, to_ms)."""
    first, last = np.searchsorted(block.time_ms, [from_ms, to_ms])
    return SampleBlock(block.time_ms[first:last], block.values[first:last], block.valid[first:last])


def kept(carry: dict[str, Any]) -> dict[str, Any]:
    return deepcopy({name: value for name, value in carry.items() if name not in ("ended", "handed_ms", "live")})


def record(
    configuration: LineConfiguration,
    block: SampleBlock,
    start_ms: int,
    end_ms: int,
    watermarks: list[int],
    late: int = 0,
) -> Recording:
    """As an agent does it: rows up to each watermark, windows closed there; a chunk at each edge of the grid.

    `late` 1: a row at the very edge comes when the chunk has ended; 0: before.
    """
    grid = min(60_000, configuration.window_ms)
    edges = list(range((start_ms // grid + 1) * grid, end_ms + 1, grid))
    meter = LineMeter(configuration, start_ms)
    out = Recording([], [])
    from_ms, carry = start_ms, None
    chunk_from = pushed = start_ms
    for until_ms, is_edge in sorted([*((e, 1) for e in edges), *((w, 0) for w in watermarks)]):
        after = until_ms + 1 - late  # the first time that is not here yet
        if after > pushed:
            meter.push(cut(block, pushed, after))
            pushed = after
        if is_edge:
            out.chunks.append(RawRows(from_ms, until_ms, carry, cut(block, chunk_from, pushed)))
            from_ms, chunk_from, carry = until_ms, pushed, kept(meter.carry())
        else:
            out.windows += meter.advance(until_ms)
    meter.push(cut(block, pushed, end_ms + 1))
    out.windows += meter.advance(end_ms + 1)
    return out


@settings(max_examples=40, deadline=None)
@given(cases(), st.data())
def test_every_suffix_of_the_chunks_gives_the_signed_windows(case: Case, data: st.DataObject) -> None:
    start_ms, end_ms = case.start_ms, case.start_ms + case.end * TICK
    watermarks = [start_ms + data.draw(st.integers(0, end_ms - start_ms)) for _ in range(8)]
    late = data.draw(st.integers(0, 1))
    made = record(case.configuration, case.block(0, len(case.rows)), start_ms, end_ms, watermarks, late)
    first = data.draw(st.integers(0, len(made.chunks) - 1))
    last = data.draw(st.integers(first + 1, len(made.chunks)))
    found = replay(case.configuration, made.chunks[first:last], data.draw(st.sampled_from((1, 1, 2, 7))))
    told = compare(made.windows, found.windows)
    assert told.first is None and told.equal == told.compared
    assert found.memory_faults == []
    assert found.spans == [(made.chunks[first].start_ms, made.chunks[last - 1].end_ms)]
    assert all(w.start_ms >= made.chunks[first].start_ms for w in found.windows)
    whole = replay(case.configuration, made.chunks)
    assert whole.windows == [w for w in made.windows if w.end_ms <= whole.windows[-1].end_ms]
    assert whole.memory_checked == len(made.chunks) - 1
    if first == 0 and last == len(made.chunks):
        assert found.windows == whole.windows


def busy() -> Recording:
    """Eleven minutes that mostly run: a stop of eight seconds in the fourth, and one of 70 s that the sixth begins."""

    def state(t: int) -> int:
        return 11 if 380 <= t < 396 or 690 <= t < 830 else 6

    block = simple([(t, state(t), t % 100) for t in range(1, 1321)])
    return record(LINE, block, START, START + 1320 * TICK, list(range(START, START + 660_000, 7_000)))


def test_one_changed_sample_is_named() -> None:
    made = busy()
    assert compare(made.windows, replay(LINE, made.chunks).windows).equal == 10
    chunk = made.chunks[6]
    values = chunk.block.values.copy()
    values[40, 2] += 1  # one piece counted half a second early: the sums of the window stay
    made.chunks[6] = replace(chunk, block=SampleBlock(chunk.block.time_ms, values, chunk.block.valid))
    assert compare(made.windows, replay(LINE, made.chunks).windows).first is None
    values[-1, 2] += 1  # the last: now one piece more than was signed
    told = compare(made.windows, replay(LINE, made.chunks).windows)
    assert told.first is not None and (told.compared, told.equal) == (10, 8)
    signed = made.windows[6].account.total_count
    assert told.first.start_ms == made.windows[6].start_ms
    assert (told.first.field, told.first.signed, told.first.replayed) == ("total_count", signed, signed + 1)
    # Nor does the memory that the next chunk was kept with fit.
    assert replay(LINE, made.chunks).memory_faults[0] == chunk.end_ms


@pytest.mark.parametrize("name", ["total_count", "failure_count", "standard_good_ns", "transition_count"])
def test_one_changed_integer_of_a_signed_window_is_named(name: str) -> None:
    made = busy()
    window = made.windows[4]
    value = getattr(window.account, name)
    made.windows[4] = replace(window, account=replace(window.account, **{name: value + 1}))
    told = compare(made.windows, replay(LINE, made.chunks).windows)
    assert told.first is not None
    assert (told.first.start_ms, told.first.field) == (window.start_ms, name)
    assert (told.first.signed, told.first.replayed) == (value + 1, value)


def test_a_shifted_or_renamed_window_is_named() -> None:
    made = busy()
    found = replay(LINE, made.chunks).windows
    moved = [replace(made.windows[0], end_ms=START + 50_000), replace(made.windows[1], start_ms=START + 50_000)]
    told = compare([*moved, *made.windows[2:]], found)
    assert told.first is not None and (told.first.field, told.equal) == ("end_ms", 8)
    told = compare([replace(w, product="b") for w in made.windows], found)
    assert told.first is not None and (told.first.field, told.first.signed, told.first.replayed) == (
        "product",
        "b",
        "a",
    )
    told = compare(made.windows[3:5], found)
    assert (told.compared, told.equal) == (2, 2)


def test_a_hole_begins_a_new_span_and_loses_only_its_own_windows() -> None:
    made = busy()
    del made.chunks[4]
    found = replay(LINE, made.chunks)
    assert found.spans == [(START, made.chunks[3].end_ms), (made.chunks[4].start_ms, START + 660_000)]
    told = compare(made.windows, found.windows)
    assert (told.compared, told.equal) == (8, 8)  # the one before the hole closes in it


def test_a_window_that_is_not_decided_yet_is_not_compared() -> None:
    made = busy()  # the second stop begins 345 s in: whether it is a minor one is known 40 s later
    assert [w.start_ms for w in replay(LINE, made.chunks[3:6]).windows] == [START + 180_000, START + 240_000]
    # What the chunk before left undecided is decided now, but from the memory: not from rows that are here.
    assert [w.start_ms for w in replay(LINE, made.chunks[6:8]).windows] == [START + 360_000]


def test_chunks_that_overlap_are_refused() -> None:
    made = busy()
    with pytest.raises(Malformed, match="lie over"):
        replay(LINE, [made.chunks[1], made.chunks[1]])


def test_blocks_of_several_widths_are_joined() -> None:
    narrow, wide = simple([(1, 6, 1)]), SampleBlock.from_rows([(START + 5_000, (6, 1, 2, 0, 0, 1, 1, 9), 0b11111111)])
    both = joined([narrow, wide])
    assert both.values[:, 7].tolist() == [0, 9] and both.valid.tolist() == [0b1111111, 0b11111111]


FORGED: list[tuple[str, Any]] = [
    ("armed", 2),
    ("changes", [[START, 5]]),
    ("changes", [[START + 1, "a"], [START, "b"]]),
    ("closed_ms", START - 10**12),
    ("closed_ms", START + 10**9),
    ("closed_ms", True),
    ("deltas", [[START - 1, 2, 1, 0]]),
    ("deltas", [[START + 50_000, 1_000, 1, 0]]),
    ("deltas", [[START + 50_000, 2, 2**62, 0]]),
    ("deltas", [[START + 50_000, 2, 1]]),
    ("moves", [[START, 7]]),
    ("product", 7),
    ("reasons", [[START, 2**64]]),
    ("runs", []),
    ("runs", [[START + 61_000, 1]]),
    ("runs", [[START, 99]]),
    ("runs", "abc"),
    ("started_ms", [2**63]),
    ("memory", [0] * 3),
]
STATES = [(place, bad) for place in (k.STATE, k.LATER_STATE, k.CATEGORY, k.LATER_CATEGORY) for bad in (-1, 18, 2**40)]


@pytest.mark.parametrize(("name", "value"), FORGED)
def test_a_forged_memory_is_refused(name: str, value: Any) -> None:
    chunk = busy().chunks[1]
    assert chunk.carry is not None
    assert checked_carry(LINE, chunk.carry, chunk.start_ms)["armed"] in (0, 1)
    with pytest.raises(Malformed, match="memory"):
        replay(LINE, [replace(chunk, carry={**chunk.carry, name: value})])


@pytest.mark.parametrize(("place", "value"), STATES)
def test_a_memory_that_would_index_past_a_table_is_refused(place: int, value: int) -> None:
    chunk = busy().chunks[1]
    assert chunk.carry is not None
    memory = list(chunk.carry["memory"])
    memory[place] = value
    with pytest.raises(Malformed, match="cannot be"):
        replay(LINE, [replace(chunk, carry={**chunk.carry, "memory": memory})])


def test_a_memory_with_other_parts_is_refused() -> None:
    chunk = busy().chunks[1]
    assert chunk.carry is not None
    for carry in ({}, {**chunk.carry, "more": 1}):
        with pytest.raises(Malformed, match="parts"):
            replay(LINE, [replace(chunk, carry=carry)])
