"""From values that come one by one, and not always in order, to rows: the whole image of a line at an instant.

Decides the order of rows. Values wait until nothing older can be under way; one that comes later still takes the
time of the newest row and is counted, so that what the meter gets never goes backwards.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import TypeAlias

from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import Row

Values: TypeAlias = list[tuple[int, int | None]]
"""Values of one time: (column, value), or None in place of a value that is not good."""


class Image:
    """The held values of one line. `columns`: those that the line has tags for (roles, lanes); times are Unix ms.

    `keep_alive_ms`: a held value is repeated as a row this often. No row is older than `floor_ms`.

    A line without an order tag always has an order: its column is 1 and valid while its state is.
    """

    def __init__(self, columns: Iterable[int], keep_alive_ms: int, floor_ms: int = 0) -> None:
        self._keep_alive_ms = max(keep_alive_ms, 1)
        tagged = frozenset(columns)
        self._values = [0] * max([ROLES, *(column + 1 for column in tagged)])
        self._valid = 0
        if SignalRole.ORDER not in tagged:
            self._values[SignalRole.ORDER] = 1
            self._valid = 1 << SignalRole.ORDER
        self._always = self._valid
        self._waiting: list[tuple[int, int, Values | None]] = []  # time, arrival, values; None: all is lost
        self._arrivals = 0
        self._floor_ms = floor_ms
        self._row_ms = floor_ms
        self._alive_ms = 0
        self.late_count = 0

    def put(self, time_ms: int, values: Values) -> None:
        """Values that hold from `time_ms` on; where one is not good its column is invalid until a good one comes.

        The list is kept, and what is added to it before the next `release` holds too.
        """
        self._push(time_ms, values)

    def lose(self, time_ms: int) -> None:
        """Nothing is known from `time_ms` on."""
        self._push(time_ms, None)

    def alive(self, time_ms: int) -> None:
        """Every change before `time_ms` has arrived: values held till then are fresh."""
        self._alive_ms = max(self._alive_ms, time_ms)

    def release(self, until_ms: int, *, repeat: bool = True) -> list[Row]:
        """The rows up to `until_ms`. Rows of later calls are never older than it.

        `repeat`: whether held values may be repeated at its end; not where the source was last heard before an earlier
        call's end, as after the machine has slept.
        """
        rows: list[Row] = []
        waiting = self._waiting
        while waiting and waiting[0][0] <= until_ms:
            time_ms, _, values = heapq.heappop(waiting)
            if time_ms < self._floor_ms:
                self.late_count += 1 if values is None else len(values)
                time_ms = self._floor_ms
            self._apply(values)
            if not waiting or max(waiting[0][0], self._floor_ms) != time_ms or waiting[0][0] > until_ms:
                rows.append((time_ms, tuple(self._values), self._valid))
                self._row_ms = time_ms
        fresh_ms = min(until_ms, self._alive_ms)
        held = repeat and self._valid & ~self._always and fresh_ms >= self._floor_ms
        if held and fresh_ms - self._row_ms >= self._keep_alive_ms:
            rows.append((fresh_ms, tuple(self._values), self._valid))
            self._row_ms = fresh_ms
        self._floor_ms = max(self._floor_ms, until_ms)
        return rows

    def _push(self, time_ms: int, values: Values | None) -> None:
        self._arrivals += 1
        heapq.heappush(self._waiting, (time_ms, self._arrivals, values))

    def _apply(self, values: Values | None) -> None:
        if values is None:
            self._valid = self._always
            return
        held, valid = self._values, self._valid
        for column, value in values:
            if value is None:
                valid &= ~(1 << column)
            else:
                held[column] = value
                valid |= 1 << column
        self._valid = valid
