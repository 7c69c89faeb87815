"""The log, watched: every gateway is a witness of the hub's log.

Decides whether a receipt's checkpoint may be believed after those that were verified before, and when a person must be
told. A log that became smaller, or has two histories, gets no record forgotten: the receipts that it gives are worth
nothing. What was verified is kept in the spool (the newest `KEPT_CHECKPOINTS`, each with its proof), so that what the
hub deletes later can be shown to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from agent.spool import Spool
from protocols.errors import Malformed
from protocols.evidence import canonical, proof
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.note import VerifierKey
from protocols.evidence.record import CheckpointSeen
from protocols.evidence.succession import Consistency, Succession, succession
from protocols.wire.receipt import Receipt, verify_receipt

KEPT_CHECKPOINTS: Final = 128
"""At a statement each quarter of an hour a day and more; each takes about 1 KB."""
STRIKES: Final = 3
"""Smaller or unproven answers in a row before a person is told: MQTT may deliver an old receipt late, once or twice."""
_MAX_VALUE: Final = 1_000_000
_MEND: Final = "Records are kept here. Tell the scheme, and keep what `linetally-agent status --json` shows as evidence"


class Belief(Enum):
    """What a receipt is worth: BELIEVED lets its record go; AGAIN: send the record again; DISBELIEVED: as long as the
    log is as it is, its receipts count for nothing."""

    BELIEVED = "believed"
    AGAIN = "again"
    DISBELIEVED = "disbelieved"


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A verified checkpoint: `note` as the log signed it, `proof` from the checkpoint that was kept before it."""

    size: int
    root: bytes
    note: bytes
    proof: Consistency | None

    def encode(self) -> bytes:
        proof = None if self.proof is None else [self.proof.old_size, list(self.proof.hashes)]
        return canonical.encode([self.size, self.root, self.note, proof])

    @classmethod
    def decode(cls, data: bytes) -> KeptCheckpoint:
        size, root, note, kept = canonical.decode(data, _MAX_VALUE)
        return cls(size, root, note, None if kept is None else Consistency(kept[0], tuple(kept[1])))


class LogWatch:
    """The newest verified checkpoint, and the alarm. `meta` values it gives must be stored before it is believed."""

    def __init__(self, spool: Spool, log_key: VerifierKey) -> None:
        self._spool = spool
        self._log_key = log_key
        self.seen = read_seen(spool)
        self._slot = int(spool.meta("checkpoint_slot") or b"0")
        self.alarm = (spool.meta("log_alarm") or b"").decode() or None
        self._proven_fork = bool(spool.meta("log_fork"))
        self._strikes = 0

    def judge(
        self, receipt: Receipt, record_bytes: bytes, *, awaited: bool = True
    ) -> tuple[Belief, dict[str, bytes], str | None]:
        """(what it is worth, what to store together with it, words for the log when the alarm changed).

        `awaited`: the record was sent and not answered yet; only then a smaller or unproven answer is a strike.
        Raises Malformed, Unverified or Refused for a receipt that the log did not give for this record.
        """
        checkpoint = verify_receipt(receipt, record_bytes, self._log_key)
        note = proof.parse(receipt.proof.encode()).checkpoint_note
        found = succession(self.seen, checkpoint, receipt.consistency)
        if found in (Succession.SAME, Succession.GROWN):
            self._strikes = 0
            meta, words = self._calm()
            if found is Succession.GROWN:
                meta |= self._keep(checkpoint, note, receipt.consistency)
            return Belief.BELIEVED, meta, words
        if found is Succession.SMALLER and self._is_kept(checkpoint):
            return Belief.BELIEVED, {}, None  # the receipt was late: this very tree was verified before
        self._strikes += awaited
        certain = found in (Succession.FORKED, Succession.BROKEN)
        if not certain and self._strikes < STRIKES:
            return Belief.AGAIN, {}, None
        meta, words = self._raise(found, checkpoint, note)
        return Belief.DISBELIEVED, meta, words

    def again(self) -> LogWatch:
        """As the spool knows it: for a caller who could not store what `judge` gave."""
        return LogWatch(self._spool, self._log_key)

    def checkpoints(self) -> list[KeptCheckpoint]:
        """Those kept, by size."""
        return kept_checkpoints(self._spool)

    def _is_kept(self, checkpoint: Checkpoint) -> bool:
        return any((kept.size, kept.root) == (checkpoint.size, checkpoint.root) for kept in self.checkpoints())

    def _keep(self, checkpoint: Checkpoint, note: bytes, proofs: Sequence[Consistency]) -> dict[str, bytes]:
        old_size = 0 if self.seen is None else self.seen.size
        used = next((each for each in proofs if each.old_size == old_size), None)
        kept = KeptCheckpoint(checkpoint.size, checkpoint.root, note, used)
        self.seen = CheckpointSeen(checkpoint.size, checkpoint.root)
        slot = self._slot
        self._slot = (slot + 1) % KEPT_CHECKPOINTS
        return {
            "checkpoint_size": str(checkpoint.size).encode(),
            "checkpoint_root": bytes(checkpoint.root),
            "checkpoint_slot": str(self._slot).encode(),
            f"checkpoint_kept_{slot}": kept.encode(),
        }

    def _calm(self) -> tuple[dict[str, bytes], str | None]:
        """A log that is whole again ends the alarm; two signed histories are never forgotten."""
        if self.alarm is None or self._proven_fork:
            return {}, None
        self.alarm = None
        return {"log_alarm": b"", "log_evidence": b""}, "the hub's log is again the one that was verified before"

    def _raise(self, found: Succession, checkpoint: Checkpoint, note: bytes) -> tuple[dict[str, bytes], str | None]:
        assert self.seen is not None, "nothing contradicts a log of which nothing is known"
        words = f"{_words(found, self.seen, checkpoint)}. {_MEND}"
        if self._proven_fork or words == self.alarm:
            return {}, None
        self.alarm = words
        self._proven_fork = found is Succession.FORKED
        known = next((kept.note for kept in self.checkpoints() if kept.size == self.seen.size), b"")
        evidence = canonical.encode([known, note])
        meta = {"log_alarm": words.encode(), "log_evidence": evidence}
        if self._proven_fork:
            meta["log_fork"] = b"1"
        return meta, words


def read_seen(spool: Spool) -> CheckpointSeen | None:
    """The newest checkpoint that this gateway has verified."""
    size, root = spool.meta("checkpoint_size"), spool.meta("checkpoint_root")
    return None if size is None or root is None else CheckpointSeen(int(size), root)


def kept_checkpoints(spool: Spool) -> list[KeptCheckpoint]:
    """The newest verified checkpoints, by size."""
    found = (spool.meta(f"checkpoint_kept_{slot}") for slot in range(KEPT_CHECKPOINTS))
    return sorted((KeptCheckpoint.decode(data) for data in found if data), key=lambda kept: kept.size)


def read_alarm(spool: Spool) -> dict[str, Any] | None:
    """The alarm for `status`: its words, and the two notes that contradict each other."""
    words = (spool.meta("log_alarm") or b"").decode()
    if not words:
        return None
    try:
        known, given = canonical.decode(spool.meta("log_evidence") or b"", _MAX_VALUE)
    except (Malformed, ValueError, TypeError):
        known, given = b"", b""
    return {"words": words, "verified_checkpoint": known.decode(), "given_checkpoint": given.decode()}


def _words(found: Succession, seen: CheckpointSeen, given: Checkpoint) -> str:
    match found:
        case Succession.FORKED:
            return (
                f"THE HUB'S LOG HAS TWO HISTORIES: its key signed two different trees of {seen.size} entries. "
                "Whoever runs the hub has changed what was logged"
            )
        case Succession.SMALLER:
            return (
                f"the hub's log shrank: it has {given.size} entries, and this gateway has verified {seen.size}. "
                "The hub was restored from an old backup, or entries were deleted"
            )
        case Succession.BROKEN:
            return (
                f"the hub's log of {given.size} entries does not begin with the {seen.size} that this gateway has "
                "verified: what was logged has been changed"
            )
        case _:
            return (
                f"the hub gives no proof that its log of {given.size} entries begins with the {seen.size} that this "
                "gateway has verified"
            )
