"""Enrolment on the wire: what a gateway shows once, and what the hub answers.

Decides the one form that agent and hub share. Who may enrol is the hub's to decide; nobody is active before a person
has compared the fingerprint.

The request is a JSON object with exactly these keys: token (text), gateway (id), site (text), lines (ids; empty: all of
the project's), public_key (64 hex digits), signature (128 hex digits). The signature is the gateway's, over
b"linetally enrolment v1\\n" + token + b"\\n" + gateway + b"\\n" + the raw public key: whoever has the token also has
the key. The answer is a JSON object: gateway, state ("pending" or "active"), fingerprint, log_key (vkey).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from protocols.errors import Malformed
from protocols.evidence.fields import as_id, as_list, as_text
from protocols.evidence.keys import PUBLIC_KEY_LENGTH, SIGNATURE_LENGTH, load_public_key, verify_signature

CONTEXT: Final = b"linetally enrolment v1\n"
_KEYS: Final = frozenset({"token", "gateway", "site", "lines", "public_key", "signature"})


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """A gateway's request. `lines` empty: all lines of the token's project."""

    token: str
    gateway_id: str
    site: str
    lines: tuple[str, ...]
    public_key: bytes
    signature: bytes

    @classmethod
    def make(
        cls,
        token: str,
        gateway_id: str,
        site: str,
        lines: tuple[str, ...],
        public_key: bytes,
        sign: Callable[[bytes], bytes],
    ) -> EnrolmentRequest:
        return cls(token, gateway_id, site, lines, public_key, sign(_message(token, gateway_id, public_key)))

    def check(self) -> None:
        """Raises Refused for a key that must not be used, Unverified when the signature does not hold."""
        key = load_public_key(self.public_key)
        verify_signature(key, self.signature, _message(self.token, self.gateway_id, self.public_key))

    def to_json(self) -> dict[str, Any]:
        return {
            "token": self.token,
            "gateway": self.gateway_id,
            "site": self.site,
            "lines": list(self.lines),
            "public_key": self.public_key.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EnrolmentRequest:
        """The inverse of `to_json`. Raises Malformed, naming the key."""
        if set(data) != _KEYS:
            raise Malformed(f"an enrolment has exactly the keys {', '.join(sorted(_KEYS))}")
        return cls(
            as_text(data["token"], "token", empty=False),
            as_id(data["gateway"], "gateway"),
            as_text(data["site"], "site"),
            tuple(as_id(item, "lines") for item in as_list(data["lines"], "lines")),
            _hex(data["public_key"], "public_key", PUBLIC_KEY_LENGTH),
            _hex(data["signature"], "signature", SIGNATURE_LENGTH),
        )


def _message(token: str, gateway_id: str, public_key: bytes) -> bytes:
    return CONTEXT + token.encode() + b"\n" + gateway_id.encode() + b"\n" + public_key


def _hex(value: object, name: str, length: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * length or set(value) - set("0123456789abcdef"):
        raise Malformed(f"{name} must be {2 * length} small hex digits")
    return bytes.fromhex(value)
