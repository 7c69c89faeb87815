"""A damaged spool: put aside, what verifies is taken over, and the chain goes on.

Decides what counts. Only records that this gateway's key signed are taken over; windows that were in no record yet are
not, for nothing vouches for them: their time becomes a signed gap. The chain goes on with the same key only where it is
certain that no record without a receipt is missing (`chain_head`). Otherwise records are lost that the hub would wait
for, so a new epoch begins: a new key, which a person must enrol; until then it is measured and signed, and kept here.
Nothing that was put aside is ever deleted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.chain_head import HEAD_FILE, ChainHead, read_head
from agent.keys import KEY_FILE, make_key
from agent.spool import Spool, SpooledRecord
from agent.spool_file import LOCK_FILE, SPOOL_FILE, SpoolDamaged, take_lock
from agent.spool_pages import last_blobs
from protocols.errors import Malformed, Unverified
from protocols.evidence.bodies import Measurement
from protocols.evidence.record import SignedRecord

ASIDE: Final = "damaged-"
DAMAGED: Final = "the gateway's spool was damaged"
GAP_META: Final = "gap_from:"
"""With a line's id: from when on nothing of it is known, for the recorder to sign."""
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "spool"})


def open_or_salvage(folder: Path, key: Ed25519PrivateKey, now_ms: int) -> tuple[Spool, Ed25519PrivateKey]:
    """The spool, and the key that goes on. Raises what `Spool.open` does, but SpoolDamaged only when this fails too."""
    head = read_head(folder)
    try:
        spool = Spool.open(folder)
        if head is None or spool.head()[0] > head.before:
            return spool, key
        spool.close()
        _log.error("the spool is older than what this gateway has signed: was it deleted, or put back from a copy?")
    except SpoolDamaged as error:
        _log.error("%s", error)
    aside = _put_aside(folder, now_ms)
    # Also of those put aside before: the one before this may have been cut short.
    found = _records(sorted(folder.glob(f"{ASIDE}*/{SPOOL_FILE}")), key)
    kept = _certain(found, head)
    if kept:
        words = "%d records were salvaged, and the chain goes on; what was in no record yet becomes a signed gap"
        _log.warning(words, len(kept))
    else:
        (folder / KEY_FILE).replace(aside / KEY_FILE)
        (folder / HEAD_FILE).unlink(missing_ok=True)
        key = make_key(folder, KEY_FILE)
        words = (
            "%d records verify, but some without a receipt are lost, and the hub would wait for them: a new key was "
            "made. Enrol this gateway again (linetally-agent enrol --help); until then records wait here"
        )
        _log.error(words, len(found))
    _log.warning("the damaged spool is kept in %s; raw samples and queued amendments are only there", aside)
    spool = Spool.open(folder)
    _take_over(spool, kept, found, head)
    return spool, key


def _put_aside(folder: Path, now_ms: int) -> Path:
    aside = folder / f"{ASIDE}{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%S}"
    while aside.exists():
        aside = aside.with_name(f"{aside.name}x")
    lock = take_lock(folder / LOCK_FILE)
    try:
        aside.mkdir(mode=0o700)
        # The chain's head stays: after a crash on the way it shows that all this must be done again.
        for name in (f"{SPOOL_FILE}-shm", f"{SPOOL_FILE}-wal", SPOOL_FILE):
            if (folder / name).exists():
                (folder / name).replace(aside / name)
    finally:
        os.close(lock)
    return aside


def _records(paths: Iterable[Path], key: Ed25519PrivateKey) -> dict[int, SignedRecord]:
    """By sequence: what this key signed, whatever the files' trees say of it."""
    public = key.public_key()
    found: dict[int, SignedRecord] = {}
    for blob in chain.from_iterable(map(last_blobs, paths)):
        try:
            signed = SignedRecord(blob)
            signed.verify(public)
        except (Malformed, Unverified):
            continue
        found[signed.record.sequence] = signed
    return found


def _certain(found: dict[int, SignedRecord], head: ChainHead | None) -> list[SignedRecord]:
    """The chain's end without a hole, in order; none where a record without a receipt is missing or the end unknown."""
    if head is None or head.sequence not in found or found[head.sequence].hash != head.hash:
        return []
    last = head.sequence
    while (following := found.get(last + 1)) is not None and following.record.previous == found[last].hash:
        last += 1
    first = last
    while (before := found.get(first - 1)) is not None and found[first].record.previous == before.hash:
        first -= 1
    return [found[sequence] for sequence in range(first, last + 1)] if first <= head.receipted + 1 else []


def _take_over(spool: Spool, kept: list[SignedRecord], found: dict[int, SignedRecord], head: ChainHead | None) -> None:
    known_ms: dict[str, int] = {}
    for signed in found.values():
        if isinstance(signed.record.body, Measurement):
            for line in signed.record.body.lines:
                known_ms[line.line_id] = max(known_ms.get(line.line_id, 0), line.windows[-1].end_ms)
    meta = {f"{GAP_META}{line_id}": str(at_ms).encode() for line_id, at_ms in known_ms.items()}
    if head is not None:
        meta[GAP_META] = str(head.end_ms).encode()  # of a line of which no record is left
    # What was verified of the hub's log stands in the records too.
    seen = [signed.record.checkpoint_seen for signed in found.values() if signed.record.checkpoint_seen is not None]
    if seen:
        newest = max(seen, key=lambda each: each.size)
        meta |= {"checkpoint_size": str(newest.size).encode(), "checkpoint_root": bytes(newest.root)}
    spool.append([
        SpooledRecord(s.record.sequence, s.hash, str(s.record.type), s.record.end_ms, s.raw) for s in kept
    ])  # fmt: skip
    receipted = [s.record.sequence for s in kept if head is not None and s.record.sequence <= head.receipted]
    spool.receipted(receipted, meta)
