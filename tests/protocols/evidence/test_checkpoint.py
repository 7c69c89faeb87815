"""Checkpoints and cosignatures against the examples of their specifications."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import checkpoint, note
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import RootHash
from protocols.evidence.note import Algorithm, SignerKey

# c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature, the examples.
BODY = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
EXAMPLE = (
    BODY + "\n— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()

LOG = SignerKey("example.com/log", Algorithm.ED25519, bytes(32))
OTHER_LOG = SignerKey("example.com/other", Algorithm.ED25519, bytes(32))
WITNESS = SignerKey("witness.example.com/w1", Algorithm.COSIGNATURE, bytes([7] * 32))
HEAD = Checkpoint("example.com/log", 5, RootHash(bytes(range(32))))


def test_the_examples_of_the_specifications() -> None:
    parsed = note.parse(EXAMPLE)
    assert parsed.encode() == EXAMPLE
    found = checkpoint.parse(parsed.text)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(found.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert checkpoint.format(found) == BODY
    time_s, signature = note.split_cosignature(parsed.signatures[1].signature)
    assert len(signature) == 64
    # tlog-cosignature, "Ed25519 signed message", verbatim.
    assert note.cosigned_message(BODY, time_s) == b"cosignature/v1\ntime 1679315147\n" + BODY.encode()


def test_sign_and_open() -> None:
    signed = checkpoint.sign(HEAD, LOG)
    assert checkpoint.open(signed, LOG.verifier) == HEAD
    with pytest.raises(Unverified):
        checkpoint.open(signed, OTHER_LOG.verifier)
    with pytest.raises(Unverified):  # the same key under another name has another id
        checkpoint.open(note.sign(checkpoint.format(HEAD), OTHER_LOG), LOG.verifier)
    with pytest.raises(Unverified):  # another origin than the key's name
        checkpoint.open(note.sign(checkpoint.format(HEAD), OTHER_LOG), OTHER_LOG.verifier)
    with pytest.raises(Refused):
        checkpoint.open(signed, WITNESS.verifier)


def test_cosign_and_its_time() -> None:
    signed = checkpoint.sign(HEAD, LOG)
    cosigned = checkpoint.cosign(signed, LOG.verifier, WITNESS, 1_679_315_147)
    assert checkpoint.cosigned_at(cosigned, WITNESS.verifier) == 1_679_315_147
    assert checkpoint.open(cosigned, LOG.verifier) == HEAD
    later = checkpoint.cosign(cosigned, LOG.verifier, WITNESS, 1_679_315_999)
    assert checkpoint.cosigned_at(later, WITNESS.verifier) == 1_679_315_999
    assert len(note.parse(later).signatures) == 2
    with pytest.raises(Unverified):
        checkpoint.cosigned_at(signed, WITNESS.verifier)
    with pytest.raises(Refused):
        checkpoint.cosign(signed, LOG.verifier, OTHER_LOG, 1)
    with pytest.raises(Refused):
        checkpoint.cosigned_at(cosigned, LOG.verifier)


def test_a_changed_time_or_body_breaks_a_cosignature() -> None:
    line = WITNESS.sign(BODY, 1_679_315_147)
    later = (1_679_315_148).to_bytes(8, "big") + line.signature[8:]
    for text, signature in ((BODY, later), (BODY + "x\n", line.signature), (BODY, line.signature[:-1])):
        with pytest.raises(Unverified):
            WITNESS.verifier.verify(text, signature)
    with pytest.raises(Unverified):
        note.split_cosignature(b"\x80" + bytes(71))


@pytest.mark.parametrize(
    "text",
    [
        "", "a\n", "a\n1\n", BODY[:-1], BODY + "\n", BODY.replace("20852163", "020852163"),
        BODY.replace("20852163", "+1"), BODY.replace("20852163", "-1"), BODY.replace("20852163", "1_0"),
        BODY.replace("20852163", "9223372036854775808"), BODY.replace("20852163", "٣"),
        BODY.replace("2I=", "2J="), BODY.replace("CsUY", ""), BODY.replace("example.com/behind-the-sofa", ""),
        BODY + "\nx\n",
    ],
)  # fmt: skip
def test_what_is_not_a_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        checkpoint.parse(text)


@given(
    st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), min_size=1),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), min_size=1), max_size=3),
)
def test_format_and_parse_are_inverse(origin: str, size: int, root: bytes, extension: list[str]) -> None:
    head = Checkpoint(origin, size, RootHash(root), tuple(extension))
    assert checkpoint.parse(checkpoint.format(head)) == head
