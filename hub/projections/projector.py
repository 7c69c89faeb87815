"""The projector: writes the index from the log, entry by entry, and can do it all again.

Decides what each record becomes in the tables. Rebuilding, catching up after a crash and the live path run the same
`apply`, in log order, in one transaction with the cursor: so the tables are a function of the log alone. (Two things
it touches stand outside the projections: an `enrol`, `rotate` or `revoke` record also sets the gateway's state.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, delete, func, select

from hub import database as db
from protocols.errors import LinetallyError
from protocols.evidence.bodies import (
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    Measurement,
    PlanStatement,
    Revocation,
    Rotation,
)
from protocols.evidence.cose import key_id, thumbprint
from protocols.evidence.record import SignedRecord
from protocols.evidence.statement import LineStatement
from protocols.measurement.account import ACCOUNT_FIELDS, Window
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.plan import Plan

CURSOR: Final = "index"
HOUR_MS: Final = 3_600_000
_BATCH: Final = 256
_ROWS: Final = 500  # SQLite allows 32,766 parameters a statement; one row of windows has some 35


class LogEntries(Protocol):
    """What the projector reads of the log."""

    @property
    def size(self) -> int: ...

    def entries(self, start: int, stop: int) -> Iterator[bytes]: ...


class IndexBehindLog(LinetallyError):
    """The index claims entries that the log does not have: one of the two is an old copy."""


def cursor_size(connection: Connection) -> int:
    """How many entries of the log the index has taken in."""
    return int(connection.scalar(select(db.cursor.c.size).where(db.cursor.c.name == CURSOR)) or 0)


def apply(connection: Connection, first_index: int, records: Sequence[SignedRecord]) -> None:
    """Projects the entries from `first_index` on and moves the cursor, within the caller's transaction.

    `first_index` must be the cursor: an entry is projected once, or not at all if the transaction fails.
    """
    assert cursor_size(connection) == first_index, "an entry is projected exactly once"
    for index, record in enumerate(records, first_index):
        _record(connection, index, record)
    size = first_index + len(records)
    insert = db.upsert(connection, db.cursor).values(name=CURSOR, size=size)
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"size": size}))


def catch_up(engine: Engine, log: LogEntries, progress: Callable[[int, int], None] | None = None) -> int:
    """Projects what the log has and the index has not; gives how many entries. `progress(done, total)`.

    Raises IndexBehindLog where the index is ahead: the log was restored from an old copy, or lost its end.
    """
    with engine.connect() as connection:
        start = cursor_size(connection)
    total = log.size
    if start > total:
        raise IndexBehindLog(
            f"the index has {start} entries of the log, but the log has only {total}: it was restored from an old "
            "copy or lost its end. Nothing was changed. Bring back the newest copy of the log's folder; if it is lost "
            "for good, `linetally-hub rebuild` makes the index fit what is left"
        )
    for first in range(start, total, _BATCH):
        last = min(first + _BATCH, total)
        records = [SignedRecord(raw) for raw in log.entries(first, last)]
        with engine.begin() as connection:
            apply(connection, first, records)
        if progress is not None:
            progress(last - start, total - start)
    return total - start


def rebuild(engine: Engine, log: LogEntries, progress: Callable[[int, int], None] | None = None) -> int:
    """Empties every projection and fills it from the log; gives how many entries. Safe to kill: run it again."""
    with engine.begin() as connection:
        for table in db.PROJECTIONS:
            connection.execute(delete(table))
        connection.execute(delete(db.cursor).where(db.cursor.c.name == CURSOR))
    return catch_up(engine, log, progress)


def _record(connection: Connection, index: int, signed: SignedRecord) -> None:
    record = signed.record
    connection.execute(
        db.record.insert().values(
            leaf_index=index, kid=signed.kid, issuer=signed.issuer,
            subject=signed.subject, sequence=record.sequence, hash=signed.hash,
            type=record.type.value, start_ms=record.start_ms, end_ms=record.end_ms, length=len(signed.raw),
        )
    )  # fmt: skip
    match record.body:
        case Measurement(lines):
            for line in lines:
                _windows(connection, index, line)
        case Configurations(configurations):
            for data in configurations:
                configuration = LineConfiguration.from_data(data)
                values = {
                    "line_id": configuration.line_id,
                    "hash": configuration.hash,
                    "data": dict(data),
                    "leaf_index": index,
                }
                insert = db.upsert(connection, db.configuration).values(values)
                # A line that goes back to an old configuration states it again: the last in log order is current.
                connection.execute(
                    insert.on_conflict_do_update(index_elements=["line_id", "hash"], set_={"leaf_index": index})
                )
        case Gap() as gap:
            connection.execute(
                db.gap.insert().values(
                    leaf_index=index, line_id=gap.line_id, from_ms=gap.from_ms, to_ms=gap.to_ms, reason=gap.reason
                )
            )
        case PlanStatement(data):
            plan = Plan.from_data(data)
            connection.execute(
                db.plan.insert().values(
                    leaf_index=index, project_id=plan.project_id, data=plan.to_data(), hash=plan.hash
                )
            )
        case Heartbeat():
            pass
        case Enrolment() | Rotation() | Revocation() as body:
            _gateway(connection, index, record.start_ms, body)


def _windows(connection: Connection, index: int, line: LineStatement) -> None:
    t = db.window.c
    first, last = line.windows[0], line.windows[-1]
    touching = connection.execute(
        select(t.start_ms, t.end_ms).where(
            t.line_id == line.line_id, t.start_ms < last.end_ms, t.end_ms > first.start_ms
        )
    ).all()
    fresh: list[Window] = []
    again: list[Window] = []
    for window in line.windows:
        taken = any(row.start_ms < window.end_ms and row.end_ms > window.start_ms for row in touching)
        (again if taken else fresh).append(window)
    if again:
        connection.execute(
            db.overlap.insert(),
            [{"leaf_index": index, "line_id": line.line_id, "start_ms": w.start_ms, "end_ms": w.end_ms} for w in again],
        )
    for start in range(0, len(fresh), _ROWS):
        connection.execute(db.window.insert(), [_row(index, line, w) for w in fresh[start : start + _ROWS]])
    _add_hours(connection, line.line_id, fresh)


def _row(index: int, line: LineStatement, window: Window) -> dict[str, Any]:
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
        "leaf_index": index,
        **dict(zip(ACCOUNT_FIELDS, window.account.as_ints(), strict=True)),
    }


def _add_hours(connection: Connection, line_id: str, windows: Iterable[Window]) -> None:
    sums: defaultdict[int, list[int]] = defaultdict(lambda: [0] * len(ACCOUNT_FIELDS))
    for hour_ms, group in groupby(windows, lambda window: window.start_ms - window.start_ms % HOUR_MS):
        total = sums[hour_ms]
        for window in group:
            for i, value in enumerate(window.account.as_ints()):
                total[i] += value
    for hour_ms, total in sums.items():
        values = dict(zip(ACCOUNT_FIELDS, total, strict=True))
        insert = db.upsert(connection, db.hourly).values(line_id=line_id, hour_ms=hour_ms, **values)
        added = {name: db.hourly.c[name] + insert.excluded[name] for name in ACCOUNT_FIELDS}
        connection.execute(insert.on_conflict_do_update(index_elements=["line_id", "hour_ms"], set_=added))


def _gateway(connection: Connection, index: int, time_ms: int, body: Enrolment | Rotation | Revocation) -> None:
    t = db.gateway.c
    data: dict[str, Any]
    match body:
        case Enrolment():
            kid, kind = key_id(body.public_key), "enrol"
            data = {"lines": list(body.line_ids), "projects": list(body.project_ids), "key": body.public_key.hex()}
            connection.execute(
                db.gateway.update()
                .where(t.id == body.gateway_id, t.kid == kid, t.state == "pending")
                .values(state="active", lines=list(body.line_ids), approved_ms=time_ms)
            )
        case Rotation():
            kid, kind = key_id(body.public_key), "rotate"
            data = {"old_kid": body.old_kid.hex(), "key": body.public_key.hex()}
            connection.execute(
                db.gateway.update()
                .where(t.id == body.gateway_id, t.kid == body.old_kid, t.state == "active")
                .values(kid=kid, public_key=body.public_key, fingerprint=fingerprint(body.public_key))
            )
        case Revocation():
            kid, kind = body.kid, "revoke"
            data = {"first_invalid_index": body.first_invalid_index, "reason": body.reason}
            connection.execute(db.gateway.update().where(t.id == body.gateway_id, t.kid == kid).values(state="revoked"))
            _disown(connection, kid, body.first_invalid_index)
    connection.execute(
        db.enrolment.insert().values(leaf_index=index, kid=kid, gateway_id=body.gateway_id, type=kind, data=data)
    )


def _disown(connection: Connection, kid: bytes, first_invalid_index: int) -> None:
    """Takes back what a revoked key signed from that leaf on. The records stay in the log and in `record`."""
    t, h = db.window.c, db.hourly.c
    leaves = select(db.record.c.leaf_index).where(db.record.c.kid == kid, db.record.c.leaf_index >= first_invalid_index)
    rows = connection.execute(select(t.line_id, t.start_ms).where(t.leaf_index.in_(leaves))).all()
    connection.execute(delete(db.window).where(t.leaf_index.in_(leaves)))
    for line_id, hour_ms in {(row.line_id, row.start_ms - row.start_ms % HOUR_MS) for row in rows}:
        connection.execute(delete(db.hourly).where(h.line_id == line_id, h.hour_ms == hour_ms))
        sums = [func.sum(t[name]).label(name) for name in ACCOUNT_FIELDS]
        left = connection.execute(
            select(*sums).where(t.line_id == line_id, t.start_ms >= hour_ms, t.start_ms < hour_ms + HOUR_MS)
        ).one()
        if left[0] is not None:
            values = {name: int(value) for name, value in left._mapping.items()}
            connection.execute(db.hourly.insert().values(line_id=line_id, hour_ms=hour_ms, **values))


def fingerprint(public_key: bytes) -> str:
    """What two people read to each other: 32 hex digits of the key's RFC 9679 thumbprint, in groups of four."""
    text = thumbprint(public_key)[:16].hex()
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))
