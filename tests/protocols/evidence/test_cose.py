"""COSE_Sign1: one form of envelope, and no other."""

from __future__ import annotations

import hashlib

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Malformed, Unverified
from protocols.evidence import canonical
from protocols.evidence.cose import MAX_BYTES, key_id, parse, sig_structure, sign1, signed_length, thumbprint
from tests.support.evidence import GATEWAY_KEY, ROOT_KEY

PUBLIC = GATEWAY_KEY.public_key()
KID = key_id(PUBLIC.public_bytes_raw())
TYPE = "application/example"
HEADER = {1: -19, 4: KID, 15: {1: "gateway-1", 2: "site"}, 16: TYPE}
MESSAGE = sign1(GATEWAY_KEY, b"payload", issuer="gateway-1", subject="site", content_type=TYPE)


def envelope(
    protected: object = None, unprotected: object = None, payload: object = b"payload", *, raw: bytes = b""
) -> bytes:
    """A message with a signature that holds, by cbor2 and `cryptography` alone."""
    header = raw or cbor2.dumps(HEADER if protected is None else protected)
    signature = GATEWAY_KEY.sign(cbor2.dumps(["Signature1", header, b"", payload]))
    return cbor2.dumps(cbor2.CBORTag(18, [header, unprotected or {}, payload, signature]))


def test_the_same_bytes_as_an_independent_construction() -> None:
    assert envelope() == MESSAGE


def test_parse_gives_back_what_was_signed() -> None:
    message = parse(MESSAGE)
    assert (message.kid, message.issuer, message.subject, message.content_type) == (KID, "gateway-1", "site", TYPE)
    assert message.payload == b"payload"
    assert MESSAGE[message.payload_offset :].startswith(b"payload")
    message.verify(PUBLIC)
    with pytest.raises(Unverified):
        message.verify(ROOT_KEY.public_key())


def test_sig_structure_of_the_cose_working_groups_example() -> None:
    # cose-wg/Examples, sign1-tests/sign-pass-01.json (the examples behind RFC 9052, appendix C): "ToBeSign_hex".
    expected = "846a5369676e617475726531404054546869732069732074686520636f6e74656e742e"
    assert sig_structure(b"", b"This is the content.").hex() == expected


def test_ed25519_is_that_of_rfc_8032() -> None:
    # RFC 8032 section 7.1, test 1: the signature inside our envelope is made by the same algorithm.
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    public = key.public_key().public_bytes_raw()
    assert public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    message = parse(sign1(key, b"p", issuer="i", subject="s", content_type=TYPE))
    key.public_key().verify(message.signature, sig_structure(message.protected, b"p"))


def test_thumbprint_is_over_the_required_members_in_canonical_order() -> None:
    # RFC 9679 section 4: kty (1), crv (-1) and x (-2) alone, deterministically encoded.
    x = bytes(range(32))
    by_hand = hashlib.sha256(bytes.fromhex("a301012006215820") + x).digest()
    assert thumbprint(x) == by_hand
    assert key_id(x) == by_hand[:8]


def test_every_single_byte_change_is_refused() -> None:
    for i in range(len(MESSAGE)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            changed = bytearray(MESSAGE)
            changed[i] ^= mask
            with pytest.raises((Malformed, Unverified)):
                parse(bytes(changed)).verify(PUBLIC)


@pytest.mark.parametrize("cut", range(len(MESSAGE)))
def test_every_beginning_is_refused(cut: int) -> None:
    with pytest.raises(Malformed):
        parse(MESSAGE[:cut])


CLAIMS = {1: "gateway-1", 2: "site"}
DEVIATIONS: dict[str, bytes] = {
    "unprotected header": envelope(unprotected={4: KID}),
    "unprotected empty bytes": envelope().replace(b"\xa0\x47payload", b"\x40\x47payload"),
    "algorithm EdDSA": envelope(HEADER | {1: -8}),
    "algorithm ES256": envelope(HEADER | {1: -7}),
    "algorithm as text": envelope(HEADER | {1: "Ed25519"}),
    "no algorithm": envelope({k: v for k, v in HEADER.items() if k != 1}),
    "no kid": envelope({k: v for k, v in HEADER.items() if k != 4}),
    "no claims": envelope({k: v for k, v in HEADER.items() if k != 15}),
    "no content type": envelope({k: v for k, v in HEADER.items() if k != 16}),
    "a critical header": envelope({1: -19, 2: [1], 4: KID, 15: CLAIMS, 16: TYPE}),
    "an unknown header": envelope(HEADER | {17: 0}),
    "short kid": envelope(HEADER | {4: KID[:7]}),
    "long kid": envelope(HEADER | {4: KID + b"0"}),
    "kid as text": envelope(HEADER | {4: "12345678"}),
    "another's kid": envelope(HEADER | {4: bytes(8)}),
    "no issuer": envelope(HEADER | {15: {2: "site"}}),
    "a third claim": envelope(HEADER | {15: CLAIMS | {6: 1}}),
    "empty issuer": envelope(HEADER | {15: {1: "", 2: "site"}}),
    "issuer as bytes": envelope(HEADER | {15: {1: b"gateway-1", 2: "site"}}),
    "issuer with a line break": envelope(HEADER | {15: {1: "gateway\n1", 2: "site"}}),
    "long subject": envelope(HEADER | {15: {1: "gateway-1", 2: "s" * 201}}),
    "content type as a number": envelope(HEADER | {16: 60}),
    "keys out of order": envelope(dict(reversed(HEADER.items()))),
    "long form in the header": envelope(raw=canonical.encode(HEADER).replace(b"\x01\x32", b"\x01\x38\x12", 1)),
    "empty header": envelope(raw=b"\xa0"),
    "header not a map": envelope(raw=b"\x01"),
    "detached payload": envelope(payload=None),
    "payload as text": envelope(payload="payload"),
    "no tag": MESSAGE[1:],
    "another tag": b"\xd1" + MESSAGE[1:],
    "long tag": b"\xd8\x12" + MESSAGE[1:],
    "self-described": b"\xd9\xd9\xf7" + MESSAGE,
    "array of five": MESSAGE[:1] + b"\x85" + MESSAGE[2:] + b"\x00",
    "indefinite array": MESSAGE[:1] + b"\x9f" + MESSAGE[2:] + b"\xff",
    "long payload length": MESSAGE.replace(b"\x47payload", b"\x58\x07payload"),
    "longer payload length": MESSAGE.replace(b"\x47payload", b"\x59\x00\x07payload"),
    "long signature length": MESSAGE.replace(b"payload\x58\x40", b"payload\x59\x00\x40"),
    "trailing byte": MESSAGE + b"\x00",
    "twice": MESSAGE * 2,
    "too long": MESSAGE + bytes(MAX_BYTES),
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_every_deviation_is_refused(name: str) -> None:
    assert DEVIATIONS[name] != MESSAGE
    with pytest.raises((Malformed, Unverified)):
        parse(DEVIATIONS[name]).verify(PUBLIC)


@given(st.binary(max_size=300))
def test_noise_never_escapes_the_error_types(data: bytes) -> None:
    for message in (data, b"\xd2\x84" + data):
        with pytest.raises(Malformed):
            parse(message)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 255, 256, 40_000, 65_300])
def test_the_length_is_known_before_signing(length: int) -> None:
    message = sign1(GATEWAY_KEY, bytes(length), issuer="gateway-1", subject="site", content_type=TYPE)
    assert len(message) == signed_length(length, issuer="gateway-1", subject="site", content_type=TYPE)
    assert parse(message).payload == bytes(length)


def test_too_long_for_an_entry_of_the_log() -> None:
    with pytest.raises(Malformed, match="split"):
        sign1(GATEWAY_KEY, bytes(MAX_BYTES), issuer="gateway-1", subject="site", content_type=TYPE)
