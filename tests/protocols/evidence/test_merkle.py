"""The tree against published answers, against the recursive definition, and against mangled proofs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Unverified
from protocols.evidence import merkle
from protocols.evidence.merkle import LeafHash, RootHash
from tests.reference import rfc6962

# Inputs and roots as in certificate-transparency's merkletree tests (cpp/merkletree/merkle_tree_test.cc,
# also transparency-dev/merkle testonly/constants.go).
CT_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (leaf index, tree size, path) and (old size, size, path) of the same tests, compact for the eye.
CT_PATHS = [
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]
CT_CONSISTENCY = [
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def leaves_of(entries: list[bytes]) -> list[LeafHash]:
    return [merkle.leaf_hash(entry) for entry in entries]


def test_certificate_transparency_roots() -> None:
    leaves = leaves_of(CT_LEAVES)
    assert [merkle.root(leaves[:n]).hex() for n in range(9)] == CT_ROOTS
    assert merkle.EMPTY_ROOT.hex() == CT_ROOTS[0]


@pytest.mark.parametrize(("index", "size", "path"), CT_PATHS)
def test_certificate_transparency_paths(index: int, size: int, path: list[str]) -> None:
    assert [each.hex() for each in merkle.inclusion_proof(leaves_of(CT_LEAVES), index, size)] == path


@pytest.mark.parametrize(("old", "size", "path"), CT_CONSISTENCY)
def test_certificate_transparency_consistency(old: int, size: int, path: list[str]) -> None:
    assert [each.hex() for each in merkle.consistency_proof(leaves_of(CT_LEAVES), old, size)] == path


def test_all_sizes_to_130_agree_with_the_recursive_definition() -> None:
    entries = [n.to_bytes(2, "big") for n in range(130)]
    leaves = leaves_of(entries)
    roots = [RootHash(rfc6962.mth(entries[:n])) for n in range(131)]
    for size in range(131):
        assert merkle.root(leaves[:size]) == roots[size]
    for size in (*range(1, 34), 63, 64, 65, 100, 127, 128, 129, 130):
        for index in range(size):
            proof = merkle.inclusion_proof(leaves, index, size)
            assert proof == rfc6962.path(index, entries[:size])
            merkle.verify_inclusion(leaves[index], index, size, proof, roots[size])
        for old in range(1, size):
            proof = merkle.consistency_proof(leaves, old, size)
            assert proof == rfc6962.proof(old, entries[:size])
            merkle.verify_consistency(old, size, proof, roots[old], roots[size])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_larger_trees_agree_with_the_recursive_definition(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 1500))
    index = data.draw(st.integers(0, size - 1))
    entries = [n.to_bytes(3, "big") for n in range(size)]
    leaves = leaves_of(entries)
    total = merkle.root(leaves)
    assert total == rfc6962.mth(entries)
    proof = merkle.inclusion_proof(leaves, index, size)
    assert proof == rfc6962.path(index, entries)
    merkle.verify_inclusion(leaves[index], index, size, proof, total)
    consistency = merkle.consistency_proof(leaves, index, size)
    merkle.verify_consistency(index, size, consistency, merkle.root(leaves[:index]), total)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_mangled_inclusion_proof_holds(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    index = data.draw(st.integers(0, size - 1))
    leaves = leaves_of([n.to_bytes(3, "big") for n in range(size)])
    leaf, total = leaves[index], merkle.root(leaves)
    proof: list[bytes] = list(merkle.inclusion_proof(leaves, index, size))
    match data.draw(st.sampled_from(["flip", "drop", "index", "leaf", "root", "short", "add"])):
        case "flip" if proof:
            at = data.draw(st.integers(0, len(proof) - 1))
            proof[at] = flipped(proof[at], data.draw(st.integers(0, 255)))
        case "drop" if proof:
            del proof[data.draw(st.integers(0, len(proof) - 1))]
        case "short" if proof:
            proof[0] = proof[0][:-1]
        case "index":
            true = index
            index = data.draw(st.integers(-1, size).filter(lambda other: other != true))
        case "leaf":
            leaf = LeafHash(flipped(leaf, data.draw(st.integers(0, 255))))
        case "root":
            total = RootHash(flipped(total, data.draw(st.integers(0, 255))))
        case _:
            proof.insert(data.draw(st.integers(0, len(proof))), bytes(32))
    with pytest.raises(Unverified):
        merkle.verify_inclusion(leaf, index, size, proof, total)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_mangled_consistency_proof_holds(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 300))
    old = data.draw(st.integers(1, size))
    leaves = leaves_of([n.to_bytes(3, "big") for n in range(size)])
    old_root, new_root = merkle.root(leaves[:old]), merkle.root(leaves)
    proof: list[bytes] = list(merkle.consistency_proof(leaves, old, size))
    match data.draw(st.sampled_from(["flip", "drop", "old", "new", "shrunk", "add"])):
        case "flip" if proof:
            at = data.draw(st.integers(0, len(proof) - 1))
            proof[at] = flipped(proof[at], data.draw(st.integers(0, 255)))
        case "drop" if proof:
            del proof[data.draw(st.integers(0, len(proof) - 1))]
        case "old":
            old_root = RootHash(flipped(old_root, data.draw(st.integers(0, 255))))
        case "new":
            new_root = RootHash(flipped(new_root, data.draw(st.integers(0, 255))))
        case "shrunk":
            old = size + 1
        case _:
            proof.insert(data.draw(st.integers(0, len(proof))), bytes(32))
    with pytest.raises(Unverified):
        merkle.verify_consistency(old, size, proof, old_root, new_root)


def test_the_edges_of_consistency() -> None:
    leaves = leaves_of([b"a", b"b"])
    total = merkle.root(leaves)
    merkle.verify_consistency(0, 2, [], merkle.EMPTY_ROOT, total)
    merkle.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)
    merkle.verify_consistency(2, 2, [], total, total)
    for old, size, old_root, new_root in [
        (0, 2, total, total),
        (0, 0, merkle.EMPTY_ROOT, total),
        (1, 2, merkle.root(leaves[:1]), total),
    ]:
        with pytest.raises(Unverified):
            merkle.verify_consistency(old, size, [], RootHash(old_root), RootHash(new_root))
    with pytest.raises(IndexError):
        merkle.consistency_proof(leaves, 3, 2)
    with pytest.raises(IndexError):
        merkle.inclusion_proof(leaves, 2, 2)
    with pytest.raises(IndexError):
        merkle.inclusion_proof(leaves, 0, 4)


def flipped(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")
