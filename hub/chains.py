"""The chains as the database knows them: whose keys are good, and where each key's chain stands.

Decides nothing; reads the registry and the index for `admission` and `ingest`. The index is a projection of the log,
so after `projector.catch_up` these heads are the log's.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine, func, select

from hub import database as db
from hub.admission import Head, Key
from protocols.evidence.cose import Kid
from protocols.evidence.record import NO_PREVIOUS, RecordHash

_REFUSALS = {
    "pending": (
        "not-approved",
        "the key is enrolled but not approved: compare the fingerprint, then run `linetally-hub gateway approve {}`",
    ),
    "revoked": ("revoked", "the key of {} is revoked: enrol the gateway again under another id"),
}


def load_keys(engine: Engine) -> dict[Kid, Key]:
    """Every key that the hub knows, active or not, by kid."""
    keys: dict[Kid, Key] = {}
    with engine.connect() as connection:
        for row in connection.execute(select(db.gateway)):
            refusal = _REFUSALS.get(row.state)
            keys[Kid(bytes(row.kid))] = Key(
                public_key=bytes(row.public_key),
                owner=row.id,
                lines=frozenset(row.lines),
                refusal=None if refusal is None else (refusal[0], refusal[1].format(row.id)),
            )
        for row in connection.execute(select(db.root_key)):
            keys[Kid(bytes(row.kid))] = Key(public_key=bytes(row.public_key), owner=row.name, is_root=True)
    return keys


def load_heads(engine: Engine) -> dict[Kid, Head]:
    """The head of every chain that has a record in the log."""
    t = db.record.c
    newest = select(t.kid, func.max(t.sequence).label("sequence")).group_by(t.kid).subquery()
    query = select(t.kid, t.sequence, t.hash, t.subject).join(
        newest, (t.kid == newest.c.kid) & (t.sequence == newest.c.sequence)
    )
    with engine.connect() as connection:
        return {
            Kid(bytes(row.kid)): Head(row.sequence + 1, RecordHash(bytes(row.hash)), row.subject)
            for row in connection.execute(query)
        }


def logged(engine: Engine, kid: Kid, sequence: int) -> tuple[RecordHash, int] | None:
    """Hash and leaf index of the logged record with this identity."""
    t = db.record.c
    with engine.connect() as connection:
        row = connection.execute(select(t.hash, t.leaf_index).where(t.kid == kid, t.sequence == sequence)).first()
    return None if row is None else (RecordHash(bytes(row.hash)), int(row.leaf_index))


def leaf_indices(engine: Engine, hashes: Iterable[RecordHash]) -> dict[RecordHash, int]:
    """Where records stand in the log; those that do not are left out."""
    t = db.record.c
    with engine.connect() as connection:
        rows = connection.execute(select(t.hash, t.leaf_index).where(t.hash.in_(list(hashes))))
        return {RecordHash(bytes(row.hash)): row.leaf_index for row in rows}


def root_head(engine: Engine, kid: Kid) -> Head:
    """Where a root key's chain stands, counting what is submitted and not refused."""
    t, s = db.record.c, db.submission.c
    logged = select(t.sequence, t.hash).where(t.kid == kid).order_by(t.sequence.desc()).limit(1)
    waiting = select(s.sequence, s.hash).where(s.kid == kid, s.state != "refused").order_by(s.sequence.desc()).limit(1)
    with engine.connect() as connection:
        rows = [*connection.execute(logged), *connection.execute(waiting)]
    if not rows:
        return Head(0, NO_PREVIOUS)
    newest = max(rows, key=lambda row: int(row.sequence))
    return Head(newest.sequence + 1, RecordHash(bytes(newest.hash)))
