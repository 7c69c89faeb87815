"""A simulated line at any instant: its signals as the PLC shows them, and the truth behind them.

Decides how stays and pieces become counters (roll-over, restart of the PLC), vendor codes and sample blocks.
What happens to the line is decided in `walk`. Everything is a pure function of (specification, start).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.simulator.spec import LineSpec, Protocol
from agent.simulator.streams import Stream
from agent.simulator.walk import Cause, Row, Walk
from protocols.plc.packml import Mode, State
from protocols.plc.roles import ROLES, SPEED_SCALE, SignalRole
from protocols.plc.sample import SampleBlock

Int64s = NDArray[np.int64]

_ALL_GOOD: Final = (1 << ROLES) - 1
_ROWS_A_STRETCH: Final = 4096
_FAULTS: Final = (State.ABORTING, State.ABORTED, State.CLEARING)

OFF, STOPPED, RUNNING, FAULT, STARVED, BLOCKED, SETUP, IDLE = range(8)
"""The status word of a line that does not speak PackML."""

_VENDOR: Final[dict[State, int]] = {
    State.UNDEFINED: OFF,
    State.CLEARING: FAULT,
    State.STOPPED: STOPPED,
    State.STARTING: SETUP,
    State.IDLE: IDLE,
    State.SUSPENDED: BLOCKED,
    State.EXECUTE: RUNNING,
    State.STOPPING: STOPPED,
    State.ABORTING: FAULT,
    State.ABORTED: FAULT,
    State.HOLDING: FAULT,
    State.HELD: FAULT,
    State.UNHOLDING: FAULT,
    State.SUSPENDING: BLOCKED,
    State.UNSUSPENDING: BLOCKED,
    State.RESETTING: SETUP,
    State.COMPLETING: SETUP,
    State.COMPLETE: IDLE,
}


def vendor_code(state: State, cause: Cause) -> int:
    """The vendor's status word for a state; a machine without PackML has a jam as a fault."""
    code = _VENDOR[state]
    return STARVED if code == BLOCKED and cause is Cause.STARVED else code


@dataclass(frozen=True, slots=True)
class Segment:
    """What truly was from start_ms to end_ms. `raw_state`: what the PLC's state tag shows. `order`: 1 = active."""

    start_ms: int
    end_ms: int
    state: State
    raw_state: int
    mode: Mode
    product: int
    order: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Consecutive rows as columns. rejects: the numbers of the rejected pieces, rising, from `reject_base` on."""

    rows: Int64s  # [n, fields of Row]
    raw: Int64s  # [n]
    rejects: Int64s
    reject_base: int

    @property
    def start_ms(self) -> int:
        return int(self.rows[0, _START])

    @property
    def end_ms(self) -> int:
        return int(self.rows[-1, _END])


(_START, _END, _STATE, _CAUSE, _MODE, _PRODUCT, _ORDER, _TOTAL, _PHASE, _CYCLE, _STARTUP, _UPGRADED) = range(
    len(Row._fields)
)


class Plant:
    """One simulated line from `start_ms` on. Generates as far as it is asked, and keeps what it generated.

    Every time is in Unix ms and not before `start_ms`; a piece counts from its completion on (count at t includes
    a piece completed at t). Not for use by several threads at once.
    """

    def __init__(self, spec: LineSpec, start_ms: int) -> None:
        self.spec = spec
        self.start_ms = start_ms
        self._rows = Walk(spec, start_ms).rows()
        self._inspection = Stream(spec.seed, "reject")
        self._stretches: list[_Stretch] = []
        self._starts: list[int] = []
        self._pending: Row = next(self._rows)
        self._reject_count = 0

    # Truth

    def truth(self, from_ms: int, to_ms: int) -> list[Segment]:
        """Contiguous segments that cover [from_ms, to_ms) exactly."""
        segments: list[Segment] = []
        for stretch in self._covering(from_ms, to_ms):
            first = max(int(np.searchsorted(stretch.rows[:, _START], from_ms, "right")) - 1, 0)
            last = int(np.searchsorted(stretch.rows[:, _START], to_ms, "left"))
            for row, raw in zip(stretch.rows[first:last].tolist(), stretch.raw[first:last].tolist(), strict=True):
                segments.append(
                    Segment(
                        max(row[_START], from_ms), min(row[_END], to_ms), State(row[_STATE]), raw,
                        Mode(row[_MODE]), row[_PRODUCT], row[_ORDER],
                    )
                )  # fmt: skip
        return segments

    def counts(self, time_ms: int) -> tuple[int, int, int]:
        """(total, good, reject) made since the plant's start, true and unwrapped."""
        total, reject = self._made(np.array([time_ms], np.int64))
        return int(total[0]), int(total[0] - reject[0]), int(reject[0])

    def next_change_ms(self, time_ms: int) -> int:
        """The first instant after `time_ms` at which state, mode, product or order may change."""
        stretch = self._stretch(time_ms)
        index = int(np.searchsorted(stretch.rows[:, _START], time_ms, "right"))
        return int(stretch.rows[index - 1, _END])

    def pieces_per_minute(self, time_ms: int) -> float:
        """The machine's speed: 0 unless it executes."""
        stretch = self._stretch(time_ms)
        index = int(np.searchsorted(stretch.rows[:, _START], time_ms, "right")) - 1
        cycle_us = int(stretch.rows[index, _CYCLE])
        return 60_000_000 / cycle_us if cycle_us else 0.0

    # What the PLC shows

    def image(self, time_ms: int) -> tuple[int, ...]:
        """The raw values at an instant, by `SignalRole`."""
        values = self._images(np.array([time_ms], np.int64))
        return tuple(int(value) for value in values[0])

    def blocks(self, from_ms: int, to_ms: int, poll_ms: int) -> Iterator[SampleBlock]:
        """Rows at from_ms + k * poll_ms and at each change of state, mode, product or order, in [from_ms, to_ms).

        No two rows have the same time. Blocks follow each other in time; their lengths are of no meaning.
        """
        for stretch in self._covering(from_ms, to_ms):
            low, high = max(stretch.start_ms, from_ms), min(stretch.end_ms, to_ms)
            first_poll = from_ms + -((from_ms - low) // poll_ms) * poll_ms
            polls = np.arange(first_poll, high, poll_ms, dtype=np.int64)
            starts = stretch.rows[:, _START]
            changes = starts[(starts >= low) & (starts < high)]
            times = np.union1d(polls, changes)
            if len(times):
                values = self._images(times, stretch)
                yield SampleBlock(times, values, np.full(len(times), _ALL_GOOD, np.uint32))

    def _images(self, times: Int64s, stretch: _Stretch | None = None) -> Int64s:
        """[n, ROLES] for times that lie in one stretch."""
        found = stretch if stretch is not None else self._stretch(int(times[0]))
        index = np.searchsorted(found.rows[:, _START], times, "right") - 1
        rows = found.rows[index]
        total, reject = self._made(times, found)
        shown_total, shown_good, shown_reject = total, total - reject, reject
        offset = np.full(len(times), self.spec.counter_start, np.int64)
        for reset_ms in self.spec.counter_reset_ms:
            if self.start_ms <= reset_ms <= int(times[-1]):
                lost, lost_good, lost_reject = self.counts(reset_ms)
                after = times >= reset_ms
                shown_total = np.where(after, total - lost, shown_total)
                shown_good = np.where(after, total - reject - lost_good, shown_good)
                shown_reject = np.where(after, reject - lost_reject, shown_reject)
                offset[after] = 0
        modulus = self.spec.counter_modulus
        values = np.empty((len(times), ROLES), np.int64)
        values[:, SignalRole.STATE] = found.raw[index]
        values[:, SignalRole.MODE] = rows[:, _MODE]
        values[:, SignalRole.TOTAL] = (shown_total + offset) % modulus
        values[:, SignalRole.GOOD] = (shown_good + offset) % modulus
        values[:, SignalRole.REJECT] = shown_reject % modulus
        values[:, SignalRole.PRODUCT] = rows[:, _PRODUCT]
        values[:, SignalRole.ORDER] = rows[:, _ORDER]
        state, cycle = rows[:, _STATE], rows[:, _CYCLE]
        values[:, SignalRole.REWORK] = 0
        values[:, SignalRole.RUNNING] = state == State.EXECUTE
        values[:, SignalRole.FAULT] = np.isin(state, _FAULTS)
        values[:, SignalRole.SPEED] = np.where(cycle > 0, 60_000_000 * SPEED_SCALE // np.maximum(cycle, 1), 0)
        values[:, SignalRole.HEARTBEAT] = times // 1000 % 65536
        values[:, SignalRole.REASON] = np.where(state == State.EXECUTE, 0, found.raw[index])
        return values

    def _made(self, times: Int64s, stretch: _Stretch | None = None) -> tuple[Int64s, Int64s]:
        """True (total, reject) at times that lie in one stretch."""
        found = stretch if stretch is not None else self._stretch(int(times[0]))
        rows = found.rows[np.searchsorted(found.rows[:, _START], times, "right") - 1]
        cycle = rows[:, _CYCLE]
        spent = rows[:, _PHASE] + (times - rows[:, _START]) * 1000
        total = rows[:, _TOTAL] + np.where(cycle > 0, spent // np.maximum(cycle, 1), 0)
        reject = found.reject_base + np.searchsorted(found.rejects, total, "left")
        return total, reject.astype(np.int64)

    # Generating

    def _covering(self, from_ms: int, to_ms: int) -> Iterator[_Stretch]:
        at = from_ms
        while at < to_ms:
            stretch = self._stretch(at)
            yield stretch
            at = stretch.end_ms

    def _stretch(self, time_ms: int) -> _Stretch:
        if time_ms < self.start_ms:
            raise ValueError(f"the plant starts at {self.start_ms}, {time_ms} is before")
        while not self._stretches or self._stretches[-1].end_ms <= time_ms:
            self._generate()
        return self._stretches[bisect.bisect_right(self._starts, time_ms) - 1]

    def _generate(self) -> None:
        listed = [self._pending, *islice(self._rows, _ROWS_A_STRETCH)]
        # A row knows the count at its start, so the row after the last closes the last one's count.
        self._pending = listed.pop()
        rows = np.array(listed, np.int64)
        vendor = self.spec.protocol is Protocol.MODBUS
        raw = (
            np.fromiter((vendor_code(State(r.state), Cause(r.cause)) for r in listed), np.int64, len(listed))
            if vendor
            else rows[:, _STATE].copy()
        )
        rejects = self._inspect(rows, self._pending.total)
        self._stretches.append(_Stretch(rows, raw, rejects, self._reject_count))
        self._starts.append(listed[0].start_ms)
        self._reject_count += len(rejects)

    def _inspect(self, rows: Int64s, end_total: int) -> Int64s:
        """The numbers of the rejected pieces among those that these rows make, by one draw for each piece."""
        spec = self.spec
        pieces = np.diff(rows[:, _TOTAL], append=end_total)
        startup = np.minimum(pieces, rows[:, _STARTUP])
        after = spec.upgrade.reject_rate if spec.upgrade is not None else spec.reject_rate
        usual = np.where(rows[:, _UPGRADED] > 0, after, spec.reject_rate)
        rates = np.column_stack([np.maximum(usual, spec.startup_reject_rate), usual]).ravel()
        rate = np.repeat(rates, np.column_stack([startup, pieces - startup]).ravel())
        drawn = self._inspection.uniforms(len(rate))
        return np.flatnonzero(drawn < rate).astype(np.int64) + int(rows[0, _TOTAL])
