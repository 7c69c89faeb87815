"""What is measured, and the goal of each: ratios within one run.

Decides how a measurement is made: everything that is compared is run in turn, round by round, so that a busy moment
of the machine meets all alike; medians are taken; sums are compared before a time counts.
"""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from benchmarks import kernels, peers, samples
from benchmarks.machine import add_words
from protocols.measurement.kernels import scan
from protocols.measurement.kernels import tick as ticks
from protocols.measurement.kernels.account import CATEGORIES
from protocols.measurement.kernels.jit import Kernel, enabled

YEAR = 31_536_000
DESIGN_BYTES = 17
"""Bytes a sample of the design's prototype: 8 of time, 1 of state, two counters of 4. The goal may be read at it."""


class Disagreement(Exception):
    """Two ways of doing the task do not give the same sums."""


class LeftOut(Exception):
    """It cannot be measured here; the words say why."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rows: int = YEAR
    peer_rows: int = 4_000_000
    python_rows: int = 200_000
    source_rows: int = 20_000
    lines: int = 1_000
    ticks: int = 300
    rounds: int = 7
    statements: int = 4_096
    gateways: int = 256
    batch: int = 1_024
    season_days: int = 182
    season_lines: int = 10
    audit_rows: int = 86_400

    @classmethod
    def small(cls) -> Sizes:
        return cls(
            20_000, 20_000, 20_000, 3_000, 20, 20, 2,
            statements=48, gateways=8, batch=16, season_days=2, season_lines=2, audit_rows=22_000,
        )  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A measured number. goal: the least (or, if `at_most`, the greatest) that is wanted."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def words(self) -> str:
        return f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:.3g}"

    @property
    def goal_words(self) -> str:
        return "" if self.goal is None else f"{'<=' if self.at_most else '>='} {self.goal:g}"

    def to_data(self) -> dict[str, Any]:
        return {**asdict(self), "value": float(f"{self.value:.4g}"), "reached": self.reached}


def medians(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, all in turn; one round before that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def gain_of_two(pairs: Mapping[str, Sequence[Callable[[], object]]], rounds: int) -> dict[str, float]:
    """Median of (both after each other) / (both at once), in threads that stay, as a service's do."""
    gains: dict[str, list[float]] = {name: [] for name in pairs}
    with ThreadPoolExecutor(2) as pool:
        for turn in range(rounds + 1):
            for name, calls in pairs.items():
                start = time.perf_counter()
                for call in calls:
                    call()
                between = time.perf_counter()
                for running in [pool.submit(call) for call in calls]:
                    running.result()
                if turn:  # the first starts the threads
                    gains[name].append((between - start) / (time.perf_counter() - between))
    return {name: statistics.median(found) for name, found in gains.items()}


def require_alike(made: samples.Samples, ways: Mapping[str, Callable[[kernels.Sums], None]]) -> None:
    """Raises Disagreement unless all ways give the same sums."""
    expected: kernels.Sums | None = None
    for name, way in ways.items():
        sums = _room(made)
        way(sums)
        expected = sums if expected is None else expected
        if not np.array_equal(sums, expected):
            at = np.argwhere(sums != expected)[0].tolist()
            raise Disagreement(f"{name} differs in window {at[0]}, column {at[1]}")


def _room(made: samples.Samples) -> kernels.Sums:
    return np.zeros((kernels.window_count(made), CATEGORIES + 2), np.int32)


def task(sizes: Sizes) -> list[Figure]:
    """The same samples, the same sums: kernels and peers."""
    made = samples.line(sizes.peer_rows)
    sums = _room(made)
    ways: dict[str, Callable[[kernels.Sums], None]] = {
        "kernel, narrow columns": kernels.narrow(made),
        "kernel, sample blocks": kernels.block(made),
        "kernel, scan alone": kernels.block(made, quick=False),
        "numpy": peers.numpy_arrays(made),
    }
    for name, build in (
        ("pandas", peers.pandas_frame),
        ("polars, all cores", peers.polars_frame),
        ("DuckDB, all cores", peers.duckdb_table),
    ):
        with suppress(ModuleNotFoundError):  # the environment of the tests has none of them
            ways[name] = build(made)
    require_alike(made, ways)
    found = medians({name: partial(way, sums) for name, way in ways.items()}, sizes.rounds)
    rates = {name: sizes.peer_rows / seconds / 1e6 for name, seconds in found.items()}
    for name, rows, build in (
        ("pure Python loop", sizes.python_rows, peers.python_loop),
        ("kernel's source in Python", sizes.source_rows, kernels.python_source),
    ):
        few = samples.line(rows)
        way = build(few)
        require_alike(few, {"kernel": kernels.narrow(few), name: way})
        rates[name] = rows / medians({name: partial(way, _room(few))}, 2)[name] / 1e6
    fast = rates["kernel, narrow columns"]
    figures = [Figure(name, rate, "million samples/s") for name, rate in rates.items()]
    others = [("polars, all cores", 20.0), ("DuckDB, all cores", None), ("numpy", None), ("pandas", None)]
    figures += [
        Figure(f"kernel over {name}, one thread", fast / rates[name], "x", goal)
        for name, goal in others
        if name in rates
    ]
    figures.append(Figure("kernel over a pure Python loop", fast / rates["pure Python loop"], "x"))
    return figures


def roofline(sizes: Sizes) -> list[Figure]:
    """A line-year, next to how fast the same memory can be read at all; and several lines at once."""
    made = samples.line(sizes.rows)
    other = samples.line(sizes.rows, seed=2)
    width = 4 + made.state.itemsize + made.total.itemsize + made.reject.itemsize
    words = np.arange(sizes.rows * width // 8, dtype=np.uint64)  # written, so that each page is memory of its own
    sums, other_sums = _room(made), _room(other)
    calm = samples.line(sizes.rows, seed=3, stop_every_s=7_200)
    one, two, quiet = kernels.narrow(made), kernels.narrow(other), kernels.narrow(calm)
    calm_sums = _room(calm)
    before = kernels.narrow(made)
    require_alike(made, {"one line": before, "the same line": one})

    found = medians(
        {"read": lambda: add_words(words), "kernel": partial(one, sums), "calm": partial(quiet, calm_sums)},
        sizes.rounds,
    )
    # What two cores of this machine give at all: a hash for as long as a line takes; it reads little and holds no lock.
    hashing = partial(hashlib.sha256, bytes(max(1, 3 * sizes.rows)))
    lines = partial(one, sums), partial(two, other_sums)
    gains = gain_of_two({"lines": lines, "hashes": (hashing, hashing)}, 2 * sizes.rounds)
    read = words.nbytes / found["read"]
    rate = sizes.rows / found["kernel"]
    return [
        Figure("memory read, one thread", read / 1e9, "GB/s"),
        Figure("kernel, a line-year, one thread", rate / 1e6, "million samples/s"),
        Figure("kernel, a calmer line (a stop in two hours)", sizes.rows / found["calm"] / 1e6, "million samples/s"),
        Figure("line-years a second", rate / YEAR, "1/s"),
        Figure(f"share of the read roofline at the columns' own {width} bytes", rate * width / read, ""),
        Figure(f"share of the read roofline at {DESIGN_BYTES} bytes", rate * DESIGN_BYTES / read, "", 0.6),
        Figure("two lines on two cores over one after the other", gains["lines"], "x", 1.8),
        Figure("the same for SHA-256 alone", gains["hashes"], "x"),
    ]


def tick(sizes: Sizes) -> list[Figure]:
    """One new row of each of many lines, in one call."""
    lines, rows = sizes.lines, sizes.ticks
    told = samples.tables()
    blocks = [samples.line(rows, seed=seed).block() for seed in range(lines)]
    time_ms = np.ascontiguousarray(np.array([block.time_ms for block in blocks]).T)
    values = np.ascontiguousarray(np.array([block.values for block in blocks]).transpose(1, 0, 2))
    valid = np.ascontiguousarray(np.array([block.valid for block in blocks]).T)
    raw_states, modes, cycles = (array[None].copy() for array in (told.raw_states, told.production_modes, told.cycles))
    states, legal = told.states[None].copy(), told.legal[None].copy()
    limits, counters = np.repeat(told.limits[None], lines, 0), np.repeat(told.counters[None], lines, 0)
    carry, memory = np.repeat(told.carry()[None], lines, 0), ticks.fresh_memory(lines, samples.COLUMNS)
    runs = np.zeros((scan.RUNS_A_ROW * lines + 2, 2), np.int64)
    deltas, events = np.zeros((2 * lines, 4), np.int64), np.zeros((scan.EVENTS_A_ROW * lines + 2, 3), np.int64)
    ends, table = np.zeros((lines, 3), np.int64), np.zeros(lines, np.int64)
    now = time_ms[0].copy(), values[0].copy(), valid[0].copy()  # where the sources write a line's newest row
    call = cast(Kernel, ticks.tick).bound(
        *now, table, raw_states, states, told.categories, legal, modes,
        cycles, limits, counters, carry, memory, runs, deltas, events, ends,
    )  # fmt: skip
    seconds = []
    pieces = 0
    for i in range(rows):
        now[0][:], now[1][:], now[2][:] = time_ms[i], values[i], valid[i]
        start = time.perf_counter()
        _, counted, _ = cast(tuple[int, int, int], call())
        seconds.append(time.perf_counter() - start)
        pieces += int(deltas[:counted, 2].sum())
    expected = 0
    for block in blocks:
        room = (
            np.zeros((3 * rows + 2, 2), np.int64),
            np.zeros((2 * rows, 4), np.int64),
            np.zeros((4 * rows + 2, 3), np.int64),
        )
        _, counted, _ = scan.scan(
            block.time_ms, block.values, block.valid, *told.all, told.carry(), room[0], room[1], room[2]
        )
        expected += int(room[1][:counted, 2].sum())
    if pieces != expected:
        raise Disagreement(f"tick counts {pieces}, scan {expected}")
    each = statistics.median(seconds[1:]) / lines * 1e9
    return [Figure(f"a tick of {lines:,} lines", each, "ns a sample", 80.0, at_most=True)]


_START = """
import time
start = time.perf_counter()
from protocols.measurement.kernels import check, jit
assert check.holds() and jit.enabled()
print(time.perf_counter() - start)
"""


def start(sizes: Sizes) -> list[Figure]:
    """A fresh process: from its first import to checked kernels, without Python's own start."""
    if not enabled():
        return []

    def seconds() -> float:
        done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True, timeout=100)
        return float(done.stdout)

    seconds()  # keeps the machine code, if it is not kept yet
    found = statistics.median(seconds() for _ in range(sizes.rounds))
    return [Figure("cached start of the agent's kernels", found, "s", 0.3, at_most=True)]


MEASURES: dict[str, Callable[[Sizes], list[Figure]]] = {
    "task": task,
    "roofline": roofline,
    "tick": tick,
    "start": start,
}
