"""The meter of one line: sample blocks in, closed windows out.

Decides when a window is closed: once the watermark has passed it and no stop in it can still turn out to be minor.
Every millisecond from the meter's start on falls into exactly one window, also across a restart: `carry` is the
whole memory, and what happened while nobody looked becomes UNKNOWN time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from math import gcd
from typing import Any, Final

import numpy as np

from protocols.errors import Malformed
from protocols.measurement.account import Category, TimeAccount, Window, total
from protocols.measurement.calendar import Segment, clipped
from protocols.measurement.configuration import Encoding, LineConfiguration
from protocols.measurement.kernels import scan as k
from protocols.measurement.machine import PackML, PiecesOnly, RunningBit, Speed, StateValues
from protocols.measurement.mapping import category_table, cycle_table, legal_table, state_table
from protocols.measurement.quiet import QuietRows
from protocols.measurement.shown import RECENT_MS, RIBBON_RUNS, STOPS_SHOWN, Shown
from protocols.measurement.startup import Starts
from protocols.measurement.timeline import Resolved, Stop, Stretch, Timeline
from protocols.measurement.windows import Cut, Seen, accounts, cuts
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock

_ROWS_A_CALL: Final = 16_384  # bounds what a kernel's call may write: some 5 MB
_FEW_ROWS: Final = 64  # of deltas: up to about so many are sooner counted one by one
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Live:
    """What a line does now. Provisional: an open short stop may still become a minor one."""

    time_ms: int
    state: State
    category: Category
    since_ms: int
    product: str
    shift: str
    shift_start_ms: int
    shift_end_ms: int
    shift_account: TimeAccount
    recent_account: TimeAccount  # about the last five minutes
    planned_shift_ms: int  # scheduled time of the whole shift
    ribbon: tuple[tuple[int, Category], ...]
    stops: tuple[Stop, ...]


class LineMeter:
    """Measures one line from `start_ms` on, or goes on from a `carry`."""

    def __init__(self, configuration: LineConfiguration, start_ms: int, carry: Mapping[str, Any] | None = None) -> None:
        self.configuration = configuration
        self._products = {product.code: product.name for product in configuration.products}
        self._counters = frozenset(counter.role for counter in configuration.counters)
        self._tables = (
            *state_table(configuration),
            category_table(configuration.mapping),
            legal_table(configuration),
            np.array(configuration.production_modes, np.int64),
            cycle_table(configuration),
        )
        self._legal = self._tables[3]
        self._limits = _limits(configuration)
        self._lanes = lanes(configuration)
        self._memory = k.fresh_carry(len(self._lanes))
        self._quiet = QuietRows(self._limits, self._lanes)
        self._closed_ms = start_ms
        self._handed_ms = start_ms
        self._timeline = Timeline(start_ms, configuration.definition)
        self._starts = Starts()
        self._deltas: list[k.I64] = []
        self._moves: list[tuple[int, int]] = []
        self._ended: list[Stop] = []
        self._product = self._only_product()
        self._changes: list[tuple[int, str]] = []
        self._shown = Shown()
        self._around: tuple[int, list[Segment]] = (-1, [])  # the calendar about an hour, which begins then
        self._here: tuple[list[Segment], Segment, tuple[int, int, int]] | None = None  # of `_around`, see `_shift_at`
        if carry is not None:
            self._resume(carry)

    @property
    def closed_until_ms(self) -> int:
        """Every window before this was given out by `advance`."""
        return self._closed_ms

    @property
    def last_sample_ms(self) -> int:
        """The time of the newest row, or the meter's start."""
        quiet_ms = self._quiet.last_ms
        if quiet_ms is not None:
            return quiet_ms
        return int(self._memory[k.LAST_MS]) if self._memory[k.SEEN] else self._closed_ms

    def push(self, block: SampleBlock) -> None:
        """Takes rows in time order. Raises Malformed when they reach back before what was taken or closed."""
        rows = len(block)
        if not rows:
            return
        if int(block.time_ms[0]) < max(self.last_sample_ms, self._closed_ms):
            raise Malformed(f"rows reach back to {int(block.time_ms[0])}, before {self.last_sample_ms}")
        self._end_quiet()
        for first in range(0, rows, _ROWS_A_CALL):
            last = first + _ROWS_A_CALL
            self._scan(block.time_ms[first:last], block.values[first:last], block.valid[first:last])

    def push_row(self, time_ms: int, values: tuple[int, ...], valid: int) -> None:
        """Takes one row, as `push` does a block of one; that nothing happens in most rows is found out cheaply here."""
        if time_ms < max(self.last_sample_ms, self._closed_ms):
            raise Malformed(f"a row reaches back to {time_ms}, before {self.last_sample_ms}")
        if self._quiet.take(time_ms, values, valid):
            return
        self._end_quiet()
        block = SampleBlock.from_rows([(time_ms, values, valid)])
        self._scan(block.time_ms, block.values, block.valid)
        self._quiet.begin(self._memory, values, valid)

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
            self._timeline.append(max(start, self._closed_ms), Category(category))
        for at, kind, value in events.tolist():
            if kind == k.EVENT_MOVE:
                self._moves.append((at, value))
            elif kind == k.EVENT_REASON:
                self._timeline.give_reason(at, value)
            else:
                self._changes.append((at, self._products.get(value, f"#{value}")))

    def advance(self, watermark_ms: int) -> list[Window]:
        """The windows that are closed now: those that end before `watermark_ms`, to which all rows were pushed.

        Contiguous with those given before. Rows that are older than a closed window can no longer be pushed.
        """
        self._settle(watermark_ms)
        if watermark_ms <= self._closed_ms or not (self._changes or watermark_ms > self._next_edge_ms):
            return []
        resolved = self._timeline.resolve(watermark_ms)
        decided = resolved.decided_ms
        planned = self._cuts(decided + self.configuration.window_ms)
        closed = [cut for cut in planned if cut.end_ms < watermark_ms and cut.end_ms <= decided]
        if not closed:
            return []
        end_ms = closed[-1].end_ms
        self._watch_starts(self._starts, resolved.stretches, end_ms)
        windows = self._accounts(closed, resolved, self._starts)
        self._hand_out(resolved, min(end_ms, decided - 1))
        self._shown.remember(windows, resolved.stretches, resolved.stops, self._closed_ms)
        self._take_quiet()
        deltas = self._all_deltas()
        self._deltas = [deltas[deltas[:, 0] > end_ms]]
        self._moves = self._moves[bisect_right(self._moves, (end_ms, -1)) :]
        self._starts.forget(end_ms - self.configuration.definition.startup_ms)
        self._closed_ms = end_ms
        past = sum(at < end_ms for at, _ in self._changes)
        if past:
            self._product = self._changes[past - 1][1]
            del self._changes[:past]
        self._timeline.forget(end_ms)
        return windows

    def take_stops(self) -> list[Stop]:
        """The stops that ended before what `advance` has closed, each exactly once, in order of time.

        Call it before `carry`, which keeps those that were not taken.
        """
        ended, self._ended = self._ended, []
        return ended

    def live(self, now_ms: int) -> Live:
        """What the line does at `now_ms`, with the account of its shift so far."""
        # Rows may still be on their way, so nothing is decided here: what is stale is left out of the account.
        stale_ms = self._stale_ms
        known = bool(self._memory[k.SEEN]) and now_ms <= stale_ms
        until_ms = now_ms if known else max(self._closed_ms, min(stale_ms, now_ms))
        here, bounds = self._shift_at(now_ms)
        shift_start_ms, shift_end_ms, planned_ms = bounds if here.shift else (now_ms, now_ms, 0)
        resolved = self._timeline.resolve(until_ms)
        runs = resolved.stretches
        seen_stops = resolved.stops
        starts = self._starts.copy()
        self._watch_starts(starts, runs, until_ms)
        open_windows = self._accounts(self._cuts(until_ms), resolved, starts)
        recent_ms = now_ms - RECENT_MS
        stops = [*self._shown.stops, *(s for s in seen_stops if s.end_ms > self._closed_ms)]
        return Live(
            time_ms=now_ms,
            state=State(int(self._memory[k.STATE])) if known else State.UNDEFINED,
            category=runs[-1][2] if runs and known else Category.UNKNOWN,
            since_ms=int(self._memory[k.STATE_MS]) if known else until_ms,
            product=self._changes[-1][1] if self._changes else self._product,
            shift=here.shift,
            shift_start_ms=shift_start_ms,
            shift_end_ms=shift_end_ms,
            shift_account=total(
                [
                    *([self._shown.account] if here.shift and self._shown.shift == here.shift else ()),
                    *(w.account for w in open_windows if here.shift and w.shift == here.shift),
                ]
            ),
            recent_account=total(
                [
                    self._shown.account_since(recent_ms),
                    *(w.account for w in open_windows if w.start_ms >= recent_ms),
                ]
            ),
            planned_shift_ms=planned_ms,
            ribbon=self._shown.ribbon_with(
                ((max(s, self._closed_ms), c) for s, e, c in runs if e > self._closed_ms),
                shift_start_ms,
            )[-RIBBON_RUNS:],
            stops=tuple({s.start_ms: s for s in stops}.values())[-STOPS_SHOWN:],
        )

    def carry(self) -> dict[str, Any]:
        """All that a restart needs: integers, texts and lists. "live" serves display alone, and may be missing."""
        return self.memory() | {
            "ended": [[int(value) for value in astuple(stop)] for stop in self._ended],
            "handed_ms": self._handed_ms,
            "live": self._shown.to_data(),
        }

    def memory(self) -> dict[str, Any]:
        """Of `carry`, what the windows to come depend on."""
        # A row at the last window's very end may have come after it was closed: what is remembered has one form.
        self._timeline.forget(self._closed_ms)
        self._quiet.write(self._memory)
        return {
            "armed": int(self._starts.armed),
            "changes": [[at, product] for at, product in self._changes],
            "closed_ms": self._closed_ms,
            "deltas": self._all_deltas().tolist(),
            "memory": self._memory.tolist(),
            "moves": [list(move) for move in self._moves],
            "product": self._product,
            "started_ms": list(self._starts.started_ms),
            **self._timeline.to_data(),
        }

    def _resume(self, carry: Mapping[str, Any]) -> None:
        self._closed_ms = carry["closed_ms"]
        self._handed_ms = carry["handed_ms"]
        self._deltas = [np.array(carry["deltas"], np.int64).reshape(-1, 4)]
        self._memory = np.array(carry["memory"], np.int64)
        if len(self._memory) != k.CARRY + k.LANE * len(self._lanes):
            raise Malformed("what was kept of this line is of another form")
        self._product = carry["product"]
        self._changes = [(at, product) for at, product in carry["changes"]]
        self._moves = [(at, illegal) for at, illegal in carry["moves"]]
        self._starts = Starts(bool(carry["armed"]), list(carry["started_ms"]))
        self._ended = [
            Stop(start, end, Category(category), reason, bool(minor), bool(long))
            for start, end, category, reason, minor, long in carry["ended"]
        ]
        self._timeline.load(carry["runs"], carry["reasons"])
        if "live" in carry:
            self._shown = Shown.from_data(carry["live"])

    def _only_product(self) -> str:
        products = self.configuration.products
        return products[0].name if len(products) == 1 else ""

    @property
    def _next_edge_ms(self) -> int:
        """Before this no window can end, unless the product changes."""
        cell_ms = _cell_ms(self.configuration)
        return self._closed_ms - self._closed_ms % cell_ms + cell_ms

    @property
    def _stale_ms(self) -> int:
        """When the last news is too old, if none comes."""
        news_ms = self._quiet.news_ms
        if news_ms is None:
            news_ms = self.last_sample_ms
            if self.configuration.heartbeat and self._memory[k.SEEN]:
                news_ms = min(news_ms, int(self._memory[k.HEART_MS]))
        return news_ms + self.configuration.staleness_ms

    def _settle(self, now_ms: int) -> None:
        """Lets happen what happens without a row, as the kernel would before the next one."""
        if self._quiet.still(now_ms):
            return
        self._end_quiet()
        runs, events = np.empty((2, 2), np.int64), np.empty((2, 3), np.int64)
        run_rows, event_rows = k.settle(now_ms, self._legal, self._limits, self._memory, runs, 0, events, 0)
        self._take(runs[:run_rows], events[:event_rows])

    def _all_deltas(self) -> k.I64:
        """All that are not in a closed window, as one array."""
        if len(self._deltas) != 1:
            self._deltas = [np.concatenate(self._deltas) if self._deltas else np.empty((0, 4), np.int64)]
        if self._quiet.rows:
            return np.concatenate((self._deltas[0], np.array(self._quiet.rows, np.int64)))
        return self._deltas[0]

    def _deltas_until(self, end_ms: int) -> k.I64 | list[list[int]]:
        if sum(map(len, self._deltas)) + len(self._quiet.rows) > _FEW_ROWS:
            deltas = self._all_deltas()
            return deltas[deltas[:, 0] <= end_ms] if self.last_sample_ms > end_ms else deltas
        rows = [row for block in self._deltas for row in block.tolist()] + self._quiet.rows
        return [row for row in rows if row[0] <= end_ms] if self.last_sample_ms > end_ms else rows

    def _accounts(self, windows: list[Cut], resolved: Resolved, starts: Starts) -> list[Window]:
        if not windows:
            return []
        seen = Seen(
            resolved.stretches,
            self._deltas_until(windows[-1].end_ms),
            self._moves,
            resolved.stops,
            starts.started_ms,
            self.configuration.definition.startup_ms,
        )
        return accounts(windows, seen, self._counters, self.configuration.ideal_cycle_ns)

    def _watch_starts(self, starts: Starts, stretches: list[Stretch], until_ms: int) -> None:
        if self.configuration.definition.startup_ms and until_ms > self._closed_ms:
            starts.watch(stretches, self._segments(until_ms), self._closed_ms, until_ms)

    def _hand_out(self, resolved: Resolved, until_ms: int) -> None:
        # A stop that ends exactly where the timeline is no longer decided may still go on.
        self._ended += [stop for stop in resolved.stops if self._handed_ms < stop.end_ms <= until_ms]
        self._handed_ms = max(self._handed_ms, until_ms)

    def _cuts(self, end_ms: int) -> list[Cut]:
        return cuts(self._segments(end_ms), self.configuration.window_ms, self._product, self._changes)

    def _segments(self, end_ms: int) -> list[Segment]:
        """The calendar from what is closed up to `end_ms`: of what is kept of it, where that reaches."""
        kept = self._around[1]
        if not kept or kept[0].start_ms > self._closed_ms or kept[-1].end_ms < end_ms:
            return self.configuration.calendar.segments(self._closed_ms, end_ms)
        return clipped(kept, self._closed_ms, end_ms)

    def _shift_at(self, now_ms: int) -> tuple[Segment, tuple[int, int, int]]:
        """The segment at `now_ms`, and (start_ms, end_ms, scheduled ms) of its shift, kept while it lasts."""
        around = self._segments_around(now_ms)
        kept = self._here
        if kept is None or kept[0] is not around or not kept[1].start_ms <= now_ms < kept[1].end_ms:
            here = next(s for s in around if s.start_ms <= now_ms < s.end_ms)
            parts = [s for s in around if s.shift == here.shift]
            scheduled = sum(s.end_ms - s.start_ms for s in parts if s.kind == 0)
            kept = self._here = around, here, (parts[0].start_ms, parts[-1].end_ms, scheduled)
        return kept[1], kept[2]

    def _segments_around(self, now_ms: int) -> list[Segment]:
        """The calendar from a day before the hour of `now_ms` to a day after it; kept: it is asked for each second."""
        hour_ms = now_ms - now_ms % _HOUR_MS
        if self._around[0] != hour_ms:
            segments = self.configuration.calendar.segments(hour_ms - _DAY_MS, hour_ms + _HOUR_MS + _DAY_MS)
            self._around = (hour_ms, segments)
        return self._around[1]


def _limits(configuration: LineConfiguration) -> k.I64:
    limits = np.zeros(k.LIMITS, np.int64)
    limits[k.STALENESS_MS] = configuration.staleness_ms
    limits[k.MAX_PER_HOUR] = configuration.max_pieces_per_hour
    limits[k.HAS_MODE] = len(configuration.production_modes) > 0
    limits[k.HAS_PRODUCT] = len(configuration.products) != 1
    limits[k.HAS_HEARTBEAT] = configuration.heartbeat
    roles = {counter.role for counter in configuration.counters}
    limits[k.PIECE_ROLE] = SignalRole.TOTAL if SignalRole.TOTAL in roles else SignalRole.GOOD
    match configuration.mapping:
        case PackML() | StateValues():
            limits[k.KIND] = k.BY_STATE
        case RunningBit(mask):
            limits[k.KIND], limits[k.FAULT_MASK] = k.BY_RUNNING, mask
        case Speed(above, mask):
            limits[k.KIND], limits[k.SPEED_ABOVE], limits[k.FAULT_MASK] = k.BY_SPEED, above, mask
        case PiecesOnly(_, mask):
            limits[k.KIND], limits[k.FAULT_MASK] = k.BY_PIECES, mask
    return limits


def lanes(configuration: LineConfiguration) -> k.I64:
    """`counters` of the kernel."""
    cell = _cell_ms(configuration)
    roles = {counter.role for counter in configuration.counters}
    out = np.zeros((len(configuration.counters), 5), np.int64)
    for i, (counter, column) in enumerate(zip(configuration.counters, configuration.counter_columns, strict=True)):
        # What start-up rejects are made of keeps its own times.
        apart = counter.role is SignalRole.REJECT or SignalRole.REJECT not in roles
        cell_ms = 0 if configuration.definition.startup_ms and apart else cell
        out[i] = (column, counter.role, counter.modulus, counter.encoding is Encoding.BCD, cell_ms)
    return out


def _cell_ms(configuration: LineConfiguration) -> int:
    """The grid on which every window is cut that no product's change cuts: shifts begin on whole minutes, and no zone
    has been off UTC by less since 1972."""
    return gcd(configuration.window_ms, _MINUTE_MS)
