"""Amendments into the tables: the window as it stands now, and what it was before.

Decides what of an amendment becomes a row. Whether it has an effect is decided in `protocols.measurement.revisions`,
by the same rules as in a verdict: a change counts for windows of the same key's chain, in the order of that chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, desc, select

from hub import database as db
from protocols.errors import Refused
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount
from protocols.measurement.amendment import Amendment, FieldChange, ReasonChange, WindowChange
from protocols.measurement.revisions import refuse_other_reason, restated

HOUR_MS = 3_600_000


def amend(connection: Connection, index: int, kid: bytes, amendment: Amendment) -> None:
    """Makes an amendment, the entry `index` of the log, and notes each of its changes, also those without effect."""
    changes: Sequence[ReasonChange | WindowChange]
    changes = [amendment.change] if isinstance(amendment.change, ReasonChange) else amendment.change
    for change in changes:
        version, refusal = 0, ""
        try:
            if isinstance(change, ReasonChange):
                _check_reason(connection, kid, amendment.line_id, change)
            else:
                version = _amend_window(connection, index, kid, amendment, change)
        except Refused as refused:
            refusal = refused.words
        connection.execute(
            db.amendment.insert().values(
                leaf_index=index, line_id=amendment.line_id, kind=amendment.kind.value, version=version,
                refusal=refusal, who=amendment.who, why=amendment.why, **_place(change),
            )
        )  # fmt: skip


def _place(change: ReasonChange | WindowChange) -> dict[str, Any]:
    if isinstance(change, ReasonChange):
        return {"start_ms": change.stop_ms, "end_ms": change.stop_ms, "change": [change.old, change.new]}
    fields = [[ACCOUNT_FIELDS[index], old, new] for index, old, new in change.fields]
    return {"start_ms": change.start_ms, "end_ms": change.end_ms, "change": fields}


def _check_reason(connection: Connection, kid: bytes, line_id: str, change: ReasonChange) -> None:
    """Raises Refused where the change cannot be: its stop is in no window of this key, or had another reason."""
    w, r, a = db.window.c, db.record.c, db.amendment.c
    holding = select(w.start_ms).join(db.record, r.leaf_index == w.leaf_index)
    at = (w.line_id == line_id, w.start_ms <= change.stop_ms, w.end_ms > change.stop_ms, r.kid == kid)
    if connection.execute(holding.where(*at)).first() is None:
        raise Refused("unknown-window", f"no window of this gateway holds the time {change.stop_ms}")
    before = select(a.change).join(db.record, r.leaf_index == a.leaf_index)
    same = (a.line_id == line_id, a.start_ms == change.stop_ms, a.kind == "reason", a.refusal == "", r.kid == kid)
    stands = connection.scalar(before.where(*same).order_by(desc(a.leaf_index)).limit(1))
    refuse_other_reason(None if stands is None else stands[1], change)


def _amend_window(connection: Connection, index: int, kid: bytes, amendment: Amendment, change: WindowChange) -> int:
    """The window's version after the change. Raises Refused."""
    w, r = db.window.c, db.record.c
    found = connection.execute(
        select(db.window).join(db.record, r.leaf_index == w.leaf_index)
        .where(
            w.line_id == amendment.line_id, w.start_ms == change.start_ms, w.end_ms == change.end_ms,
            r.kid == kid, r.sequence == change.sequence,
        )
    ).first()  # fmt: skip
    if found is None:
        words = f"record {change.sequence} of this gateway states no window [{change.start_ms}, {change.end_ms})"
        raise Refused("unknown-window", words)
    account = TimeAccount.from_ints([found._mapping[name] for name in ACCOUNT_FIELDS])
    restated(account, amendment.kind, change.fields)  # as a check: the columns are moved by the difference
    version = int(found.version) + 1
    _move(connection, found, change.fields, {"version": version, "changed_index": index})
    return version


def _move(connection: Connection, window: Row[Any], fields: Sequence[FieldChange], values: dict[str, int]) -> None:
    """Adds (new - old) to a window's columns and to its hour's. `window`: the row as it stands."""
    w, h = db.window.c, db.hourly.c
    names = [(ACCOUNT_FIELDS[index], new - old) for index, old, new in fields]
    connection.execute(
        db.window.update().where(w.line_id == window.line_id, w.start_ms == window.start_ms)
        .values(**{name: w[name] + by for name, by in names}, **values)
    )  # fmt: skip
    connection.execute(
        db.hourly.update()
        .where(
            h.line_id == window.line_id, h.hour_ms == window.start_ms - window.start_ms % HOUR_MS,
            h.configuration_hash == window.configuration_hash,
            *(h[name] == window._mapping[name] for name in db.HOURLY_KEYS),
        )
        .values(**{name: h[name] + by for name, by in names})
    )  # fmt: skip


def undo(connection: Connection, leaves: Select[tuple[int]], index: int) -> None:
    """Takes back the amendments of these leaves, the newest first; `index`: the entry of the log that says so."""
    a = db.amendment.c
    effective = select(db.amendment).where(a.leaf_index.in_(leaves), a.version > 0).order_by(desc(a.leaf_index))
    for row in connection.execute(effective).all():
        fields = [FieldChange(ACCOUNT_FIELDS.index(name), new, old) for name, old, new in row.change]
        w = db.window.c
        at = connection.execute(select(db.window).where(w.line_id == row.line_id, w.start_ms == row.start_ms)).one()
        _move(connection, at, fields, {"version": row.version - 1, "changed_index": index})
    connection.execute(delete(db.amendment).where(a.leaf_index.in_(leaves)))
