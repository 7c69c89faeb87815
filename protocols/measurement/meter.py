"""The meter of one line: sample blocks in, closed windows out.

Decides when a window is closed: once the watermark has passed it and no stop in it can still turn out to be minor.
Every millisecond from the meter's start on falls into exactly one window, also across a restart: `carry` is the
whole memory, and what happened while nobody looked becomes UNKNOWN time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from protocols.errors import Malformed
from protocols.measurement.account import Category, TimeAccount, Window, total
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.kernels import scan as k
from protocols.measurement.mapping import category_table, state_table
from protocols.measurement.timeline import Stop, Timeline
from protocols.measurement.windows import Cut, Delta, accounts, cuts
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock

RECENT_MS: Final = 300_000
RIBBON_RUNS: Final = 400
STOPS_SHOWN: Final = 5
_COUNTERS: Final = (SignalRole.TOTAL, SignalRole.GOOD, SignalRole.REJECT)


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
        self._raw_states, self._states = state_table(configuration)
        self._categories = category_table()
        self._modes = np.array(configuration.production_modes, np.int64)
        self._limits = _limits(configuration)
        self._memory = k.fresh_carry()
        self._closed_ms = start_ms
        self._timeline = Timeline(start_ms, configuration.definition.minor_stop_ms)
        self._deltas: list[Delta] = []
        self._product = self._only_product()
        self._changes: list[tuple[int, str]] = []
        self._recent: list[Window] = []
        self._shown_stops: list[Stop] = []
        self._ribbon: list[tuple[int, Category]] = []
        if carry is not None:
            self._resume(carry)

    @property
    def closed_until_ms(self) -> int:
        """Every window before this was given out by `advance`."""
        return self._closed_ms

    @property
    def last_sample_ms(self) -> int:
        """The time of the newest row, or the meter's start."""
        return int(self._memory[k.LAST_MS]) if self._memory[k.SEEN] else self._closed_ms

    def push(self, block: SampleBlock) -> None:
        """Takes rows in time order. Raises Malformed when they reach back before what was taken or closed."""
        rows = len(block)
        if not rows:
            return
        if int(block.time_ms[0]) < max(self.last_sample_ms, self._closed_ms):
            raise Malformed(f"rows reach back to {int(block.time_ms[0])}, before {self.last_sample_ms}")
        run_ms, run_category = np.empty(2 * rows, np.int64), np.empty(2 * rows, np.int64)
        deltas, products = np.empty((3 * rows, 4), np.int64), np.empty((rows, 2), np.int64)
        runs, delta_rows, changes = k.scan(
            block.time_ms,
            block.values,
            block.valid,
            self._raw_states,
            self._states,
            self._categories,
            self._modes,
            self._limits,
            self._memory,
            run_ms,
            run_category,
            deltas,
            products,
        )
        for start, category in zip(run_ms[:runs].tolist(), run_category[:runs].tolist(), strict=True):
            self._timeline.append(max(start, self._closed_ms), Category(category))
        for read, role, pieces, flags in deltas[:delta_rows].tolist():
            self._deltas.append(Delta(read, SignalRole(role), pieces, flags))
        for at, code in products[:changes].tolist():
            self._changes.append((at, self._products.get(code, f"#{code}")))

    def advance(self, watermark_ms: int) -> list[Window]:
        """The windows that are closed now: those that end before `watermark_ms`, to which all rows were pushed.

        Contiguous with those given before. Rows that are older than a closed window can no longer be pushed.
        """
        self._go_stale(watermark_ms)
        decided = self._timeline.decided_until(watermark_ms)
        planned = self._cuts(decided + self.configuration.window_ms)
        closed = [cut for cut in planned if cut.end_ms < watermark_ms and cut.end_ms <= decided]
        if not closed:
            return []
        end_ms = closed[-1].end_ms
        due = [delta for delta in self._deltas if delta.read_ms <= end_ms]
        stops = self._timeline.stops(watermark_ms)
        windows = accounts(
            closed,
            self._timeline.resolved(watermark_ms),
            due,
            stops,
            self._counters,
            self.configuration.ideal_cycle_ns,
        )
        self._remember(windows, stops, end_ms)
        self._deltas = [delta for delta in self._deltas if delta.read_ms > end_ms]
        self._closed_ms = end_ms
        for at, product in [change for change in self._changes if change[0] < end_ms]:
            self._product = product
            self._changes.remove((at, product))
        self._timeline.forget(end_ms)
        return windows

    def live(self, now_ms: int) -> Live:
        """What the line does at `now_ms`, with the account of its shift so far."""
        # Rows may still be on their way, so nothing is decided here: what is stale is left out of the account.
        known = bool(self._memory[k.SEEN]) and now_ms - self.last_sample_ms <= self.configuration.staleness_ms
        until_ms = now_ms if known else max(self._closed_ms, self.last_sample_ms + self.configuration.staleness_ms)
        until_ms = min(until_ms, now_ms)
        runs = list(self._timeline.resolved(until_ms))
        seen_stops = self._timeline.stops(until_ms)
        open_windows = accounts(
            self._cuts(until_ms),
            runs,
            self._deltas,
            seen_stops,
            self._counters,
            self.configuration.ideal_cycle_ns,
        )
        windows = self._recent + open_windows
        here = self.configuration.calendar.segments(now_ms, now_ms + 1)[0]
        shift = self._shift_bounds(now_ms) if here.shift else (now_ms, now_ms, 0)
        ribbon = [*self._ribbon, *((max(s, self._closed_ms), c) for s, e, c in runs if e > self._closed_ms)]
        stops = [*self._shown_stops, *(s for s in seen_stops if s.end_ms > self._closed_ms)]
        return Live(
            time_ms=now_ms,
            state=State(int(self._memory[k.STATE])) if known else State.UNDEFINED,
            category=runs[-1][2] if runs and known else Category.UNKNOWN,
            since_ms=int(self._memory[k.STATE_MS]) if known else until_ms,
            product=self._changes[-1][1] if self._changes else self._product,
            shift=here.shift,
            shift_start_ms=shift[0],
            shift_end_ms=shift[1],
            shift_account=total(w.account for w in windows if here.shift and w.shift == here.shift),
            recent_account=total(w.account for w in windows if w.start_ms >= now_ms - RECENT_MS),
            planned_shift_ms=shift[2],
            ribbon=_merged(ribbon, shift[0])[-RIBBON_RUNS:],
            stops=tuple({s.start_ms: s for s in stops}.values())[-STOPS_SHOWN:],
        )

    def carry(self) -> dict[str, Any]:
        """All that a restart needs: integers, texts and lists."""
        return {
            "closed_ms": self._closed_ms,
            "deltas": [[d.read_ms, int(d.role), d.pieces, d.flags] for d in self._deltas],
            "memory": [int(value) for value in self._memory],
            "product": self._product,
            "changes": [[at, product] for at, product in self._changes],
            "runs": self._timeline.to_data(),
        }

    def _resume(self, carry: Mapping[str, Any]) -> None:
        self._closed_ms = carry["closed_ms"]
        self._deltas = [Delta(at, SignalRole(r), p, f) for at, r, p, f in carry["deltas"]]
        self._memory = np.array(carry["memory"], np.int64)
        self._product = carry["product"]
        self._changes = [(at, product) for at, product in carry["changes"]]
        self._timeline.load(carry["runs"])

    def _only_product(self) -> str:
        products = self.configuration.products
        return products[0].name if len(products) == 1 else ""

    def _go_stale(self, now_ms: int) -> None:
        """Ends the last state when its news is too old, as the kernel would at the next row."""
        stale_ms = self.last_sample_ms + self.configuration.staleness_ms
        if self._memory[k.SEEN] and now_ms > stale_ms and self._memory[k.CATEGORY] != Category.UNKNOWN:
            self._timeline.append(max(stale_ms, self._closed_ms), Category.UNKNOWN)
            self._memory[k.CATEGORY] = Category.UNKNOWN

    def _cuts(self, end_ms: int) -> list[Cut]:
        return cuts(
            self._closed_ms,
            end_ms,
            self.configuration.window_ms,
            self.configuration.calendar,
            self._product,
            self._changes,
        )

    def _remember(self, windows: list[Window], stops: list[Stop], end_ms: int) -> None:
        """Keeps what `live` shows of the shift under way."""
        shift = windows[-1].shift
        self._recent = [w for w in self._recent + windows if w.shift == shift or w.end_ms > end_ms - 2 * RECENT_MS]
        runs = [(max(s, self._closed_ms), c) for s, e, c in self._timeline.resolved(end_ms) if e > self._closed_ms]
        self._ribbon = list(_merged([*self._ribbon, *runs], 0))[-RIBBON_RUNS:]
        ended = {s.start_ms: s for s in [*self._shown_stops, *stops] if s.end_ms <= end_ms}
        self._shown_stops = list(ended.values())[-STOPS_SHOWN:]

    def _shift_bounds(self, now_ms: int) -> tuple[int, int, int]:
        """(start_ms, end_ms, scheduled ms) of the shift at `now_ms`."""
        day = 86_400_000
        calendar = self.configuration.calendar
        name = calendar.segments(now_ms, now_ms + 1)[0].shift
        parts = [s for s in calendar.segments(now_ms - day, now_ms + day) if s.shift == name]
        scheduled = sum(s.end_ms - s.start_ms for s in parts if s.kind == 0)
        return parts[0].start_ms, parts[-1].end_ms, scheduled


def _merged(runs: list[tuple[int, Category]], from_ms: int) -> tuple[tuple[int, Category], ...]:
    """Runs from `from_ms` on, neighbours of one category taken together."""
    out: list[tuple[int, Category]] = []
    for start, category in runs:
        at = max(start, from_ms)
        if out and out[-1][0] == at:
            out.pop()
        if not out or out[-1][1] is not category:
            out.append((at, category))
    return tuple(out)


def _limits(configuration: LineConfiguration) -> k.I64:
    limits = np.zeros(k.LIMITS, np.int64)
    limits[k.STALENESS_MS] = configuration.staleness_ms
    limits[k.MAX_PER_HOUR] = configuration.max_pieces_per_hour
    limits[k.HAS_MODE] = len(configuration.production_modes) > 0
    limits[k.HAS_ORDER] = 1
    limits[k.HAS_PRODUCT] = len(configuration.products) != 1
    moduli = {counter.role: counter.modulus for counter in configuration.counters}
    for i, role in enumerate(_COUNTERS):
        limits[k.MODULUS + i] = moduli.get(role, -1)
    return limits
