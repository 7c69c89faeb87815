"""The tree as its files hold it: nodes, entries and the right edge, at any size up to the one published.

Decides which file answers a question. Trusts no file blindly: what does not parse or is missing is `LogRefused`,
and `edge` checks the root. A partial tile that is gone is read from the full one that replaced it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from hub.log.store import LogRefused, Store
from protocols.errors import Malformed
from protocols.evidence import merkle, tiles
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import HashReader
from protocols.evidence.tiles import ENTRIES_LEVEL, TILE_WIDTH, Edge, Rows, Tile

# The nodes of a tile take some 33 KB: 512 tiles are 17 MB, enough for the paths of a batch of thousands.
_CACHED_TILES: Final = 512


class Reader:
    """Reads a log's public files; any number of threads may share one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # What a tile of a given width holds never changes once a checkpoint covers it, so it may be kept.
        self._rows = lru_cache(maxsize=_CACHED_TILES)(self._load_rows)

    def hashes(self, size: int) -> HashReader:
        """For proofs in a tree of `size` and in every smaller one."""
        return tiles.hash_reader(size, self._rows)

    def entries(self, start: int, stop: int, size: int) -> Iterator[bytes]:
        """The entries of [start, stop) of a log of `size`, one bundle in memory at a time."""
        while start < stop:
            index, first = divmod(start, TILE_WIDTH)
            bundle = Tile(ENTRIES_LEVEL, index, tiles.width_at(ENTRIES_LEVEL, index, size))
            found = self.bundle(bundle)[first : first + stop - start]
            yield from found
            start += len(found)

    def bundle(self, bundle: Tile) -> list[bytes]:
        """The entries of one bundle. Raises `LogRefused`."""
        data = self._store.read(bundle.path)
        try:
            if data is not None:
                return tiles.decode_bundle(data, bundle.width)
            data = None if bundle.full else self._store.read(Tile(ENTRIES_LEVEL, bundle.index).path)
            if data is None:
                raise LogRefused(bundle.path, "the entries are missing")
            return tiles.decode_bundle(data, TILE_WIDTH)[: bundle.width]
        except Malformed as error:
            raise LogRefused(bundle.path, str(error)) from None

    def edge(self, head: Checkpoint) -> tuple[Edge, bytes]:
        """The right edge of the head's tree and the bytes of its last partial bundle.

        Raises `LogRefused` where a file is missing or damaged, or the root is not the head's.
        """
        size = head.size
        levels = tuple(() if tile is None else self._load_rows(tile)[0] for tile in tiles.edge_tiles(size))
        edge = Edge(size, levels)
        if edge.root() != head.root:
            raise LogRefused("tile", f"the tiles do not have the root of the head (size {size})")
        if size == 0:
            return edge, b""
        # The newest entries too: tiles that were restored without their bundles must not be appended to.
        index = (size - 1) // TILE_WIDTH
        last = Tile(ENTRIES_LEVEL, index, tiles.width_at(ENTRIES_LEVEL, index, size))
        entries = self.bundle(last)
        hashes: list[bytes] = [merkle.leaf_hash(entry) for entry in entries]
        if hashes != list(self._load_rows(Tile(0, index, last.width))[0]):
            raise LogRefused(last.path, "the entries do not have the hashes of the tree")
        return edge, b"" if last.full else tiles.encode_bundle(entries)

    def _load_rows(self, tile: Tile) -> Rows:
        data = self._store.read(tile.path)
        if data is None and not tile.full:
            whole = self._store.read(Tile(tile.level, tile.index).path)
            data = None if whole is None else whole[: tile.width * merkle.HASH_LENGTH]
        if data is None:
            raise LogRefused(tile.path, "the tile is missing")
        try:
            return tiles.rows_of(tiles.decode_tile(data, tile.width))
        except Malformed as error:
            raise LogRefused(tile.path, str(error)) from None
