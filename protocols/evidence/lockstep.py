"""CBOR in lockstep: the same item read out of many messages at once.

Decides how canonical items (`canonical`) are read by whole columns with numpy: a position in each message, and all
move forward together. Whatever is not in the one form, or not where it is looked for, raises `Unusual`: that is no
judgement. Whoever catches it reads the messages one by one, and tells what is wrong with which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.evidence.fields import MAX_INT

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

PADDING: Final = 1_024
"""Zero bytes after the last message, so that a step too far stays inside."""
_FARTHEST: Final = PADDING // 2

# Of each initial byte (RFC 8949 section 3): how many bytes of argument follow; _NONE where it begins no integer.
_NONE: Final = 99
_ARGUMENT: Final = np.full(256, _NONE, np.uint8)
for _major in (0x00, 0x20):
    _ARGUMENT[_major : _major + 24] = 0
    _ARGUMENT[_major + 24 : _major + 28] = (1, 2, 4, 8)
_STEP: Final = np.where(_ARGUMENT == _NONE, 1, 1 + _ARGUMENT).astype(np.uint8)
_LEAST: Final = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
"""The least value that needs so many bytes: a smaller one has a shorter form."""
_NULL: Final = 0xF6
_NEGATIVE: Final = 0x20
_BYTES, _TEXT, _ARRAY = 0x40, 0x60, 0x80


class Unusual(Exception):
    """The messages are not all of the form that is read here."""


def demand(holds: bool | np.bool_) -> None:
    """Raises Unusual unless it holds."""
    if not holds:
        raise Unusual


def integers(data: U8, at: I64) -> tuple[I64, I64]:
    """(the integers that begin at `at`, the positions after them). Raises Unusual unless all are in shortest form."""
    head = data[at]
    values, after = head.astype(np.int64), at + 1
    rest = np.flatnonzero(head >= 24)  # most integers of a row are small
    if rest.size:
        values[rest], after[rest] = _longer(data, at[rest])
    return values, after


def _longer(data: U8, at: I64) -> tuple[I64, I64]:
    head = data[at]
    width = _ARGUMENT[head]
    demand(width.max() != _NONE)
    values = (head & 31).astype(np.int64)
    for size, least in _LEAST.items():
        places = np.flatnonzero(width == size)
        if places.size:
            first = at[places] + 1
            found = data[first].astype(np.int64)
            for i in range(1, size):
                found = found << 8 | data[first + i]
            demand(found.min() >= least)  # above 2**63 - 1 it has become negative
            values[places] = found
    negative = np.flatnonzero(head >= _NEGATIVE)
    values[negative] = -1 - values[negative]
    return values, at + 1 + width


@dataclass(slots=True)
class Walk:
    """`at`: a position in `data` for each message. `end`: where each message ends.

    `steps`: of each byte of `data`, how long the integer would be that begins there.
    """

    data: U8
    at: I64
    end: I64
    steps: U8

    @classmethod
    def of(cls, data: U8, at: I64, end: I64) -> Walk:
        return cls(data, at, end, _STEP[data])

    def part(self, which: Flags | I64) -> Walk:
        """The same for some of the messages; `join` brings them back."""
        return Walk(self.data, self.at[which], self.end[which], self.steps)

    def join(self, part: Walk, which: Flags | I64) -> None:
        self.at[which] = part.at

    def expect(self, what: bytes) -> None:
        """Exactly these bytes come next."""
        for i, byte in enumerate(what):
            demand(np.all(self.data[self.at + i] == byte))
        self._move(len(what))

    def skip(self, length: int) -> I64:
        """Over so many bytes; where they begin."""
        start = self.at
        self._move(length)
        return start

    def bytes_at(self, start: I64, length: int) -> U8:
        """So many bytes from each position: one row a message."""
        found: U8 = self.data[start[:, None] + np.arange(length)]
        return found

    def pieces(self, length: int) -> list[bytes]:
        """The next so many bytes of each."""
        pieces = self.bytes_at(self.skip(length), length).tobytes()
        return [pieces[i : i + length] for i in range(0, len(pieces), length)]

    def integer(self, low: int = 0, high: int = MAX_INT) -> I64:
        values, self.at = integers(self.data, self.at)
        self._stay()
        demand(values.size == 0 or (values.min() >= low and values.max() <= high))
        return values

    def optional_integer(self, low: int = 0, high: int = MAX_INT) -> tuple[I64, Flags]:
        """(values, which of them are there): null stands for none, and reads as 0."""
        there = self.present()
        values = np.zeros(len(self.at), np.int64)
        part = self.part(there)
        values[there] = part.integer(low, high)
        self.join(part, there)
        return values, there

    def present(self) -> Flags:
        """Which messages have something other than null next; null is stepped over."""
        there: Flags = self.data[self.at] != _NULL
        self.at = self.at + ~there
        return there

    def byte_string(self) -> tuple[I64, I64]:
        """(where each begins, its length)"""
        return self._string(_BYTES)

    def texts(self) -> list[bytes]:
        """The UTF-8 bytes of each; nobody has looked whether they are."""
        starts, lengths = self._string(_TEXT)
        buffer = self.data.data
        return [bytes(buffer[a:b]) for a, b in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)]

    def array(self) -> I64:
        """How many items each array has. None claims more than there are bytes left, whoever makes room for them."""
        counts = self._head(_ARRAY)
        demand(np.all(counts <= self.end - self.at))
        return counts

    def rows(self, counts: I64, width: int) -> tuple[I64, I64]:
        """Arrays of `width` integers, so many in each message: (integers as `width` columns, the message of each row).

        Rows stand in the order of the messages, and within one as they are there.
        """
        head = (_ARRAY | 24, width) if width >= 24 else (_ARRAY | width,)
        columns: list[I64] = []
        owners: list[I64] = []
        steps = self.steps
        for i in range(int(counts.max(initial=0))):
            owner = np.flatnonzero(counts > i)
            part = self.part(owner)
            part.expect(bytes(head))
            places = np.empty((width, len(owner)), np.int64)
            at = part.at
            for j in range(width):
                places[j] = at
                at = at + steps[at]
            values, _ = integers(self.data, places.ravel())
            columns.append(values.reshape(width, -1))
            owners.append(owner)
            part.at = at
            part._stay()
            self.join(part, owner)
        demand(bool(columns))
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        return np.concatenate(columns, axis=1)[:, order], owner[order]

    def ended(self) -> None:
        """Nothing is left."""
        demand(np.array_equal(self.at, self.end))

    def _string(self, major: int) -> tuple[I64, I64]:
        length = self._head(major)
        start = self.at
        self.at = start + length
        self._stay()
        return start, length

    def _head(self, major: int) -> I64:
        head = self.data[self.at]
        demand(np.all((head >= major) & (head < major + 26)))  # no argument is longer than two bytes
        info = head - np.uint8(major)
        values = info.astype(np.int64)
        at = self.at
        one, two = np.flatnonzero(info == 24), np.flatnonzero(info == 25)
        values[one] = self.data[at[one] + 1]
        values[two] = self.data[at[two] + 1].astype(np.int64) << 8 | self.data[at[two] + 2]
        demand(np.all(values[one] >= _LEAST[1]) and np.all(values[two] >= _LEAST[2]))
        self.at = at + _STEP[info]
        self._stay()
        return values

    def _move(self, length: int) -> None:
        assert length <= _FARTHEST
        self.at = self.at + length
        self._stay()

    def _stay(self) -> None:
        demand(np.all(self.at <= self.end))
