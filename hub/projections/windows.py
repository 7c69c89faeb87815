"""Windows into the tables: `window`, `hourly` and `overlap`.

Decides that the first statement of an instant counts and later ones are only noted, and that a revoked key's windows
are taken back. What else a record becomes is decided in `projector`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from hub import database as db
from hub.projections import bulk
from hub.projections.amendments import undo
from protocols.evidence.statement import LineStatement
from protocols.measurement.account import ACCOUNT_FIELDS, Window
from protocols.measurement.revisions import FINAL

HOUR_MS: Final = 3_600_000
HOUR_KEY: Final = ("line_id", "hour_ms", *db.HOURLY_KEYS, "configuration_hash")
"""The key of `hourly`."""
# Windows of a line do not overlap, so the last to begin is the last to end; and begins are indexed.
_LAST_END: Final = 'SELECT end_ms FROM "window" WHERE line_id = ? ORDER BY start_ms DESC LIMIT 1'


class WindowRows:
    """Windows on their way into the tables: a batch's rows are written together, for speed.

    `ends`: where each line's windows end, as far as it is known; kept by the caller from batch to batch, and to be
    thrown away when a transaction fails. What begins there or later overlaps nothing, which is the usual case.
    """

    def __init__(self, connection: Connection, ends: dict[str, int]) -> None:
        self._connection = connection
        self._ends = ends
        self._windows: list[bulk.Row] = []
        self._hours: defaultdict[bulk.Row, list[tuple[int, ...]]] = defaultdict(list)  # by HOUR_KEY

    def add(self, index: int, line: LineStatement) -> None:
        fresh: Iterable[Window] = line.windows
        line_id, configuration = line.line_id, line.configuration_hash
        end_ms = self._end(line_id)
        if line.windows[0].start_ms < end_ms:
            self.write()
            fresh = self._without_overlap(index, line)
        for window in fresh:
            start_ms, end_ms = window.start_ms, max(end_ms, window.end_ms)
            ints = window.account.as_ints()
            day, _, shift_name = window.shift.rpartition("/")
            self._windows.append((
                line_id, start_ms, window.end_ms, int(window.kind), window.product, window.order, window.shift, day,
                shift_name, *ints, configuration, FINAL, index, index,
            ))  # fmt: skip
            hour = line_id, start_ms - start_ms % HOUR_MS, day, shift_name, window.product, window.order, configuration
            self._hours[hour].append(ints)
        self._ends[line_id] = end_ms

    def write(self) -> None:
        """Everything that was added so far."""
        bulk.insert(self._connection, db.window, self._windows)
        hours = [(*key, *map(sum, zip(*rows, strict=True))) for key, rows in self._hours.items()]
        bulk.add(self._connection, db.hourly, HOUR_KEY, hours)
        self._windows.clear()
        self._hours.clear()

    def forget(self) -> None:
        """After windows were taken back: the ends are read again."""
        self._ends.clear()

    def _end(self, line_id: str) -> int:
        if line_id not in self._ends:
            self._ends[line_id] = int(bulk.scalar(self._connection, _LAST_END, line_id) or 0)
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
