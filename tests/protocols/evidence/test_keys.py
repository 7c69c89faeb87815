"""Weak and ambiguous Ed25519 keys are refused; small-order points are computed again from the curve."""

from __future__ import annotations

from hashlib import sha512

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.errors import Refused, Unverified
from protocols.evidence.keys import load_public_key, verify_signature

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """The affine addition law of RFC 8032 section 5.1.4, in its plain form."""
    t = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, P) % P
    return x, y


def x_of(y: int) -> int | None:
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if x * x % P != x2:
        x = x * pow(2, (P - 1) // 4, P) % P
    return x if x * x % P == x2 else None


def times(k: int, a: Point) -> Point:
    total: Point = (0, 1)
    while k:
        if k & 1:
            total = add(total, a)
        a, k = add(a, a), k >> 1
    return total


def small_order_encodings() -> set[bytes]:
    """Every 32-byte string that decodes, canonically or not, to a point of order 1, 2, 4 or 8."""
    order = 2**252 + 27742317777372353535851937790883648493
    y, point = 2, (0, 1)
    while times(4, point) == (0, 1):  # looks for a generator of the torsion subgroup
        x = x_of(y)
        if x is not None:
            point = times(order, (x, y))
        y += 1
    found = set()
    for k in range(8):
        x, y = times(k, point)
        for encoded in (y, y + P):
            for sign in (0, 1):
                if encoded < 2**255:
                    found.add((encoded | sign << 255).to_bytes(32, "little"))
    return found


def test_every_encoding_of_a_small_order_point_is_refused() -> None:
    encodings = small_order_encodings()
    # Five y; 0, 1 and 19+0, 19+1 below 2^255 have a second encoding; each with both signs: (5 + 2) * 2.
    assert len(encodings) == 14
    for raw in encodings:
        with pytest.raises(Refused):
            load_public_key(raw)


def test_non_canonical_off_curve_and_wrong_length_are_refused() -> None:
    off_curve = next(y for y in range(2, 50) if x_of(y) is None)
    for raw in ((P + 3).to_bytes(32, "little"), off_curve.to_bytes(32, "little"), b"", bytes(31), bytes(33)):
        with pytest.raises(Refused):
            load_public_key(raw)


def test_genuine_keys_load_and_verify() -> None:
    for seed in range(50):
        private = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
        public = load_public_key(private.public_key().public_bytes_raw())
        verify_signature(public, private.sign(b"text"), b"text")
        with pytest.raises(Unverified):
            verify_signature(public, private.sign(b"text"), b"texu")


def test_rfc_8032_section_7_1_test_1() -> None:
    public = load_public_key(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    verify_signature(public, signature, b"")
    # S + L (RFC 8032 section 5.1.7: S must be below L) is another string for the same signature: refused.
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(Unverified):
        verify_signature(public, malleable, b"")


# Edge cases as in Wycheproof's eddsa_test and "Taming the many EdDSAs": what is signed, and our verdict. Verification
# is OpenSSL's: without cofactor, S below the order, R compared as bytes. Small-order keys never get that far.
ORDER = 2**252 + 27742317777372353535851937790883648493
BASE: Point = (x_of(4 * pow(5, -1, P) % P) or 0, 4 * pow(5, -1, P) % P)
BASE = BASE if BASE[0] % 2 == 0 else (P - BASE[0], BASE[1])


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def challenge(r: bytes, public: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + public + message).digest(), "little") % ORDER


def torsion() -> Point:
    """A point of order 8."""
    y = 2
    while True:
        x = x_of(y)
        if x is not None and times(4, point := times(ORDER, (x, y))) != (0, 1):
            return point
        y += 1


SECRET = 0x1234567890ABCDEF  # a scalar whose key everybody knows
PUBLIC = encoded(times(SECRET, BASE))
MIXED = encoded(add(times(SECRET, BASE), torsion()))


def signature(r_point: Point, r: int, public: bytes = PUBLIC, message: bytes = b"text") -> bytes:
    """R || S with S = r + h a, for a nonce point that may have a small-order part."""
    raw = encoded(r_point)
    return raw + ((r + challenge(raw, public, message) * SECRET) % ORDER).to_bytes(32, "little")


GOOD = signature(times(77, BASE), 77)
S = int.from_bytes(GOOD[32:], "little")
NON_CANONICAL_IDENTITY = (1 + P).to_bytes(32, "little")


@pytest.mark.parametrize(
    ("name", "public", "made", "holds"),
    [
        ("an ordinary signature", PUBLIC, GOOD, True),
        ("S + L", PUBLIC, GOOD[:32] + (S + ORDER).to_bytes(32, "little"), False),
        ("S = L", PUBLIC, GOOD[:32] + ORDER.to_bytes(32, "little"), False),
        ("S with its highest bit set", PUBLIC, GOOD[:32] + (S | 1 << 255).to_bytes(32, "little"), False),
        ("S = 0", PUBLIC, GOOD[:32] + bytes(32), False),
        ("-S", PUBLIC, GOOD[:32] + (ORDER - S).to_bytes(32, "little"), False),
        # Only the key's holder can make it, and it is one signature of one message: no forgery.
        ("R the identity, by the key's holder", PUBLIC, signature((0, 1), 0), True),
        ("R the identity, non-canonical", PUBLIC, NON_CANONICAL_IDENTITY + signature((0, 1), 0)[32:], False),
        # With a cofactor (8SB = 8R + 8hA) these would hold; without, two verifiers of this kind always agree.
        ("R with a small-order part", PUBLIC, signature(add(times(77, BASE), torsion()), 77), False),
        ("R of small order", PUBLIC, signature(torsion(), 0), False),
        ("R all zero", PUBLIC, bytes(32) + GOOD[32:], False),
        ("all zero", PUBLIC, bytes(64), False),
        ("63 bytes", PUBLIC, GOOD[:63], False),
        ("65 bytes", PUBLIC, GOOD + b"\0", False),
        ("no bytes", PUBLIC, b"", False),
        ("R and S swapped", PUBLIC, GOOD[32:] + GOOD[:32], False),
        ("the key with a small-order part added, signed for the pure key", MIXED, GOOD, False),
    ],
)
def test_edge_cases_of_signatures(name: str, public: bytes, made: bytes, holds: bool) -> None:
    key = load_public_key(public)
    if holds:
        verify_signature(key, made, b"text")
    else:
        with pytest.raises(Unverified):
            verify_signature(key, made, b"text")
    with pytest.raises(Unverified):
        verify_signature(key, made, b"another text")


def test_a_key_of_mixed_order_is_its_holders_own_risk() -> None:
    """It loads: no forgery follows from it. Its signatures hold only where h is a multiple of 8, for all verifiers."""
    key = load_public_key(MIXED)
    held = 0
    for i in range(64):
        message = b"text %d" % i
        made = signature(times(77, BASE), 77, MIXED, message)
        multiple_of_8 = challenge(made[:32], MIXED, message) % 8 == 0
        try:
            verify_signature(key, made, message)
        except Unverified:
            assert not multiple_of_8
        else:
            held += 1
            assert multiple_of_8
    assert 0 < held < 32
