"""A damaged spool: put aside, what verifies is taken over, and the chain goes on.

Decides what counts. Only records that this gateway's key signed are taken over; windows that were in no record yet are
not, for nothing vouches for them: their time becomes a signed gap. The chain goes on with the same key only where it is
certain that no record without a receipt is missing (`chain_head`). Otherwise records are lost that the hub would wait
for, so a new epoch begins: a new key, which a person must enrol; until then it is measured and signed, and kept here.
Nothing that was put aside is ever deleted. Raw chunks stay there: what the records had committed to is signed as no
longer held, so that nobody waits for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.chain_head import HEAD_FILE, ChainHead, read_head
from agent.keys import KEY_FILE, make_key
from agent.raw_bounds import MORE, OLDER
from agent.spool import Spool, SpooledRecord
from agent.spool_file import DOUBT_FILE, LOCK_FILE, SPOOL_FILE, SpoolDamaged, take_lock
from agent.spool_pages import last_blobs
from agent.watchdog import Notifier
from protocols.errors import Malformed, Unverified
from protocols.evidence import canonical
from protocols.evidence.bodies import Measurement, RawGap
from protocols.evidence.record import SignedRecord

SALVAGE_US: Final = 3_600_000_000
"""What systemd is asked to wait for: a start that is cut short would begin anew for ever. 2 s for 100 MB on a server;
several spools may lie there, on a slow card."""
ASIDE: Final = "damaged-"
DAMAGED: Final = "the gateway's spool was damaged"
GAP_META: Final = "gap_from:"
"""With a line's id: from when on nothing of it is known, for the recorder to sign."""
RAW_LOST_META: Final = "raw_lost"
"""`raw_lost`'s entries, for the recorder to sign once; empty when that is done.

Each: line, whether the start is known, start or the oldest known, end, chunks, reason."""
UNCOUNTED: Final = f"{DAMAGED}, and how many chunks there were is not known"
_NONE: Final = canonical.encode([])
_MOST_LOST: Final = 1_000_000
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
    Notifier().tell(f"EXTEND_TIMEOUT_USEC={SALVAGE_US}", "STATUS=salvaging a damaged spool")
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


def raw_lost(spool: Spool, line_ids: Iterable[str], keep_ms: int) -> list[RawGap]:
    """What the gateway lost of its raw chunks and has not signed yet; of `line_ids` also where no record is left.

    `keep_ms`: how long chunks are kept, for those of which nothing else tells since when there were some.
    """
    gaps: dict[str, RawGap] = {}
    entries = canonical.decode(spool.meta(RAW_LOST_META) or _NONE, _MOST_LOST)
    for line_id, known, from_ms, to_ms, chunks, reason in entries:
        since_ms = from_ms if known else max(0, min(from_ms, to_ms - keep_ms))
        if since_ms < to_ms:
            gaps[line_id] = RawGap(line_id, since_ms, to_ms, chunks, reason)
    others = gaps.pop("", None)
    if others is not None:
        gaps |= {line: replace(others, line_id=line) for line in line_ids if line not in gaps}
    return [gaps[line] for line in sorted(gaps)]


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
        (folder / DOUBT_FILE).unlink(missing_ok=True)
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


def _lost_raw(found: dict[int, SignedRecord], head: ChainHead | None) -> bytes:
    """The entries of RAW_LOST_META: what the records that are left say was held, and what that leaves open.

    A line's chunks were held from the last ones on that were said to be dropped; where neither that nor the chain's
    first record is left, that start is not known. The entry "" is of lines of which no record is left.
    """
    held: dict[str, list[tuple[int, int, int]]] = {}  # (from, to, chunks) of each statement
    gone_ms: dict[str, int] = {}
    for _, signed in sorted(found.items()):
        body = signed.record.body
        if isinstance(body, RawGap) and body.reason.startswith((OLDER, MORE)):
            gone_ms[body.line_id] = body.to_ms
        elif isinstance(body, Measurement):
            for line in body.lines:
                if line.raw is not None:
                    span = (line.windows[0].start_ms, line.windows[-1].end_ms, line.raw.chunk_count)
                    held.setdefault(line.line_id, []).append(span)
    unbroken = head is not None and head.sequence in found and len(found) == max(found) - min(found) + 1
    end_ms = 0 if head is None else head.end_ms
    entries: list[list[object]] = []
    for line_id, spans in held.items():
        gone = gone_ms.get(line_id, 0)
        rest = [span for span in spans if span[1] > gone]
        if not rest:
            continue
        first_ms, to_ms = rest[0][0], rest[-1][1] if unbroken else max(rest[-1][1], end_ms)
        counted = unbroken and (0 in found or first_ms <= gone)
        chunks = max(1, sum(count for _, _, count in rest))
        known = bool(gone) or 0 in found
        entries.append([line_id, known, gone or first_ms, to_ms, chunks, DAMAGED if counted else UNCOUNTED])
    if end_ms and not (unbroken and 0 in found):
        entries.append(["", False, end_ms, end_ms, 1, UNCOUNTED])
    return canonical.encode(entries)


def _take_over(spool: Spool, kept: list[SignedRecord], found: dict[int, SignedRecord], head: ChainHead | None) -> None:
    known_ms: dict[str, int] = {}
    for signed in found.values():
        if isinstance(signed.record.body, Measurement):
            for line in signed.record.body.lines:
                known_ms[line.line_id] = max(known_ms.get(line.line_id, 0), line.windows[-1].end_ms)
    meta = {f"{GAP_META}{line_id}": str(at_ms).encode() for line_id, at_ms in known_ms.items()}
    meta[RAW_LOST_META] = _lost_raw(found, head)
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
