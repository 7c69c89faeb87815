"""Our own forms of the task: the kernels over narrow columns, over a SampleBlock, and their Python source.

Decides how a long stretch is cut up: in chunks whose runs and delta rows stay in the second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.samples import COLUMNS, START_MS, VALID, WINDOW_MS, Samples, tables
from protocols.measurement.kernels import account, columns, jit, scan, tiles
from protocols.plc.roles import SignalRole

CHUNK: Final = 1_048_576
Sums = NDArray[np.int32]


def first_window_ms() -> int:
    return START_MS // WINDOW_MS * WINDOW_MS


def window_count(samples: Samples) -> int:
    return (int(samples.gap_ms.sum(dtype=np.int64)) + START_MS - first_window_ms() - 1) // WINDOW_MS + 1


class Room:
    """Arrays that every chunk uses again."""

    def __init__(self, rows: int) -> None:
        size = min(rows, CHUNK)
        self.runs = np.zeros((scan.RUNS_A_ROW * size + 2, 2), np.int64)
        self.deltas = np.zeros((2 * size, 4), np.int64)
        self.events = np.zeros((scan.EVENTS_A_ROW * size + 2, 3), np.int64)
        self.scratch = columns.scratch(COLUMNS)
        self.held_columns = np.zeros(32, np.int64)


def narrow(samples: Samples) -> Callable[[Sums], None]:
    """The task over narrow columns; the returned call fills the sums."""
    made, room = tables(), Room(len(samples))
    chunks = [slice(at, min(at + CHUNK, len(samples))) for at in range(0, len(samples), CHUNK)]
    # One large array each, cut up: large pages, as whatever reads a file of raw data would have.
    counts, after = np.empty(2 * len(samples), np.uint16), np.empty(len(samples), np.uint32)
    time_ms = samples.time_ms
    counted, bases, ends = [], [], []
    for chunk in chunks:
        part = counts[2 * chunk.start : 2 * chunk.stop].reshape(2, -1)
        part[0], part[1] = samples.total[chunk], samples.reject[chunk]
        counted.append(part)
        bases.append(int(time_ms[chunk.start]))
        ends.append(int(time_ms[chunk.stop - 1]))
        after[chunk] = time_ms[chunk] - bases[-1]
    del time_ms
    image = np.zeros(COLUMNS, np.int64)
    image[[SignalRole.PRODUCT, SignalRole.ORDER]] = 1

    def run(sums: Sums) -> None:
        carry, held = made.carry(), np.zeros(2, np.int64)
        held[1] = bases[0]
        cleared = 0
        for chunk, base, part, now in zip(chunks, bases, counted, ends, strict=True):
            window = (now - 1 - first_window_ms()) // WINDOW_MS + 1
            sums[cleared:window] = 0  # where it is written next, and not the whole year before
            cleared = window
            runs, deltas, _ = columns.scan_columns(
                base, after[chunk], samples.state[chunk], part, image, VALID, int(SignalRole.STATE),
                *made.all, carry, room.runs, room.deltas, room.events, *room.scratch,
            )  # fmt: skip
            account.add_windows(
                first_window_ms(), WINDOW_MS, now, held, room.runs, runs, room.deltas, deltas, made.counters, sums
            )

    return run


def block(samples: Samples, *, quick: bool = True) -> Callable[[Sums], None]:
    """The task over a SampleBlock, by the quick form or by `scan` alone."""
    made, room, whole = tables(), Room(len(samples)), samples.block()
    chunks = [slice(at, at + CHUNK) for at in range(0, len(samples), CHUNK)]

    def run(sums: Sums) -> None:
        sums[:] = 0
        carry, held = made.carry(), np.zeros(2, np.int64)
        held[1] = whole.time_ms[0]
        for chunk in chunks:
            time_ms, values, valid = whole.time_ms[chunk], whole.values[chunk], whole.valid[chunk]
            if quick:
                runs, deltas, _ = tiles.scan_quickly(
                    time_ms, values, valid, *made.all, carry, room.runs, room.deltas, room.events, room.held_columns
                )
            else:
                runs, deltas, _ = scan.scan(
                    time_ms, values, valid, *made.all, carry, room.runs, room.deltas, room.events
                )
            account.add_windows(
                first_window_ms(), WINDOW_MS, int(time_ms[-1]), held,
                room.runs, runs, room.deltas, deltas, made.counters, sums,
            )  # fmt: skip

    return run


def python_source(samples: Samples) -> Callable[[Sums], None]:
    """`scan`'s source as Python runs it."""
    run = block(samples, quick=False)

    def slowly(sums: Sums) -> None:
        with jit.uncompiled():
            run(sums)

    return slowly
