"""The Merkle tree of RFC 6962 section 2.1: hashes, roots, inclusion and consistency proofs.

Decides what a proof is and whether it holds. Does not decide where hashes are kept: whoever makes a proof gives
the leaf hashes, or a `HashReader` over tiles that touches O(log n) nodes; whoever checks one needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final, NewType

from protocols.errors import Unverified

HASH_LENGTH: Final = 32

LeafHash = NewType("LeafHash", bytes)
"""SHA-256(0x00 || entry), 32 bytes."""
NodeHash = NewType("NodeHash", bytes)
"""The hash of a complete or right-edge subtree: a leaf hash or SHA-256(0x01 || left || right), 32 bytes."""
RootHash = NewType("RootHash", bytes)
"""The hash of a whole tree, 32 bytes."""

HashReader = Callable[[int, int], NodeHash]
"""`(level, index)` to the hash of the complete subtree over the leaves [index << level, (index + 1) << level)."""

Hashes = Sequence[LeafHash] | HashReader

# RFC 6962 section 2.1: "The hash of an empty list is the hash of an empty string".
EMPTY_ROOT: Final = RootHash(sha256(b"").digest())


def leaf_hash(entry: bytes) -> LeafHash:
    return LeafHash(sha256(b"\x00" + entry).digest())


def node_hash(left: bytes, right: bytes) -> NodeHash:
    return NodeHash(sha256(b"\x01" + left + right).digest())


def root(leaf_hashes: Sequence[LeafHash]) -> RootHash:
    """The root over all leaves, in O(n) hashes. A node without a right sibling rises unchanged."""
    if not leaf_hashes:
        return EMPTY_ROOT
    row: list[bytes] = list(leaf_hashes)
    while len(row) > 1:
        above: list[bytes] = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        if len(row) % 2:
            above.append(row[-1])
        row = above
    return RootHash(row[0])


def subtree_root(hashes: Hashes, start: int, end: int) -> NodeHash:
    """MTH(D[start:end]); `start` must be a multiple of the least power of two that is >= end - start."""
    read = _reader(hashes)
    level = (end - start).bit_length() - 1
    if end - start == 1 << level:  # as most are
        return read(level, start >> level)
    # Left to right the range splits into complete subtrees of falling size; they fold from the right.
    peaks = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(read(level, start >> level))
        start += 1 << level
    total = peaks.pop()
    while peaks:
        total = node_hash(peaks.pop(), total)
    return total


def inclusion_proof(hashes: Hashes, index: int, size: int) -> list[NodeHash]:
    """PATH(index, D[0:size]) of RFC 6962 section 2.1.1, from the leaf's sibling up. Raises `IndexError`."""
    if not 0 <= index < size:
        raise IndexError(f"no leaf {index} in a tree of {size}")
    read = _reader(hashes)
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            path.append(subtree_root(read, middle, end))
            end = middle
        else:
            path.append(subtree_root(read, start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(hashes: Hashes, old_size: int, size: int) -> list[NodeHash]:
    """PROOF(old_size, D[0:size]) of RFC 6962 section 2.1.2; empty for 0 or size. Raises `IndexError`."""
    if not 0 <= old_size <= size:
        raise IndexError(f"no tree of {old_size} in a tree of {size}")
    if old_size in (0, size):
        return []
    read = _reader(hashes)
    path = []
    start, end, whole = 0, size, True  # `whole`: the old tree's root is this node, which the verifier has
    while end != old_size:
        middle = start + split(end - start)
        if old_size <= middle:
            path.append(subtree_root(read, middle, end))
            end = middle
        else:
            path.append(subtree_root(read, start, middle))
            start, whole = middle, False
    if not whole:
        path.append(subtree_root(read, start, end))
    path.reverse()
    return path


def verify_inclusion(leaf: LeafHash, index: int, size: int, proof: Sequence[bytes], expected: RootHash) -> None:
    """Raise `Unverified` unless `proof` leads from `leaf` to the `expected` root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        raise Unverified(f"leaf {index} is not in a tree of {size}")
    _check_lengths([leaf, expected, *proof])
    fn, sn = index, size - 1
    total: bytes = leaf
    for step in proof:
        if sn == 0:
            raise Unverified("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            total = node_hash(step, total)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            total = node_hash(total, step)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise Unverified("the inclusion proof is too short")
    if total != expected:
        raise Unverified(f"the inclusion proof of leaf {index} does not lead to the root of the {size} leaves")


def verify_consistency(
    old_size: int, size: int, proof: Sequence[bytes], old_root: RootHash, new_root: RootHash
) -> None:
    """Raise `Unverified` unless the tree of `size` begins with that of `old_size` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= size:
        raise Unverified(f"a log cannot shrink from {old_size} to {size}")
    _check_lengths([old_root, new_root, *proof])
    if old_size in (0, size):
        # Every tree begins with the empty one; a tree begins with itself. Neither needs hashes.
        if proof:
            raise Unverified("the consistency proof is too long")
        if old_root != (EMPTY_ROOT if old_size == 0 else new_root) or (size == 0 and new_root != EMPTY_ROOT):
            raise Unverified(f"the roots of sizes {old_size} and {size} contradict each other")
        return
    if not proof:
        raise Unverified("the consistency proof is empty")
    # Step 2: where the old size is a power of two its root is itself the first node.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_total = new_total = bytes(path[0])
    for step in path[1:]:
        if sn == 0:
            raise Unverified("the consistency proof is too long")
        if fn & 1 or fn == sn:
            old_total, new_total = node_hash(step, old_total), node_hash(step, new_total)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_total = node_hash(new_total, step)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise Unverified("the consistency proof is too short")
    if old_total != old_root or new_total != new_root:
        raise Unverified(f"the tree of {size} does not begin with the tree of {old_size}")


def split(width: int) -> int:
    """k of RFC 6962 section 2.1: the largest power of two smaller than `width` (> 1)."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_lengths(hashes: Sequence[bytes]) -> None:
    if any(len(each) != HASH_LENGTH for each in hashes):
        raise Unverified("a hash of the proof does not have 32 bytes")


def _reader(hashes: Hashes) -> HashReader:
    if callable(hashes):
        return hashes

    def read(level: int, index: int) -> NodeHash:
        start, end = index << level, (index + 1) << level
        if end > len(hashes):
            raise IndexError(f"leaves [{start}, {end}) of {len(hashes)}")
        return NodeHash(root(hashes[start:end]))

    return read
