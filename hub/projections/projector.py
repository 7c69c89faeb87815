"""The projector: writes the index from the log, entry by entry, and can do it all again.

Decides what each record becomes in the tables. Rebuilding, catching up after a crash and the live path run the same
`apply`, in log order, in one transaction with the cursor: so the tables are a function of the log alone. (Two things
it touches stand outside the projections: an `enrol`, `rotate` or `revoke` record also sets the gateway's state.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, delete, select

from hub import database as db
from hub.projections import bulk
from hub.projections.amendments import amend
from hub.projections.windows import WindowRows, disown
from protocols.errors import LinetallyError
from protocols.evidence.audit import Audit, audit_to_wire
from protocols.evidence.bodies import (
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    Measurement,
    PlanStatement,
    RawGap,
    Revocation,
    Rotation,
)
from protocols.evidence.cose import key_id, thumbprint
from protocols.evidence.record import SignedRecord
from protocols.evidence.swift_records import read_all
from protocols.measurement.amendment import Amendment
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.plan import Plan

CURSOR: Final = "index"
_BATCH: Final = 256


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


def apply(
    connection: Connection, first_index: int, records: Sequence[SignedRecord], ends: dict[str, int] | None = None
) -> None:
    """Projects the entries from `first_index` on and moves the cursor, within the caller's transaction.

    `first_index` must be the cursor: an entry is projected once, or not at all if the transaction fails. `ends`: see
    `WindowRows`.
    """
    assert records and cursor_size(connection) == first_index, "an entry is projected exactly once"
    # The first statement writes: SQLite then waits for other writers, and never finds that one came in between.
    numbered = list(enumerate(records, first_index))
    bulk.insert(connection, db.record, [_record_row(index, record) for index, record in numbered])
    rows = WindowRows(connection, {} if ends is None else ends)
    for index, record in numbered:
        _body(connection, rows, index, record)
    rows.write()
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
    ends: dict[str, int] = {}
    for first in range(start, total, _BATCH):
        last = min(first + _BATCH, total)
        records = read_all(list(log.entries(first, last)))
        with engine.begin() as connection:
            apply(connection, first, records, ends)
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


def _record_row(index: int, signed: SignedRecord) -> bulk.Row:
    record = signed.record
    return (
        index, signed.kid, signed.issuer, signed.subject, record.sequence, signed.hash, record.type.value,
        record.start_ms, record.end_ms, len(signed.raw),
    )  # fmt: skip


def _body(connection: Connection, rows: WindowRows, index: int, signed: SignedRecord) -> None:
    record = signed.record
    match record.body:
        case Measurement(lines):
            for line in lines:
                rows.add(index, line)
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
        case Amendment() as amendment:
            rows.write()  # what it amends may be in the same batch
            amend(connection, index, signed.kid, amendment)
        case Heartbeat() | RawGap():
            pass
        case Audit() as audit:
            project_id, who, seed, lines, difference = audit_to_wire(audit)
            data = {"who": who, "seed": seed.hex(), "lines": lines, "difference": difference}
            connection.execute(
                db.audit.insert().values(
                    leaf_index=index, project_id=project_id, auditor=signed.issuer, time_ms=record.end_ms,
                    equal=audit.is_equal, data=data,
                )
            )  # fmt: skip
        case Enrolment() | Rotation() | Revocation() as body:
            rows.write()  # a revocation takes back what is in the tables
            rows.forget()
            _gateway(connection, index, record.start_ms, body)


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
            disown(connection, kid, body.first_invalid_index, index)
    connection.execute(
        db.enrolment.insert().values(leaf_index=index, kid=kid, gateway_id=body.gateway_id, type=kind, data=data)
    )


def fingerprint(public_key: bytes) -> str:
    """What two people read to each other: 32 hex digits of the key's RFC 9679 thumbprint, in groups of four."""
    text = thumbprint(public_key)[:16].hex()
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))
