"""The auditor: a key of its own, enrolled like a gateway's but for no line, and what it signs.

Decides how such a key gets in (it waits for the root key's approval like any other) and how a finding becomes a record.
The key stays with the auditor; the hub gets signed records only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, delete
from sqlalchemy.exc import IntegrityError

from hub import database as db
from hub import root
from hub.projections.projector import fingerprint
from hub.registry import Registry
from protocols.errors import Malformed, Refused
from protocols.evidence.audit import Audit
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import key_id
from protocols.evidence.fields import as_id
from protocols.evidence.note import SignerKey
from protocols.evidence.record import CheckpointSeen

SUBJECT = "audit"


@dataclass(frozen=True, slots=True)
class Asked:
    """An enrolment that waits for its approval. `fingerprint`: to be compared before it is given."""

    auditor_id: str
    fingerprint: str


def ask_for_enrolment(engine: Engine, key: SignerKey, project_id: str, now_ms: int) -> Asked:
    """Leaves the key (its name is the auditor's id) for `gateway approve`. Raises Refused."""
    auditor_id = checked_id(key.name)
    project = Registry(engine).project(project_id)
    if project is None:
        raise Refused("not-found", f"there is no project {project_id!r}; see `linetally-hub project list`")
    public_key = key.verifier.public
    values = {
        "id": auditor_id, "enterprise_id": project.enterprise_id, "project_id": project_id, "kid": key_id(public_key),
        "public_key": public_key, "fingerprint": fingerprint(public_key), "state": "pending", "lines": [],
        "created_ms": now_ms,
    }  # fmt: skip
    t = db.gateway.c
    pending_again = (t.id == auditor_id, t.state == "pending", t.public_key == public_key)
    try:
        with engine.begin() as connection:
            connection.execute(delete(db.gateway).where(*pending_again))
            connection.execute(db.gateway.insert().values(values))
    except IntegrityError:
        raise Refused("exists", f"{auditor_id!r}, or this key, is enrolled already: see `gateway list`") from None
    return Asked(auditor_id, fingerprint(public_key))


def checked_id(auditor_id: str) -> str:
    """Raises Refused for what cannot be an id."""
    try:
        return as_id(auditor_id, "the auditor's id")
    except Malformed as error:
        raise Refused("bad-value", error.what) from None


def load_key(path: Path) -> SignerKey:
    """The auditor's key of a file. Raises ConfigurationError."""
    return root.load_key(path, "the auditor's key", "make it with `linetally-hub audit init`")


def submit(engine: Engine, key: SignerKey, audit: Audit, checkpoint: Checkpoint, now_ms: int) -> int:
    """Signs a finding as the next record of the auditor's chain and leaves it for the hub; the submission's id."""
    private_key = Ed25519PrivateKey.from_private_bytes(key.seed)
    seen = CheckpointSeen(checkpoint.size, checkpoint.root)
    return root.leave(engine, private_key, key.name, SUBJECT, audit, now_ms, seen=seen)
