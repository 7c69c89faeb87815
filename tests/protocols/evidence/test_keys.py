"""Weak and ambiguous Ed25519 keys are refused; small-order points are computed again from the curve."""

from __future__ import annotations

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
