"""The whole log read again: every entry hashed, every tile computed anew and compared byte for byte.

Decides which file is wrong and from which byte on. Changes nothing. Where an entry and its leaf hash disagree, the
level above (or the head's root at the right edge) tells which of the two files was changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hub.log.store import Store
from protocols.errors import Malformed, Unverified
from protocols.evidence import checkpoint, merkle, tiles
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import HASH_LENGTH, LeafHash, NodeHash
from protocols.evidence.note import VerifierKey
from protocols.evidence.tiles import ENTRIES_LEVEL, TILE_WIDTH, Edge, Tile


@dataclass(frozen=True, slots=True)
class Fault:
    """The first wrong byte: `file` relative to the log's folder, `offset` from its start, 0 where all is wrong."""

    file: str
    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.what}"


@dataclass(frozen=True, slots=True)
class Step:
    """Progress in entries; the last step of a sound log has checked == total and no fault."""

    checked: int
    total: int
    fault: Fault | None = None


def check(store: Store, head: Checkpoint, log_key: VerifierKey) -> Iterator[Step]:
    """Steps of 256 entries; ends with the first that carries a fault, or when all is checked."""
    edge = Edge()
    for index in range(-(-head.size // TILE_WIDTH)):
        width = tiles.width_at(ENTRIES_LEVEL, index, head.size)
        fault, leaves = _check_bundle(store, head, Tile(ENTRIES_LEVEL, index, width), edge)
        if fault is None:
            edge, changed = edge.grow(leaves)
            # A partial tile is compared at its final width, by the last batch.
            final = [(t, c) for t, c in changed if t.width == tiles.width_at(t.level, t.index, head.size)]
            fault = next((f for f in (_compare(store, t, c) for t, c in final if t.level > 0) if f), None)
        yield Step(edge.size, head.size, fault)
        if fault is not None:
            return
    fault = _check_root(store, head, edge, log_key) or _check_partials(store, head)
    yield Step(head.size, head.size, fault)


def _check_bundle(store: Store, head: Checkpoint, bundle: Tile, edge: Edge) -> tuple[Fault | None, list[LeafHash]]:
    tile = Tile(0, bundle.index, bundle.width)
    data, stored = _read(store, bundle), _read(store, tile)
    if data is None or stored is None:
        return Fault((bundle if data is None else tile).path, 0, "the file is missing"), []
    try:
        entries = tiles.decode_bundle(data, bundle.width)
    except Malformed:
        number, offset = _first_strange(data, stored)
        words = f"entry {bundle.index * TILE_WIDTH + number}, or its length, is not what the log was signed with"
        return Fault(bundle.path, offset, words), []
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    computed = b"".join(leaves)
    if stored == computed:
        return None, leaves
    if _belongs(store, head, edge, leaves, tile):
        return Fault(tile.path, _first_difference(stored, computed), "the hash is not that of its entry"), []
    at = next(n for n in range(bundle.width) if stored[n * HASH_LENGTH : (n + 1) * HASH_LENGTH] != leaves[n])
    offset = sum(2 + len(entry) for entry in entries[:at])
    number = bundle.index * TILE_WIDTH + at
    return Fault(bundle.path, offset, f"entry {number} does not have the hash that the log was signed with"), []


def _first_strange(data: bytes, stored: bytes) -> tuple[int, int]:
    """(number, offset) of the first entry of a bundle that its hash does not know: a wrong length shows later."""
    number = offset = 0
    while offset + 2 <= len(data):
        end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
        at = number * HASH_LENGTH
        if end > len(data) or stored[at : at + HASH_LENGTH] != merkle.leaf_hash(data[offset + 2 : end]):
            break
        number, offset = number + 1, end
    return number, offset


def _belongs(store: Store, head: Checkpoint, edge: Edge, leaves: list[LeafHash], tile: Tile) -> bool:
    """Whether the tree above the tile was built over `leaves`."""
    grown, _ = edge.grow(leaves)
    if grown.size == head.size:
        return grown.root() == head.root
    parent_index, slot = divmod(tile.index, TILE_WIDTH)
    parent = _read(store, Tile(1, parent_index, tiles.width_at(1, parent_index, head.size))) or b""
    root = tiles.rows_of([NodeHash(leaf) for leaf in leaves])[-1][0]
    return parent[slot * HASH_LENGTH : (slot + 1) * HASH_LENGTH] == root


def _compare(store: Store, tile: Tile, computed: bytes) -> Fault | None:
    stored = _read(store, tile)
    if stored is None:
        return Fault(tile.path, 0, "the file is missing")
    if stored != computed:
        return Fault(tile.path, _first_difference(stored, computed), "the hash is not that of the tiles under it")
    return None


def _check_root(store: Store, head: Checkpoint, edge: Edge, log_key: VerifierKey) -> Fault | None:
    if edge.root() != head.root:
        return Fault("tile", 0, "entries and tiles agree, but have not the root that the log was signed with")
    data = store.read("checkpoint") or b""
    try:
        found = checkpoint.open(data, log_key)
    except (Malformed, Unverified) as error:
        return Fault("checkpoint", 0, str(error))
    # The log may have grown since the check began.
    if found.size < head.size or (found.size == head.size and found.root != head.root):
        return Fault("checkpoint", 0, f"is of size {found.size}, the log of size {head.size}")
    return None


def _check_partials(store: Store, head: Checkpoint) -> Fault | None:
    """Narrower partial tiles, kept for older checkpoints, must be the beginning of the newest."""
    newest = [t for t in tiles.tiles_of(head.size) if not t.full]
    for tile in newest:
        whole = _read(store, tile) or b""
        for width in range(1, tile.width):
            narrow = Tile(tile.level, tile.index, width)
            data = store.read(narrow.path)
            if data is None:
                continue
            if tile.level == ENTRIES_LEVEL:
                expected = tiles.encode_bundle(tiles.decode_bundle(whole, tile.width)[:width])
            else:
                expected = whole[: width * HASH_LENGTH]
            if data != expected:
                return Fault(narrow.path, _first_difference(data, expected), "differs from the wider tile")
    return None


def _read(store: Store, tile: Tile) -> bytes | None:
    """The tile's bytes; while the log grows, of the full one that replaced it. None where both are missing."""
    data = store.read(tile.path)
    if data is not None or tile.full:
        return data
    whole = store.read(Tile(tile.level, tile.index).path)
    if whole is None:
        return None
    if tile.level == ENTRIES_LEVEL:
        try:
            return tiles.encode_bundle(tiles.decode_bundle(whole)[: tile.width])
        except Malformed:
            return whole
    return whole[: tile.width * HASH_LENGTH]


def _first_difference(stored: bytes, computed: bytes) -> int:
    return next(
        (n for n, (a, b) in enumerate(zip(stored, computed, strict=False)) if a != b), min(len(stored), len(computed))
    )
