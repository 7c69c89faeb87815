"""Succession: whether a log's newer checkpoint grew from the one that was verified before.

Decides what a holder of one verified checkpoint may conclude from the next: a gateway of its receipts, the hub of what
a gateway says it has seen. Does not fetch proofs, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from protocols.errors import Unverified
from protocols.evidence import merkle
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import NodeHash
from protocols.evidence.record import CheckpointSeen

MAX_PROOF_HASHES: Final = 64
"""RFC 6962 section 2.1.2: at most ceil(log2(n)) + 1 hashes, for n below 2**63."""


class Succession(Enum):
    SAME = "same"  # the checkpoint that was known
    GROWN = "grown"  # proven to begin with the known tree
    SMALLER = "smaller"  # an older tree, or one that lost entries: from this alone nobody can tell
    UNPROVEN = "unproven"  # larger, and no proof from the known size came with it
    BROKEN = (
        "broken"  # larger, and the proof from the known size does not hold: proofs are not signed, so it proves nothing
    )
    FORKED = "forked"  # the log's key has signed two roots for one size: a proof of misconduct by itself


@dataclass(frozen=True, slots=True)
class Consistency:
    """An RFC 6962 consistency proof from the tree of `old_size` to that of the checkpoint which it comes with."""

    old_size: int
    hashes: tuple[NodeHash, ...]


def succession(seen: CheckpointSeen | None, new: Checkpoint, proofs: Sequence[Consistency]) -> Succession:
    """How `new` (signature checked) stands to `seen`, the newest checkpoint verified before; None: none yet."""
    if seen is None or seen.size == 0:
        return Succession.GROWN
    if new.size < seen.size:
        return Succession.SMALLER
    if new.size == seen.size:
        return Succession.SAME if new.root == seen.root else Succession.FORKED
    for proof in proofs:
        if proof.old_size == seen.size:
            try:
                merkle.verify_consistency(seen.size, new.size, proof.hashes, merkle.RootHash(seen.root), new.root)
            except Unverified:
                return Succession.BROKEN
            return Succession.GROWN
    return Succession.UNPROVEN
