"""COSE_Sign1: the signed envelope of every record.

Decides the one form of envelope that is read and written, and whether its signature holds. Does not decide whose
key it is (`record`, `verify`, the hub's admission) nor what the payload says (`record`).

The form (RFC 9052 section 4.2, RFC 9864 for the algorithm, RFC 9597 for key 15):

    D2                               tag 18
       84                            array of four
          58 xx <protected>          bytes: canonical CBOR of {1: -19, 4: kid, 15: {1: iss, 2: sub}, 16: type}
          A0                         unprotected header: an empty map
          59 xx xx <payload>         bytes
          58 40 <signature>          bytes: 64, Ed25519 over the Sig_structure (RFC 9052 section 4.4)

One message has one encoding: every length is in its shortest form and nothing follows the signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NewType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.errors import Malformed, Unverified
from protocols.evidence import canonical
from protocols.evidence.keys import SIGNATURE_LENGTH, verify_signature

Kid = NewType("Kid", bytes)
"""8 bytes: the beginning of the key's RFC 9679 SHA-256 thumbprint. A name, not a proof."""

MAX_BYTES: Final = 65_535
"""An entry of the log has a 16-bit length (c2sp.org tlog-tiles, "entry bundles")."""
KID_LENGTH: Final = 8
MAX_CLAIM: Final = 200
"""Characters of issuer and subject."""

_ED25519: Final = -19  # RFC 9864: fully specified, so that no key parameter chooses the curve
_ALG, _KID, _CLAIMS, _TYPE = 1, 4, 15, 16
_ISSUER, _SUBJECT = 1, 2
_MAX_PROTECTED: Final = 2_048
_KEPT: Final = 4_096
HEAD: Final = b"\xd2\x84"
_EMPTY_MAP: Final = 0xA0
_SIGNATURE1: Final = b"\x84\x6aSignature1"  # an array of four, and its first item


def thumbprint(public_key: bytes) -> bytes:
    """RFC 9679 SHA-256 thumbprint (32 bytes) of the OKP key {1: 1, -1: 6, -2: x}: what people compare."""
    return hashlib.sha256(canonical.encode({1: 1, -1: 6, -2: public_key})).digest()


@lru_cache(maxsize=_KEPT)
def key_id(public_key: bytes) -> Kid:
    """The kid of a raw public key (32 bytes). Results are kept, as those of the headers: few keys sign very often."""
    return Kid(thumbprint(public_key)[:KID_LENGTH])


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed envelope: its form holds, its signature is not yet checked.

    `payload_offset`: where the payload begins in the message.
    """

    kid: Kid
    issuer: str
    subject: str
    content_type: str
    protected: bytes
    payload: bytes
    signature: bytes
    payload_offset: int

    def verify(self, public_key: Ed25519PublicKey) -> None:
        """Raises Unverified unless the signature is `public_key`'s over these bytes and `kid` names that key."""
        if key_id(public_key.public_bytes_raw()) != self.kid:
            raise Unverified(f"the message names key {self.kid.hex()}, and was checked with another")
        try:
            verify_signature(public_key, self.signature, sig_structure(self.protected, self.payload))
        except Unverified:
            raise Unverified("the signature does not hold: these bytes are not what the key signed") from None


def sign1(private_key: Ed25519PrivateKey, payload: bytes, *, issuer: str, subject: str, content_type: str) -> bytes:
    """The envelope of `payload`. Raises Malformed if it would be longer than `MAX_BYTES`."""
    kid = key_id(private_key.public_key().public_bytes_raw())
    protected = protected_header(kid, issuer, subject, content_type)
    signature = private_key.sign(sig_structure(protected, payload))
    message = HEAD + canonical.encode(protected) + b"\xa0" + canonical.encode(payload) + canonical.encode(signature)
    if len(message) > MAX_BYTES:
        raise Malformed(f"a record of {len(message)} bytes; an entry of the log holds at most {MAX_BYTES}: split it")
    return message


def signed_length(payload_length: int, *, issuer: str, subject: str, content_type: str) -> int:
    """How many bytes `sign1` would give for a payload of this length."""
    protected = protected_header(Kid(bytes(KID_LENGTH)), issuer, subject, content_type)
    return (
        len(HEAD) + _bytes_length(len(protected)) + 1 + _bytes_length(payload_length) + _bytes_length(SIGNATURE_LENGTH)
    )


def parse(message: bytes) -> Sign1:
    """The parts of an envelope. Raises Malformed for every deviation from the one form, naming the byte."""
    if len(message) > MAX_BYTES:
        raise Malformed(f"a record of {len(message)} bytes; at most {MAX_BYTES} are allowed")
    if not message.startswith(HEAD):
        raise Malformed("not a COSE_Sign1 message: it must begin with D2 84", 0)
    start, offset = _byte_string(message, len(HEAD), "protected header")
    protected = message[start:offset]
    # RFC 9052 lets anybody change the unprotected header without breaking the signature: so it must be empty.
    if offset >= len(message) or message[offset] != _EMPTY_MAP:
        raise Malformed("the unprotected header must be an empty map", offset)
    payload_start, payload_end = _byte_string(message, offset + 1, "payload")
    start, end = _byte_string(message, payload_end, "signature")
    if end - start != SIGNATURE_LENGTH:
        raise Malformed(f"an Ed25519 signature has {SIGNATURE_LENGTH} bytes, not {end - start}", payload_end)
    if end != len(message):
        raise Malformed("something follows the signature", end)
    return parsed(message, protected, payload_start, payload_end)


def parsed(message: bytes, protected: bytes, payload_start: int, payload_end: int) -> Sign1:
    """For who has found the parts of a message, and that the rest of it is as it must be: Malformed for a header."""
    kid, issuer, subject, content_type = _parse_protected(protected)
    payload, signature = message[payload_start:payload_end], message[-SIGNATURE_LENGTH:]
    return Sign1(kid, issuer, subject, content_type, protected, payload, signature, payload_start)


def item_length(data: bytes, offset: int) -> int:
    """The length of the message that begins at `offset` of a CBOR sequence (RFC 8742), by its heads alone.

    Raises Malformed, with the offset in `data`, where no message of the one form can begin or its end is missing.
    """
    if data[offset : offset + len(HEAD)] != HEAD:
        raise Malformed("not a COSE_Sign1 message: it must begin with D2 84", offset)
    _, end = _byte_string(data, offset + len(HEAD), "protected header")
    if end >= len(data) or data[end] != _EMPTY_MAP:
        raise Malformed("the unprotected header must be an empty map", end)
    _, end = _byte_string(data, end + 1, "payload")
    _, end = _byte_string(data, end, "signature")
    return end - offset


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """The bytes that are signed: ["Signature1", protected, h'', payload] (RFC 9052 section 4.4)."""
    return _SIGNATURE1 + canonical.byte_string(protected) + b"\x40" + canonical.byte_string(payload)


def protected_header(kid: Kid, issuer: str, subject: str, content_type: str) -> bytes:
    _check_claim(issuer, "issuer")
    _check_claim(subject, "subject")
    return canonical.encode(
        {_ALG: _ED25519, _KID: kid, _CLAIMS: {_ISSUER: issuer, _SUBJECT: subject}, _TYPE: content_type}
    )


@lru_cache(maxsize=_KEPT)
def _parse_protected(protected: bytes) -> tuple[Kid, str, str, str]:
    header: Any = canonical.decode(protected, _MAX_PROTECTED)
    # Exactly these keys: an unknown header parameter may change what a message means (RFC 9052 section 3, crit).
    if not isinstance(header, dict) or header.keys() != {_ALG, _KID, _CLAIMS, _TYPE}:
        raise Malformed("the protected header must have exactly the keys 1, 4, 15 and 16")
    if type(header[_ALG]) is not int or header[_ALG] != _ED25519:
        raise Malformed(f"the algorithm must be {_ED25519} (Ed25519), not {header[_ALG]!r}")
    kid, claims, content_type = header[_KID], header[_CLAIMS], header[_TYPE]
    if not isinstance(kid, bytes) or len(kid) != KID_LENGTH:
        raise Malformed(f"the key id must be {KID_LENGTH} bytes")
    if not isinstance(claims, dict) or claims.keys() != {_ISSUER, _SUBJECT}:
        raise Malformed("the claims must be exactly issuer (1) and subject (2)")
    _check_claim(claims[_ISSUER], "issuer")
    _check_claim(claims[_SUBJECT], "subject")
    if not isinstance(content_type, str):
        raise Malformed("the content type must be text")
    return Kid(kid), claims[_ISSUER], claims[_SUBJECT], content_type


def _check_claim(value: object, name: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CLAIM or not value.isprintable():
        raise Malformed(f"the {name} must be 1 to {MAX_CLAIM} printable characters")


def _byte_string(message: bytes, offset: int, name: str) -> tuple[int, int]:
    """Where the content of the byte string at `offset` begins and ends. Its length must be in the shortest form."""
    head = message[offset] if offset < len(message) else 0
    if 0x40 <= head <= 0x57:
        length, start = head - 0x40, offset + 1
    elif head == 0x58 and offset + 2 <= len(message) and message[offset + 1] >= 24:
        length, start = message[offset + 1], offset + 2
    elif head == 0x59 and offset + 3 <= len(message) and message[offset + 1] > 0:
        length, start = int.from_bytes(message[offset + 1 : offset + 3], "big"), offset + 3
    else:
        raise Malformed(f"the {name} must be a byte string with its length in the shortest form", offset)
    if start + length > len(message):
        raise Malformed(f"the {name} is cut off", offset)
    return start, start + length


def _bytes_length(length: int) -> int:
    """Bytes of a CBOR byte string of `length` bytes, head included (RFC 8949 section 3)."""
    return length + (1 if length < 24 else 2 if length < 256 else 3 if length < 65_536 else 5)
