"""A line's configuration as the arrays that the kernels take: `limits`, `counters` and the tables of `kernels.scan`.

Decides which setting goes into which place. What the kernel does with them is decided there; what a state costs, in
`mapping`.
"""

from __future__ import annotations

from math import gcd
from typing import Final

import numpy as np

from protocols.measurement.configuration import Encoding, LineConfiguration
from protocols.measurement.kernels import scan as k
from protocols.measurement.machine import PackML, PiecesOnly, RunningBit, Speed, StateValues
from protocols.measurement.mapping import category_table, cycle_table, legal_table, state_table
from protocols.plc.roles import SignalRole

_MINUTE_MS: Final = 60_000


def tables(configuration: LineConfiguration) -> tuple[k.I64, k.U8, k.U8, k.U8, k.I64, k.I64]:
    """What `kernels.scan.scan` takes between the rows and `limits`, in its order."""
    return (
        *state_table(configuration),
        category_table(configuration.mapping),
        legal_table(configuration),
        np.array(configuration.production_modes, np.int64),
        cycle_table(configuration),
    )


def limits(configuration: LineConfiguration) -> k.I64:
    """`limits` of the kernel."""
    out = np.zeros(k.LIMITS, np.int64)
    out[k.STALENESS_MS] = configuration.staleness_ms
    out[k.MAX_PER_HOUR] = configuration.max_pieces_per_hour
    out[k.HAS_MODE] = len(configuration.production_modes) > 0
    out[k.HAS_PRODUCT] = len(configuration.products) != 1
    out[k.HAS_HEARTBEAT] = configuration.heartbeat
    roles = {counter.role for counter in configuration.counters}
    out[k.PIECE_ROLE] = SignalRole.TOTAL if SignalRole.TOTAL in roles else SignalRole.GOOD
    match configuration.mapping:
        case PackML() | StateValues():
            out[k.KIND] = k.BY_STATE
        case RunningBit(mask):
            out[k.KIND], out[k.FAULT_MASK] = k.BY_RUNNING, mask
        case Speed(above, mask):
            out[k.KIND], out[k.SPEED_ABOVE], out[k.FAULT_MASK] = k.BY_SPEED, above, mask
        case PiecesOnly(_, mask):
            out[k.KIND], out[k.FAULT_MASK] = k.BY_PIECES, mask
    return out


def lanes(configuration: LineConfiguration) -> k.I64:
    """`counters` of the kernel."""
    cell = cell_ms(configuration)
    roles = {counter.role for counter in configuration.counters}
    out = np.zeros((len(configuration.counters), 5), np.int64)
    for i, (counter, column) in enumerate(zip(configuration.counters, configuration.counter_columns, strict=True)):
        # What start-up rejects are made of keeps its own times.
        apart = counter.role is SignalRole.REJECT or SignalRole.REJECT not in roles
        step_ms = 0 if configuration.definition.startup_ms and apart else cell
        out[i] = (column, counter.role, counter.modulus, counter.encoding is Encoding.BCD, step_ms)
    return out


def cell_ms(configuration: LineConfiguration) -> int:
    """The grid on which every window is cut that no product's change cuts: shifts begin on whole minutes, and no zone
    has been off UTC by less since 1972."""
    return gcd(configuration.window_ms, _MINUTE_MS)
