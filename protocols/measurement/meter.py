"""The meter of one line: sample blocks in, closed windows out.

Decides when a window is closed: once the watermark has passed it and no stop in it can still turn out to be minor.
Every millisecond from the meter's start on falls into exactly one window, also across a restart: `carry` is the
whole memory, and what happened while nobody looked becomes UNKNOWN time. What rows say is `rows`', what a window
holds `windows`', what is shown between two windows `live`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from protocols.measurement.account import Category, Window
from protocols.measurement.calendar import Segment
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.live import Live, live
from protocols.measurement.near_calendar import NearCalendar
from protocols.measurement.parameters import cell_ms
from protocols.measurement.rows import Rows
from protocols.measurement.shown import Shown
from protocols.measurement.startup import Starts
from protocols.measurement.timeline import Resolved, Stop, Stretch
from protocols.measurement.windows import Cut, Seen, accounts, cuts
from protocols.plc.sample import SampleBlock


class LineMeter:
    """Measures one line from `start_ms` on, or goes on from a `carry`."""

    def __init__(self, configuration: LineConfiguration, start_ms: int, carry: Mapping[str, Any] | None = None) -> None:
        self.configuration = configuration
        self._counters = frozenset(counter.role for counter in configuration.counters)
        self._cell_ms = cell_ms(configuration)
        self._line_rows = Rows(configuration, start_ms)
        self._near = NearCalendar(configuration.calendar)
        self._handed_ms = start_ms
        self._starts = Starts()
        self._ended: list[Stop] = []
        self._shown = Shown()
        if carry is not None:
            self._resume(carry)

    @property
    def closed_until_ms(self) -> int:
        """Every window before this was given out by `advance`."""
        return self._line_rows.closed_ms

    @property
    def last_sample_ms(self) -> int:
        """The time of the newest row, or the meter's start."""
        return self._line_rows.last_ms

    def push(self, block: SampleBlock) -> None:
        """Takes rows in time order. Raises Malformed when they reach back before what was taken or closed."""
        self._line_rows.push(block)

    def push_row(self, time_ms: int, values: tuple[int, ...], valid: int) -> None:
        """Takes one row, as `push` does a block of one, and sooner."""
        self._line_rows.push_row(time_ms, values, valid)

    def advance(self, watermark_ms: int) -> list[Window]:
        """The windows that are closed now: those that end before `watermark_ms`, to which all rows were pushed.

        Contiguous with those given before. Rows that are older than a closed window can no longer be pushed.
        """
        rows = self._line_rows
        rows.settle(watermark_ms)
        closed_ms = rows.closed_ms
        # Before the next edge of the grid no window can end, unless the product changes.
        edge_ms = closed_ms - closed_ms % self._cell_ms + self._cell_ms
        if watermark_ms <= closed_ms or not (rows.changes or watermark_ms > edge_ms):
            return []
        resolved = rows.timeline.resolve(watermark_ms)
        decided = resolved.decided_ms
        planned = self._cuts(decided + self.configuration.window_ms)
        closed = [cut for cut in planned if cut.end_ms < watermark_ms and cut.end_ms <= decided]
        if not closed:
            return []
        end_ms = closed[-1].end_ms
        self._watch_starts(self._starts, resolved.stretches, end_ms)
        windows = self._accounts(closed, resolved, self._starts)
        self._hand_out(resolved, min(end_ms, decided - 1))
        self._shown.remember(windows, resolved.stretches, resolved.stops, closed_ms)
        self._starts.forget(end_ms - self.configuration.definition.startup_ms)
        rows.forget(end_ms)
        return windows

    def take_stops(self) -> list[Stop]:
        """The stops that ended before what `advance` has closed, each exactly once, in order of time.

        Call it before `carry`, which keeps those that were not taken.
        """
        ended, self._ended = self._ended, []
        return ended

    def live(self, now_ms: int) -> Live:
        """What the line does at `now_ms`, with the account of its shift so far."""
        rows = self._line_rows
        state = rows.state_at(now_ms)
        # Rows may still be on their way, so nothing is decided here: what is stale is left out of the account.
        until_ms = now_ms if state is not None else max(rows.closed_ms, min(rows.stale_ms, now_ms))
        place = self._near.shift_at(now_ms)  # first: `segments` goes by what it keeps
        resolved = rows.timeline.resolve(until_ms)
        starts = self._starts.copy()
        self._watch_starts(starts, resolved.stretches, until_ms)
        open_windows = self._accounts(self._cuts(until_ms), resolved, starts)
        return live(now_ms, until_ms, state, rows, resolved, open_windows, self._shown, place)

    def carry(self) -> dict[str, Any]:
        """All that a restart needs: integers, texts and lists. "live" serves display alone, and may be missing."""
        return self.memory() | {
            "ended": [[int(value) for value in astuple(stop)] for stop in self._ended],
            "handed_ms": self._handed_ms,
            "live": self._shown.to_data(),
        }

    def memory(self) -> dict[str, Any]:
        """Of `carry`, what the windows to come depend on."""
        return self._line_rows.to_data() | {
            "armed": int(self._starts.armed),
            "started_ms": list(self._starts.started_ms),
        }

    def _resume(self, carry: Mapping[str, Any]) -> None:
        self._line_rows.load(carry)
        self._handed_ms = carry["handed_ms"]
        self._starts = Starts(bool(carry["armed"]), list(carry["started_ms"]))
        self._ended = [
            Stop(start, end, Category(category), reason, bool(minor), bool(long))
            for start, end, category, reason, minor, long in carry["ended"]
        ]
        if "live" in carry:
            self._shown = Shown.from_data(carry["live"])

    def _accounts(self, windows: list[Cut], resolved: Resolved, starts: Starts) -> list[Window]:
        if not windows:
            return []
        seen = Seen(
            resolved.stretches,
            self._line_rows.deltas_until(windows[-1].end_ms),
            self._line_rows.moves,
            resolved.stops,
            starts.started_ms,
            self.configuration.definition.startup_ms,
        )
        return accounts(windows, seen, self._counters, self.configuration.ideal_cycle_ns)

    def _watch_starts(self, starts: Starts, stretches: list[Stretch], until_ms: int) -> None:
        closed_ms = self._line_rows.closed_ms
        if self.configuration.definition.startup_ms and until_ms > closed_ms:
            starts.watch(stretches, self._segments(until_ms), closed_ms, until_ms)

    def _hand_out(self, resolved: Resolved, until_ms: int) -> None:
        # A stop that ends exactly where the timeline is no longer decided may still go on.
        self._ended += [stop for stop in resolved.stops if self._handed_ms < stop.end_ms <= until_ms]
        self._handed_ms = max(self._handed_ms, until_ms)

    def _cuts(self, end_ms: int) -> list[Cut]:
        rows = self._line_rows
        return cuts(self._segments(end_ms), self.configuration.window_ms, rows.product, rows.changes)

    def _segments(self, end_ms: int) -> list[Segment]:
        return self._near.segments(self._line_rows.closed_ms, end_ms)
