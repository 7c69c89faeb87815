"""Windows into the tables: `window`, `hourly` and `overlap`.

Decides that the first statement of an instant counts and later ones are only noted, and that a revoked key's windows
are taken back. What else a record becomes is decided in `projector`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from hub import database as db
from hub.projections.amendments import undo
from protocols.evidence.statement import LineStatement
from protocols.measurement.account import ACCOUNT_FIELDS, Window
from protocols.measurement.revisions import FINAL

HOUR_MS: Final = 3_600_000
HOUR_KEY: Final = ("line_id", "hour_ms", *db.HOURLY_KEYS, "configuration_hash")
"""The key of `hourly`."""
_ROWS: Final = 500
"""Rows in one INSERT: SQLite allows 32,766 parameters a statement, and a row has some 35."""


class WindowRows:
    """Windows on their way into the tables: a batch's rows are written together, for speed.

    `_ends`: where each line's windows end. What begins there or later overlaps nothing, which is the usual case.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ends: dict[str, int] = {}
        self._windows: list[dict[str, Any]] = []
        self._hours: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(ACCOUNT_FIELDS))

    def add(self, index: int, line: LineStatement) -> None:
        fresh = line.windows
        if line.windows[0].start_ms < self._end(line.line_id):
            self.write()
            fresh = self._without_overlap(index, line)
        if not fresh:
            return
        self._ends[line.line_id] = max(self._end(line.line_id), fresh[-1].end_ms)
        for window in fresh:
            ints = window.account.as_ints()
            row = _row(index, line, window, ints)
            self._windows.append(row)
            total = self._hours[hour_key(row)]
            for i, value in enumerate(ints):
                total[i] += value

    def write(self) -> None:
        """Everything that was added so far."""
        for start in range(0, len(self._windows), _ROWS):
            self._connection.execute(db.window.insert(), self._windows[start : start + _ROWS])
        if self._hours:
            insert = db.upsert(self._connection, db.hourly)
            added = {name: db.hourly.c[name] + insert.excluded[name] for name in ACCOUNT_FIELDS}
            self._connection.execute(
                insert.on_conflict_do_update(index_elements=list(HOUR_KEY), set_=added),
                [
                    dict(zip((*HOUR_KEY, *ACCOUNT_FIELDS), (*key, *total), strict=True))
                    for key, total in self._hours.items()
                ],
            )
        self._windows.clear()
        self._hours.clear()

    def forget(self) -> None:
        """After windows were taken back: the ends are read again."""
        self._ends.clear()

    def _end(self, line_id: str) -> int:
        if line_id not in self._ends:
            # Windows of a line do not overlap, so the last to begin is the last to end; and begins are indexed.
            t = db.window.c
            query = select(t.end_ms).where(t.line_id == line_id).order_by(t.start_ms.desc()).limit(1)
            self._ends[line_id] = int(self._connection.scalar(query) or 0)
        return self._ends[line_id]

    def _without_overlap(self, index: int, line: LineStatement) -> tuple[Window, ...]:
        """The windows that no earlier one touches; the others are noted."""
        t = db.window.c
        touching = self._connection.execute(
            select(t.start_ms, t.end_ms).where(
                t.line_id == line.line_id,
                t.start_ms < line.windows[-1].end_ms,
                t.end_ms > line.windows[0].start_ms,
            )
        ).all()
        fresh: list[Window] = []
        again: list[dict[str, Any]] = []
        for w in line.windows:
            if any(row.start_ms < w.end_ms and row.end_ms > w.start_ms for row in touching):
                again.append({"leaf_index": index, "line_id": line.line_id, "start_ms": w.start_ms, "end_ms": w.end_ms})
            else:
                fresh.append(w)
        if again:
            self._connection.execute(db.overlap.insert(), again)
        return tuple(fresh)


def hour_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The key in `hourly` of a row of `window`."""
    return row["line_id"], row["start_ms"] - row["start_ms"] % HOUR_MS, *(row[name] for name in HOUR_KEY[2:])


def _row(index: int, line: LineStatement, window: Window, ints: tuple[int, ...]) -> dict[str, Any]:
    day, _, shift_name = window.shift.rpartition("/")
    return {
        "line_id": line.line_id,
        "start_ms": window.start_ms,
        "end_ms": window.end_ms,
        "kind": int(window.kind),
        "product": window.product,
        "order_name": window.order,
        "shift": window.shift,
        "business_day": day,
        "shift_name": shift_name,
        "configuration_hash": line.configuration_hash,
        "version": FINAL,
        "leaf_index": index,
        "changed_index": index,
        **dict(zip(ACCOUNT_FIELDS, ints, strict=True)),
    }


def disown(connection: Connection, kid: bytes, first_invalid_index: int, index: int) -> None:
    """Takes back what a revoked key signed from that leaf on. The records stay in the log and in `record`.

    `index`: the leaf of the revocation.
    """
    t, h = db.window.c, db.hourly.c
    leaves = select(db.record.c.leaf_index).where(db.record.c.kid == kid, db.record.c.leaf_index >= first_invalid_index)
    undo(connection, leaves, index)
    rows = connection.execute(select(t.line_id, t.start_ms).where(t.leaf_index.in_(leaves))).all()
    connection.execute(delete(db.window).where(t.leaf_index.in_(leaves)))
    keys = [t[name] for name in HOUR_KEY[2:]]
    sums = [func.sum(t[name]).label(name) for name in ACCOUNT_FIELDS]
    for line_id, hour_ms in {(row.line_id, row.start_ms - row.start_ms % HOUR_MS) for row in rows}:
        connection.execute(delete(db.hourly).where(h.line_id == line_id, h.hour_ms == hour_ms))
        within = (t.line_id == line_id, t.start_ms >= hour_ms, t.start_ms < hour_ms + HOUR_MS)
        for left in connection.execute(select(*keys, *sums).where(*within).group_by(*keys)).all():
            values = dict(left._mapping) | {name: int(left._mapping[name]) for name in ACCOUNT_FIELDS}
            connection.execute(db.hourly.insert().values(line_id=line_id, hour_ms=hour_ms, **values))
