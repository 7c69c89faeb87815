"""Raw chunks to rows, many in one call: the fast form of `protocols.evidence.raw.decode_chunk`, for replay.

Decides nothing about a chunk's form: takes the usual one, and says no to all else, which then goes the slow way and is
told in words. Every read is within its chunk, whatever the bytes are. Hashes and what they prove are the caller's.
"""

from __future__ import annotations

from typing import Final

from protocols.measurement.kernels.jit import kernel, part
from protocols.measurement.kernels.scan import I64, U8, U32

# heads: int64[n, HEADS]
START_MS: Final = 0
END_MS: Final = 1
ROWS: Final = 2
CARRY_AT: Final = 3  # where the memory's bytes begin, in the chunk
CARRY_END: Final = 4
COLUMNS_END: Final = 5  # the highest column and one
TIME_AT: Final = 6  # where the columns begin
HEADS: Final = 7

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)  # RFC 8949 section 3.1
_LARGEST: Final = 2**61
_TOO_LARGE: Final = 2**62  # what stands for an argument that would not fit
_MAX_ROWS: Final = 65_536
_MAX_COLUMNS: Final = 32


@part
def item(data: U8, at: int, end: int) -> tuple[int, int, int]:
    """(major type, argument, position after the head) of the data item at `at`; a position of -1: there is none."""
    if at < 0 or at >= end:
        return 0, 0, -1
    major = int(data[at]) >> 5
    short = int(data[at]) & 31
    if short < 24:
        return major, short, at + 1
    if short > 27:
        return 0, 0, -1
    length = 1 << (short - 24)
    if at + 1 + length > end:
        return 0, 0, -1
    if length == 8 and int(data[at + 1]) > 31:
        return major, _TOO_LARGE, at + 9
    argument = 0
    for i in range(length):
        argument = argument << 8 | int(data[at + 1 + i])
    return major, argument, at + 1 + length


@part
def after(data: U8, at: int, end: int) -> int:
    """Where the data item at `at` ends; -1 where it does not end before `end`."""
    waiting = 1
    while waiting > 0:
        major, argument, at = item(data, at, end)
        if at < 0 or (_BYTES <= major <= _MAP and argument > end):
            return -1
        waiting -= 1
        if _BYTES <= major <= _TEXT:
            at += argument
        elif major == _ARRAY:
            waiting += argument
        elif major == _MAP:
            waiting += 2 * argument
        elif major == _TAG:
            waiting += 1
        if at > end:
            return -1
    return at


@kernel
def heads_of(data: U8, bounds: I64, heads: I64) -> int:
    """Reads what stands before the columns of each chunk. 1, or 0 where a chunk has another form.

    data uint8[m]: chunks one after another · bounds int64[n + 1]: where each begins · heads int64[n, HEADS], written.
    """
    for i in range(heads.shape[0]):
        begin, end = int(bounds[i]), int(bounds[i + 1])
        major, count, at = item(data, begin, end)
        if at < 0 or major != _ARRAY or count != 10:
            return 0
        for _ in range(3):  # version, line, configuration: the caller has compared them
            at = after(data, at, end)
        for place in (START_MS, END_MS):
            major, count, at = item(data, at, end)
            if at < 0 or major != _UNSIGNED or count > _LARGEST:
                return 0
            heads[i, place] = count
        if heads[i, END_MS] <= heads[i, START_MS]:
            return 0
        heads[i, CARRY_AT] = at - begin
        at = after(data, at, end)
        heads[i, CARRY_END] = at - begin
        major, count, at = item(data, at, end)
        if at < 0 or major != _UNSIGNED or count > _MAX_ROWS:
            return 0
        heads[i, ROWS] = count
        heads[i, TIME_AT] = at - begin
        at = after(data, at, end)
        major, columns, at = item(data, at, end)
        if at < 0 or major != _MAP or columns > _MAX_COLUMNS:
            return 0
        before = -1
        for _ in range(columns):
            major, count, at = item(data, at, end)
            if at < 0 or major != _UNSIGNED or count <= before or count >= _MAX_COLUMNS:
                return 0
            before = count
            at = after(data, at, end)
        heads[i, COLUMNS_END] = before + 1
        if after(data, at, end) != end:
            return 0
    return 1


@part
def column(data: U8, at: int, end: int, rows: int, out: I64) -> int:
    """Reads one column into out[:rows]; where it ends, or -1 for another form."""
    major, count, at = item(data, at, end)
    if at < 0 or major != _ARRAY or count > 2 or (count == 0) != (rows == 0):
        return -1
    if rows == 0:
        return at
    major, value, at = item(data, at, end)
    if at < 0 or major > _NEGATIVE or value > _LARGEST:
        return -1
    if major == _NEGATIVE:
        value = -1 - value
    out[0] = value
    if count == 1:
        for i in range(1, rows):
            out[i] = value
        return at
    major, tag, at = item(data, at, end)
    width = 0
    if major == _TAG:
        if tag == 64:
            width = 1
        elif tag == 69:
            width = 2
        elif tag == 70:
            width = 4
    if at < 0 or width == 0:
        return -1
    major, length, at = item(data, at, end)
    if at < 0 or major != _BYTES or length != width * (rows - 1) or at + length > end:
        return -1
    for i in range(1, rows):
        step = 0
        for b in range(width):
            step |= int(data[at + b]) << (8 * b)
        at += width
        value += (step >> 1) ^ -(step & 1)
        out[i] = value
    return at


@kernel
def unpack(data: U8, bounds: I64, heads: I64, time_ms: I64, values: I64, valid: U32, room: I64) -> int:
    """Reads the rows of chunks whose heads were read, one chunk after another. 1, or 0 for another form.

    Out: time_ms int64[r], values int64[r, k] (zeros before), valid uint32[r], r being the sum of ROWS and k the
    greatest COLUMNS_END. room int64[at least the most rows of a chunk]: scratch.
    """
    first = 0
    for i in range(heads.shape[0]):
        rows, end = int(heads[i, ROWS]), int(bounds[i + 1])
        length_ms = int(heads[i, END_MS]) - int(heads[i, START_MS])
        at = column(data, int(bounds[i]) + int(heads[i, TIME_AT]), end, rows, room)
        if at < 0:
            return 0
        for r in range(rows):
            if room[r] < 0 or room[r] > length_ms:
                return 0
            time_ms[first + r] = heads[i, START_MS] + room[r]
        major, columns, at = item(data, at, end)
        there = 0
        for _ in range(columns):
            major, which, at = item(data, at, end)
            if at < 0 or major != _UNSIGNED or which >= values.shape[1]:
                return 0
            there |= 1 << which
            at = column(data, at, end, rows, room)
            if at < 0:
                return 0
            for r in range(rows):
                values[first + r, which] = room[r]
        at = column(data, at, end, rows, room)
        if at != end:
            return 0
        for r in range(rows):
            if room[r] < 0 or room[r] & ~there != 0:
                return 0
            valid[first + r] = room[r]
        first += rows
    return 1
