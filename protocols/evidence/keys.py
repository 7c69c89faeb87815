"""Which Ed25519 public keys may be trusted at all.

Decides: the encoding is canonical, lies on the curve, is not of small order. Not: whose key it is.

`cryptography` loads any 32 bytes. With a key of small order one fixed signature holds for many messages, and
a point with two encodings has two key ids; both are refused where a key enters (enrolment, policy, vkey).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocols.errors import Refused, Unverified

PUBLIC_KEY_LENGTH: Final = 32
SIGNATURE_LENGTH: Final = 64

# RFC 8032 section 5.1: the field's prime and the curve's d = -121665/121666.
_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P
# The y of a point of order 8 (one of +-y); the eight points of small order have y in {1, -1, 0, y8, -y8}.
# Value as in "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko 2020), table 2; the tests recompute it.
_Y8: Final = int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little")
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})


@lru_cache(maxsize=4096)
def load_public_key(raw: bytes) -> Ed25519PublicKey:
    """The key of `raw` (32 bytes, RFC 8032 section 5.1.5).

    Raises `Refused` with code "bad-key" for a wrong length, a non-canonical encoding, a point that is not on
    the curve or one of small order. Results are kept: a hub sees the same few keys again and again.
    """
    if len(raw) != PUBLIC_KEY_LENGTH:
        raise Refused("bad-key", f"an Ed25519 public key has {PUBLIC_KEY_LENGTH} bytes, this has {len(raw)}")
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    # RFC 8032 section 5.1.3, step 1: "If the resulting value is >= p, decoding fails."
    if y >= _P:
        raise Refused("bad-key", "the Ed25519 public key is not in its canonical encoding")
    if y in _SMALL_ORDER_Y:
        raise Refused("bad-key", "the Ed25519 public key is of small order; it would accept forged signatures")
    # Step 2: x^2 = (y^2 - 1) / (d y^2 + 1) must be a square (Euler's criterion); x = 0 only at y = +-1.
    y2 = y * y % _P
    x2 = (y2 - 1) * pow(_D * y2 + 1, -1, _P) % _P
    if pow(x2, (_P - 1) // 2, _P) != 1:
        raise Refused("bad-key", "the Ed25519 public key is not a point of the curve")
    return Ed25519PublicKey.from_public_bytes(raw)


def verify_signature(public_key: Ed25519PublicKey, signature: bytes, message: bytes) -> None:
    """Raise `Unverified` unless `signature` (64 bytes) is `public_key`'s over `message` (RFC 8032, 5.1.7)."""
    try:
        public_key.verify(signature, message)
    except InvalidSignature:
        raise Unverified("the Ed25519 signature does not hold") from None
