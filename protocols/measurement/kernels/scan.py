"""The kernel: one pass over a line's rows, from raw values to runs of one category and to counter deltas.

Decides nothing that a configuration could change: the tables and limits come in as arrays. Block form and
streaming form are this one function, since all memory between rows lives in `carry`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.kernels.jit import kernel
from protocols.plc.roles import SignalRole

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

# carry: int64[CARRY]
SEEN: Final = 0  # 0 before the first row
LAST_MS: Final = 1  # time of the last row
CATEGORY: Final = 2  # category that holds since the last run began
PRODUCT: Final = 3  # the product's code; NO_PRODUCT before the first good value
MADE_PRODUCT: Final = 4  # the product that was last produced
STATE: Final = 5
STATE_MS: Final = 6  # since when
COUNTERS: Final = 7  # three counters: seen, last raw, time of it
CARRY: Final = COUNTERS + 9
NO_PRODUCT: Final = -(2**62)

# limits: int64[LIMITS]
STALENESS_MS: Final = 0
MAX_PER_HOUR: Final = 1
HAS_MODE: Final = 2
HAS_ORDER: Final = 3
HAS_PRODUCT: Final = 4
MODULUS: Final = 5  # three: of TOTAL, GOOD, REJECT; -1 where there is no such counter
LIMITS: Final = MODULUS + 3

# Flags of a delta.
ESTIMATED: Final = 1
BREAK: Final = 2

_MS_PER_HOUR: Final = 3_600_000
_UNKNOWN: Final = 0
_PRODUCING: Final = 1
_OTHER_MODE: Final = 7  # UNASSIGNED: a mode that is not production is a stop unless the calendar plans it
_UNDEFINED: Final = 0
_SLACK: Final = 2  # pieces that may fall on either side of a poll
_R_STATE: Final = int(SignalRole.STATE)
_R_MODE: Final = int(SignalRole.MODE)
_R_TOTAL: Final = int(SignalRole.TOTAL)
_R_PRODUCT: Final = int(SignalRole.PRODUCT)
_R_ORDER: Final = int(SignalRole.ORDER)


@kernel
def unwrap(raw: int, last: int, dt_ms: int, modulus: int, max_per_hour: int) -> tuple[int, int, int]:
    """(pieces, whether the count broke, the new reference) for one counter step.

    In order: forwards within the line's limit; roll-over by the modulus; restart from 0; a little backwards (a
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
    limit = max_per_hour * dt_ms * 3 // (2 * _MS_PER_HOUR) + _SLACK
    if 0 <= step <= limit:
        ambiguous = 1 if 0 < modulus <= limit else 0
        return step, ambiguous, raw
    if step < 0 and modulus > 0 and step + modulus <= limit:
        return step + modulus, 0, raw
    if step < 0 and raw <= limit:
        return raw, 1, raw
    if step < 0 and -step <= max_per_hour * 3 // (2 * 360) + _SLACK:  # what the line makes in ten seconds
        return 0, 0, last
    return 0, 1, raw


@kernel
def scan(
    time_ms: I64,
    values: I64,
    valid: U8,
    raw_states: I64,
    states: U8,
    categories: U8,
    production_modes: I64,
    limits: I64,
    carry: I64,
    run_ms: I64,
    run_category: I64,
    deltas: I64,
    products: I64,
) -> tuple[int, int, int]:
    """Runs, deltas and product changes of n rows: how many of each were written.

    time_ms int64[n] (never before carry's last) · values int64[n, 7] · valid uint8[n] · categories uint8[18, 3].
    Out: run_ms, run_category int64[2n] (a run holds until the next) · deltas int64[3n, 4] (time_ms, role, pieces,
    flags) · products int64[n, 2] (time_ms, code).
    """
    runs = 0
    delta_rows = 0
    product_rows = 0
    staleness = limits[STALENESS_MS]
    for i in range(time_ms.shape[0]):
        now = time_ms[i]
        mask = valid[i]
        if carry[SEEN] == 1 and now - carry[LAST_MS] > staleness and carry[CATEGORY] != _UNKNOWN:
            run_ms[runs] = carry[LAST_MS] + staleness
            run_category[runs] = _UNKNOWN
            runs += 1
            carry[CATEGORY] = _UNKNOWN

        if limits[HAS_PRODUCT] == 1 and mask >> _R_PRODUCT & 1 and values[i, _R_PRODUCT] != carry[PRODUCT]:
            carry[PRODUCT] = values[i, _R_PRODUCT]
            products[product_rows, 0] = now
            products[product_rows, 1] = carry[PRODUCT]
            product_rows += 1

        state = _UNDEFINED
        if mask >> _R_STATE & 1:
            raw = values[i, _R_STATE]
            at = np.searchsorted(raw_states, raw)
            if at < raw_states.shape[0] and raw_states[at] == raw:
                state = states[at]
        order_known = limits[HAS_ORDER] == 0 or mask >> _R_ORDER & 1 == 1
        column = 0 if limits[HAS_ORDER] == 0 or values[i, _R_ORDER] != 0 else 1
        if not order_known and categories[state, 0] != categories[state, 1]:
            state = _UNDEFINED
        if column == 0 and carry[PRODUCT] != carry[MADE_PRODUCT] and carry[MADE_PRODUCT] != NO_PRODUCT:
            column = 2
        category = int(categories[state, column])
        if limits[HAS_MODE] == 1 and category != _UNKNOWN:
            in_production = False
            for m in range(production_modes.shape[0]):
                if values[i, _R_MODE] == production_modes[m]:
                    in_production = True
            if mask >> _R_MODE & 1 == 0:
                category = _UNKNOWN
            elif not in_production:
                category = _OTHER_MODE
        if category == _PRODUCING:
            carry[MADE_PRODUCT] = carry[PRODUCT]
        if state != carry[STATE] or carry[SEEN] == 0:
            carry[STATE] = state
            carry[STATE_MS] = now
        if category != carry[CATEGORY] or carry[SEEN] == 0:
            run_ms[runs] = now
            run_category[runs] = category
            runs += 1
            carry[CATEGORY] = category

        for c in range(3):
            if limits[MODULUS + c] < 0 or not (mask >> (_R_TOTAL + c) & 1):
                continue
            raw = values[i, _R_TOTAL + c]
            base = COUNTERS + 3 * c
            if carry[base] == 1:
                since = carry[base + 2]
                pieces, broke, reference = unwrap(
                    raw, carry[base + 1], now - since, limits[MODULUS + c], limits[MAX_PER_HOUR]
                )
                flags = (ESTIMATED if now - since > staleness and pieces != 0 else 0) | (BREAK if broke else 0)
                if pieces != 0 or flags != 0:
                    deltas[delta_rows, 0] = now
                    deltas[delta_rows, 1] = _R_TOTAL + c
                    deltas[delta_rows, 2] = pieces
                    deltas[delta_rows, 3] = flags
                    delta_rows += 1
                carry[base + 1] = reference
            else:
                carry[base + 1] = raw
                carry[base] = 1
            carry[base + 2] = now
        carry[LAST_MS] = now
        carry[SEEN] = 1
    return runs, delta_rows, product_rows


def fresh_carry() -> I64:
    """The memory of a line that was never seen."""
    carry = np.zeros(CARRY, np.int64)
    carry[PRODUCT] = NO_PRODUCT
    carry[MADE_PRODUCT] = NO_PRODUCT
    return carry
