"""The statements of many records as columns: the rules of `statement`.

Decides nothing that `statement` has not decided. What breaks one of its rules is `Unusual` here, and is left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

import numpy as np

from protocols.errors import Malformed
from protocols.evidence.fields import MAX_TIME_MS, as_id, as_text
from protocols.evidence.lockstep import I64, Flags, Unusual, Walk, demand
from protocols.evidence.statement import HASH_LENGTH, KINDS, MAY_BE_NEGATIVE, ROW_HEAD, ROW_INTS
from protocols.measurement.account import ACCOUNT_FIELDS, CATEGORIES

START, LENGTH, KIND, PRODUCT, ORDER, SHIFT = range(ROW_HEAD)
"""The columns before those of the account."""
_TOTAL, _GOOD, _REJECT, _PLANNED = (
    ROW_HEAD + ACCOUNT_FIELDS.index(f"{name}") for name in ("total_count", "good_count", "reject_count", "planned_ms")
)
_NEVER_NEGATIVE: Final = [i for i in range(ROW_INTS) if i not in MAY_BE_NEGATIVE]
_TEXTS_KEPT: Final = 1 << 16
_SPACE: Final = 1 << 20
"""More than one statement can have texts."""


class Texts:
    """Texts by number, each checked once."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._texts: list[str] = []

    def number(self, raw: bytes) -> int:
        """Raises Unusual for what is no text for people."""
        found = self._numbers.get(raw)
        if found is None:
            try:
                text = as_text(raw.decode(), "text")
            except (Malformed, UnicodeDecodeError):
                raise Unusual from None
            found = self._numbers[raw] = len(self._texts)
            self._texts.append(text)
        return found

    def numbers(self, raws: list[bytes]) -> list[int]:
        """Of each."""
        found = list(map(self._numbers.get, raws))
        if None in found:
            return [self.number(raw) for raw in raws]
        return cast(list[int], found)

    def text(self, number: int) -> str:
        return self._texts[number]

    def make_room(self) -> None:
        """Forgets all if there are very many; no number is good after it."""
        if len(self._texts) > _TEXTS_KEPT:
            self._numbers.clear()
            self._texts.clear()


@dataclass(slots=True)
class Statements:
    """One statement of each of some records. `owner`: of each row its statement; rows are in the statements' order."""

    line_ids: list[str]
    configurations: list[bytes]  # hashes
    with_raw: Flags  # which have a raw commitment, and of each of those:
    roots: list[bytes]
    chunk_counts: I64
    sample_counts: I64
    texts: I64  # numbers of the texts, one statement after the other
    text_counts: I64  # of each statement
    columns: I64  # as in `statement`, one row of this array for each integer of a window
    owner: I64
    start_ms: I64  # of each row, as `end_ms`
    end_ms: I64

    def text_of_row(self, column: int) -> I64:
        """The number of the text that each row names in this column."""
        firsts = np.cumsum(self.text_counts) - self.text_counts
        of_row: I64 = self.texts[firsts[self.owner] + self.columns[column]]
        return of_row


def read_statements(walk: Walk, start_ms: I64, end_ms: I64, texts: Texts) -> Iterator[tuple[I64, Statements]]:
    """The bodies of measurement records that span [start_ms, end_ms): the first statement of each, then the second of
    those that have one, and so on, each time with the numbers of the records. Raises Unusual."""
    counts = walk.array()
    demand(bool(np.all(counts > 0)))
    ids: list[set[str]] = [set() for _ in counts]
    for i in range(int(counts.max(initial=0))):
        which = np.flatnonzero(counts > i)
        part = walk.part(which)
        found = _read_one_each(part, start_ms[which], end_ms[which], texts)
        walk.join(part, which)
        for record, line_id in zip(which.tolist(), found.line_ids, strict=True):
            demand(line_id not in ids[record])
            ids[record].add(line_id)
        yield which, found


def _read_one_each(walk: Walk, start_ms: I64, end_ms: I64, texts: Texts) -> Statements:
    walk.expect(b"\x85")
    line_ids = [_line_id(raw) for raw in walk.texts()]
    walk.expect(b"\x58\x20")
    configurations = walk.pieces(HASH_LENGTH)
    with_raw = walk.present()
    raw = walk.part(with_raw)
    raw.expect(b"\x83\x58\x20")
    roots, chunk_counts, sample_counts = raw.pieces(HASH_LENGTH), raw.integer(), raw.integer()
    walk.join(raw, with_raw)
    numbers, text_counts = _read_strings(walk, texts)
    row_counts = walk.array()
    demand(bool(np.all(row_counts > 0)))
    columns, owner = walk.rows(row_counts, ROW_INTS)
    _check_rows(columns, owner, text_counts)
    starts = start_ms[owner] + columns[START]
    ends = starts + columns[LENGTH]
    inside = owner[1:] == owner[:-1]
    demand(bool(np.all(starts[1:][inside] == ends[:-1][inside])))
    demand(bool(np.all(ends <= end_ms[owner])))
    return Statements(
        line_ids, configurations, with_raw, roots, chunk_counts, sample_counts, numbers, text_counts, columns, owner,
        starts, ends,
    )  # fmt: skip


def _read_strings(walk: Walk, texts: Texts) -> tuple[I64, I64]:
    """(numbers of all statements' texts, one statement after the other; how many each has)"""
    counts = walk.array()
    firsts = np.cumsum(counts) - counts
    numbers = np.zeros(int(counts.sum()), np.int64)
    for i in range(int(counts.max(initial=0))):
        which = np.flatnonzero(counts > i)
        part = walk.part(which)
        numbers[firsts[which] + i] = texts.numbers(part.texts())
        walk.join(part, which)
    ordered = np.sort(np.repeat(np.arange(len(counts)), counts) << 32 | numbers)
    demand(bool(np.all(ordered[1:] != ordered[:-1])))  # a text stands there once
    return numbers, counts


def _check_rows(columns: I64, owner: I64, texts: I64) -> None:
    """`statement._check_row` of all rows; `texts`: how many texts each statement has."""
    limit = 2**62 // max(64, columns.shape[1])  # so that no sum of these rows can overflow
    demand(bool(columns.max() < limit and columns.min() > -limit))
    demand(bool(columns[_NEVER_NEGATIVE].min() >= 0))
    demand(bool(columns[LENGTH].min() > 0 and columns[START].max() <= MAX_TIME_MS))
    demand(bool(columns[KIND].max() < len(KINDS)))
    demand(np.array_equal(columns[ROW_HEAD : ROW_HEAD + CATEGORIES].sum(axis=0), columns[LENGTH]))
    demand(bool(np.all(columns[_PLANNED] <= columns[LENGTH])))
    demand(bool(np.all(columns[_GOOD] + columns[_REJECT] <= columns[_TOTAL])))
    # Each text of a row is the next new one of its statement, or one that was used.
    named = columns[PRODUCT : SHIFT + 1]
    demand(bool(named.max() < _SPACE))
    of = np.repeat(owner, len(named)) * _SPACE
    places = named.T.ravel() + of
    highest = np.maximum.accumulate(places)
    before = np.concatenate(([-1], highest[:-1]))
    before[np.flatnonzero(before < of)] = -1
    used = np.where(before < 0, 0, before - of + 1)
    demand(bool(np.all(places - of <= used)))
    ends = last_of_runs(owner)
    demand(np.array_equal(highest[ends * len(named) + len(named) - 1] % _SPACE + 1, texts[owner[ends]]))


def last_of_runs(owner: I64) -> I64:
    """Where each run of one value ends."""
    return np.append(np.flatnonzero(owner[1:] != owner[:-1]), len(owner) - 1)


@lru_cache(maxsize=4_096)
def _line_id(raw: bytes) -> str:
    try:
        return as_id(raw.decode("ascii"), "line id")
    except (Malformed, UnicodeDecodeError):
        raise Unusual from None
