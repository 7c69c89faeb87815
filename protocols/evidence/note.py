"""Signed notes of c2sp.org/signed-note: a text, and lines that sign it, with the keys' text forms.

Decides the wire form and which signatures hold. Does not decide what a text means (`checkpoint`) nor which keys
to trust (`policy`). Key forms are those of Go's x/mod/sumdb/note, which other tools read and write.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence.keys import PUBLIC_KEY_LENGTH, SIGNATURE_LENGTH, load_public_key, verify_signature

# "Verifiers SHOULD apply a maximum limit ..., but MUST accept at least up to 16": the caps of x/mod/sumdb/note.
MAX_NOTE_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
KEY_ID_LENGTH: Final = 4

_DASH: Final = "— "  # U+2014, U+0020
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_MAX_TIME_S: Final = 2**63 - 1


class Algorithm(IntEnum):
    """The signature type byte; only what linetally signs and checks."""

    ED25519 = 0x01
    COSIGNATURE = 0x04  # timestamped Ed25519, c2sp.org/tlog-cosignature


def key_id(name: str, algorithm: Algorithm, public: bytes) -> bytes:
    """SHA-256(name || 0x0A || type || public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + public).digest()[:KEY_ID_LENGTH]


@dataclass(frozen=True, slots=True)
class Signature:
    """One line of a note: `— <name> base64(key id || signature)`. Says nothing about whether it holds."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: `<name>+<key id, 8 hex digits>+base64(type || 32 bytes)`, a vkey."""

    name: str
    algorithm: Algorithm
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        load_public_key(self.public)

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.algorithm, self.public)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Raises `Malformed` for another form, an unknown type or a wrong key id, `Refused` for a weak key."""
        name, claimed, algorithm, public = _parse_key(text, "vkey")
        key = cls(name, algorithm, public)
        if key.key_id != claimed:
            raise Malformed(f"the key id of {name} should be {key.key_id.hex()}, not {claimed.hex()}")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.algorithm]) + self.public)}"

    def verify(self, text: str, signature: bytes) -> None:
        """Raise `Unverified` unless `signature` (without key id) is this key's over the note text."""
        public = load_public_key(self.public)
        if self.algorithm is Algorithm.ED25519:
            _check_length(signature, SIGNATURE_LENGTH)
            verify_signature(public, signature, text.encode())
        else:
            time_s, raw = split_cosignature(signature)
            verify_signature(public, raw, cosigned_message(text, time_s))


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A private key with its name: `PRIVATE+KEY+<name>+<key id>+base64(type || 32-byte seed)`. A secret."""

    name: str
    algorithm: Algorithm
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        assert len(self.seed) == PUBLIC_KEY_LENGTH

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """Raises `Malformed`, without quoting the secret, for anything but a private key with its own key id."""
        prefix = "PRIVATE+KEY+"
        if not text.startswith(prefix):
            raise Malformed(f"a private key begins with {prefix}")
        name, claimed, algorithm, seed = _parse_key(text.removeprefix(prefix), "private key")
        key = cls(name, algorithm, seed)
        if key.verifier.key_id != claimed:
            raise Malformed(f"the private key of {name} does not match its own key id")
        return key

    def export(self) -> str:
        """The secret's text form. Not `str()`, so that a key in a log line or an error shows no seed."""
        verifier = self.verifier
        return f"PRIVATE+KEY+{self.name}+{verifier.key_id.hex()}+" + encode_base64(bytes([self.algorithm]) + self.seed)

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self.algorithm, self._private().public_key().public_bytes_raw())

    def sign(self, text: str, time_s: int | None = None) -> Signature:
        """Sign a note text; a cosignature also needs the POSIX time in seconds, any other must have none."""
        assert (time_s is not None) == (self.algorithm is Algorithm.COSIGNATURE)
        if time_s is None:
            signature = self._private().sign(text.encode())
        else:
            signature = time_s.to_bytes(8, "big") + self._private().sign(cosigned_message(text, time_s))
        return Signature(self.name, self.verifier.key_id, signature)

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True, slots=True)
class Note:
    """A text ending in a newline, and its signature lines in their order. `verified` holds the keys that signed."""

    text: str
    signatures: tuple[Signature, ...]
    verified: tuple[VerifierKey, ...] = ()

    def encode(self) -> bytes:
        """The wire form: text, a blank line, the signature lines."""
        return (self.text + "\n" + "".join(each.line() for each in self.signatures)).encode()


def sign(text: str, *signers: SignerKey) -> bytes:
    """The note of `text` signed by each of `signers` (type 0x01). Raises `Malformed` for a text that no note has."""
    note = Note(text, tuple(signer.sign(text) for signer in signers))
    encoded = note.encode()
    parse(encoded)
    return encoded


def parse(data: bytes) -> Note:
    """Split a note without checking any signature. Raises `Malformed`; nothing of the text may be trusted yet."""
    if len(data) > MAX_NOTE_BYTES:
        raise Malformed(f"a note of {len(data)} bytes is over the limit of {MAX_NOTE_BYTES}")
    # "MUST be valid UTF-8 and MUST NOT contain any ASCII control characters ... other than newline."
    if control := _CONTROL.search(data):
        raise Malformed("a note holds no control character but the newline", control.start())
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("a note is UTF-8", error.start) from None
    # "the text is separated from the signatures by the last empty line in the note"
    at = whole.rfind("\n\n")
    if at < 0:
        raise Malformed("a note needs an empty line between its text and its signatures")
    text, lines = whole[: at + 1], whole[at + 2 :]
    if not lines.endswith("\n"):
        raise Malformed("a note ends with a signature line and its newline")
    found = lines[:-1].split("\n")
    if len(found) > MAX_SIGNATURES:
        raise Malformed(f"a note of {len(found)} signatures is over the limit of {MAX_SIGNATURES}")
    return Note(text, tuple(_parse_signature(line) for line in found))


def open_note(data: bytes, *verifiers: VerifierKey) -> Note:
    """The note, if at least one of `verifiers` signed it and none of their signatures is wrong.

    Signatures of unknown keys are ignored; a wrong one of a known key makes the whole note `Unverified`, as does
    the lack of any. Raises `Malformed` where the bytes are no note, `Refused` where two verifiers share name and id.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise Refused("ambiguous-key", f"two keys of {verifier.name} share the id {verifier.key_id.hex()}")
    note = parse(data)
    held: dict[VerifierKey, None] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            try:
                key.verify(note.text, signature.signature)
            except Unverified:
                raise Unverified(f"the note's signature of {key.name} does not hold") from None
            held[key] = None
    if not held:
        names = ", ".join(verifier.name for verifier in verifiers) or "nobody"
        raise Unverified(f"the note is not signed by a known key (looked for: {names})")
    return Note(note.text, note.signatures, tuple(held))


def cosigned_message(text: str, time_s: int) -> bytes:
    """What a cosignature/v1 signs (c2sp.org/tlog-cosignature, "Ed25519 signed message")."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def split_cosignature(signature: bytes) -> tuple[int, bytes]:
    """POSIX seconds and the Ed25519 signature of a `timestamped_signature`. Raises `Unverified`."""
    _check_length(signature, 8 + SIGNATURE_LENGTH)
    time_s = int.from_bytes(signature[:8], "big")
    if time_s > _MAX_TIME_S:  # "It MUST NOT exceed 2^63 - 1"
        raise Unverified("the cosignature's time is out of range")
    return time_s, signature[8:]


def check_name(name: str) -> None:
    """Raise `Malformed` unless `name` may name a key: "non-empty ... [no] Unicode spaces or plus"."""
    if not name or any(c.isspace() or c == "+" or c < " " or "\ud800" <= c <= "\udfff" for c in name):
        raise Malformed(f"a key's name has no spaces, no plus and is not empty: {name!r}")


def encode_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_base64(text: str) -> bytes:
    """RFC 4648 section 4 in its one canonical spelling. Raises `Malformed`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("not base64") from None
    if encode_base64(data) != text:
        raise Malformed("not the canonical base64 of its bytes")
    return data


def _check_length(signature: bytes, length: int) -> None:
    if len(signature) != length:
        raise Unverified(f"a signature of this kind has {length} bytes, this has {len(signature)}")


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise Malformed("a signature line is: em dash, space, name, space, base64")
    check_name(name)
    raw = decode_base64(encoded)
    if len(raw) <= KEY_ID_LENGTH:
        raise Malformed("a signature line holds a key id and a signature")
    return Signature(name, raw[:KEY_ID_LENGTH], raw[KEY_ID_LENGTH:])


def _parse_key(text: str, kind: str) -> tuple[str, bytes, Algorithm, bytes]:
    """Name, claimed key id, type and 32 bytes of either text form; the errors never quote the last field."""
    parts = text.split("+", 2)  # base64 has plus signs of its own
    if len(parts) != 3:
        raise Malformed(f"a {kind} has the parts name+id+key")
    name, hex_id, encoded = parts
    check_name(name)
    if len(hex_id) != 2 * KEY_ID_LENGTH or set(hex_id) - set("0123456789abcdef"):
        raise Malformed(f"the id of a {kind} has eight small hex digits")
    raw = decode_base64(encoded)
    if not raw or raw[0] not in tuple(Algorithm):
        raise Malformed(f"the {kind} of {name} is of a type that is not supported (known: Ed25519, cosignature/v1)")
    if len(raw) != 1 + PUBLIC_KEY_LENGTH:
        raise Malformed(f"the {kind} of {name} has {len(raw) - 1} key bytes instead of {PUBLIC_KEY_LENGTH}")
    return name, bytes.fromhex(hex_id), Algorithm(raw[0]), raw[1:]
