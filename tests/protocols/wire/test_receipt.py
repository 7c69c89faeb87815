"""Receipts: a gateway forgets a record only on the log's word, and on no other's."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Malformed, Unverified
from protocols.evidence import canonical, checkpoint, merkle, proof
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.record import RecordHash
from protocols.wire.receipt import Receipt, Refusal, decode_receipt, encode_receipt, verify_receipt
from tests.support.evidence import signed

LOG = SignerKey("example.org/log", Algorithm.ED25519, bytes(range(32)))
RECORD = signed()


def receipt_at(index: int, size: int, signer: SignerKey = LOG, origin: str = LOG.name) -> Receipt:
    """The receipt for RECORD as entry `index` of a log of `size` entries."""
    leaves = [merkle.leaf_hash(str(i).encode()) for i in range(size)]
    leaves[index] = merkle.leaf_hash(RECORD.raw)
    signed_checkpoint = checkpoint.sign(Checkpoint(origin, size, merkle.root(leaves)), signer)
    path = tuple(merkle.inclusion_proof(leaves, index, size))
    text = proof.format(proof.TlogProof(index, path, signed_checkpoint)).decode()
    return Receipt(RECORD.kid, RECORD.record.sequence, RECORD.hash, text)


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (2, 3), (6, 7), (255, 256), (256, 257)])
def test_a_receipt_of_the_log_holds(index: int, size: int) -> None:
    answer = decode_receipt(encode_receipt(receipt_at(index, size)))
    assert isinstance(answer, Receipt)
    assert verify_receipt(answer, RECORD.raw, LOG.verifier).size == size


def test_another_logs_receipt_does_not() -> None:
    stranger = SignerKey(LOG.name, Algorithm.ED25519, bytes(32))
    with pytest.raises(Unverified):
        verify_receipt(receipt_at(0, 1, stranger), RECORD.raw, LOG.verifier)


def test_a_receipt_for_other_bytes_does_not() -> None:
    other = signed().raw + b"\x00"
    with pytest.raises(Unverified, match="another record"):
        verify_receipt(receipt_at(0, 1), other, LOG.verifier)
    swapped = replace(receipt_at(2, 5), proof=receipt_at(1, 5).proof.replace("index 1", "index 3"))
    with pytest.raises(Unverified):
        verify_receipt(swapped, RECORD.raw, LOG.verifier)


def test_changed_bytes_never_make_a_receipt_for_another_record() -> None:
    data = encode_receipt(receipt_at(3, 7))
    chance = random.Random(1)
    for _ in range(500):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        try:
            answer = decode_receipt(bytes(changed))
            assert isinstance(answer, Receipt)
            verify_receipt(answer, RECORD.raw, LOG.verifier)
        except (Malformed, Unverified):
            continue
        # Only kid, sequence, or the name and id of a signature line may differ: the record is still proven.
        assert answer.record_hash == RECORD.hash


@given(
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.text("abc-", min_size=1, max_size=9),
    st.text("abc é\u4e2d", max_size=9),
    st.none() | st.integers(0, 99),
)
def test_decode_inverts_encode(
    kid: bytes, sequence: int, digest: bytes, code: str, words: str, expected: int | None
) -> None:
    refusal = Refusal(Kid(kid), sequence, RecordHash(digest), code, words, expected)
    assert decode_receipt(encode_receipt(refusal)) == refusal
    receipt = Receipt(Kid(kid), sequence, RecordHash(digest), words)
    assert decode_receipt(encode_receipt(receipt)) == receipt


GOOD = {1: 1, 2: "receipt", 3: bytes(8), 4: 0, 5: bytes(32), 6: "text"}


@pytest.mark.parametrize(
    "changed",
    [
        GOOD | {1: 2}, GOOD | {2: "taken"}, GOOD | {2: ["receipt"]}, GOOD | {3: bytes(7)}, GOOD | {4: -1},
        GOOD | {4: True}, GOOD | {5: b""}, GOOD | {6: b"text"}, GOOD | {7: 0}, {}, {1: 1}, [], 0,
        GOOD | {2: "refused"}, GOOD | {2: "refused", 6: "no spaces here", 7: "", 8: None},
        GOOD | {2: "refused", 6: "code", 7: "\x1b[2J", 8: None}, GOOD | {2: "refused", 6: "code", 7: "", 8: "1"},
    ],
)  # fmt: skip
def test_other_forms_are_refused(changed: object) -> None:
    with pytest.raises(Malformed):
        decode_receipt(canonical.encode(changed))
