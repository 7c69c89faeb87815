"""Answers: what a gateway is told of its statement, and how the hub counts it.

Decides the words, and what a receipt proves beside the record. When an answer may be sent is decided in `ingest`: never
before the log is durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from hub.admission import Admitted, Ahead, Duplicate, Fork, NotAdmitted, Verdict
from hub.quarantine import FORK
from hub.recent import Recent
from protocols.evidence.cose import Kid
from protocols.evidence.fields import MAX_TEXT
from protocols.evidence.merkle import NodeHash
from protocols.evidence.record import SignedRecord
from protocols.evidence.succession import Consistency
from protocols.wire.receipt import Refusal, encode_receipt, write_receipt

_TAKEN: Final = (Admitted, Duplicate)


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start. `overflow_count`: dropped unread, because the queue was full; the agents send them again.

    `last_record_ms`: the hub's wall clock. `alarm`: what holds the writer up, as a sentence; None when nothing does.
    """

    admitted_count: int = 0
    duplicate_count: int = 0
    ahead_count: int = 0
    refused_count: int = 0
    fork_count: int = 0
    overflow_count: int = 0
    last_record_ms: int | None = None
    alarm: str | None = None


def counted(counts: Counts, verdicts: Sequence[Verdict], now_ms: int) -> Counts:
    """`counts` with a batch's verdicts."""
    of = Counter(map(type, verdicts))
    return replace(
        counts,
        admitted_count=counts.admitted_count + of[Admitted],
        duplicate_count=counts.duplicate_count + of[Duplicate],
        ahead_count=counts.ahead_count + of[Ahead],
        fork_count=counts.fork_count + of[Fork],
        refused_count=counts.refused_count + of[NotAdmitted],
        last_record_ms=now_ms if of[Admitted] else counts.last_record_ms,
    )


class Proofs(Protocol):
    """What of `hub.log.sequencer.Log` is asked."""

    @property
    def size(self) -> int: ...

    def proof_texts(self, indices: Sequence[int]) -> Mapping[int, bytes]: ...

    def consistency_proof(self, old_size: int, size: int) -> Sequence[NodeHash]: ...


class Receipts:
    """Answers with their proofs, and what each key was told of the log. The one thread that appends uses it."""

    def __init__(self, log: Proofs, recent: Recent) -> None:
        self._log = log
        self._recent = recent
        self._told: dict[Kid, int] = {}  # size of the checkpoint in the newest receipt to each key

    def answers(self, heard: Sequence[tuple[Verdict, int]]) -> list[bytes | None]:
        """What to publish, None for nothing, for verdicts, each with the size of the newest checkpoint that its sender
        says it has verified."""
        good = {verdict.record.hash for verdict, _ in heard if isinstance(verdict, _TAKEN)}
        indices = self._recent.indices(good)
        proofs = self._log.proof_texts(sorted(indices.values()))
        size = self._log.size
        known: dict[int, Consistency] = {}
        told: dict[Kid, int] = {}
        out: list[bytes | None] = []
        for verdict, seen_size in heard:
            if isinstance(verdict, _TAKEN):
                told[verdict.record.kid] = size
                consistency = self._consistency(verdict.record, seen_size, size, known)
                out.append(answer(verdict, proofs[indices[verdict.record.hash]], consistency))
            else:
                out.append(answer(verdict))
        self._told |= told
        return out

    def _consistency(
        self, record: SignedRecord, sender_size: int, size: int, known: dict[int, Consistency]
    ) -> tuple[Consistency, ...]:
        """Proofs to the tree of `size` from each that the gateway may have verified last. `known`: made before."""
        seen = record.record.checkpoint_seen
        sizes = {sender_size, self._told.get(record.kid, 0), 0 if seen is None else seen.size}
        for old_size in sizes - known.keys():
            if 0 < old_size < size:
                known[old_size] = Consistency(old_size, tuple(self._log.consistency_proof(old_size, size)))
        return tuple(known[old_size] for old_size in sorted(sizes) if 0 < old_size < size)


def answer(verdict: Verdict, proof_text: bytes = b"", consistency: Sequence[Consistency] = ()) -> bytes | None:
    """The receipt or refusal to publish; None for bytes that no record could be read from.

    `proof_text`: of a logged record its tlog-proof, UTF-8. `consistency`: to the checkpoint of the proof, from those
    that the gateway may have; old sizes ascending.
    """
    match verdict:
        case Admitted(record) | Duplicate(record):
            return write_receipt(record.kid, record.record.sequence, record.hash, proof_text, consistency)
        case Fork(record):
            words = "the log has another record with this sequence: two agents share this key, or its spool is old"
            return _refusal(record, FORK, words, None)
        case Ahead(record, expected):
            return _refusal(record, "out-of-order", f"record {expected} has not arrived; send from there on", expected)
        case NotAdmitted() as refused:
            if refused.record is None:
                return None
            return _refusal(refused.record, refused.code, refused.words, refused.expected_sequence)


def _refusal(record: SignedRecord, code: str, words: str, expected: int | None) -> bytes:
    # Words may quote what a stranger wrote: one line, without control characters, of the length that a refusal has.
    plain = "".join(c if c.isprintable() else " " for c in words)[:MAX_TEXT]
    return encode_receipt(Refusal(record.kid, record.record.sequence, record.hash, code, plain, expected))
