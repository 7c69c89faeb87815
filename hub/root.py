"""Root-signed records: made with the scheme's root key in its holder's hands, left for the hub to log.

Decides the chain's sequence and how a submission reaches the log: the serving hub takes it from the database
within a second, or, when none is serving, the command appends it itself. The key never enters the hub's data.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from hub import database as db
from hub.chains import root_head
from hub.config import HubConfig
from protocols.errors import ConfigurationError, LinetallyError, Malformed, Refused
from protocols.evidence.bodies import Body
from protocols.evidence.cose import key_id
from protocols.evidence.note import Algorithm, SignerKey, VerifierKey
from protocols.evidence.record import CheckpointSeen, Clock, Record, sign_record

SUBJECT: Final = "scheme"
ATTEMPTS: Final = 5
WAIT_S: Final = 30.0
POLL_S: Final = 0.1
_KEY_BYTES: Final = 32


class NotLogged(LinetallyError):
    """The record was made and left for the hub, which has not logged it in time. It stays there."""


def make_key(path: Path, name: str, algorithm: Algorithm = Algorithm.ED25519) -> SignerKey:
    """A new key in a file of its own, mode 0600. Raises ConfigurationError where there is one already."""
    signer = SignerKey(name, algorithm, os.urandom(_KEY_BYTES))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            "there is a key already, and it is never overwritten", file=str(path), mend="name another file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"the key cannot be written: {error.strerror}", file=str(path)) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(signer.export() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return signer


def load_key(path: Path, what: str, mend: str) -> SignerKey:
    """The key of a file. Raises ConfigurationError where it is missing, open to others or broken; shows no secret."""
    try:
        with path.open(encoding="ascii") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigurationError(f"others may read {what}", file=str(path), mend=f"run: chmod 600 {path}")
            text = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"{what} cannot be read: {reason}", file=str(path), mend=mend) from None
    try:
        return SignerKey.parse(text)
    except (Malformed, Refused):
        raise ConfigurationError(f"this is not {what}", file=str(path), mend="put back the saved copy") from None


def load_log_key(config: HubConfig) -> SignerKey:
    """The log's signing key. Raises ConfigurationError."""
    return load_key(config.log.key_file, "the log's key", "make it with `linetally-hub init`")


def register(engine: Engine, key: VerifierKey) -> None:
    """Makes the hub accept records of this root key."""
    with engine.begin() as connection:
        values = {"kid": key_id(key.public), "public_key": key.public, "name": key.name}
        connection.execute(
            db.upsert(connection, db.root_key).values(values).on_conflict_do_nothing(index_elements=["kid"])
        )


def registered(engine: Engine) -> list[VerifierKey]:
    """The root keys that the hub accepts, by name."""
    with engine.connect() as connection:
        rows = connection.execute(select(db.root_key).order_by(db.root_key.c.name)).all()
    return [VerifierKey(row.name, Algorithm.ED25519, bytes(row.public_key)) for row in rows]


def submit(engine: Engine, signer: SignerKey, body: Body, now_ms: int, clock_source: str = "none") -> int:
    """Signs `body` as the next record of the root chain and leaves it for the hub; gives the submission's id.

    `clock_source` is "simulated" where `now_ms` is not this machine's time. Raises Refused for an unknown root key.
    """
    private_key = Ed25519PrivateKey.from_private_bytes(signer.seed)
    if signer.verifier not in registered(engine):
        raise Refused("unknown-root", f"this hub does not know the root key {signer.verifier}")
    return leave(engine, private_key, signer.name, SUBJECT, body, now_ms, clock_source)


def leave(
    engine: Engine,
    private_key: Ed25519PrivateKey,
    issuer: str,
    subject: str,
    body: Body,
    now_ms: int,
    clock_source: str = "none",
    seen: CheckpointSeen | None = None,
) -> int:
    """Signs `body` as the next record of the key's chain and leaves it for the hub; gives the submission's id.

    For keys that do not send by MQTT: the root key, and auditors' (`hub.audit.auditor`). Raises Refused.
    """
    kid = key_id(private_key.public_key().public_bytes_raw())
    boot_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    boot_id = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    for _ in range(ATTEMPTS):
        head = root_head(engine, kid)
        record = Record(
            sequence=head.next_sequence,
            previous=head.hash,
            boot_id=boot_id,
            start_ms=now_ms,
            end_ms=now_ms,
            clock=Clock(boot_ms, boot_ms, clock_source),
            body=body,
            checkpoint_seen=seen,
        )
        signed = sign_record(private_key, record, issuer=issuer, subject=subject)
        values = {
            "kid": kid, "sequence": record.sequence, "hash": signed.hash, "raw": signed.raw, "state": "waiting",
        }  # fmt: skip
        try:
            with engine.begin() as connection:
                result = connection.execute(db.submission.insert().values(values))
        except IntegrityError:
            continue  # another command took this sequence: follow it
        assert result.inserted_primary_key is not None
        return int(result.inserted_primary_key[0])
    raise Refused("busy", "others submit records of this key at the same time; try again")


def wait(engine: Engine, submission_id: int, append_here: Callable[[], bool]) -> int:
    """The leaf index of a submission, when it is logged. `append_here` logs what waits, if no hub is serving.

    Raises Refused where the hub refused it, NotLogged after `WAIT_S`.
    """
    deadline = time.monotonic() + WAIT_S
    query = select(db.submission).where(db.submission.c.id == submission_id)
    while True:
        append_here()
        with engine.connect() as connection:
            row = connection.execute(query).one()
        if row.state == "logged":
            return int(row.leaf_index)
        if row.state == "refused":
            raise Refused("refused", str(row.words))
        if time.monotonic() > deadline:
            raise NotLogged(
                f"the hub that is serving has not logged it for {WAIT_S:.0f} s. It is kept; see the hub's log"
            )
        time.sleep(POLL_S)
