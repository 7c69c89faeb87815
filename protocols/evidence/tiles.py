"""The layout of c2sp.org/tlog-tiles: which tile lies where, what is in it, and how a tree of tiles grows.

Decides paths and bytes only; reads and writes nothing. A tile is 256 hashes wide when full (8,192 bytes), a
bundle holds the entries of one level-0 tile. The right edge of a tree (`Edge`) is all that growing it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocols.errors import Malformed, Refused
from protocols.evidence.merkle import (
    EMPTY_ROOT,
    HASH_LENGTH,
    HashReader,
    LeafHash,
    NodeHash,
    RootHash,
    node_hash,
)

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
ENTRIES_LEVEL: Final = -1
"""The level under which entry bundles stand: one below the leaf hashes, as x/mod/sumdb/tlog counts it."""
MAX_ENTRY_BYTES: Final = 0xFFFF

_PATH: Final = re.compile(
    r"tile/(entries|0|[1-5][0-9]?|6[0-3]?|[7-9])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One tile, or with `level` = ENTRIES_LEVEL one entry bundle; `width` hashes or entries, 1 to 256."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        assert ENTRIES_LEVEL <= self.level <= 63
        assert self.index >= 0
        assert 1 <= self.width <= TILE_WIDTH

    @property
    def full(self) -> bool:
        return self.width == TILE_WIDTH

    @property
    def path(self) -> str:
        """`tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`; N in groups of three digits, all but the last x."""
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        name = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
        level = "entries" if self.level == ENTRIES_LEVEL else str(self.level)
        return f"tile/{level}/{name}" + ("" if self.full else f".p/{self.width}")


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    return Tile(level, index, width).path


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    return Tile(ENTRIES_LEVEL, index, width).path


def parse_path(path: str) -> Tile:
    """The inverse of `Tile.path`. Raises `Malformed` for every other spelling, so it may guard a web server."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise Malformed(f"not the path of a tile: {path!r}")
    level = ENTRIES_LEVEL if match[1] == "entries" else int(match[1])
    width = TILE_WIDTH if match[3] is None else int(match[3])
    if width > TILE_WIDTH:
        raise Malformed(f"a tile is at most {TILE_WIDTH} wide: {path!r}")
    tile = Tile(level, int(match[2].replace("x", "").replace("/", "")), width)
    if tile.path != path:
        raise Malformed(f"not the one spelling of a tile's path: {path!r}")
    return tile


def width_at(level: int, index: int, size: int) -> int:
    """How wide the tile is in a tree of `size` leaves; 0 where there is none yet."""
    hashes = size >> (TILE_HEIGHT * max(level, 0))
    return max(0, min(TILE_WIDTH, hashes - index * TILE_WIDTH))


def tiles_changed(old_size: int, size: int) -> Iterator[Tile]:
    """Every tile and bundle that a tree of `size` has and one of `old_size` has not, at its new width."""
    assert 0 <= old_size <= size
    for level in range(ENTRIES_LEVEL, 64):
        shift = TILE_HEIGHT * max(level, 0)
        before, after = old_size >> shift, size >> shift
        if after == 0:
            return
        if before != after:
            for index in range(before // TILE_WIDTH, -(-after // TILE_WIDTH)):
                yield Tile(level, index, width_at(level, index, size))


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile and bundle of a tree of `size`, bundles first, then level by level."""
    return tiles_changed(0, size)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Each entry with its length as a big-endian uint16. Raises `Refused` for one over 65,535 bytes."""
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise Refused("entry-too-long", f"an entry has {len(entry)} bytes; at most {MAX_ENTRY_BYTES} fit")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def decode_bundle(data: bytes, width: int | None = None) -> list[bytes]:
    """The entries of a bundle. Raises `Malformed` with the offset when cut short or not of `width` entries."""
    entries: list[bytes] = []
    offset = 0
    while offset < len(data):
        end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
        if offset + 2 > len(data) or end > len(data):
            raise Malformed(f"entry {len(entries)} of the bundle is cut short", offset)
        entries.append(data[offset + 2 : end])
        offset = end
    if width is not None and len(entries) != width:
        raise Malformed(f"the bundle holds {len(entries)} entries instead of {width}", offset)
    return entries


def decode_tile(data: bytes, width: int) -> list[NodeHash]:
    """The hashes of a tile. Raises `Malformed` when it is not exactly `width` of them."""
    if len(data) != width * HASH_LENGTH:
        raise Malformed(
            f"a tile {width} wide has {width * HASH_LENGTH} bytes, this has {len(data)}",
            min(len(data), width * HASH_LENGTH),
        )
    return [NodeHash(data[at : at + HASH_LENGTH]) for at in range(0, len(data), HASH_LENGTH)]


Rows = tuple[tuple[NodeHash, ...], ...]
"""The complete nodes inside one tile: row 0 its hashes, row r the hashes over 2**r of them each."""


def rows_of(hashes: Sequence[NodeHash]) -> Rows:
    """All complete nodes over the hashes of one tile, up to the tile's own root when it is full."""
    rows = [tuple(hashes)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append(tuple(node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)))
    return tuple(rows)


def hash_reader(size: int, rows: Callable[[Tile], Rows]) -> HashReader:
    """Proofs from tiles: a `HashReader` of a tree of `size`, asking `rows` only for tiles which that tree has.

    The last tile of each level is kept: the leaves of a batch lie next to each other, and their paths too.
    """
    last: dict[int, tuple[int, int, Rows]] = {}

    def read(level: int, index: int) -> NodeHash:
        tile_level, row = divmod(level, TILE_HEIGHT)
        tile_index, within = divmod(index, TILE_WIDTH >> row)
        kept = last.get(tile_level)
        if kept is None or kept[0] != tile_index:
            width = width_at(tile_level, tile_index, size)
            kept = tile_index, width, rows(Tile(tile_level, tile_index, width)) if width else ()
            last[tile_level] = kept
        if (within + 1) << row > kept[1]:
            raise IndexError(f"node {index} of level {level} is not complete in a tree of {size}")
        return kept[2][row][within]

    return read


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree of `size` leaves: for each tile level the hashes of its partial tile (0 to 255)."""

    size: int = 0
    levels: tuple[tuple[NodeHash, ...], ...] = ()

    def root(self) -> RootHash:
        """The root of the tree, in at most 255 hashes a level."""
        if self.size == 0:
            return EMPTY_ROOT
        total: NodeHash | None = None
        for hashes in self.levels:
            rows = rows_of(hashes) if hashes else ()
            # The partial tile splits into complete subtrees as its width does into powers of two, smallest last.
            for row in range(len(rows)):
                if len(hashes) >> row & 1:
                    peak = rows[row][(len(hashes) >> row) - 1]
                    total = peak if total is None else node_hash(peak, total)
        assert total is not None
        return RootHash(total)

    def grow(self, leaves: Sequence[LeafHash]) -> tuple[Edge, list[tuple[Tile, bytes]]]:
        """The edge after `leaves` were appended, and the content of every hash tile that changed by it."""
        size = self.size + len(leaves)
        changed = []
        levels = []
        fresh: list[NodeHash] = [NodeHash(leaf) for leaf in leaves]
        for level in range(64):
            held = self.levels[level] if level < len(self.levels) else ()
            if not fresh and level >= len(self.levels):
                break
            first = (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH
            hashes = (*held, *fresh)
            above = []
            whole = len(hashes) - len(hashes) % TILE_WIDTH
            for number, at in enumerate(range(0, whole, TILE_WIDTH)):
                tile = hashes[at : at + TILE_WIDTH]
                changed.append((Tile(level, first + number), b"".join(tile)))
                above.append(rows_of(tile)[TILE_HEIGHT][0])
            rest = hashes[whole:]
            if rest and fresh:
                changed.append((Tile(level, first + whole // TILE_WIDTH, len(rest)), b"".join(rest)))
            levels.append(rest)
            fresh = above
        return Edge(size, tuple(levels)), changed


def edge_tiles(size: int) -> list[Tile | None]:
    """The partial tile of each level of a tree of `size`, None where that level's edge is empty."""
    tiles: list[Tile | None] = []
    level = 0
    while size >> (TILE_HEIGHT * level):
        index, width = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
        tiles.append(Tile(level, index, width) if width else None)
        level += 1
    return tiles
