"""One row of each of many lines in one call: streaming for whoever measures a thousand lines.

Decides nothing of its own: a quiet row is let go by, any other goes to `scan`. Lines of one call have as many columns
and counters; what is told of a line (raw states, modes, cycles) is a row of a table that several lines may share.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocols.measurement.kernels import scan as k
from protocols.measurement.kernels.jit import kernel, part
from protocols.measurement.kernels.scan import I64, U8, U32, scan, step_limit
from protocols.measurement.kernels.tiles import close_rows, may_be_quiet

# memory: int64[n, MEMORY + k], of each line: what `scan` left after its last row, and that row.
STATE: Final = 0
CATEGORY: Final = 1
VALID: Final = 2
ABLE: Final = 3  # whether a row after it can be quiet at all
COUNTED: Final = 4  # bit c: column c is a counter's
MEMORY: Final = 5

_LARGEST: Final = 2**60


def fresh_memory(lines: int, columns: int) -> I64:
    """The memory of lines that were never seen."""
    return np.zeros((lines, MEMORY + columns), np.int64)


@part
def is_quiet(now: int, row: I64, mask: int, memory: I64, limits: I64, counters: I64, carry: I64) -> bool:
    """Whether a line's row is quiet after the one that `memory` holds."""
    gap = now - carry[k.LAST_MS]
    if memory[ABLE] == 0 or gap > limits[k.STALENESS_MS] or memory[VALID] != mask:
        return False
    # Somebody may have settled the line meanwhile: then the state that holds is not that of the row before.
    if carry[k.STATE] != memory[STATE] or carry[k.CATEGORY] != memory[CATEGORY]:
        return False
    counted = memory[COUNTED]
    changed = 0
    for column in range(row.shape[0]):
        changed |= (row[column] ^ memory[MEMORY + column]) & ((counted >> column & 1) - 1)
    if changed != 0:
        return False
    limit = step_limit(gap, limits[k.MAX_PER_HOUR])
    for c in range(counters.shape[0]):
        column = counters[c, k.COLUMN]
        if mask >> column & 1 == 0:
            continue
        last = carry[k.CARRY + k.LANE * c + k.LANE_LAST]
        if not last <= row[column] < _LARGEST or row[column] - last > limit or 0 < counters[c, k.MODULUS] <= limit:
            return False
    return True


@kernel
def tick(
    time_ms: I64,
    values: I64,
    valid: U32,
    table: I64,
    raw_states: I64,
    states: U8,
    categories: U8,
    legal: U8,
    production_modes: I64,
    cycles: I64,
    limits: I64,
    counters: I64,
    carry: I64,
    memory: I64,
    runs: I64,
    deltas: I64,
    events: I64,
    ends: I64,
) -> tuple[int, int, int]:
    """Runs, deltas and events of one row each of n lines: how many of each were written.

    In: time_ms int64[n], -1 where a line has no new row · values int64[n, k] · valid uint32[n] · table int64[n], a
    line's row in the tables: raw_states int64[t, s], states uint8[t, s], legal uint8[t, 18, 18], production_modes
    int64[t, m] and cycles int64[t, p, 2] (short rows repeat their last entry) · categories uint8[18, 3] · limits
    int64[n, LIMITS] · counters int64[n, c, 5] · carry int64[n, CARRY + LANE * c] and memory int64[n, MEMORY + k],
    changed in place. Out: as of `scan`, line after line; ends int64[n, 3]: where each line's rows end.
    """
    run_rows = 0
    delta_rows = 0
    event_rows = 0
    for i in range(time_ms.shape[0]):
        now = time_ms[i]
        mask = int(valid[i])
        row = values[i]
        if now < 0:
            pass
        elif is_quiet(now, row, mask, memory[i], limits[i], counters[i], carry[i]):
            for c in range(counters.shape[1]):
                column = counters[i, c, k.COLUMN]
                if mask >> column & 1 == 0:
                    continue
                base = k.CARRY + k.LANE * c
                pieces = row[column] - carry[i, base + k.LANE_LAST]
                if pieces != 0:
                    deltas[delta_rows, 0] = now
                    deltas[delta_rows, 1] = counters[i, c, k.ROLE]
                    deltas[delta_rows, 2] = pieces
                    deltas[delta_rows, 3] = 0
                    delta_rows += 1
                    carry[i, base + k.LANE_LAST] = row[column]
                carry[i, base + k.LANE_SINCE] = now
            carry[i, k.LAST_MS] = now
        else:
            t = table[i]
            a, b, d = scan(
                time_ms[i : i + 1],
                values[i : i + 1],
                valid[i : i + 1],
                raw_states[t],
                states[t],
                categories,
                legal[t],
                production_modes[t],
                cycles[t],
                limits[i],
                counters[i],
                carry[i],
                runs[run_rows:],
                deltas[delta_rows:],
                events[event_rows:],
            )
            run_rows += a
            delta_rows += b
            event_rows += d
            close_rows(counters[i], carry[i])
            memory[i, STATE] = carry[i, k.STATE]
            memory[i, CATEGORY] = carry[i, k.CATEGORY]
            memory[i, VALID] = mask
            memory[i, ABLE] = may_be_quiet(now, mask, limits[i], counters[i], carry[i])
            memory[i, COUNTED] = 0
            for c in range(counters.shape[1]):
                memory[i, COUNTED] |= 1 << counters[i, c, k.COLUMN]
            for column in range(row.shape[0]):
                memory[i, MEMORY + column] = row[column]
        ends[i, 0] = run_rows
        ends[i, 1] = delta_rows
        ends[i, 2] = event_rows
    return run_rows, delta_rows, event_rows
