"""Paths and counts as the specification's own examples have them; tiles grow to the same tree in any batches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed, Refused
from protocols.evidence import merkle, tiles
from protocols.evidence.tiles import ENTRIES_LEVEL, Edge, Rows, Tile


def test_the_paths_of_the_specification() -> None:
    # c2sp.org/tlog-tiles, "Merkle Tree": "index 1234067 will be encoded as x001/x234/067".
    assert tiles.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.tile_path(0, 1067, 3) == "tile/0/x001/067.p/3"
    assert tiles.tile_path(63, 0, 255) == "tile/63/000.p/255"
    assert tiles.entries_path(0) == "tile/entries/000"
    assert tiles.entries_path(999, 1) == "tile/entries/999.p/1"
    assert tiles.entries_path(1000) == "tile/entries/x001/000"


def test_the_tiles_of_a_tree_of_70000() -> None:
    # c2sp.org/tlog-tiles, "Partial Tiles": 273 full level 0, one of width 112; one full level 1, one of width 17;
    # one level 2 of width 1.
    found = list(tiles.tiles_of(70_000))
    assert len([t for t in found if t.level == 0 and t.full]) == 273
    assert [t for t in found if t.level >= 0 and not t.full] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert [t for t in found if t.level == 1 and t.full] == [Tile(1, 0)]
    assert len([t for t in found if t.level == ENTRIES_LEVEL]) == 274


def test_the_tiles_of_a_tree_of_256() -> None:
    # "a tree of size 256 will be represented by a full level 0 tile and a partial level 1 tile of width 1".
    assert [t for t in tiles.tiles_of(256) if t.level >= 0] == [Tile(0, 0), Tile(1, 0, 1)]
    assert tiles.edge_tiles(256) == [None, Tile(1, 0, 1)]
    assert list(tiles.tiles_of(0)) == []


@given(st.integers(-1, 63), st.integers(0, 10**13), st.integers(1, 256))
def test_paths_parse_back(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert tiles.parse_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/1", "tile/00/001", "tile/64/001", "tile/0/x000/001", "tile/0/001/002", "tile/0/x001", "checkpoint",
        "tile/0/000.p/256", "tile/0/000.p/0", "tile/0/000.p/01", "tile/0/000.p/999", "tile/-1/000", "tile/0/../0",
        "tile/entries/x001/x002", "tile/0/٠٠٠", "/tile/0/000", "tile/0/000\n", "tile/data/000",
    ],
)  # fmt: skip
def test_other_spellings_are_refused(path: str) -> None:
    with pytest.raises(Malformed):
        tiles.parse_path(path)


@given(st.lists(st.binary(max_size=300), max_size=50))
def test_bundles_are_inverse_and_canonical(entries: list[bytes]) -> None:
    data = tiles.encode_bundle(entries)
    assert tiles.decode_bundle(data, len(entries)) == entries
    with pytest.raises(Malformed):
        tiles.decode_bundle(data, len(entries) + 1)


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_what_encodes_to_them_or_not_at_all(data: bytes) -> None:
    try:
        entries = tiles.decode_bundle(data)
    except Malformed:
        return
    assert tiles.encode_bundle(entries) == data


def test_the_longest_entry() -> None:
    longest = bytes(65_535)
    assert tiles.decode_bundle(tiles.encode_bundle([longest, b""])) == [longest, b""]
    with pytest.raises(Refused):
        tiles.encode_bundle([bytes(65_536)])
    with pytest.raises(Malformed) as caught:
        tiles.decode_bundle(b"\x00\x01a\x00")
    assert caught.value.offset == 3


def leaf(n: int) -> merkle.LeafHash:
    return merkle.leaf_hash(n.to_bytes(4, "big"))


LEAVES = [leaf(n) for n in range(66_500)]


def test_edge_roots_for_all_small_sizes() -> None:
    edge = Edge()
    for size in range(600):
        assert edge.root() == merkle.root(LEAVES[:size])
        assert edge.size == size
        edge, _ = edge.grow(LEAVES[size : size + 1])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 7, 255, 256, 257, 511, 512, 700, 1300]), max_size=12), st.data())
def test_any_batches_give_the_same_tiles_and_proofs(batches: list[int], data: st.DataObject) -> None:
    edge, files, size = Edge(), dict[str, bytes](), 0
    for batch in batches:
        edge, changed = edge.grow(LEAVES[size : size + batch])
        expected = [t for t in tiles.tiles_changed(size, size + batch) if t.level >= 0]
        assert sorted(t for t, _ in changed) == sorted(expected)
        files |= {tile.path: content for tile, content in changed}
        size += batch
    check_tree(size, edge, files)
    if size:
        check_proofs(size, files, data.draw(st.integers(0, size - 1)))


def test_a_tree_of_three_levels() -> None:
    edge, changed = Edge().grow(LEAVES[:65_000])
    edge, more = edge.grow(LEAVES[65_000:])
    files = {tile.path: content for tile, content in changed + more}
    check_tree(len(LEAVES), edge, files)
    assert edge.levels[2] != ()
    for index in (0, 1, 255, 256, 65_535, 65_536, 66_499):
        check_proofs(len(LEAVES), files, index)


def check_tree(size: int, edge: Edge, files: dict[str, bytes]) -> None:
    """Each tile is what the formal definition says: MTH over 256**level leaves, hash by hash."""
    assert edge.root() == merkle.root(LEAVES[:size])
    for tile in tiles.tiles_of(size):
        if tile.level < 0:
            continue
        span = 256**tile.level
        start = tile.index * 256
        expected = b"".join(merkle.root(LEAVES[at * span : (at + 1) * span]) for at in range(start, start + tile.width))
        assert files[tile.path] == expected
    assert [() if t is None else tuple(tiles.decode_tile(files[t.path], t.width)) for t in tiles.edge_tiles(size)] == (
        list(edge.levels)
    )


def check_proofs(size: int, files: dict[str, bytes], index: int) -> None:
    asked = set()

    def rows(tile: Tile) -> Rows:
        asked.add(tile)
        return tiles.rows_of(tiles.decode_tile(files[tile.path], tile.width))

    read = tiles.hash_reader(size, rows)
    total = merkle.root(LEAVES[:size])
    merkle.verify_inclusion(LEAVES[index], index, size, merkle.inclusion_proof(read, index, size), total)
    proof = merkle.consistency_proof(read, index, size)
    merkle.verify_consistency(index, size, proof, merkle.root(LEAVES[:index]), total)
    assert len(asked) <= 2 * 3 + 3  # the path's tile and the edge's tile at each of three levels, for two proofs


def test_a_tile_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(Malformed):
        tiles.decode_tile(bytes(33), 1)
    with pytest.raises(Malformed):
        tiles.decode_tile(bytes(64), 1)
    with pytest.raises(IndexError):
        tiles.hash_reader(3, lambda tile: ())(1, 1)
