"""Cosigning: the hub brings each new checkpoint to its witnesses and publishes it when enough have signed.

Decides which checkpoint is published: the newest that a quorum cosigned; before the first of them, and where no witness
is configured, the log's own. Its own thread, with bounded times; ingest never waits for it, and receipts do not depend
on it. A witness that refuses consistency knows another history of this log: that is an alarm, not a thing to retry.
"""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hub.config import WitnessConfig
from hub.dated import DatedFolder
from hub.log.store import LogFailed, no_failpoint, read_file, replace_file
from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import checkpoint, note
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import NodeHash
from protocols.evidence.note import Note, Signature, VerifierKey
from protocols.evidence.proof import TlogProof
from protocols.wire import add_checkpoint as wire

logger = logging.getLogger("hub.cosigning")

COSIGNED: Final = "cosigned"
"""Beside `checkpoint` in the log's folder: the newest checkpoint that a quorum of witnesses has cosigned."""
TIMEOUT_S: Final = 5.0
EVERY_S: Final = 1.0
RETRY_S: Final = 10.0
_MAX_ANSWER: Final = 65_536


class LogReader(Protocol):
    """What of `hub.log.sequencer.Log` is read. Any thread may."""

    @property
    def size(self) -> int: ...

    def checkpoint(self) -> bytes: ...

    def entry(self, index: int) -> bytes: ...

    def entries(self, start: int, stop: int) -> Iterator[bytes]: ...

    def inclusion_proof(self, index: int, size: int) -> Sequence[NodeHash]: ...

    def consistency_proof(self, old_size: int, size: int) -> Sequence[NodeHash]: ...

    def proof(self, index: int) -> TlogProof: ...


class WitnessRefuses(Exception):
    """The witness knows another history of this log, or a longer one. The words are for the operator."""


@dataclass(slots=True)
class _Peer:
    """A witness, the size that it cosigned last (0: unknown), and what is wrong with it."""

    config: WitnessConfig
    key: VerifierKey
    size: int = 0
    trouble: str | None = None
    refusal: str | None = None


class Cosigner:
    """Runs in one thread between `start` and `stop`; `collect` may be called without them."""

    def __init__(self, log: LogReader, folder: Path, witnesses: Sequence[WitnessConfig], quorum: int) -> None:
        assert 0 < quorum <= len(witnesses)
        self._log = log
        self._path = folder / COSIGNED
        self._dated = DatedFolder(folder)
        self._quorum = quorum
        self._peers = [_Peer(config, VerifierKey.parse(config.vkey)) for config in witnesses]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cosigning", daemon=True)
        self._published = self._kept()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns within some `TIMEOUT_S`; a request under way is left to end by itself."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_S)

    def checkpoint(self) -> bytes | None:
        """The newest checkpoint with a quorum of cosignatures; None before the first."""
        return self._published

    def dated(self) -> dict[int, Path]:
        """Older cosigned checkpoints by size."""
        return self._dated.notes()

    @property
    def alarms(self) -> list[str]:
        """Whole sentences: witnesses that refuse, and a quorum that cannot be had."""
        found = [peer.refusal for peer in self._peers if peer.refusal]
        silent = [peer for peer in self._peers if peer.trouble]
        if len(self._peers) - len(silent) - len(found) < self._quorum:
            names = "; ".join(f"{peer.config.name}: {peer.trouble}" for peer in silent)
            found.append(
                f"Too few witnesses cosign ({self._quorum} are needed). Records are logged and receipted as before, "
                f"but bundles rest on an older checkpoint until they do. {names}"
            )
        return found

    def collect(self) -> bool:
        """Brings the log's checkpoint to all witnesses at once; True when a quorum has cosigned it by the end."""
        plain = self._log.checkpoint()
        parsed = note.parse(plain)
        head = checkpoint.parse(parsed.text)
        with ThreadPoolExecutor(len(self._peers), "witness") as pool:
            found = list(pool.map(lambda peer: self._ask(peer, plain, head), self._peers))
        signatures = [each for each in found if each is not None]
        if len(signatures) < self._quorum:
            return False
        cosigned = Note(parsed.text, (*parsed.signatures, *signatures)).encode()
        replace_file(self._path, cosigned, no_failpoint, "cosigned")
        self._dated.keep(head.size, cosigned)
        self._published = cosigned
        return True

    def _run(self) -> None:
        done = b""
        while not self._stopping.is_set():
            plain = self._log.checkpoint()
            enough = True
            if plain != done:
                try:
                    enough = self.collect()
                except (OSError, LogFailed) as error:
                    logger.error("the cosigned checkpoint cannot be kept: %s", error)
                    enough = False
                # The next head is newer by now; what is missing of this one is no loss.
                done = plain if enough else b""
            self._stopping.wait(EVERY_S if enough else RETRY_S)

    def _ask(self, peer: _Peer, plain: bytes, head: Checkpoint) -> Signature | None:
        """The witness's cosignature; None where it gives none, which `alarms` tells."""
        try:
            signature = self._cosignature(peer, plain, head)
        except WitnessRefuses as refusal:
            if peer.refusal is None:
                logger.critical("%s", refusal)
            peer.refusal = str(refusal)
            return None
        except (Malformed, Unverified, Refused, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if peer.trouble is None:
                logger.warning("the witness %s gives no cosignature: %s", peer.config.name, reason)
            peer.trouble = str(reason)
            return None
        peer.trouble = peer.refusal = None
        return signature

    def _cosignature(self, peer: _Peer, plain: bytes, head: Checkpoint) -> Signature:
        for _ in range(3):  # once more after a 409 told the size, and once for a race with another request of ours
            hashes = self._log.consistency_proof(peer.size, head.size)
            status, body = _post(peer.config.url.rstrip("/") + wire.PATH, wire.encode(peer.size, hashes, plain))
            match status:
                case 200:
                    peer.size = head.size
                    return _signature(plain, body, peer.key)
                case 409:
                    size = wire.decode_size(body)
                    if size > head.size:
                        raise WitnessRefuses(
                            f"The witness {peer.config.name} has cosigned {size} entries of this log, which has "
                            f"{head.size}: an old backup was restored, or entries were deleted. Stop the hub and put "
                            "back the newest data."
                        )
                    if size == peer.size:  # it has this size, and another root
                        raise WitnessRefuses(_other_history(peer, size))
                    peer.size = size
                case 422:
                    raise WitnessRefuses(_other_history(peer, peer.size))
                case _:
                    words = body.decode("utf-8", "replace").strip()[:200]
                    raise Unverified(f"it answers {status}: {words if words.isprintable() else ''}")
        raise Unverified("its size changes with each request: does another hub use the same log key?")

    def _kept(self) -> bytes | None:
        """What a process before this one published, if it still is of this log, and its quorum holds."""
        data = read_file(self._path)
        if data is None:
            return None
        try:
            opened = note.open_note(data, *(peer.key for peer in self._peers))
            size = checkpoint.parse(opened.text).size
        except (Malformed, Unverified):
            return None
        return data if len(opened.verified) >= self._quorum and size <= self._log.size else None


@dataclass(frozen=True, slots=True)
class CosignedLog:
    """A log whose `checkpoint` is the published one: for pages, API and reports, which others verify."""

    log: LogReader
    cosigner: Cosigner

    @property
    def size(self) -> int:
        return self.log.size

    def checkpoint(self) -> bytes:
        return self.cosigner.checkpoint() or self.log.checkpoint()

    def entry(self, index: int) -> bytes:
        return self.log.entry(index)

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        return self.log.entries(start, stop)

    def inclusion_proof(self, index: int, size: int) -> Sequence[NodeHash]:
        return self.log.inclusion_proof(index, size)

    def consistency_proof(self, old_size: int, size: int) -> Sequence[NodeHash]:
        return self.log.consistency_proof(old_size, size)

    def proof(self, index: int) -> TlogProof:
        return self.log.proof(index)

    def dated(self) -> dict[int, Path]:
        return self.cosigner.dated()


def _other_history(peer: _Peer, size: int) -> str:
    return (
        f"The witness {peer.config.name} refuses this log: it does not begin with the {size} entries that the witness "
        "has cosigned. The log has two histories: a backup was restored and went on, or entries were changed."
    )


def _signature(plain: bytes, body: bytes, key: VerifierKey) -> Signature:
    """The witness's own line of a 200. Raises Malformed, or Unverified where its cosignature does not hold."""
    text = note.parse(plain).text
    opened = note.open_note(Note(text, ()).encode() + body, key)
    if opened.text != text:  # with an empty line in it, an answer could move the border of what it signs
        raise Unverified("its cosignature is over another text than the checkpoint's")
    return next(s for s in opened.signatures if (s.name, s.key_id) == (key.name, key.key_id))


def _post(url: str, body: bytes) -> tuple[int, bytes]:
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 (checked at start)
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read(_MAX_ANSWER)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_MAX_ANSWER)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A witness is where the configuration says, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)
