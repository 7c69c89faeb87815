"""The two private files of a log: the head (what was promised) and the stage (what is being added).

Decides their wire forms only; when they are written is `sequencer`'s to decide.

    head:  linetally-log-head/v1\\n<checkpoint body>
    stage: linetally-log-stage/v1\\n<checkpoint body of the tree before>\\n<SHA-256 of the rest, hex>\\n<entry bundle>
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from protocols.errors import Malformed
from protocols.evidence import checkpoint, tiles
from protocols.evidence.checkpoint import Checkpoint

_HEAD: Final = b"linetally-log-head/v1\n"
_STAGE: Final = b"linetally-log-stage/v1\n"


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that follow the tree of `before`, in their order; indexes before.size and on."""

    before: Checkpoint
    entries: tuple[bytes, ...]

    @property
    def end(self) -> int:
        return self.before.size + len(self.entries)


def encode_head(head: Checkpoint) -> bytes:
    return _HEAD + checkpoint.format(head).encode()


def decode_head(data: bytes) -> Checkpoint:
    """Raises `Malformed`."""
    if not data.startswith(_HEAD):
        raise Malformed("not a log's head", 0)
    try:
        return checkpoint.parse(data[len(_HEAD) :].decode())
    except UnicodeDecodeError:
        raise Malformed("not a log's head") from None


def encode_batch(batch: Batch) -> bytes:
    """Raises `Refused` for an entry over 65,535 bytes."""
    bundle = tiles.encode_bundle(batch.entries)
    head = checkpoint.format(batch.before) + "\n" + sha256(bundle).hexdigest() + "\n"
    return _STAGE + head.encode() + bundle


def decode_batch(data: bytes) -> Batch:
    """Raises `Malformed`, also where the entries are not the ones that were staged."""
    if not data.startswith(_STAGE):
        raise Malformed("not a stage", 0)
    body, separator, rest = data[len(_STAGE) :].partition(b"\n\n")
    digest, bundle = rest[:64], rest[65:]
    if not separator or sha256(bundle).hexdigest().encode() != digest or rest[64:65] != b"\n":
        raise Malformed("the stage is damaged")
    try:
        before = checkpoint.parse(body.decode() + "\n")
    except UnicodeDecodeError:
        raise Malformed("the stage is damaged") from None
    return Batch(before, tuple(tiles.decode_bundle(bundle)))
