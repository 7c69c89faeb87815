"""From values that come one by one, and not always in order, to rows: the whole image of a line at an instant.

Decides the order of rows. Values wait until nothing older can be under way; one that comes later still takes the
time of the newest row and is counted, so that what the meter gets never goes backwards.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import SampleBlock

_LOST = -1


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
        self._waiting: list[tuple[int, int, int, int, bool]] = []  # time, arrival, column, value, good
        self._arrivals = 0
        self._floor_ms = floor_ms
        self._row_ms = floor_ms
        self._alive_ms = 0
        self.late_count = 0

    def put(self, time_ms: int, column: int, value: int, good: bool) -> None:
        """A value that holds from `time_ms` on; when it is not good the column is invalid until a good one."""
        self._push(time_ms, int(column), value, good)

    def lose(self, time_ms: int) -> None:
        """Nothing is known from `time_ms` on."""
        self._push(time_ms, _LOST, 0, good=False)

    def alive(self, time_ms: int) -> None:
        """Every change before `time_ms` has arrived: values held till then are fresh."""
        self._alive_ms = max(self._alive_ms, time_ms)

    def release(self, until_ms: int, *, repeat: bool = True) -> SampleBlock | None:
        """The rows up to `until_ms`. Rows of later calls are never older than it.

        `repeat`: whether held values may be repeated at its end; not where the source was last heard before an earlier
        call's end, as after the machine has slept.
        """
        rows: list[tuple[int, tuple[int, ...], int]] = []
        while self._waiting and self._waiting[0][0] <= until_ms:
            time_ms, _, column, value, good = heapq.heappop(self._waiting)
            if time_ms < self._floor_ms:
                self.late_count += 1
                time_ms = self._floor_ms
            self._apply(column, value, good)
            if rows and rows[-1][0] == time_ms:
                rows.pop()
            rows.append((time_ms, tuple(self._values), self._valid))
            self._row_ms = time_ms
        fresh_ms = min(until_ms, self._alive_ms)
        held = repeat and self._valid & ~self._always and fresh_ms >= self._floor_ms
        if held and fresh_ms - self._row_ms >= self._keep_alive_ms:
            rows.append((fresh_ms, tuple(self._values), self._valid))
            self._row_ms = fresh_ms
        self._floor_ms = max(self._floor_ms, until_ms)
        return SampleBlock.from_rows(rows) if rows else None

    def _push(self, time_ms: int, column: int, value: int, good: bool) -> None:
        self._arrivals += 1
        heapq.heappush(self._waiting, (time_ms, self._arrivals, column, value, good))

    def _apply(self, column: int, value: int, good: bool) -> None:
        if column == _LOST:
            self._valid = self._always
        elif good:
            self._values[column] = value
            self._valid |= 1 << column
        else:
            self._valid &= ~(1 << column)
