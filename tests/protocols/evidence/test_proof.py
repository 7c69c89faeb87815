"""tlog-proof texts: the specification's example, inverse forms, and no single changed bit that still holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import ConfigurationError, Malformed, Unverified
from protocols.evidence import checkpoint, merkle, policy, proof
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.proof import TlogProof

LOG = SignerKey("example.com/log", Algorithm.ED25519, bytes(32))
LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(11)]
HEAD = Checkpoint("example.com/log", 11, merkle.root(LEAVES))
NOTE = checkpoint.sign(HEAD, LOG)


def made(index: int, extra: bytes | None = None) -> TlogProof:
    return TlogProof(index, tuple(merkle.inclusion_proof(LEAVES, index, 11)), NOTE, extra)


def test_the_shape_of_the_specification() -> None:
    # c2sp.org/tlog-proof, "Format"; the example's own checkpoint is elided there, so ours stands in its place.
    head = (
        "c2sp.org/tlog-proof@v1\n"
        "extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ\n"
        "index 73894\n"
        "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n"
        "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n"
        "EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\n"
        "RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\n"
        "AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=\n"
        "\n"
    )
    data = head.encode() + NOTE
    parsed = proof.parse(data)
    assert parsed.index == 73894
    assert len(parsed.hashes) == 5
    assert parsed.extra is not None and parsed.extra.startswith(b"age-v1.2.1-darwin-arm64.tar.gz")
    assert proof.format(parsed) == data


def test_proofs_hold_under_the_log_key_and_under_a_policy() -> None:
    trusted = policy.parse(f"log {LOG.verifier}\nquorum none\n".encode())
    for index, leaf in enumerate(LEAVES):
        parsed = proof.parse(proof.format(made(index)))
        assert parsed == made(index)
        assert proof.verify(parsed, leaf, LOG.verifier) == HEAD
        assert proof.verify(parsed, leaf, trusted) == HEAD
        with pytest.raises(Unverified):
            proof.verify(parsed, LEAVES[index - 1], LOG.verifier)


def test_no_changed_bit_holds() -> None:
    data = proof.format(made(6))
    for at in range(len(data)):
        for bit in range(8):
            mangled = bytearray(data)
            mangled[at] ^= 1 << bit
            with pytest.raises((Malformed, Unverified)):
                proof.verify(proof.parse(bytes(mangled)), LEAVES[6], LOG.verifier)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"index 6\n", b""), (b"index 6\n", b"index 06\n"), (b"index 6\n", b"index -6\n"), (b"@v1", b"@v2"),
        (b"index 6\n", b"extra AA\nindex 6\n"), (b"index 6\n", b"index 6\nextra YQ==\n"),
        (b"index 6\n", b"extra YQ==\nextra YQ==\nindex 6\n"), (b"index 6\n", b"index 6\nYQ==\n"),
        (b"index 6\n", b"index 6\n" + b"A" * 43 + b"=\n" * 1 + (b"A" * 43 + b"=\n") * 60), (b"\n\n", b"\n"),
        (b"index 6\n", b"index 6\r\n"), (b"example.com/log\n11\n", b"example.com/log\neleven\n"),
    ],
)  # fmt: skip
def test_what_is_not_a_proof_is_malformed(old: bytes, new: bytes) -> None:
    data = proof.format(made(6))
    assert old in data
    with pytest.raises(Malformed):
        proof.parse(data.replace(old, new))


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.none() | st.binary())
def test_format_and_parse_are_inverse(index: int, hashes: list[bytes], extra: bytes | None) -> None:
    given_proof = TlogProof(index, tuple(merkle.NodeHash(each) for each in hashes), NOTE, extra)
    assert proof.parse(proof.format(given_proof)) == given_proof


@given(st.binary(max_size=200))
def test_any_bytes_parse_to_the_same_bytes_or_not_at_all(data: bytes) -> None:
    for candidate in (data, b"c2sp.org/tlog-proof@v1\nindex 6\n" + data, data + NOTE):
        try:
            parsed = proof.parse(candidate)
        except Malformed:
            continue
        assert proof.format(parsed) == candidate


def test_a_policy_of_another_log_refuses() -> None:
    other = SignerKey("example.com/other", Algorithm.ED25519, bytes(32))
    trusted = policy.parse(f"log {other.verifier}\nquorum none\n".encode())
    with pytest.raises(Unverified):
        proof.verify(made(0), LEAVES[0], trusted)
    with pytest.raises(ConfigurationError):
        policy.parse(b"quorum all\n")
