"""Notes and keys against the examples of Go's x/mod/sumdb/note and of c2sp.org/signed-note."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import note
from protocols.evidence.note import Algorithm, SignerKey, VerifierKey

# golang.org/x/mod/sumdb/note, example_test.go: ExampleSign, ExampleOpen, ExampleSign_add_signatures.
PETER_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# c2sp.org/signed-note, "Verifier keys", the example.
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

PETER = VerifierKey.parse(PETER_VKEY)
ENOCH = VerifierKey.parse(ENOCH_VKEY)
SIGNED = (TEXT + "\n" + PETER_LINE).encode()


def test_the_examples_of_go_and_c2sp() -> None:
    signer = SignerKey.parse(PETER_SKEY)
    assert signer.export() == PETER_SKEY
    assert str(signer.verifier) == PETER_VKEY
    assert signer.verifier.key_id.hex() == "c74f20a3"
    assert note.sign(TEXT, signer) == SIGNED
    opened = note.open_note(SIGNED, PETER)
    assert (opened.text, opened.verified) == (TEXT, (PETER,))
    both = SIGNED + ENOCH_LINE.encode()
    assert note.open_note(both, ENOCH, PETER).verified == (PETER, ENOCH)
    assert note.open_note(both, PETER).encode() == both
    foo = VerifierKey.parse(C2SP_VKEY)
    assert str(foo) == C2SP_VKEY
    assert note.open_note(C2SP_NOTE, foo).text == "This is an example message.\n"


def test_unknown_signatures_are_ignored_and_wrong_ones_refuse_the_note() -> None:
    with pytest.raises(Unverified):
        note.open_note(SIGNED, ENOCH)
    with pytest.raises(Unverified):
        note.open_note(SIGNED)
    other = VerifierKey("PeterNeumann", Algorithm.ED25519, ENOCH.public)  # his name, another id
    assert note.open_note(SIGNED, other, PETER).verified == (PETER,)
    wrong = PETER_LINE.replace("JkuBS", "JkuBT").encode()
    with pytest.raises(Unverified):
        note.open_note(SIGNED + ENOCH_LINE.encode() + wrong, PETER, ENOCH)
    assert note.open_note(SIGNED + ENOCH_LINE.encode() + wrong, ENOCH).verified == (ENOCH,)


def test_every_changed_byte_of_the_text_is_refused() -> None:
    for at in range(len(TEXT)):
        for bit in range(8):
            mangled = bytearray(SIGNED)
            mangled[at] ^= 1 << bit
            with pytest.raises((Malformed, Unverified)):
                note.open_note(bytes(mangled), PETER)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"\n\n",
        TEXT.encode() + PETER_LINE.encode(),  # no empty line
        SIGNED[:-1],
        SIGNED + b"\n",
        SIGNED + b"more\n",
        SIGNED.replace(b"problem is", b"problem\tis"),
        SIGNED.replace(b"problem is", b"problem\x00is"),
        SIGNED.replace(b"problem is", b"problem\xffis"),
        SIGNED.replace("— ".encode(), b"- "),
        SIGNED.replace(b"PeterNeumann ", b"Peter+Neumann "),
        SIGNED.replace(b"PeterNeumann ", "Peter\u2003Neumann ".encode()),
        SIGNED.replace(b"PeterNeumann ", b" "),
        SIGNED.replace(b"wJnAM=", b"wJnAN="),  # trailing bits are not zero
        SIGNED.replace(b"wJnAM=", b"wJnAM"),
        SIGNED.replace(b"wJnAM=\n", b"wJnAM= \n"),
        (TEXT + "\n— PeterNeumann x08gow==\n").encode(),  # a key id alone
        (TEXT + "\n" + PETER_LINE * 101).encode(),
        b"a" * 1_000_001,
    ],
)
def test_what_is_not_a_note_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        note.open_note(data, PETER)


def test_the_text_may_hold_empty_lines_and_the_last_one_separates() -> None:
    signer = SignerKey.parse(PETER_SKEY)
    for text in ("\n", "a\n\nb\n", "\n\n\n", TEXT + "\n" + PETER_LINE):
        assert note.open_note(note.sign(text, signer), PETER).text == text
    for text in ("", "no newline", "a\x07\n"):
        with pytest.raises(Malformed):
            note.sign(text, signer)
    assert len(note.open_note((TEXT + "\n" + PETER_LINE * 100).encode(), PETER).signatures) == 100


def test_mangled_keys_are_refused() -> None:
    """As TestNewVerifier and TestNewSigner of x/mod: every slice, every changed byte."""
    for text, parse in ((PETER_VKEY, VerifierKey.parse), (PETER_SKEY, SignerKey.parse)):
        mangled = [text[a:b] for a in range(len(text)) for b in range(a + 1, len(text) + 1)]
        mangled = [each for each in mangled if each != text]
        mangled += [text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :] for at in range(len(text))]
        for each in mangled:
            with pytest.raises((Malformed, Refused)):
                parse(each)
    # note_test.go: "wrong length key, with adjusted key hash", "unknown algorithm, with adjusted key hash".
    for each in (
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ):
        with pytest.raises(Malformed):
            VerifierKey.parse(each)


def test_a_weak_key_is_refused_and_a_secret_is_not_shown() -> None:
    with pytest.raises(Refused):
        VerifierKey("weak", Algorithm.ED25519, bytes([1, *bytes(31)]))
    signer = SignerKey.parse(PETER_SKEY)
    assert "AYEKFAL" not in f"{signer!r} {signer}"
    assert signer.seed.hex() not in repr(signer)


@given(st.binary(max_size=300))
def test_any_bytes_parse_to_the_same_bytes_or_not_at_all(data: bytes) -> None:
    for candidate in (data, data + SIGNED, SIGNED + data):
        try:
            parsed = note.parse(candidate)
        except Malformed:
            continue
        assert parsed.encode() == candidate


@given(
    st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), max_size=50),
    st.binary(min_size=32, max_size=32),
)
def test_sign_and_open_are_inverse(text: str, seed: bytes) -> None:
    signer = SignerKey("example.com/log", Algorithm.ED25519, seed)
    assert note.open_note(note.sign(text + "\n", signer), signer.verifier).text == text + "\n"
    assert VerifierKey.parse(str(signer.verifier)) == signer.verifier
    assert SignerKey.parse(signer.export()) == signer
