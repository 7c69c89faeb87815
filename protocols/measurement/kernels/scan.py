"""The kernel: one pass over a line's rows, from raw values to runs of one category, counter steps and events.

Decides nothing that a configuration could change: the tables and limits come in as arrays. Block form and
streaming form are this one function, since all memory between rows lives in `carry`. The rules in words stand in
docs/measurement.md, "Rules"; an independent form of them in tests/reference/oee_loop.py.

For whoever puts a fast path in front of `scan`: a row is QUIET, and does nothing but let time pass and counts grow, if

1. its time is at most `staleness` after the row before, and (HAS_HEARTBEAT) after HEART_MS; and no DEADLINE_MS lies
   between them (DEADLINE_MS is NEVER but for a machine known by its pieces only: leave those to `scan`);
2. `valid` is that of the row before;
3. the columns STATE, MODE, PRODUCT, ORDER, RUNNING, FAULT and REASON equal those of the row before, and SPEED lies on
   the same side of SPEED_ABOVE (columns that the line does not have may be left out);
4. each counter's step from `last` is 0 <= step <= `step_limit` for the time since it was read (TRANSIT_MS and all),
   and the modulus is 0 or above that limit (BCD: leave to `scan`).

After quiet rows set LAST_MS, HEART and HEART_MS (time of the last change), and each counter's `last` and `since`; a
step goes into a delta row: the steps of one counter with no flags and within one cell of its CELL_MS grid, (a, b],
are one row whose time is that of the last step that was not 0; a row that begins at PRODUCT_MS takes none after it.
Nothing else in `carry` changes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.kernels.jit import kernel, part
from protocols.plc.roles import SignalRole

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

NEVER: Final = 2**62
NO_PRODUCT: Final = -(2**62)

# carry: int64[CARRY + LANE * counters]
SEEN: Final = 0  # 0 before the first row
LAST_MS: Final = 1  # time of the last row
CATEGORY: Final = 2  # category that holds since the last run began
PRODUCT: Final = 3  # the product's code; NO_PRODUCT before the first good value
MADE_PRODUCT: Final = 4  # the product that was last produced
STATE: Final = 5
STATE_MS: Final = 6  # since when
HEART: Final = 7  # the heartbeat's last value
HEART_MS: Final = 8  # when it was last seen to change; -NEVER before
REASON: Final = 9
PIECE: Final = 10  # 0 no counter was read yet, 1 read, 2 a piece was seen
PIECE_MS: Final = 11  # when
DEADLINE_MS: Final = 12  # when the state changes by itself, if no row comes before
LATER_STATE: Final = 13  # to this
LATER_CATEGORY: Final = 14
PRODUCT_MS: Final = 15  # when the product last changed: windows are cut there
CARRY: Final = 16
# of each counter
LANE_SEEN: Final = 0
LANE_LAST: Final = 1  # the number that steps are measured from
LANE_SINCE: Final = 2  # up to when it was known to be that
LANE_ROW: Final = 3  # its open delta row in this call, or -1
LANE_UNTIL: Final = 4  # the last time that may still go into that row
LANE: Final = 5

# limits: int64[LIMITS]
STALENESS_MS: Final = 0
MAX_PER_HOUR: Final = 1
HAS_MODE: Final = 2
HAS_PRODUCT: Final = 3
HAS_HEARTBEAT: Final = 4
KIND: Final = 5  # how the state is told: BY_STATE and so on
FAULT_MASK: Final = 6  # 0: there is no fault word
SPEED_ABOVE: Final = 7
PIECE_ROLE: Final = 8
LIMITS: Final = 9
BY_STATE, BY_RUNNING, BY_SPEED, BY_PIECES = range(4)

# counters: int64[n, 5]
COLUMN: Final = 0
ROLE: Final = 1
MODULUS: Final = 2  # 0: none
IS_BCD: Final = 3
CELL_MS: Final = 4  # steps within one cell of this grid may be one delta row; 0: never

# Flags of a delta.
ESTIMATED: Final = 1
BREAK: Final = 2

# Kinds of an event.
EVENT_PRODUCT: Final = 0  # value: the code
EVENT_REASON: Final = 1  # value: the code
EVENT_MOVE: Final = 2  # from one known state to another; value: 1 if PackML does not know the move

RUNS_A_ROW: Final = 3
EVENTS_A_ROW: Final = 4

TRANSIT_MS: Final = 2_000
"""How long a value may be under way before it is taken in (*ours*): a disk that syncs, a busy gateway, a slow line."""

_MS_PER_HOUR: Final = 3_600_000
_YEAR_MS: Final = 31_536_000_000
_UNKNOWN: Final = 0
_PRODUCING: Final = 1
_OTHER_MODE: Final = 7  # UNASSIGNED: a mode that is not production is a stop unless the calendar plans it
_UNDEFINED: Final = 0
_STOPPED: Final = 2
_EXECUTE: Final = 6
_ABORTED: Final = 9
_SLACK: Final = 2  # pieces that may fall on either side of a poll
_LARGEST: Final = 2**61  # a difference of two numbers below it cannot overflow
_NO_LIMIT: Final = 2**61
_R_STATE: Final = int(SignalRole.STATE)
_R_MODE: Final = int(SignalRole.MODE)
_R_PRODUCT: Final = int(SignalRole.PRODUCT)
_R_ORDER: Final = int(SignalRole.ORDER)
_R_RUNNING: Final = int(SignalRole.RUNNING)
_R_FAULT: Final = int(SignalRole.FAULT)
_R_SPEED: Final = int(SignalRole.SPEED)
_R_HEARTBEAT: Final = int(SignalRole.HEARTBEAT)
_R_REASON: Final = int(SignalRole.REASON)


def most_pieces(dt_ms: int, max_per_hour: int) -> int:
    """The most pieces that a counter may step by where its values were taken in `dt_ms` apart: half as many again as
    the line makes in this time and TRANSIT_MS, since the value before may have been under way so long and this one not
    at all. A very large number where `max_per_hour` is 0: nobody knows."""
    if max_per_hour <= 0:
        return _NO_LIMIT
    return max_per_hour * (min(dt_ms, _YEAR_MS) + TRANSIT_MS) * 3 // (2 * _MS_PER_HOUR) + _SLACK


step_limit: Final = part(most_pieces)


@part
def unwrap(raw: int, last: int, dt_ms: int, modulus: int, max_per_hour: int) -> tuple[int, int, int]:
    """(pieces, whether the count broke, the new reference) for one counter step.

    In order: forwards within `step_limit`; roll-over by the modulus; restart from 0; a little backwards (a
    late value: the high-water mark holds); otherwise the counter was set by hand and counts from there.
    A break means that the true count is at least what is counted.
    """
    step = raw - last
    if max_per_hour <= 0:
        if step >= 0:
            return step, 0, raw
        if modulus > 0 and step + modulus <= modulus // 2:
            return step + modulus, 0, raw
        return raw, 1, raw
    limit = step_limit(dt_ms, max_per_hour)
    if 0 <= step <= limit:
        ambiguous = 1 if 0 < modulus <= limit else 0
        return step, ambiguous, raw
    if step < 0 and modulus > 0 and 0 <= step + modulus <= limit:
        return step + modulus, 0, raw
    if step < 0 and 0 <= raw <= limit:
        return raw, 1, raw
    if step < 0 and -step <= max_per_hour * 3 // (2 * 360) + _SLACK:  # what the line makes in ten seconds
        return 0, 0, last
    return 0, 1, raw


@part
def from_bcd(raw: int) -> int:
    """The number whose decimal digits are the nibbles of `raw`; -1 if one is over 9."""
    number = 0
    scale = 1
    rest = raw
    if raw < 0:
        return -1
    while rest > 0:
        digit = rest & 15
        if digit > 9:
            return -1
        number += digit * scale
        scale *= 10
        rest >>= 4
    return number


@part
def begin(
    at_ms: int,
    state: int,
    category: int,
    legal: U8,
    carry: I64,
    runs: I64,
    run_rows: int,
    events: I64,
    event_rows: int,
) -> tuple[int, int]:
    """Lets state and category hold from `at_ms` on, and writes a run and a move where they are new."""
    before = carry[STATE]
    if state != before or carry[SEEN] == 0:
        if before != _UNDEFINED and state != _UNDEFINED:
            events[event_rows, 0] = at_ms
            events[event_rows, 1] = EVENT_MOVE
            events[event_rows, 2] = 1 - legal[before, state]
            event_rows += 1
        carry[STATE] = state
        carry[STATE_MS] = at_ms
    if category != carry[CATEGORY] or carry[SEEN] == 0:
        runs[run_rows, 0] = at_ms
        runs[run_rows, 1] = category
        run_rows += 1
        carry[CATEGORY] = category
    return run_rows, event_rows


@part
def settle(
    until_ms: int, legal: U8, limits: I64, carry: I64, runs: I64, run_rows: int, events: I64, event_rows: int
) -> tuple[int, int]:
    """What happens before `until_ms` without a row: a deadline passes, or the last news grows too old."""
    if carry[SEEN] == 0:
        return run_rows, event_rows
    stale_ms = carry[LAST_MS]
    if limits[HAS_HEARTBEAT] == 1:
        stale_ms = min(stale_ms, carry[HEART_MS])
    stale_ms += limits[STALENESS_MS]
    deadline_ms = carry[DEADLINE_MS]
    if deadline_ms < until_ms and deadline_ms < stale_ms:
        carry[DEADLINE_MS] = NEVER
        run_rows, event_rows = begin(
            deadline_ms, carry[LATER_STATE], carry[LATER_CATEGORY], legal, carry, runs, run_rows, events, event_rows
        )
    if stale_ms < until_ms:
        carry[DEADLINE_MS] = NEVER
        run_rows, event_rows = begin(stale_ms, _UNDEFINED, _UNKNOWN, legal, carry, runs, run_rows, events, event_rows)
    return run_rows, event_rows


@part
def categorise(state: int, column: int, order_known: bool, mode: int, categories: U8) -> int:
    """The category of a state. mode: 0 production, 1 another, 2 not known."""
    if not order_known and categories[state, 0] != categories[state, 1]:
        return _UNKNOWN
    category = int(categories[state, column])
    if category == _UNKNOWN or mode == 2:
        return _UNKNOWN
    return _OTHER_MODE if mode == 1 else category


@part
def state_of(raw_state: int, raw_states: I64, states: U8) -> int:
    """The state that a value stands for; UNDEFINED where none is told."""
    at = 0  # step by step: a few are listed, and those that come most are low
    while at < raw_states.shape[0] and raw_states[at] < raw_state:
        at += 1
    if at < raw_states.shape[0] and raw_states[at] == raw_state:
        return int(states[at])
    return _UNDEFINED


@part
def mode_of(value: int, known: bool, has_mode: int, production_modes: I64) -> int:
    """0 production, 1 another mode, 2 not known. A line without a mode is always in production."""
    if has_mode != 1:
        return 0
    if not known:
        return 2
    for m in range(production_modes.shape[0]):
        if value == production_modes[m]:
            return 0
    return 1


@part
def order_column(no_order: bool, carry: I64) -> int:
    """The column of `categories` that holds now: 0 an order, 1 none, 2 another product than the last one made."""
    if no_order:
        return 1
    return 2 if carry[PRODUCT] != carry[MADE_PRODUCT] and carry[MADE_PRODUCT] != NO_PRODUCT else 0


@kernel
def scan(
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
) -> tuple[int, int, int]:
    """Runs, deltas and events of n rows: how many of each were written.

    In: time_ms int64[n], never before carry's last · values int64[n, k] and valid uint32[n] as in `SampleBlock` ·
    raw_states int64[s] rising, states uint8[s] · categories uint8[18, 3] · legal uint8[18, 18] ·
    production_modes int64[m] · cycles int64[p, 2] (product code rising, ms that a piece may take; BY_PIECES only) ·
    limits int64[LIMITS] · counters int64[c, 5] · carry int64[CARRY + LANE * c], changed in place.
    Out: runs int64[3n + 2, 2] (start_ms, category; a run holds until the next) · deltas int64[c * n, 4] (time_ms,
    role, pieces, flags) · events int64[4n + 2, 3] (time_ms, kind, value).
    """
    run_rows = 0
    delta_rows = 0
    event_rows = 0
    staleness = limits[STALENESS_MS]
    lanes = counters.shape[0]
    for c in range(lanes):
        carry[CARRY + LANE * c + LANE_ROW] = -1
    for i in range(time_ms.shape[0]):
        now = time_ms[i]
        mask = int(valid[i])
        # The calls cost more than all the rest of a row in which nothing happens: looked at first, here and below.
        if limits[HAS_HEARTBEAT] == 1 or carry[LAST_MS] + staleness < now or carry[DEADLINE_MS] < now:
            run_rows, event_rows = settle(now, legal, limits, carry, runs, run_rows, events, event_rows)

        if limits[HAS_PRODUCT] == 1 and mask >> _R_PRODUCT & 1 and values[i, _R_PRODUCT] != carry[PRODUCT]:
            carry[PRODUCT] = values[i, _R_PRODUCT]
            carry[PRODUCT_MS] = now
            events[event_rows, 0] = now
            events[event_rows, 1] = EVENT_PRODUCT
            events[event_rows, 2] = carry[PRODUCT]
            event_rows += 1
            for c in range(lanes):  # windows are cut here, so no delta may lie on both sides
                until = CARRY + LANE * c + LANE_UNTIL
                carry[until] = min(carry[until], now)
        if mask >> _R_REASON & 1 and values[i, _R_REASON] != carry[REASON]:
            carry[REASON] = values[i, _R_REASON]
            events[event_rows, 0] = now
            events[event_rows, 1] = EVENT_REASON
            events[event_rows, 2] = carry[REASON]
            event_rows += 1
        alive = True
        if limits[HAS_HEARTBEAT] == 1:
            if mask >> _R_HEARTBEAT & 1 and (carry[HEART_MS] == -NEVER or values[i, _R_HEARTBEAT] != carry[HEART]):
                carry[HEART] = values[i, _R_HEARTBEAT]
                carry[HEART_MS] = now
            alive = carry[HEART_MS] + staleness > now

        # Counters. What a PLC that stands still shows says nothing of when it was counted.
        read = alive
        moved = False
        for c in range(lanes):
            base = CARRY + LANE * c
            role = counters[c, ROLE]
            good = alive and mask >> counters[c, COLUMN] & 1 == 1
            raw = values[i, counters[c, COLUMN]] if good else 0
            if good and counters[c, IS_BCD] == 1:
                raw = from_bcd(raw)
                good = raw >= 0
            if not -_LARGEST < raw < _LARGEST:
                good = False
            if not good:
                if role == limits[PIECE_ROLE]:
                    read = False
                continue
            if carry[base + LANE_SEEN] == 0:
                carry[base + LANE_SEEN] = 1
                carry[base + LANE_LAST] = raw
                carry[base + LANE_SINCE] = now
                continue
            since = carry[base + LANE_SINCE]
            pieces, broke, reference = unwrap(
                raw, carry[base + LANE_LAST], now - since, counters[c, MODULUS], limits[MAX_PER_HOUR]
            )
            flags = (ESTIMATED if now - since > staleness and pieces != 0 else 0) | (BREAK if broke else 0)
            row = carry[base + LANE_ROW]
            if flags == 0 and pieces != 0 and row >= 0 and now <= carry[base + LANE_UNTIL]:
                deltas[row, 0] = now
                deltas[row, 2] += pieces
            elif pieces != 0 or flags != 0:
                deltas[delta_rows, 0] = now
                deltas[delta_rows, 1] = role
                deltas[delta_rows, 2] = pieces
                deltas[delta_rows, 3] = flags
                cell = counters[c, CELL_MS]
                carry[base + LANE_ROW] = delta_rows if flags == 0 and cell > 0 else -1
                carry[base + LANE_UNTIL] = now + (-now) % cell if cell > 0 and now > carry[PRODUCT_MS] else now
                delta_rows += 1
            if pieces > 0 and role == limits[PIECE_ROLE]:
                moved = True
            carry[base + LANE_LAST] = reference
            # A count that has not moved is as fresh as the heartbeat, one that has is fresh.
            if limits[HAS_HEARTBEAT] == 1 and pieces == 0 and broke == 0:
                carry[base + LANE_SINCE] = max(since, carry[HEART_MS])
            else:
                carry[base + LANE_SINCE] = now

        # The state.
        halted = _STOPPED
        if limits[FAULT_MASK] != 0:
            if mask >> _R_FAULT & 1 == 0:
                halted = _UNDEFINED
            elif values[i, _R_FAULT] & limits[FAULT_MASK] != 0:
                halted = _ABORTED
        state = _UNDEFINED
        deadline_ms = NEVER
        kind = limits[KIND]
        if kind == BY_STATE:
            if mask >> _R_STATE & 1:
                state = state_of(values[i, _R_STATE], raw_states, states)
        elif kind == BY_RUNNING:
            if mask >> _R_RUNNING & 1:
                state = _EXECUTE if values[i, _R_RUNNING] != 0 else halted
        elif kind == BY_SPEED:
            if mask >> _R_SPEED & 1:
                state = _EXECUTE if values[i, _R_SPEED] > limits[SPEED_ABOVE] else halted
        elif read:
            if moved:
                carry[PIECE] = 2
                carry[PIECE_MS] = now
            elif carry[PIECE] == 0:
                carry[PIECE] = 1
                carry[PIECE_MS] = now
            allowed = 0
            for p in range(cycles.shape[0]):
                if limits[HAS_PRODUCT] == 0 or cycles[p, 0] == carry[PRODUCT]:
                    allowed = cycles[p, 1]
            if allowed > 0:
                if now < carry[PIECE_MS] + allowed:
                    state = _EXECUTE if carry[PIECE] == 2 else _UNDEFINED
                    deadline_ms = carry[PIECE_MS] + allowed
                else:
                    state = halted
        if not alive:
            state = _UNDEFINED
            deadline_ms = NEVER

        # The category.
        order_known = mask >> _R_ORDER & 1 == 1
        column = order_column(order_known and values[i, _R_ORDER] == 0, carry)
        known = mask >> _R_MODE & 1 == 1
        mode = mode_of(values[i, _R_MODE] if known else 0, known, limits[HAS_MODE], production_modes)
        category = categorise(state, column, order_known, mode, categories)
        carry[DEADLINE_MS] = deadline_ms
        if deadline_ms != NEVER:
            carry[LATER_STATE] = halted
            carry[LATER_CATEGORY] = categorise(halted, column, order_known, mode, categories)
        if category == _PRODUCING:
            carry[MADE_PRODUCT] = carry[PRODUCT]
        if state != carry[STATE] or category != carry[CATEGORY] or carry[SEEN] == 0:
            run_rows, event_rows = begin(now, state, category, legal, carry, runs, run_rows, events, event_rows)
        carry[LAST_MS] = now
        carry[SEEN] = 1
    for c in range(lanes):
        carry[CARRY + LANE * c + LANE_ROW] = -1
        carry[CARRY + LANE * c + LANE_UNTIL] = 0
    return run_rows, delta_rows, event_rows


def fresh_carry(counters: int) -> I64:
    """The memory of a line with so many counters that was never seen."""
    carry = np.zeros(CARRY + LANE * counters, np.int64)
    carry[PRODUCT] = NO_PRODUCT
    carry[MADE_PRODUCT] = NO_PRODUCT
    carry[HEART_MS] = -NEVER
    carry[DEADLINE_MS] = NEVER
    return carry
