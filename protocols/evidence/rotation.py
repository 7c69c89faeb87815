"""Rotation: a gateway's new key, signed for by the old key and by the new one.

Decides what each of the two signs. The old key's signature shows that whoever holds the gateway wants the new key; the
new key's, that it is held at all: without it a gateway could be given a key that nobody, or somebody else, has. The
scheme's root key then signs the record that carries both.
"""

from __future__ import annotations

import json
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence.bodies import Rotation, body_from_wire
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.keys import load_public_key, verify_signature

ROTATION_CONTEXT: Final = b"linetally-rotate-v1\n"
_HEX: Final = ("old_kid", "public_key", "old_signature", "new_signature")
ACCEPTANCE_CONTEXT: Final = b"linetally-rotate-accept-v1\n"


def rotation(gateway_id: str, old: Ed25519PrivateKey, new: Ed25519PrivateKey) -> Rotation:
    """The body that a gateway makes, which holds both keys for this moment."""
    public = new.public_key().public_bytes_raw()
    old_kid = key_id(old.public_key().public_bytes_raw())
    return Rotation(
        gateway_id, old_kid, public, old.sign(ROTATION_CONTEXT + public), new.sign(_accepted(gateway_id, old_kid))
    )


def check_rotation(body: Rotation, old_public: bytes) -> None:
    """Raises Refused for a weak or unchanged new key, Unverified where one of the two signatures does not hold."""
    new = load_public_key(body.public_key)
    if body.public_key == old_public:
        raise Refused("same-key", "a rotation needs another key than the old one")
    try:
        verify_signature(load_public_key(old_public), body.old_signature, ROTATION_CONTEXT + body.public_key)
    except Unverified:
        raise Unverified("the old key did not sign the rotation") from None
    try:
        verify_signature(new, body.new_signature, _accepted(body.gateway_id, body.old_kid))
    except Unverified:
        raise Unverified("the new key did not sign the rotation: nobody has shown that they hold it") from None


def rotation_to_json(body: Rotation) -> bytes:
    """The request that a gateway hands to the scheme: bytes in hex, a line for people to carry."""
    fields = {name: getattr(body, name).hex() for name in _HEX}
    return json.dumps({"gateway_id": body.gateway_id, **fields}, indent=1).encode() + b"\n"


def rotation_from_json(data: bytes) -> Rotation:
    """The inverse of `rotation_to_json`. Raises Malformed; checks no signature."""
    try:
        found = json.loads(data)
        fields = {name: bytes.fromhex(found[name]) for name in _HEX}
        wire = {1: found["gateway_id"], **dict(enumerate((fields[name] for name in _HEX), 2))}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("this is not a request of `linetally-agent rotate`") from None
    body = body_from_wire("rotate", wire, 0, 0)
    assert isinstance(body, Rotation)
    return body


def _accepted(gateway_id: str, old_kid: Kid) -> bytes:
    return ACCEPTANCE_CONTEXT + old_kid + gateway_id.encode()
