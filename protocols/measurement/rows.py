"""The rows of one line as they come, and what they said that no closed window holds yet.

Decides nothing about windows: rows become runs of one category (`timeline`), counter deltas, moves of the state and
changes of the product, here and in the kernel, and stay until `forget`. When a window is closed, and what it holds, is
decided in `meter`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from protocols.errors import Malformed
from protocols.measurement.account import Category
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.kernels import scan as k
from protocols.measurement.parameters import lanes, limits, tables
from protocols.measurement.quiet import QuietRows
from protocols.measurement.timeline import Timeline
from protocols.plc.packml import State
from protocols.plc.sample import SampleBlock

_ROWS_A_CALL: Final = 16_384  # bounds what a kernel's call may write: some 5 MB
_FEW_ROWS: Final = 64  # of deltas: up to about so many are sooner counted one by one


class Rows:
    """Of one line, from `closed_ms` on: up to there all is in closed windows, and no row may be older.

    `timeline`: what it did. `moves`: (time_ms, 1 for a move that PackML does not know). `product`: what was made at
    `closed_ms`; `changes`: (time_ms, the product from then on). All in order of time.
    """

    def __init__(self, configuration: LineConfiguration, start_ms: int) -> None:
        self._configuration = configuration
        self._names = {product.code: product.name for product in configuration.products}
        self._tables = tables(configuration)
        self._legal = self._tables[3]
        self._limits = limits(configuration)
        self._lanes = lanes(configuration)
        self._memory = k.fresh_carry(len(self._lanes))
        self._quiet = QuietRows(self._limits, self._lanes)
        self._deltas: list[k.I64] = []
        self.closed_ms = start_ms
        self.timeline = Timeline(start_ms, configuration.definition)
        self.moves: list[tuple[int, int]] = []
        self.changes: list[tuple[int, str]] = []
        self.product = configuration.products[0].name if len(configuration.products) == 1 else ""

    @property
    def last_ms(self) -> int:
        """The time of the newest row, or `closed_ms` where there is none."""
        quiet_ms = self._quiet.last_ms
        if quiet_ms is not None:
            return quiet_ms
        return int(self._memory[k.LAST_MS]) if self._memory[k.SEEN] else self.closed_ms

    @property
    def stale_ms(self) -> int:
        """When the last news is too old, if none comes."""
        news_ms = self._quiet.news_ms
        if news_ms is None:
            news_ms = self.last_ms
            if self._configuration.heartbeat and self._memory[k.SEEN]:
                news_ms = min(news_ms, int(self._memory[k.HEART_MS]))
        return news_ms + self._configuration.staleness_ms

    def state_at(self, now_ms: int) -> tuple[State, int] | None:
        """The state at `now_ms`, and since when; None before the first row, or when the last news is too old."""
        if not self._memory[k.SEEN] or now_ms > self.stale_ms:
            return None
        return State(int(self._memory[k.STATE])), int(self._memory[k.STATE_MS])

    def push(self, block: SampleBlock) -> None:
        """Takes rows in time order. Raises Malformed when they reach back before what was taken or closed."""
        rows = len(block)
        if not rows:
            return
        if int(block.time_ms[0]) < max(self.last_ms, self.closed_ms):
            raise Malformed(f"rows reach back to {int(block.time_ms[0])}, before {self.last_ms}")
        self._end_quiet()
        for first in range(0, rows, _ROWS_A_CALL):
            last = first + _ROWS_A_CALL
            self._scan(block.time_ms[first:last], block.values[first:last], block.valid[first:last])

    def push_row(self, time_ms: int, values: tuple[int, ...], valid: int) -> None:
        """Takes one row, as `push` does a block of one; that nothing happens in most rows is found out cheaply here."""
        if time_ms >= self.closed_ms and self._quiet.take(time_ms, values, valid):
            return
        if time_ms < max(self.last_ms, self.closed_ms):
            raise Malformed(f"a row reaches back to {time_ms}, before {self.last_ms}")
        self._end_quiet()
        block = SampleBlock.from_rows([(time_ms, values, valid)])
        self._scan(block.time_ms, block.values, block.valid)
        self._quiet.begin(self._memory, values, valid)

    def settle(self, now_ms: int) -> None:
        """Lets happen what happens without a row, as the kernel would before the next one."""
        if self._quiet.still(now_ms):
            return
        self._end_quiet()
        runs, events = np.empty((2, 2), np.int64), np.empty((2, 3), np.int64)
        run_rows, event_rows = k.settle(now_ms, self._legal, self._limits, self._memory, runs, 0, events, 0)
        self._take(runs[:run_rows], events[:event_rows])

    def _end_quiet(self) -> None:
        self._quiet.end(self._memory)
        self._take_quiet()

    def _take_quiet(self) -> None:
        if self._quiet.rows:
            self._deltas.append(np.array(self._quiet.take_rows(), np.int64))

    def _scan(self, time_ms: k.I64, values: k.I64, valid: k.U32) -> None:
        rows = len(time_ms)
        runs = np.empty((k.RUNS_A_ROW * rows + 2, 2), np.int64)
        deltas = np.empty((max(1, len(self._lanes) * rows), 4), np.int64)
        events = np.empty((k.EVENTS_A_ROW * rows + 2, 3), np.int64)
        run_rows, delta_rows, event_rows = k.scan(
            np.ascontiguousarray(time_ms),
            np.ascontiguousarray(values),
            np.ascontiguousarray(valid),
            *self._tables,
            self._limits,
            self._lanes,
            self._memory,
            runs,
            deltas,
            events,
        )
        self._take(runs[:run_rows], events[:event_rows])
        if delta_rows:
            self._deltas.append(deltas[:delta_rows].copy())

    def _take(self, runs: k.I64, events: k.I64) -> None:
        for start, category in runs.tolist():
            self.timeline.append(max(start, self.closed_ms), Category(category))
        for at, kind, value in events.tolist():
            if kind == k.EVENT_MOVE:
                self.moves.append((at, value))
            elif kind == k.EVENT_REASON:
                self.timeline.give_reason(at, value)
            else:
                self.changes.append((at, self._names.get(value, f"#{value}")))

    def deltas_until(self, end_ms: int) -> k.I64 | list[list[int]]:
        """The delta rows up to and at `end_ms`: [time_ms, role, pieces, flags]."""
        if sum(map(len, self._deltas)) + len(self._quiet.rows) > _FEW_ROWS:
            deltas = self._all_deltas()
            return deltas[deltas[:, 0] <= end_ms] if self.last_ms > end_ms else deltas
        rows = [row for block in self._deltas for row in block.tolist()] + self._quiet.rows
        return [row for row in rows if row[0] <= end_ms] if self.last_ms > end_ms else rows

    def _all_deltas(self) -> k.I64:
        if len(self._deltas) != 1:
            self._deltas = [np.concatenate(self._deltas) if self._deltas else np.empty((0, 4), np.int64)]
        if self._quiet.rows:
            return np.concatenate((self._deltas[0], np.array(self._quiet.rows, np.int64)))
        return self._deltas[0]

    def forget(self, end_ms: int) -> None:
        """All up to `end_ms` is in closed windows now."""
        self._take_quiet()
        deltas = self._all_deltas()
        self._deltas = [deltas[deltas[:, 0] > end_ms]]
        self.moves = self.moves[bisect_right(self.moves, (end_ms, -1)) :]
        self.closed_ms = end_ms
        past = sum(at < end_ms for at, _ in self.changes)
        if past:
            self.product = self.changes[past - 1][1]
            del self.changes[:past]
        self.timeline.forget(end_ms)

    def to_data(self) -> dict[str, Any]:
        """What the windows to come depend on: integers, texts and lists."""
        # A row at the last window's very end may have come after it was closed: what is remembered has one form.
        self.timeline.forget(self.closed_ms)
        self._quiet.write(self._memory)
        return {
            "changes": [[at, product] for at, product in self.changes],
            "closed_ms": self.closed_ms,
            "deltas": self._all_deltas().tolist(),
            "memory": self._memory.tolist(),
            "moves": [list(move) for move in self.moves],
            "product": self.product,
            **self.timeline.to_data(),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """The inverse of `to_data`. Raises Malformed for another line's memory."""
        self._memory = np.array(data["memory"], np.int64)
        if len(self._memory) != k.CARRY + k.LANE * len(self._lanes):
            raise Malformed("what was kept of this line is of another form")
        self.closed_ms = data["closed_ms"]
        self._deltas = [np.array(data["deltas"], np.int64).reshape(-1, 4)]
        self.product = data["product"]
        self.changes = [(at, product) for at, product in data["changes"]]
        self.moves = [(at, illegal) for at, illegal in data["moves"]]
        self.timeline.load(data["runs"], data["reasons"])
