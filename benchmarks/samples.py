"""The samples that every benchmark measures: a line that mostly runs, as a PLC would show it.

Decides how eventful a line is: a stop about every ten minutes, most of them short; counters of 16 bits that roll
over; polls every second with some milliseconds of jitter. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.kernels import scan as k
from protocols.measurement.mapping import category_table
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock

START_MS: Final = 1_772_400_000_000
WINDOW_MS: Final = 60_000
MODULUS: Final = 65_536
PIECES_PER_HOUR: Final = 14_400
STALENESS_MS: Final = 10_000
COLUMNS: Final = int(SignalRole.ORDER) + 1
VALID: Final = 0b1110101  # STATE TOTAL REJECT PRODUCT ORDER
_STOPS: Final = (State.SUSPENDED, State.HELD, State.STOPPED, State.ABORTED)


@dataclass(frozen=True)
class Tables:
    """What a kernel needs to know of a line: `scan`'s arguments between the columns and the carry."""

    raw_states: k.I64
    states: k.U8
    categories: k.U8
    legal: k.U8
    production_modes: k.I64
    cycles: k.I64
    limits: k.I64
    counters: k.I64

    @property
    def all(self) -> tuple[k.I64, k.U8, k.U8, k.U8, k.I64, k.I64, k.I64, k.I64]:
        return (
            self.raw_states,
            self.states,
            self.categories,
            self.legal,
            self.production_modes,
            self.cycles,
            self.limits,
            self.counters,
        )

    def carry(self) -> k.I64:
        return k.fresh_carry(len(self.counters))


def tables() -> Tables:
    """A line with a state that speaks PackML, and a total and a reject counter of 16 bits."""
    limits = np.zeros(k.LIMITS, np.int64)
    limits[k.STALENESS_MS] = STALENESS_MS
    limits[k.MAX_PER_HOUR] = PIECES_PER_HOUR * 3 // 2
    limits[k.HAS_PRODUCT] = 1
    limits[k.KIND] = k.BY_STATE
    limits[k.PIECE_ROLE] = SignalRole.TOTAL
    counters = np.array(
        [[role, role, MODULUS, 0, WINDOW_MS] for role in (SignalRole.TOTAL, SignalRole.REJECT)], np.int64
    )
    codes = np.array([int(state) for state in State], np.int64)
    return Tables(
        codes,
        codes.astype(np.uint8),
        category_table(),
        np.ones((len(State), len(State)), np.uint8),
        np.zeros(0, np.int64),
        np.zeros((0, 2), np.int64),
        limits,
        counters,
    )


@dataclass(frozen=True)
class Samples:
    """Columns of n rows. `gap_ms` is the time since the row before; a row's time is START_MS plus the gaps up to it."""

    gap_ms: NDArray[np.uint16]
    state: NDArray[np.uint8]
    total: NDArray[np.uint16]
    reject: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.state)

    @property
    def time_ms(self) -> k.I64:
        return START_MS + np.cumsum(self.gap_ms, dtype=np.int64)

    def block(self) -> SampleBlock:
        """The same samples as the agent holds them."""
        values = np.zeros((len(self), COLUMNS), np.int64)
        values[:, SignalRole.STATE] = self.state
        values[:, SignalRole.TOTAL] = self.total
        values[:, SignalRole.REJECT] = self.reject
        values[:, SignalRole.PRODUCT] = 1
        values[:, SignalRole.ORDER] = 1
        return SampleBlock(self.time_ms, values, np.full(len(self), VALID, np.uint32))


def line(rows: int, seed: int = 1, stop_every_s: int = 600) -> Samples:
    """`rows` samples of one line, a second apart, that runs for about `stop_every_s` between its stops."""
    rng = np.random.default_rng(seed)
    gap = (1000 + rng.integers(-9, 10, rows)).astype(np.uint16)
    state = np.full(rows, State.EXECUTE, np.uint8)
    at = 0
    while True:
        at += int(rng.exponential(stop_every_s)) + 1
        length = int(rng.exponential(40 if rng.random() < 0.9 else 900)) + 2
        if at >= rows:
            break
        state[at : at + length] = _STOPS[int(rng.integers(len(_STOPS)))]
        at += length
    runs = state == State.EXECUTE
    # Pieces at an even pace, as a machine makes them, and rejects now and then.
    made = np.cumsum(np.where(runs, PIECES_PER_HOUR * gap.astype(np.int64), 0)) // 3_600_000
    rejected = np.cumsum(runs & (rng.random(rows) < 0.02))
    return Samples(gap, state, (made % MODULUS).astype(np.uint16), (rejected % MODULUS).astype(np.uint16))
