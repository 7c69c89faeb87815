"""Inclusion proofs of many entries at once, as text: what the receipts of one batch carry.

Decides nothing that `protocols.evidence.proof` does not; the texts are the same. Entries that lie next to each other
share most of their paths, so the tree is walked once from its root, and each shared hash is written once.
"""

from __future__ import annotations

from binascii import b2a_base64
from bisect import bisect_left
from collections.abc import Sequence

from protocols.evidence import merkle, proof
from protocols.evidence.merkle import HashReader


def proof_texts(hashes: HashReader, size: int, indices: Sequence[int], checkpoint_note: bytes) -> dict[int, bytes]:
    """The tlog-proof of each entry in `indices` (ascending, below `size`) against the checkpoint, by index."""
    found: dict[int, bytes] = {}

    def descend(start: int, end: int, low: int, high: int, above: bytes) -> None:
        """The entries indices[low:high] lie in [start, end). `above`: the lines from this subtree's sibling up."""
        width = end - start
        if high - low == width and width & (width - 1) == 0:
            for index, path in enumerate(_paths(hashes, start, width, above), start):
                found[index] = b"%b\nindex %d\n%b\n%b" % (proof.HEADER.encode(), index, path, checkpoint_note)
            return
        middle = start + merkle.split(width)
        cut = bisect_left(indices, middle, low, high)
        if low < cut:
            descend(start, middle, low, cut, b2a_base64(merkle.subtree_root(hashes, middle, end)) + above)
        if cut < high:
            descend(middle, end, cut, high, b2a_base64(merkle.subtree_root(hashes, start, middle)) + above)

    if indices:
        if not 0 <= indices[0] <= indices[-1] < size:
            raise IndexError(f"entries {indices[0]} to {indices[-1]} are not in a tree of {size}")
        descend(0, size, 0, len(indices), b"")
    return found


def _paths(hashes: HashReader, start: int, width: int, above: bytes) -> list[bytes]:
    """The lines of each entry's path in the complete subtree over [start, start + width): row by row from its top."""
    paths = [above]
    for row in range(width.bit_length() - 2, -1, -1):
        first = start >> row
        lines = [b2a_base64(hashes(row, index)) for index in range(first, first + 2 * len(paths))]
        paths = [lines[i ^ 1] + paths[i >> 1] for i in range(len(lines))]  # a node's sibling is i ^ 1
    return paths
