"""What a witness remembers: its key, the logs that it watches, and of each the newest checkpoint it cosigned.

Decides when a checkpoint is cosigned, after c2sp.org/tlog-witness, and what is durable: the new checkpoint is on disk
before its cosignature leaves `add_checkpoint`, and checking the old size and storing the new one are one step under one
lock. One process at a time has the folder (flock). What breaks the rules is kept as evidence, bounded.

A witness restored from an old backup forgets what it cosigned: never restore its folder, make a new witness instead.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from hub import root
from hub.log.store import no_failpoint, read_file, replace_file
from protocols.errors import ConfigurationError, Malformed, Refused, Unverified
from protocols.evidence import checkpoint, merkle, note
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import EMPTY_ROOT
from protocols.evidence.note import Algorithm, SignerKey, VerifierKey
from protocols.wire import add_checkpoint as wire

logger = logging.getLogger("hub.witness")

KEY_FILE: Final = "witness.key"
LOGS_FILE: Final = "logs"
KEPT_EVIDENCE: Final = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `body`: cosignature lines, the known size, or words for a person."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Witness:
    """The open state. Any thread may call `add_checkpoint`; calls are serialized."""

    def __init__(
        self, folder: Path, signer: SignerKey, logs: Mapping[str, tuple[VerifierKey, ...]], now_s: Callable[[], int]
    ) -> None:
        self.signer = signer
        self._folder = folder
        self._logs = logs
        self._now_s = now_s
        self._mutex = threading.Lock()
        self._lock_file: int | None = None

    @classmethod
    def open(cls, folder: Path, now_s: Callable[[], int]) -> Witness:
        """Raises ConfigurationError where it is not complete, or another process has it."""
        signer = root.load_key(folder / KEY_FILE, "the witness's key", "make it with `linetally-hub witness init`")
        if signer.algorithm is not Algorithm.COSIGNATURE:
            raise ConfigurationError("this is a log's key, not a witness's", file=str(folder / KEY_FILE))
        witness = cls(folder, signer, read_logs(folder), now_s)
        (folder / "state").mkdir(mode=0o700, exist_ok=True)
        (folder / "evidence").mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ConfigurationError(
                "another witness is running with this folder",
                file=str(folder),
                mend="stop it: two would undo each other",
            ) from None
        witness._lock_file = lock
        return witness

    def close(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def origins(self) -> list[str]:
        return sorted(self._logs)

    def newest(self, origin: str) -> Checkpoint:
        """The newest checkpoint that was cosigned for a log; the empty tree where there was none yet."""
        data = read_file(self._state_path(origin))
        return Checkpoint(origin, 0, EMPTY_ROOT) if data is None else checkpoint.parse(note.parse(data).text)

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to one request, by the specification's rules in its order. Durable before it returns 200."""
        try:
            request = wire.decode(body)
            text = note.parse(request.checkpoint_note).text
            given = checkpoint.parse(text)
        except Malformed as error:
            return _words(400, str(error))
        keys = self._logs.get(given.origin)
        if keys is None:
            return _words(404, f"this witness does not watch {given.origin}")
        try:
            signed = note.open_note(request.checkpoint_note, *keys)
        except Unverified as error:
            return _words(403, str(error))
        if request.old_size > given.size:
            return _words(400, f"the old size {request.old_size} is past the checkpoint's {given.size}")
        with self._mutex:
            return self._compare_and_swap(request, given, signed)

    def _compare_and_swap(self, request: wire.AddCheckpoint, given: Checkpoint, signed: note.Note) -> Answer:
        known = self.newest(given.origin)
        conflict = Answer(409, f"{known.size}\n".encode(), wire.SIZE_TYPE)
        if request.old_size != known.size:
            return conflict
        if given.size == known.size and given.root != known.root:
            logger.critical("split view: %s signed two trees of %d entries", given.origin, given.size)
            self._keep_evidence(request.checkpoint_note, given.origin)
            return conflict
        try:
            merkle.verify_consistency(known.size, given.size, request.hashes, known.root, given.root)
        except Unverified as error:
            logger.error("inconsistent: %s, from %d to %d: %s", given.origin, known.size, given.size, error)
            self._keep_evidence(request.checkpoint_note, given.origin)
            return _words(422, str(error))
        # Only what was checked is kept: the text and the log's own signatures.
        names = {(key.name, key.key_id) for key in signed.verified}
        kept = note.Note(signed.text, tuple(s for s in signed.signatures if (s.name, s.key_id) in names))
        replace_file(self._state_path(given.origin), kept.encode(), no_failpoint, "witness")
        logger.info("cosigned %s, %d entries", given.origin, given.size)
        return Answer(200, self.signer.sign(signed.text, self._now_s()).line().encode())

    def _keep_evidence(self, checkpoint_note: bytes, origin: str) -> None:
        """Both notes of a log that broke the rules: anybody can check the log's signatures on them."""
        folder = self._folder / "evidence"
        path = folder / sha256(checkpoint_note).hexdigest()[:32]
        if not path.exists() and len(list(folder.iterdir())) < KEPT_EVIDENCE:
            known = read_file(self._state_path(origin)) or b""
            replace_file(path, known + b"\n" + checkpoint_note, no_failpoint, "evidence")

    def _state_path(self, origin: str) -> Path:
        # An origin may hold any character; a hash is always a file's name.
        return self._folder / "state" / sha256(origin.encode()).hexdigest()[:32]


def read_logs(folder: Path) -> dict[str, tuple[VerifierKey, ...]]:
    """The watched logs by origin, from `logs`: one vkey a line. Raises ConfigurationError."""
    path = folder / LOGS_FILE
    found: dict[str, tuple[VerifierKey, ...]] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        mend = "make it with `linetally-hub witness init`"
        raise ConfigurationError("the list of logs cannot be read", file=str(path), mend=mend) from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = VerifierKey.parse(line.strip())
            wrong = "" if key.algorithm is Algorithm.ED25519 else "a witness's key, not a log's"
        except (Malformed, Refused) as error:
            wrong = str(error)
        if wrong:
            raise ConfigurationError(wrong, file=str(path), line=number, mend="one vkey of a log on each line")
        found[key.name] = (*found.get(key.name, ()), key)
    return found


def _words(status: int, words: str) -> Answer:
    return Answer(status, f"{words}\n".encode())
