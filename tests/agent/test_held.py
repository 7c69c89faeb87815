"""What waits in memory while the disk takes nothing: one memory a line, a bound, and a gap for what had to go."""

from __future__ import annotations

import pytest

from agent.held import DISK_FULL, Held
from agent.raw_meter import ClosedChunk, LostRaw
from agent.spool import LineBatch
from protocols.evidence.bodies import Gap
from protocols.evidence.merkle import LeafHash
from protocols.measurement.account import Category
from protocols.measurement.timeline import Stop
from tests.agent.factory import window

MINUTE = 60_000
HASH = b"\7" * 32


def batch(line_id: str, minute: int, *, windows: int = 1) -> LineBatch:
    start = minute * MINUTE
    chunk = ClosedChunk(line_id, HASH, start, start + MINUTE, 60, LeafHash(bytes(32)), b"zstd")
    stop = Stop(start, start + 1, Category.FAILURE, minute, False, True)
    closed = tuple(window(start) for _ in range(windows))
    return LineBatch(line_id, HASH, closed, {"closed_ms": start + MINUTE}, (stop,), (chunk,), b"%d" % minute)


def test_of_each_line_all_windows_and_the_newest_memory_wait() -> None:
    held = Held()
    for minute in range(100):
        held.add(batch("a", minute))
        held.add(batch("b", minute))
    assert held.shrink() == [] and held.gap is None
    a, b = held.batches
    assert [w.start_ms for w in a.windows] == [w.start_ms for w in b.windows] == list(range(0, 100 * MINUTE, MINUTE))
    assert (len(a.chunks), len(a.stops), a.open_chunk, a.carry) == (100, 100, b"99", {"closed_ms": 100 * MINUTE})
    held.saved()
    assert held.batches == [] and held.window_count == 0


def test_the_oldest_goes_and_is_a_gap_that_covers_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.held.HELD_WINDOWS", 4)
    held = Held()
    for minute in range(4):
        held.add(batch("a", minute))
        held.add(batch("b", minute))
        lost = held.shrink()
    assert lost == [LostRaw(line, MINUTE, 2 * MINUTE, DISK_FULL) for line in "ab"]
    assert [[w.start_ms for w in each.windows] for each in held.batches] == [[2 * MINUTE, 3 * MINUTE]] * 2
    held.saved()  # what was left is durable; the gaps could not be signed yet
    for minute in range(4, 11):
        held.add(batch("a", minute))
        held.shrink()
    gaps = []
    while held.gap is not None:
        gaps.append(held.gap)
        held.told()
    assert gaps == [
        Gap("a", 0, 2 * MINUTE, DISK_FULL), Gap("b", 0, 2 * MINUTE, DISK_FULL),
        Gap("a", 4 * MINUTE, 7 * MINUTE, DISK_FULL),
    ]  # fmt: skip


def test_chunks_are_bounded_where_windows_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.held.HELD_WINDOWS", 4)
    held = Held()
    held.add(batch("a", 0))
    for minute in range(1, 10):
        held.add(batch("a", minute, windows=0))
        lost = held.shrink()
    assert lost == [LostRaw("a", 5 * MINUTE, 6 * MINUTE, DISK_FULL)]
    assert (held.window_count, len(held.batches[0].chunks), held.gap) == (1, 4, None)
