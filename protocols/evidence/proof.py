"""Proofs of c2sp.org/tlog-proof: one text that shows offline that an entry is in a log.

Decides the wire form and whether an entry's proof holds under a log's key or a policy. Does not fetch or trust
`extra`, which nobody signed.

    c2sp.org/tlog-proof@v1
    extra <base64>              (optional)
    index <decimal>
    <base64 hash>               (from the leaf's sibling up to the root's child)
                                (an empty line)
    <checkpoint, verbatim>
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protocols.errors import Malformed
from protocols.evidence import checkpoint, merkle, note
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import HASH_LENGTH, LeafHash, NodeHash
from protocols.evidence.note import VerifierKey, decode_base64, encode_base64

if TYPE_CHECKING:
    from protocols.evidence.policy import Policy

HEADER: Final = "c2sp.org/tlog-proof@v1"
# A path in a tree of 2**63 leaves; the limits keep a hostile proof small before anything is hashed.
MAX_HASHES: Final = 63
MAX_EXTRA_BYTES: Final = 65_535


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An inclusion proof of the entry `index` in the tree of `checkpoint_note` (signed note bytes, unchecked)."""

    index: int
    hashes: tuple[NodeHash, ...]
    checkpoint_note: bytes
    extra: bytes | None = None


def format(proof: TlogProof) -> bytes:
    lines = [HEADER]
    if proof.extra is not None:
        lines.append("extra " + encode_base64(proof.extra))
    lines.append(f"index {proof.index}")
    lines += [encode_base64(each) for each in proof.hashes]
    return "\n".join([*lines, "", ""]).encode() + proof.checkpoint_note


def parse(data: bytes) -> TlogProof:
    """The inverse of `format`. Raises `Malformed`, also where the checkpoint is no note; checks no signature."""
    head, separator, checkpoint_note = data.partition(b"\n\n")
    if not separator:
        raise Malformed("a proof needs an empty line before its checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("the lines of a proof are ASCII", error.start) from None
    if lines.pop(0) != HEADER:
        raise Malformed(f"a proof begins with {HEADER}", 0)
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "))
        if len(extra) > MAX_EXTRA_BYTES:
            raise Malformed(f"the proof's extra data is over {MAX_EXTRA_BYTES} bytes")
    if not lines or not lines[0].startswith("index "):
        raise Malformed("a proof has a line `index <number>`")
    index = checkpoint.parse_decimal(lines.pop(0).removeprefix("index "))
    if len(lines) > MAX_HASHES:
        raise Malformed(f"a proof has at most {MAX_HASHES} hashes")
    hashes = tuple(NodeHash(decode_base64(line)) for line in lines)
    if any(len(each) != HASH_LENGTH for each in hashes):
        raise Malformed(f"a hash of a proof has {HASH_LENGTH} bytes")
    checkpoint.parse(note.parse(checkpoint_note).text)
    return TlogProof(index, hashes, checkpoint_note, extra)


def verify(proof: TlogProof, leaf: LeafHash, trusted: Policy | VerifierKey) -> Checkpoint:
    """The checkpoint that includes `leaf` at `proof.index`, trusted by the policy or signed by the log's key.

    Raises `Unverified` where a signature, the quorum or the path does not hold, `Malformed` for broken bytes.
    """
    if isinstance(trusted, VerifierKey):
        found = checkpoint.open(proof.checkpoint_note, trusted)
    else:
        found = trusted.accepts(proof.checkpoint_note)
    merkle.verify_inclusion(leaf, proof.index, found.size, proof.hashes, found.root)
    return found
