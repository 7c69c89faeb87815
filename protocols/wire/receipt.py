"""What the hub answers to a record: a receipt, or a refusal.

Decides their wire form and when a receipt lets a gateway forget a record. Does not decide which record is admitted
(the hub's admission).

A receipt is not signed itself: its tlog-proof carries the log's signed checkpoint and the path from the record to
its root, its consistency proofs lead from checkpoints that the gateway knows to that one, and nothing else of it is
believed. A refusal is only a message: it never lets a gateway forget.

Deterministic CBOR:

    {1: 1, 2: "receipt", 3: kid, 4: sequence, 5: record hash, 6: tlog-proof as text, 7: [[old size, [hash ...]] ...]}
    {1: 1, 2: "refused", 3: kid, 4: sequence, 5: record hash, 6: code, 7: words, 8: next sequence expected, or null}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from protocols.errors import Malformed, Unverified
from protocols.evidence import canonical, proof
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import KID_LENGTH, Kid
from protocols.evidence.fields import as_bytes, as_id, as_int, as_list, as_map, as_optional_int, as_text
from protocols.evidence.merkle import NodeHash, leaf_hash
from protocols.evidence.note import VerifierKey
from protocols.evidence.record import RecordHash, record_hash
from protocols.evidence.succession import MAX_PROOF_HASHES, Consistency

MAX_BYTES: Final = 65_535
VERSION: Final = 1
CHECKPOINT_PROPERTY: Final = "linetally-checkpoint"
"""MQTT user property of a statement: the size, decimal, of the newest checkpoint that the sender has verified.

Unsigned: it only chooses where a consistency proof in the receipt begins. A broker that drops it costs a delay."""
MAX_CONSISTENCY: Final = 4
"""Proofs in one receipt: from what the record says it has seen, from what its sender had when it sent it, and from
what the receipt before told it; which of them the gateway needs depends on what got lost on the way."""
_HASH_LENGTH: Final = 32
_RECEIPT_HEAD: Final = b"\xa7\x01\x01\x02\x67receipt\x03"  # {1: 1, 2: "receipt", 3: …
_RECEIPT_KEYS: Final = frozenset(range(1, 8))
_REFUSED_KEYS: Final = frozenset(range(1, 9))


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record is in the log. `proof`: a tlog-proof (c2sp.org) of its inclusion.

    `consistency`: from older checkpoints to the proof's, old sizes ascending.
    """

    kid: Kid
    sequence: int
    record_hash: RecordHash
    proof: str
    consistency: tuple[Consistency, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The hub did not take the record. `code` is a stable word for machines, `words` is for a person.

    `expected_sequence`: the sequence that the hub waits for from this key, where it knows the key.
    """

    kid: Kid
    sequence: int
    record_hash: RecordHash
    code: str
    words: str
    expected_sequence: int | None = None


def encode_receipt(answer: Receipt | Refusal) -> bytes:
    """Raises Malformed if a field is out of its range."""
    if isinstance(answer, Receipt):
        proof_text = _as_proof(answer.proof).encode()
        return write_receipt(answer.kid, answer.sequence, answer.record_hash, proof_text, answer.consistency)
    data = canonical.encode({
        1: VERSION, 2: "refused", 3: answer.kid, 4: answer.sequence, 5: answer.record_hash, 6: answer.code,
        7: answer.words, 8: answer.expected_sequence,
    })  # fmt: skip
    if decode_receipt(data) != answer:
        raise Malformed("the refusal does not come back the same from its wire form")
    return data


def write_receipt(
    kid: Kid, sequence: int, record_hash: RecordHash, proof_text: bytes, consistency: Sequence[Consistency] = ()
) -> bytes:
    """The encoded `Receipt` of these fields; `proof_text` is UTF-8. Raises as `encode_receipt`.

    Written in place, as `canonical.encode` would: a hub makes one for every record that it takes.
    """
    _check_ascending(consistency)
    data = b"".join((
        _RECEIPT_HEAD,
        canonical.byte_string(as_bytes(kid, "kid", KID_LENGTH)),
        b"\x04",
        canonical.encode(as_int(sequence, "sequence")),
        b"\x05",
        canonical.byte_string(as_bytes(record_hash, "record hash", _HASH_LENGTH)),
        b"\x06",
        canonical.text_string(proof_text),
        bytes((0x07, 0x80 + len(consistency))),
        *map(_consistency_wire, consistency),
    ))  # fmt: skip
    if len(data) > MAX_BYTES:
        raise Malformed(f"a receipt of {len(data)} bytes; at most {MAX_BYTES} are allowed")
    return data


@lru_cache(maxsize=1_024)
def _consistency_wire(proof_from: Consistency) -> bytes:
    """The proofs of a batch's receipts begin at the same few checkpoints."""
    data = canonical.encode([proof_from.old_size, list(proof_from.hashes)])
    if _consistency([canonical.decode(data, MAX_BYTES)]) != (proof_from,):
        raise Malformed("a consistency proof does not come back the same from its wire form")
    return data


def decode_receipt(data: bytes) -> Receipt | Refusal:
    """Raises Malformed, naming the field. Proves nothing yet: that is `verify_receipt`."""
    wire: dict[Any, Any] = as_map(canonical.decode(data, MAX_BYTES), "receipt")
    kind = wire.get(2)
    if kind not in ("receipt", "refused"):
        raise Malformed("receipt: its kind (2) must be receipt or refused")
    as_map(wire, "receipt", _RECEIPT_KEYS if kind == "receipt" else _REFUSED_KEYS)
    as_int(wire[1], "version", VERSION, VERSION)
    kid = Kid(as_bytes(wire[3], "kid", KID_LENGTH))
    sequence = as_int(wire[4], "sequence")
    record_hash = RecordHash(as_bytes(wire[5], "record hash", _HASH_LENGTH))
    if kind == "receipt":
        return Receipt(kid, sequence, record_hash, _as_proof(wire[6]), _consistency(wire[7]))
    return Refusal(
        kid,
        sequence,
        record_hash,
        as_id(wire[6], "code"),
        as_text(wire[7], "words"),
        as_optional_int(wire[8], "expected sequence"),
    )


def _consistency(value: object) -> tuple[Consistency, ...]:
    items = as_list(value, "consistency")
    found = []
    for item in items:
        old_size, wire_hashes = as_list(item, "consistency proof", 2)
        hashes = as_list(wire_hashes, "hashes of the consistency proof")
        if len(hashes) > MAX_PROOF_HASHES:
            raise Malformed(f"consistency proof: at most {MAX_PROOF_HASHES} hashes")
        nodes = tuple(NodeHash(as_bytes(each, "hash", _HASH_LENGTH)) for each in hashes)
        found.append(Consistency(as_int(old_size, "old size", 1), nodes))
    _check_ascending(found)
    return tuple(found)


def _check_ascending(proofs: Sequence[Consistency]) -> None:
    if len(proofs) > MAX_CONSISTENCY:
        raise Malformed(f"consistency: at most {MAX_CONSISTENCY} proofs")
    if len(proofs) > 1 and any(after.old_size <= before.old_size for before, after in pairwise(proofs)):
        raise Malformed("consistency: the old sizes must ascend")


def _as_proof(value: object) -> str:
    if type(value) is not str:
        raise Malformed("proof must be text")
    return value


def verify_receipt(receipt: Receipt, record_bytes: bytes, log_key: VerifierKey) -> Checkpoint:
    """The log's checkpoint that includes the record. The gateway may forget it once `succession` finds no fault.

    `record_bytes`: the COSE_Sign1 bytes as they were sent. Raises Unverified when the receipt is for other bytes,
    when the log's signature does not hold or the path does not lead to the root; Malformed for a broken proof.
    """
    if receipt.record_hash != record_hash(record_bytes):
        raise Unverified("the receipt is for another record")
    parsed = proof.parse(receipt.proof.encode())
    return proof.verify(parsed, leaf_hash(record_bytes), log_key)
