"""Answers: what a gateway is told of its statement, and how the hub counts it.

Decides the words. When an answer may be sent is decided in `ingest`: never before the log is durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hub.admission import Admitted, Ahead, Duplicate, Fork, NotAdmitted, Verdict
from hub.quarantine import FORK
from protocols.evidence.fields import MAX_TEXT
from protocols.evidence.record import SignedRecord
from protocols.evidence.succession import Consistency
from protocols.wire.receipt import Refusal, encode_receipt, write_receipt


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
