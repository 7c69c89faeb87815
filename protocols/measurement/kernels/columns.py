"""The fast form of `scan` over narrow columns: nine bytes a sample where counters have 16 bits.

Decides what a tile is: rows that are looked at together, by reductions that a compiler turns into vector
instructions, and that are let go by when nothing happened in them. A tile in which something did is halved until it is
found, and that row is made wide again and goes to `scan`. Small integers are cast again inside a reduction: numba
widens them to 64 bits, and what it widens does not vectorise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.kernels import scan as k
from protocols.measurement.kernels.jit import fetch, kernel, part
from protocols.measurement.kernels.scan import I64, U8, U32, scan, step_limit
from protocols.measurement.kernels.tiles import BUSY_ROWS, book, close_rows, may_be_quiet
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock

U64 = NDArray[np.uint64]
Counts: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]

TILE: Final = 1024
_AHEAD: Final = TILE
"""How many rows before its use memory is asked for: by then the tile in between has been worked on."""
_LINE: Final = 64  # bytes that memory gives at once, on every CPU that linetally is made for
_EACH_BYTE: Final = np.uint64(0x0101010101010101)
_PRODUCING: Final = 1
_R_STATE: Final = int(SignalRole.STATE)
_R_MODE: Final = int(SignalRole.MODE)
_R_ORDER: Final = int(SignalRole.ORDER)
WIDE_ROWS: Final = BUSY_ROWS
"""Rows of the scratch arrays in which rows are made wide again."""


@part
def gap_bounds(after_ms: U32, before: U32) -> tuple[int, int]:
    """(least, greatest) of after_ms[i] - before[i]."""
    least = np.uint32(0xFFFFFFFF)
    greatest = np.uint32(0)
    for i in range(after_ms.shape[0]):
        gap = np.uint32(after_ms[i] - before[i])
        least = np.uint32(min(least, gap))
        greatest = np.uint32(max(greatest, gap))
    return int(least), int(greatest)


@part
def is_constant(state: U8, like: int) -> bool:
    """Whether every state is `like`."""
    changed = np.uint8(0)
    wanted = np.uint8(like)
    for i in range(state.shape[0]):
        changed = np.uint8(changed | (state[i] ^ wanted))
    return bool(changed == 0)


@part
def first_other(state: U8, like: int) -> int:
    """How many of the first states are `like`."""
    for i in range(state.shape[0]):
        if state[i] != like:
            return i
    return len(state)


@part
def first_other_word(words: U64, like: int) -> int:
    """How many of the first words hold `like` in each of their bytes."""
    wanted = np.uint64(like) * _EACH_BYTE
    for i in range(words.shape[0]):
        if words[i] != wanted:
            return i
    return len(words)


@part
def held_until(state: U8, words: U64, first: int, end: int, like: int) -> int:
    """The first row of [first, end) whose state is not `like`; `end` if there is none. words: `state`, eight a word."""
    if end - first == TILE and is_constant(state[first:end], like):
        return end
    whole = min(end, (first + 7) // 8 * 8)
    at = first + first_other(state[first:whole], like)
    if at < whole:
        return at
    word = whole // 8
    at = max(whole, (word + first_other_word(words[word : end // 8], like)) * 8)
    return at + first_other(state[at:end], like)


@part
def greatest_step_16(counts: Counts, before: Counts) -> int:
    """The greatest counts[i] - before[i] modulo 2^16: a step backwards is a very great one."""
    greatest = np.uint16(0)
    for i in range(counts.shape[0]):
        greatest = np.uint16(max(greatest, np.uint16((int(counts[i]) - int(before[i])) & 0xFFFF)))
    return int(greatest)


@part
def greatest_step_32(counts: Counts, before: Counts) -> int:
    """The same modulo 2^32."""
    greatest = np.uint32(0)
    for i in range(counts.shape[0]):
        greatest = np.uint32(max(greatest, np.uint32((int(counts[i]) - int(before[i])) & 0xFFFFFFFF)))
    return int(greatest)


@part
def is_sound(first: int, end: int, after_ms: U32, counts: Counts, lanes: int, limits: I64, counters: I64) -> bool:
    """Whether gaps and steps of the rows [first, end) are quiet, whatever their states are. Row `first` - 1 exists."""
    least, greatest = gap_bounds(after_ms[first:end], after_ms[first - 1 : end - 1])
    if greatest > limits[k.STALENESS_MS]:
        return False
    allowed = step_limit(least, limits[k.MAX_PER_HOUR])
    ambiguous = step_limit(greatest, limits[k.MAX_PER_HOUR])
    for c in range(lanes):
        if 0 < counters[c, k.MODULUS] <= ambiguous:
            return False
        row = counts[c]
        if counts.itemsize == 2:
            step = greatest_step_16(row[first:end], row[first - 1 : end - 1])
            span = 1 << 16
        else:
            step = greatest_step_32(row[first:end], row[first - 1 : end - 1])
            span = 1 << 32
        # Steps that together are less than the span, and end above where they began, never went past it.
        if step > allowed or step * (end - first) >= span or row[end - 1] < row[first - 1]:
            return False
    return True


@part
def fetch_rows(first: int, after_ms: U32, state: U8, counts: Counts) -> None:
    """Asks for the `_LINE` rows from `first` on."""
    fetch(state, first)
    for c in range(counts.shape[0]):
        for line in range(counts.itemsize):
            fetch(counts[c], first + line * _LINE // counts.itemsize)
    for line in range(4):
        fetch(after_ms, first + line * _LINE // 4)


@part
def pass_by(
    first: int,
    end: int,
    base_ms: int,
    after_ms: U32,
    state: U8,
    counts: Counts,
    counters: I64,
    carry: I64,
    deltas: I64,
    delta_rows: int,
) -> int:
    """Lets quiet rows [first, end) go by: delta rows then, carry as `scan`'s. Row `first` - 1 exists."""
    lanes = counters.shape[0]
    cell_ms = int(counters[0, k.CELL_MS]) if lanes > 0 else k.NEVER
    i = first
    # An unsigned number that meets a signed one becomes a float in numba: hence int64 everywhere.
    until = int(np.int64(after_ms[first - 1])) - 2 * cell_ms  # the end of a cell, after `base_ms`
    guess = 0
    fetched = first // _LINE * _LINE
    while i < end:
        while fetched < i:
            fetch_rows(fetched + _AHEAD, after_ms, state, counts)
            fetched += _LINE
        begin = i
        until += cell_ms
        after = int(np.int64(after_ms[i]))
        if not until - cell_ms < after <= until:
            until = after + (-(base_ms + after)) % cell_ms
        # The cell holds about as many rows as the one before; the first, as many as its first gap says.
        if guess == 0:
            guess = (until - after) // max(1, after - int(np.int64(after_ms[i - 1]))) + 1
        i = min(end, i + guess)
        while int(np.int64(after_ms[i - 1])) > until:
            i -= 1
        while i < end and int(np.int64(after_ms[i])) <= until:
            i += 1
        guess = i - begin
        at_ms = base_ms + int(np.int64(after_ms[i - 1]))
        for c in range(lanes):
            row = counts[c]
            pieces = int(row[i - 1]) - int(row[begin - 1])
            role = counters[c, k.ROLE]
            if begin == first or i == end:  # a delta row may have been begun before, or may go on after
                if pieces != 0:
                    base = k.CARRY + k.LANE * c
                    delta_rows = book(role, base_ms + until, base, at_ms, pieces, carry, deltas, delta_rows)
            else:
                deltas[delta_rows, 0] = at_ms
                deltas[delta_rows, 1] = role
                deltas[delta_rows, 2] = pieces
                deltas[delta_rows, 3] = 0
                delta_rows += 1 if pieces != 0 else 0
    end_ms = base_ms + int(np.int64(after_ms[end - 1]))
    for c in range(lanes):
        base = k.CARRY + k.LANE * c
        carry[base + k.LANE_LAST] = int(counts[c, end - 1])
        carry[base + k.LANE_SINCE] = end_ms
    carry[k.LAST_MS] = end_ms
    return delta_rows


@part
def change_states(
    first: int,
    end: int,
    base_ms: int,
    after_ms: U32,
    state: U8,
    words: U64,
    image: I64,
    mask: int,
    raw_states: I64,
    states: U8,
    categories: U8,
    legal: U8,
    production_modes: I64,
    limits: I64,
    carry: I64,
    runs: I64,
    run_rows: int,
    events: I64,
    event_rows: int,
) -> tuple[int, int]:
    """Runs and moves of rows [first, end) in which nothing but the state does anything, as `scan` would write them."""
    order_known = mask >> _R_ORDER & 1 == 1
    no_order = order_known and image[_R_ORDER] == 0
    mode_known = mask >> _R_MODE & 1 == 1
    mode = k.mode_of(image[_R_MODE] if mode_known else 0, mode_known, limits[k.HAS_MODE], production_modes)
    i = first
    while True:
        at = held_until(state, words, i, end, state[i - 1])
        if at == end:
            return run_rows, event_rows
        told = k.state_of(int(state[at]), raw_states, states)
        category = k.categorise(told, k.order_column(no_order, carry), order_known, mode, categories)
        if category == _PRODUCING:
            carry[k.MADE_PRODUCT] = carry[k.PRODUCT]
        if told != carry[k.STATE] or category != carry[k.CATEGORY]:
            at_ms = base_ms + int(np.int64(after_ms[at]))
            run_rows, event_rows = k.begin(at_ms, told, category, legal, carry, runs, run_rows, events, event_rows)
        i = at + 1


@kernel
def scan_columns(
    base_ms: int,
    after_ms: U32,
    state: U8,
    counts: Counts,
    image: I64,
    mask: int,
    status: int,
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
    wide_ms: I64,
    wide: I64,
    wide_valid: U32,
) -> tuple[int, int, int]:
    """What `scan` gives for the same samples in wide form.

    after_ms uint32[n]: the rows' times after `base_ms` · state uint8[n], the values of column
    `status` · counts uint16 or uint32 [c, n], the values of the columns of `counters` · image int64[k], the values
    of all other columns at every row · mask: the valid bits of every row. Scratch: wide_ms int64[WIDE_ROWS], wide
    int64[WIDE_ROWS, k], wide_valid uint32[WIDE_ROWS].
    """
    rows = after_ms.shape[0]
    lanes = counters.shape[0]
    run_rows = 0
    delta_rows = 0
    event_rows = 0
    for i in range(wide_ms.shape[0]):
        for column in range(image.shape[0]):
            wide[i, column] = image[column]
        wide_valid[i] = mask
    uniform = True
    for c in range(lanes):
        if counters[c, k.CELL_MS] != counters[0, k.CELL_MS] or mask >> counters[c, k.COLUMN] & 1 == 0:
            uniform = False
    words = state[: rows // 8 * 8].view(np.uint64)
    by_state = limits[k.KIND] == k.BY_STATE and status == _R_STATE and mask >> _R_STATE & 1 == 1
    close_rows(counters, carry)
    first = 0
    busy = 1
    sound = 0  # gaps and steps of the rows before this one are quiet
    doubtful = 0  # one of the rows before this one is not
    while first < rows:
        end = min(rows, first + busy)
        for i in range(first, end):
            wide_ms[i - first] = base_ms + int(np.int64(after_ms[i]))
            wide[i - first, status] = int(state[i])
            for c in range(lanes):
                wide[i - first, counters[c, k.COLUMN]] = int(counts[c, i])
        a, b, d = scan(
            wide_ms[: end - first],
            wide[: end - first],
            wide_valid[: end - first],
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
        event_rows += d
        first = end
        busy = BUSY_ROWS
        now = base_ms + int(np.int64(after_ms[end - 1]))
        if first == rows or not uniform or not may_be_quiet(now, mask, limits, counters, carry):
            continue
        as_read = True
        for c in range(lanes):
            if carry[k.CARRY + k.LANE * c + k.LANE_LAST] != int(counts[c, first - 1]):
                as_read = False  # a high-water mark holds
        while as_read and first < rows:
            if sound <= first:
                # Gaps and steps are looked at by whole tiles, whatever the state does; a tile in which one is not
                # quiet is halved until that row is found.
                end = min(rows, first + TILE) if doubtful <= first else first + (doubtful - first + 1) // 2
                if is_sound(first, end, after_ms, counts, lanes, limits, counters):
                    sound = end
                else:
                    doubtful = end
                    as_read = end - first > 1
                    continue
            end = sound
            if by_state:
                run_rows, event_rows = change_states(
                    first, end, base_ms, after_ms, state, words, image, mask, raw_states, states, categories, legal,
                    production_modes, limits, carry, runs, run_rows, events, event_rows,
                )  # fmt: skip
            else:
                end = held_until(state, words, first, sound, state[first - 1])
                as_read = end == sound
            if end > first:
                delta_rows = pass_by(first, end, base_ms, after_ms, state, counts, counters, carry, deltas, delta_rows)
                first = end
                busy = 1
    close_rows(counters, carry)
    return run_rows, delta_rows, event_rows


@dataclass(frozen=True)
class Narrow:
    """A block in narrow columns: `scan_columns`' first arguments."""

    base_ms: int
    after_ms: U32
    state: U8
    counts: Counts
    image: I64
    mask: int


def narrow(block: SampleBlock, counters: I64, status: int = SignalRole.STATE) -> Narrow | None:
    """`block` in narrow columns, or None where it does not fit: another column or the quality changes, it is
    longer than 49 days, the status is no number of 8 bits or a counter none of 32. Whoever has such data cuts it there.

    counters: as `scan` takes them.
    """
    values = block.values
    which = [int(column) for column in counters[:, k.COLUMN]]
    others = [column for column in range(values.shape[1]) if column not in which and column != status]
    counts = np.ascontiguousarray(values[:, which].T)
    fits = (
        len(block) > 0
        and block.time_ms[-1] - block.time_ms[0] <= 0xFFFFFFFF
        and 0 <= values[:, status].min() <= values[:, status].max() <= 0xFF
        and (values[:, others] == values[0, others]).all()
        and (block.valid == block.valid[0]).all()
        and 0 <= counts.min(initial=0) <= counts.max(initial=0) <= 0xFFFFFFFF
    )
    if not fits:
        return None
    return Narrow(
        int(block.time_ms[0]),
        (block.time_ms - block.time_ms[0]).astype(np.uint32),
        values[:, status].astype(np.uint8),
        counts.astype(np.uint16) if counts.max(initial=0) <= 0xFFFF else counts.astype(np.uint32),
        values[0].copy(),
        int(block.valid[0]),
    )


def scratch(columns: int) -> tuple[I64, I64, U32]:
    """The scratch arrays of `scan_columns` for that many columns."""
    return np.empty(WIDE_ROWS, np.int64), np.empty((WIDE_ROWS, columns), np.int64), np.empty(WIDE_ROWS, np.uint32)
