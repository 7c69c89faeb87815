"""The measured windows of many records as columns: the rules of `statement`, and how they are added up.

Decides nothing that `statement`, `continuity` and `measurement.tally` have not decided; see `swift`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

import numpy as np

from protocols.errors import Malformed
from protocols.evidence.continuity import LineTime
from protocols.evidence.fields import MAX_TIME_MS, as_id, as_text
from protocols.evidence.late import Places
from protocols.evidence.lockstep import I64, Flags, Unusual, Walk, demand
from protocols.evidence.statement import HASH_LENGTH, KINDS, MAY_BE_NEGATIVE, ROW_HEAD, ROW_INTS
from protocols.measurement.account import ACCOUNT_FIELDS, CATEGORIES
from protocols.measurement.plan import Plan
from protocols.measurement.tally_columns import add_columns

_START, _LENGTH, _KIND, _PRODUCT, _ORDER, _SHIFT = range(ROW_HEAD)
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
class Rows:
    """One line's rows. `owner`: of each row the statement; `record`: of each statement the record it stands in."""

    line_id: str
    record: I64
    configuration: list[bytes]  # hash, of each statement
    owner: I64
    columns: I64  # as in `statement`, one row of this array for each integer of a window
    start_ms: I64
    end_ms: I64
    product: I64  # number of the text, of each row
    shift: I64

    @classmethod
    def together(cls, parts: Sequence[Rows]) -> Rows:
        """The same line's rows from several places in the records, in the records' order."""
        if len(parts) == 1:
            return parts[0]
        shifts = np.cumsum([0, *(len(part.record) for part in parts[:-1])])
        record = np.concatenate([part.record for part in parts])
        owner = np.concatenate([part.owner + shift for part, shift in zip(parts, shifts, strict=True)])
        order = np.argsort(record[owner], kind="stable")
        return cls(
            parts[0].line_id,
            record,
            [each for part in parts for each in part.configuration],
            owner[order],
            np.concatenate([part.columns for part in parts], axis=1)[:, order],
            np.concatenate([part.start_ms for part in parts])[order],
            np.concatenate([part.end_ms for part in parts])[order],
            np.concatenate([part.product for part in parts])[order],
            np.concatenate([part.shift for part in parts])[order],
        )

    def configurations(self, plan: Plan) -> Iterator[tuple[bytes, int, int]]:
        """(hash, first and last start) of one statement under each configuration; of one in a period if there is."""
        ends = _last_of_runs(self.owner)
        first_ms, last_ms = self.start_ms[np.concatenate(([0], ends[:-1] + 1))], self.start_ms[ends]
        counts = np.zeros(len(ends), bool)
        for period in (plan.baseline, plan.reporting):
            counts |= (period.from_ms <= last_ms) & (first_ms < period.to_ms)
        shown: dict[bytes, int] = {}
        hashes = [self.configuration[i] for i in self.owner[ends].tolist()]
        for i, each in enumerate(hashes):
            if each not in shown or (counts[i] and not counts[shown[each]]):
                shown[each] = i
        for each, i in shown.items():
            yield each, int(first_ms[i]), int(last_ms[i])

    def take_in(self, time: LineTime, sequences: I64, places: Places, texts: Texts) -> None:
        """Adds the rows to the line's tallies; `sequences`: of each record."""
        for tally in time.tallies.values():
            first, end = np.searchsorted(self.start_ms, (tally.period.from_ms, tally.period.to_ms)).tolist()
            if first == end:
                continue
            part = slice(first, end)
            start_ms, end_ms, owner = self.start_ms[part], self.end_ms[part], self.owner[part]
            product, shift, ints = self.product[part], self.shift[part], self.columns[ROW_HEAD:, part]
            add_columns(tally, start_ms, end_ms, product, shift, texts.text, ints)
            from_, to, rows = _span_columns(start_ms, end_ms, owner[1:] != owner[:-1])
            time.revisions.stated(from_.tolist(), to.tolist(), sequences[self.record[owner[rows]]].tolist(), places)
        time.end_ms = int(self.end_ms[-1])


def read_lines(walk: Walk, start_ms: I64, end_ms: I64, texts: Texts) -> list[Rows]:
    """The bodies of measurement records that span [start_ms, end_ms). Raises Unusual."""
    counts = walk.array()
    demand(bool(np.all(counts > 0)))
    found: list[Rows] = []
    ids: list[set[str]] = [set() for _ in counts]
    for i in range(int(counts.max(initial=0))):
        which = np.flatnonzero(counts > i)
        part = walk.part(which)
        names = _read_statements(part, start_ms[which], end_ms[which], texts, found, which)
        walk.join(part, which)
        for record, name in zip(which.tolist(), names, strict=True):
            demand(name not in ids[record])
            ids[record].add(name)
    return found


def _read_statements(walk: Walk, start_ms: I64, end_ms: I64, texts: Texts, found: list[Rows], which: I64) -> list[str]:
    """One statement of each record; adds its rows to `found`, those of each line together. Gives the lines' ids."""
    walk.expect(b"\x85")
    names = [_line_id(raw) for raw in walk.texts()]
    walk.expect(b"\x58\x20")
    hashes = [row.tobytes() for row in walk.bytes_at(walk.skip(HASH_LENGTH), HASH_LENGTH)]
    there = walk.present()
    raw = walk.part(there)
    raw.expect(b"\x83\x58\x20")
    raw.skip(HASH_LENGTH)
    raw.integer()
    raw.integer()
    walk.join(raw, there)
    numbers, counts = _read_strings(walk, texts)
    columns, owner = walk.rows(_some(walk.array()), ROW_INTS)
    _check_rows(columns, owner, counts)
    starts = start_ms[owner] + columns[_START]
    ends = starts + columns[_LENGTH]
    inside = owner[1:] == owner[:-1]
    demand(bool(np.all(starts[1:][inside] == ends[:-1][inside])))
    demand(bool(np.all(ends <= end_ms[owner])))
    product, shift = numbers[owner, columns[_PRODUCT]], numbers[owner, columns[_SHIFT]]
    lines = {name: i for i, name in enumerate(dict.fromkeys(names))}
    of_line = np.array([lines[name] for name in names])
    for name, i in lines.items():
        if len(lines) == 1:
            found.append(Rows(name, which, hashes, owner, columns, starts, ends, product, shift))
            break
        mine = np.flatnonzero(of_line == i)
        rows = np.flatnonzero(of_line[owner] == i)
        place = np.zeros(len(names), np.int64)
        place[mine] = np.arange(len(mine))
        found.append(
            Rows(
                name,
                which[mine],
                [hashes[j] for j in mine.tolist()],
                place[owner[rows]],
                columns[:, rows],
                *(each[rows] for each in (starts, ends, product, shift)),
            )
        )
    return names


def _read_strings(walk: Walk, texts: Texts) -> tuple[I64, I64]:
    """(numbers of each statement's texts, how many it has)"""
    counts = walk.array()
    numbers = np.zeros((len(counts), max(1, int(counts.max(initial=0)))), np.int64)
    for i in range(int(counts.max(initial=0))):
        which = np.flatnonzero(counts > i)
        part = walk.part(which)
        column = texts.numbers(part.texts())
        walk.join(part, which)
        numbers[which, i] = column
        for j in range(i):  # a text stands there once
            demand(bool(np.all(numbers[which, j] != numbers[which, i])))
    return numbers, counts


def _check_rows(columns: I64, owner: I64, texts: I64) -> None:
    """`statement._check_row` of all rows; `texts`: how many texts each statement has."""
    limit = 2**62 // max(64, columns.shape[1])  # so that no sum of these rows can overflow
    demand(bool(columns.max() < limit and columns.min() > -limit))
    demand(bool(columns[_NEVER_NEGATIVE].min() >= 0))
    demand(bool(columns[_LENGTH].min() > 0 and columns[_START].max() <= MAX_TIME_MS))
    demand(bool(columns[_KIND].max() < len(KINDS)))
    demand(np.array_equal(columns[ROW_HEAD : ROW_HEAD + CATEGORIES].sum(axis=0), columns[_LENGTH]))
    demand(bool(np.all(columns[_PLANNED] <= columns[_LENGTH])))
    demand(bool(np.all(columns[_GOOD] + columns[_REJECT] <= columns[_TOTAL])))
    # Each text of a row is the next new one of its statement, or one that was used.
    named = columns[_PRODUCT : _SHIFT + 1]
    demand(bool(named.max() < _SPACE))
    of = np.repeat(owner, len(named)) * _SPACE
    places = named.T.ravel() + of
    highest = np.maximum.accumulate(places)
    before = np.concatenate(([-1], highest[:-1]))
    before[np.flatnonzero(before < of)] = -1
    used = np.where(before < 0, 0, before - of + 1)
    demand(bool(np.all(places - of <= used)))
    ends = _last_of_runs(owner)
    demand(np.array_equal(highest[ends * len(named) + len(named) - 1] % _SPACE + 1, texts[owner[ends]]))


def _some(counts: I64) -> I64:
    demand(bool(np.all(counts > 0)))
    return counts


@lru_cache(maxsize=4_096)
def _line_id(raw: bytes) -> str:
    try:
        return as_id(raw.decode("ascii"), "line id")
    except (Malformed, UnicodeDecodeError):
        raise Unusual from None


def _last_of_runs(owner: I64) -> I64:
    return np.append(np.flatnonzero(owner[1:] != owner[:-1]), len(owner) - 1)


def _span_columns(start_ms: I64, end_ms: I64, breaks: Flags) -> tuple[I64, I64, I64]:
    lasts = np.append(np.flatnonzero(breaks), len(start_ms) - 1)
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    return start_ms[firsts], end_ms[lasts], firsts
