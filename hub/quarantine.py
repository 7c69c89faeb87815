"""The quarantine: statements that were not admitted, with their bytes.

Decides what is kept and how much. A fork is kept because the pair proves it; other refusals so that a person can see
what came. Both are bounded, each for itself, so that a stranger's flood cannot push out the proof of a fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, delete, select

from hub import database as db
from hub.admission import Fork, NotAdmitted
from protocols.evidence.cose import Kid
from protocols.evidence.record import MAX_BYTES, RecordHash

FORK = "fork"


def keep(
    connection: Connection,
    items: Iterable[tuple[bytes, Fork | NotAdmitted]],
    now_ms: int,
    limit: int,
    logged: Callable[[Kid, int], tuple[RecordHash, int] | None],
) -> None:
    """Stores `(raw, verdict)` pairs that are not stored yet, then forgets the oldest past `limit` of each kind.

    `logged`: hash and leaf index of the logged record with a key and sequence.
    """
    rows = []
    for raw, verdict in items:
        row = _row(raw, verdict, now_ms)
        if isinstance(verdict, Fork) and (found := logged(verdict.record.kid, verdict.record.record.sequence)):
            row["logged_index"] = found[1]
        rows.append(row)
    if not rows:
        return
    for row in rows:
        connection.execute(
            db.upsert(connection, db.quarantine).values(row).on_conflict_do_nothing(index_elements=["hash"])
        )
    q = db.quarantine.c
    for condition in (q.code == FORK, q.code != FORK):
        oldest = select(q.id).where(condition).order_by(q.id.desc()).offset(limit - 1).limit(1).scalar_subquery()
        connection.execute(delete(db.quarantine).where(condition, q.id < oldest))


def _row(raw: bytes, verdict: Fork | NotAdmitted, now_ms: int) -> dict[str, object]:
    record = verdict.record
    if isinstance(verdict, Fork):
        code = FORK
        words = (
            f"{verdict.record.issuer} signed two records with sequence {verdict.record.record.sequence}: two agents "
            "share one key, or a spool was restored from an old copy"
        )
    else:
        code, words = verdict.code, verdict.words
    return {
        "kid": None if record is None else record.kid,
        "gateway_id": None if record is None else record.issuer,
        "sequence": None if record is None else record.record.sequence,
        "hash": verdict.hash if isinstance(verdict, NotAdmitted) else verdict.record.hash,
        "code": code,
        "words": words,
        "logged_index": None,
        "time_ms": now_ms,
        "raw": raw[:MAX_BYTES],
    }
