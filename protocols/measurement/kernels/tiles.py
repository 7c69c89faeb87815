"""The fast form of `scan` for replay: what is quiet is summed, all else goes to `scan`.

Decides which rows are quiet, by the rule that stands at the head of `scan` and always to the safe side. A line is
quiet most of the time: same state, same product, counters that move within the line's limit. Such rows are found by
a few comparisons and leave one delta row a counter and cell, dated at the last quiet row of the cell. Three forms:
over the int64 columns of a `SampleBlock`, here; over narrow columns, in `columns`; over one row of each of many
lines, in `tick`. All give `scan`'s integers and leave its carry.
"""

from __future__ import annotations

from typing import Final

from protocols.measurement.kernels import scan as k
from protocols.measurement.kernels.jit import kernel, part
from protocols.measurement.kernels.scan import I64, U8, U32, scan, step_limit

BUSY_ROWS: Final = 8
"""Rows that go to `scan` at once where nothing is quiet."""

_LARGEST: Final = 2**61


@part
def may_be_quiet(before_ms: int, mask: int, limits: I64, counters: I64, carry: I64) -> bool:
    """Whether rows like the one at `before_ms`, which went through `scan`, can be quiet at all."""
    if carry[k.SEEN] == 0 or carry[k.LAST_MS] != before_ms or limits[k.HAS_HEARTBEAT] != 0:
        return False
    if limits[k.KIND] == k.BY_PIECES or carry[k.DEADLINE_MS] != k.NEVER:
        return False
    for c in range(counters.shape[0]):
        if mask >> counters[c, k.COLUMN] & 1 == 0:
            continue
        base = k.CARRY + k.LANE * c
        if carry[base + k.LANE_SEEN] == 0 or carry[base + k.LANE_SINCE] != before_ms:
            return False
        if counters[c, k.IS_BCD] != 0 or counters[c, k.CELL_MS] <= 0:
            return False
        if not 0 <= counters[c, k.MODULUS] < _LARGEST or not -_LARGEST < carry[base + k.LANE_LAST] < _LARGEST // 2:
            return False
    return True


@part
def quiet_until(
    first: int, time_ms: I64, values: I64, valid: U32, held: I64, limits: I64, counters: I64, carry: I64
) -> int:
    """The end of the quiet rows that begin at row `first`; `first` itself if there is none. Row `first` - 1 exists."""
    rows = len(time_ms)
    before = first - 1
    mask = int(valid[before])
    if not may_be_quiet(time_ms[before], mask, limits, counters, carry):
        return first
    lanes = counters.shape[0]
    for c in range(lanes):
        column = counters[c, k.COLUMN]
        if mask >> column & 1 == 1 and carry[k.CARRY + k.LANE * c + k.LANE_LAST] != values[before, column]:
            return first  # a high-water mark holds
    staleness = limits[k.STALENESS_MS]
    max_per_hour = limits[k.MAX_PER_HOUR]
    like = values[before]
    known_gap = -1
    limit = 0
    for i in range(first, rows):
        gap = time_ms[i] - time_ms[i - 1]
        if gap > staleness or valid[i] != mask:
            return i
        if gap != known_gap:
            known_gap = gap
            limit = step_limit(gap, max_per_hour)
        row = values[i]
        changed = 0
        for column in range(row.shape[0]):  # without a branch: most rows are quiet
            changed |= (row[column] ^ like[column]) & held[column]
        if changed != 0:
            return i
        previous = values[i - 1]
        for c in range(lanes):
            column = counters[c, k.COLUMN]
            if mask >> column & 1 == 0:
                continue
            # Not the difference of unchecked numbers, which could overflow.
            if not previous[column] <= row[column] < _LARGEST // 2:
                return i
            if row[column] - previous[column] > limit or 0 < counters[c, k.MODULUS] <= limit:
                return i
    return rows


@part
def book(role: int, until_ms: int, base: int, at_ms: int, pieces: int, carry: I64, deltas: I64, delta_rows: int) -> int:
    """Adds a step to the lane's open delta row, or opens one until `until_ms`; the number of delta rows then."""
    row = int(carry[base + k.LANE_ROW])
    if row >= 0 and at_ms <= carry[base + k.LANE_UNTIL]:
        deltas[row, 0] = at_ms
        deltas[row, 2] += pieces
        return delta_rows
    deltas[delta_rows, 0] = at_ms
    deltas[delta_rows, 1] = role
    deltas[delta_rows, 2] = pieces
    deltas[delta_rows, 3] = 0
    carry[base + k.LANE_ROW] = delta_rows
    carry[base + k.LANE_UNTIL] = until_ms
    return delta_rows + 1


@part
def pass_quiet(
    first: int,
    end: int,
    time_ms: I64,
    values: I64,
    mask: int,
    counters: I64,
    carry: I64,
    deltas: I64,
    delta_rows: int,
) -> int:
    """Lets the quiet rows [first, end) go by: carry and delta rows as `scan` would leave them."""
    for c in range(counters.shape[0]):
        column = counters[c, k.COLUMN]
        if mask >> column & 1 == 0:
            continue
        base = k.CARRY + k.LANE * c
        cell_ms = counters[c, k.CELL_MS]
        i = first
        while i < end:
            cell_end_ms = time_ms[i] + (-time_ms[i]) % cell_ms
            # The cell's last row lies near where it lay in the cell before, where polling is regular.
            gap = max(1, time_ms[i] - time_ms[i - 1])
            after = min(end, i + (cell_end_ms - time_ms[i]) // gap + 1)
            while after < end and time_ms[after] <= cell_end_ms:
                after += 1
            while time_ms[after - 1] > cell_end_ms:
                after -= 1
            pieces = values[after - 1, column] - values[i - 1, column]
            if pieces != 0:
                role, at_ms = counters[c, k.ROLE], time_ms[after - 1]
                delta_rows = book(role, cell_end_ms, base, at_ms, pieces, carry, deltas, delta_rows)
            i = after
        carry[base + k.LANE_LAST] = values[end - 1, column]
        carry[base + k.LANE_SINCE] = time_ms[end - 1]
    carry[k.LAST_MS] = time_ms[end - 1]
    return delta_rows


@part
def close_rows(counters: I64, carry: I64) -> None:
    """Forgets the open delta rows, as `scan` does at the end of a call."""
    for c in range(counters.shape[0]):
        carry[k.CARRY + k.LANE * c + k.LANE_ROW] = -1
        carry[k.CARRY + k.LANE * c + k.LANE_UNTIL] = 0


@kernel
def scan_quickly(
    time_ms: I64,
    values: I64,
    valid: U32,
    raw_states: I64,
    states: U8,
    categories: U8,
    legal: U8,
    production_modes: I64,
    cycles: I64,
    limits: I64,
    counters: I64,
    carry: I64,
    runs: I64,
    deltas: I64,
    events: I64,
    held: I64,
) -> tuple[int, int, int]:
    """What `scan` gives, with its arguments. Delta rows of one cell may be more, and be dated later within the cell.

    held int64[at least k]: scratch.
    """
    rows = time_ms.shape[0]
    held[:] = -1
    for c in range(counters.shape[0]):
        held[counters[c, k.COLUMN]] = 0
    run_rows = 0
    delta_rows = 0
    event_rows = 0
    i = 0
    busy = 1
    close_rows(counters, carry)
    while i < rows:
        after = min(rows, i + busy)
        a, b, c = scan(
            time_ms[i:after],
            values[i:after],
            valid[i:after],
            raw_states,
            states,
            categories,
            legal,
            production_modes,
            cycles,
            limits,
            counters,
            carry,
            runs[run_rows:],
            deltas[delta_rows:],
            events[event_rows:],
        )
        run_rows += a
        delta_rows += b
        event_rows += c
        i = after
        if i < rows:
            after = quiet_until(i, time_ms, values, valid, held, limits, counters, carry)
            busy = 1 if after > i else BUSY_ROWS
            if after > i:
                mask = int(valid[i])
                delta_rows = pass_quiet(i, after, time_ms, values, mask, counters, carry, deltas, delta_rows)
            i = after
    close_rows(counters, carry)
    return run_rows, delta_rows, event_rows
