"""The windows of one line as columns: for sums over months, where an object for each minute takes most of the time.

Decides how they are read and held (ADR 6 says why columns). What the sums are is decided in `measurement.tally`. All
integers are exact: where a sum could leave 64 bits, it is made of Python's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, select

from hub import database as db
from protocols.errors import Malformed
from protocols.measurement.account import ACCOUNT_FIELDS, CalendarKind, TimeAccount, Window
from protocols.measurement.plan import Period
from protocols.measurement.revisions import FINAL
from protocols.measurement.tally import Tally
from protocols.measurement.tally_columns import I64, add_columns

_AT_ONCE: Final = 8_192
_HEAD: Final = ("start_ms", "end_ms", "leaf_index", "version", "kind")
_START, _END, _LEAF, _VERSION, _KIND = range(len(_HEAD))
_TEXTS: Final = ("product", "order_name", "shift", "configuration_hash")
_PRODUCT, _ORDER, _SHIFT, _CONFIGURATION = range(len(_TEXTS))
_COUNT: Final = len(_HEAD) + len(ACCOUNT_FIELDS)
_LIMIT: Final = 2**62


@dataclass(slots=True, eq=False)
class LineColumns:
    """Windows of a line in order of time, none over another. `values`: the texts and hashes, by their numbers."""

    line_id: str
    _integers: I64  # a row for each of _HEAD, then one for each integer of the account
    _numbers: I64  # a row for each of _TEXTS
    values: list[Any]

    @classmethod
    def of(cls, line_id: str, windows: Iterable[Window]) -> LineColumns:
        """Of windows in order of time, as if one record had stated them."""
        rows = [
            (w.start_ms, w.end_ms, 0, FINAL, int(w.kind), *w.account.as_ints(), w.product, w.order, w.shift, b"")
            for w in windows
        ]
        return _gathered(line_id, [rows] if rows else [])

    def __len__(self) -> int:
        return int(self._integers.shape[1])

    @property
    def start_ms(self) -> I64:
        return _part(self._integers, _START)

    @property
    def end_ms(self) -> I64:
        return _part(self._integers, _END)

    @property
    def leaf_index(self) -> I64:
        """Of the record that states each."""
        return _part(self._integers, _LEAF)

    @property
    def version(self) -> I64:
        return _part(self._integers, _VERSION)

    @property
    def product(self) -> I64:
        """Numbers of `values`."""
        return _part(self._numbers, _PRODUCT)

    @property
    def ints(self) -> I64:
        """The accounts: a row for each of ACCOUNT_FIELDS."""
        return _part(self._integers, slice(len(_HEAD), None))

    @property
    def configurations(self) -> list[bytes]:
        """The hashes of the configurations that they were measured under, in order of first use."""
        numbers, first = np.unique(self._numbers[_CONFIGURATION], return_index=True)
        return [self.values[number] for number in numbers[np.argsort(first)].tolist()]

    def where(self, mask: NDArray[np.bool_]) -> LineColumns:
        """Those for which the mask holds; itself where that is all of them."""
        if mask.all():
            return self
        return LineColumns(self.line_id, self._integers[:, mask], self._numbers[:, mask], self.values)

    def place(self, at_ms: int) -> int | None:
        """Of the window that holds a time; None if there is none."""
        place = int(np.searchsorted(self.start_ms, at_ms, side="right")) - 1
        return None if place < 0 or self.end_ms[place] <= at_ms else place

    def window(self, place: int) -> Window:
        start_ms, end_ms, _, _, kind, *ints = self._integers[:, place].tolist()
        product, order, shift = (self.values[number] for number in self._numbers[:_CONFIGURATION, place].tolist())
        return Window(start_ms, end_ms, CalendarKind(kind), product, order, shift, TimeAccount.from_ints(ints))

    def restate(self, place: int, account: TimeAccount) -> None:
        """The window at `place` has this account now."""
        self.ints[:, place] = account.as_ints()

    def tally(self, period: Period) -> Tally:
        """The tally of the windows that start in the period, as `periods.tally`. Raises Malformed when two overlap."""
        found = Tally(self.line_id, period)
        first, end = np.searchsorted(self.start_ms, (period.from_ms, period.to_ms)).tolist()
        if first == end:
            return found
        start_ms, end_ms = self.start_ms[first:end], self.end_ms[first:end]
        wrong = np.flatnonzero(start_ms[1:] < end_ms[:-1])
        if len(wrong):
            at_ms = start_ms[wrong[0] + 1]
            raise Malformed(f"windows of line {self.line_id!r} overlap at {at_ms} ms: the time would count twice")
        numbers = self._numbers[:, first:end]
        ints = summable(self.ints[:, first:end])
        add_columns(found, start_ms, end_ms, numbers[_PRODUCT], numbers[_SHIFT], self.values.__getitem__, ints)
        return found


def _part(array: I64, rows: int | slice) -> I64:
    part: I64 = array[rows]
    return part


def summable(ints: I64) -> NDArray[Any]:
    """The same integers in an array in which no sum of a row can overflow."""
    limit = _LIMIT // max(1, ints.shape[1])
    small = ints.size == 0 or (int(ints.max()) < limit and int(ints.min()) > -limit)
    return ints if small else ints.astype(object)


def query(line_id: str, *conditions: Any) -> Select[Any]:
    """What `read` reads."""
    t = db.window.c
    names = (*_HEAD, *ACCOUNT_FIELDS, *_TEXTS)
    return select(*(t[name] for name in names)).where(t.line_id == line_id, *conditions).order_by(t.start_ms)


def read(connection: Connection, line_id: str, *conditions: Any) -> LineColumns:
    """Windows of a line from the table `window`."""
    return _gathered(line_id, _parts(connection, query(line_id, *conditions)))


def _parts(connection: Connection, wanted: Select[Any]) -> Iterator[Sequence[Sequence[Any]]]:
    """The driver's own tuples, some at a time: a Row of SQLAlchemy's for each takes as long as the database itself."""
    compiled = wanted.compile(dialect=connection.dialect)
    values = compiled.params
    driver: Any = connection.connection.cursor()
    try:
        named = compiled.positiontup
        driver.execute(str(compiled), values if named is None else tuple(values[name] for name in named))
        while rows := driver.fetchmany(_AT_ONCE):
            yield rows
    finally:
        driver.close()


def _gathered(line_id: str, parts: Iterable[Sequence[Sequence[Any]]]) -> LineColumns:
    numbered: dict[Any, int] = {}
    integers, numbers = [np.empty((_COUNT, 0), np.int64)], [np.empty((len(_TEXTS), 0), np.int64)]
    for rows in parts:
        columns = list(zip(*rows, strict=True))
        integers.append(np.array(columns[:_COUNT], np.int64))
        texts = columns[_COUNT:]
        for column in texts:
            for value in dict.fromkeys(column):
                numbered.setdefault(value, len(numbered))
        numbers.append(np.array([list(map(numbered.__getitem__, column)) for column in texts], np.int64))
    return LineColumns(line_id, np.concatenate(integers, axis=1), np.concatenate(numbers, axis=1), list(numbered))
