"""Sums of windows over any stretch of time, by line and whatever else keeps them apart.

Decides how a sum is read: whole UTC hours from `hourly`, the ragged ends from `window`, so that half a year of a line
is some thousand rows and is still exact to the window. Reads only; ratios are `protocols.measurement.ratios`'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Select, func, select

from hub import database as db
from hub.projections.windows import HOUR_MS
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount
from protocols.measurement.rollup import By

COLUMNS: Final = {
    By.DAY: "business_day",
    By.SHIFT: "shift_name",
    By.PRODUCT: "product",
    By.ORDER: "order_name",
}
"""What a window itself says; the rest of `By` is the place of its line."""
assert set(COLUMNS.values()) == set(db.HOURLY_KEYS)


@dataclass(frozen=True, slots=True)
class Sum:
    """The windows of a line that were measured under one configuration and share `key`, in the order of `by`."""

    line_id: str
    configuration_hash: bytes
    key: tuple[str, ...]
    account: TimeAccount


def sums(engine: Engine, line_ids: Sequence[str], from_ms: int, to_ms: int, by: Sequence[By] = ()) -> list[Sum]:
    """The sums of the windows that begin in [from_ms, to_ms). `by`: only what is in COLUMNS."""
    columns = [COLUMNS[each] for each in by]
    first, last = -(-from_ms // HOUR_MS) * HOUR_MS, to_ms // HOUR_MS * HOUR_MS
    w, h = db.window.c, db.hourly.c
    if first < last:
        queries = [
            _query(h, columns, h.line_id.in_(line_ids), h.hour_ms >= first, h.hour_ms < last),
            *(
                _query(w, columns, w.line_id.in_(line_ids), w.start_ms >= start, w.start_ms < end)
                for start, end in ((from_ms, first), (last, to_ms))
                if start < end
            ),
        ]
    else:
        queries = [_query(w, columns, w.line_id.in_(line_ids), w.start_ms >= from_ms, w.start_ms < to_ms)]
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(ACCOUNT_FIELDS))
    width = 2 + len(columns)
    with engine.connect() as connection:
        for query in queries:
            for row in connection.execute(query):
                total = found[tuple(row[:width])]
                for i, value in enumerate(row[width:]):
                    total[i] += int(value)
    return [Sum(key[0], bytes(key[1]), tuple(key[2:]), TimeAccount.from_ints(found[key])) for key in sorted(found)]


def _query(table: Any, columns: Sequence[str], *where: ColumnElement[bool]) -> Select[Any]:
    keys = [table.line_id, table.configuration_hash, *(table[name] for name in columns)]
    return select(*keys, *(func.sum(table[name]) for name in ACCOUNT_FIELDS)).where(*where).group_by(*keys)
