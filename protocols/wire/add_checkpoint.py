"""add-checkpoint of c2sp.org/tlog-witness: what a log sends to a witness.

Decides the request's wire form. Whether the witness may cosign is decided in `hub.witness`.

    old <size, decimal>
    <base64 hash>               (RFC 6962 consistency proof from the old size, at most 63 lines)
                                (an empty line)
    <checkpoint, verbatim>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocols.errors import Malformed
from protocols.evidence import checkpoint
from protocols.evidence.merkle import HASH_LENGTH, NodeHash
from protocols.evidence.note import decode_base64, encode_base64

PATH: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
MAX_HASHES: Final = 63
MAX_BYTES: Final = 65_536
"""A checkpoint with a hundred cosignatures takes some 20 KB."""


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """`checkpoint_note`: a signed note, nothing of it checked."""

    old_size: int
    hashes: tuple[NodeHash, ...]
    checkpoint_note: bytes


def encode(old_size: int, hashes: Sequence[NodeHash], checkpoint_note: bytes) -> bytes:
    lines = [f"old {old_size}", *(encode_base64(each) for each in hashes), "", ""]
    return "\n".join(lines).encode() + checkpoint_note


def decode(body: bytes) -> AddCheckpoint:
    """Raises Malformed."""
    if len(body) > MAX_BYTES:
        raise Malformed(f"a request of {len(body)} bytes; at most {MAX_BYTES}")
    head, separator, note = body.partition(b"\n\n")
    if not separator:
        raise Malformed("an empty line must stand before the checkpoint")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("the lines before the checkpoint are ASCII", error.start) from None
    if not first.startswith("old "):
        raise Malformed("the first line is `old <size>`", 0)
    old_size = checkpoint.parse_decimal(first.removeprefix("old "))
    if len(lines) > MAX_HASHES:
        raise Malformed(f"a consistency proof has at most {MAX_HASHES} lines")
    hashes = tuple(NodeHash(decode_base64(line)) for line in lines)
    if any(len(each) != HASH_LENGTH for each in hashes):
        raise Malformed(f"a hash has {HASH_LENGTH} bytes")
    return AddCheckpoint(old_size, hashes, note)


def decode_size(body: bytes) -> int:
    """The body of a 409. Raises Malformed."""
    if not body.endswith(b"\n") or not body.isascii():
        raise Malformed("a size is a decimal number and a newline")
    return checkpoint.parse_decimal(body[:-1].decode())
