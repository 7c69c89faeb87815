"""Inclusion proofs of many entries at once, as text: what the receipts of one batch carry.

Decides nothing that `protocols.evidence.proof` does not; the texts are the same. Entries that lie next to each other
share most of their paths, so the tree is walked once from its root, and each shared hash is written once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from protocols.evidence import merkle, proof
from protocols.evidence.merkle import HashReader
from protocols.evidence.note import encode_base64


def proof_texts(hashes: HashReader, size: int, indices: Sequence[int], checkpoint_note: bytes) -> dict[int, str]:
    """The tlog-proof of each entry in `indices` (ascending, below `size`) against the checkpoint, by index."""
    texts: dict[int, str] = {}
    note = checkpoint_note.decode()

    def descend(start: int, end: int, low: int, high: int, above: str) -> None:
        """The entries indices[low:high] lie in [start, end). `above`: the lines from this subtree's sibling up."""
        if end - start == 1:
            texts[start] = f"{proof.HEADER}\nindex {start}\n{above}\n{note}"
            return
        middle = start + merkle.split(end - start)
        cut = bisect_left(indices, middle, low, high)
        if low < cut:
            descend(start, middle, low, cut, encode_base64(merkle.subtree_root(hashes, middle, end)) + "\n" + above)
        if cut < high:
            descend(middle, end, cut, high, encode_base64(merkle.subtree_root(hashes, start, middle)) + "\n" + above)

    if indices:
        if not 0 <= indices[0] <= indices[-1] < size:
            raise IndexError(f"entries {indices[0]} to {indices[-1]} are not in a tree of {size}")
        descend(0, size, 0, len(indices), "")
    return texts
