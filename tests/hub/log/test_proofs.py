"""Proofs of many entries at once are the proofs of each, letter by letter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.log.proofs import proof_texts
from protocols.evidence import merkle, proof
from protocols.evidence.merkle import HashReader, NodeHash

LEAVES = [merkle.leaf_hash(b"%d" % n) for n in range(600)]
NOTE = "log.test\n…\n"


def _reader(size: int) -> HashReader:
    def read(level: int, index: int) -> NodeHash:
        assert (index + 1) << level <= size, "only what the tree has is asked for"
        return NodeHash(merkle.root(LEAVES[index << level : (index + 1) << level]))

    return read


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 600), st.data())
def test_every_proof_is_the_one_that_is_made_alone(size: int, data: st.DataObject) -> None:
    alone = data.draw(st.sets(st.integers(0, size - 1), max_size=20))
    first = data.draw(st.integers(0, size))
    together = range(first, data.draw(st.integers(first, size)))  # as those of a batch lie
    indices = sorted(alone | set(together))
    texts = proof_texts(_reader(size), size, indices, NOTE.encode())
    assert texts == {
        index: proof.format(
            proof.TlogProof(index, tuple(merkle.inclusion_proof(LEAVES[:size], index, size)), NOTE.encode())
        )
        for index in indices
    }


@pytest.mark.parametrize("indices", [[-1], [3, 7]])
def test_an_entry_that_the_tree_does_not_have(indices: list[int]) -> None:
    with pytest.raises(IndexError, match="not in a tree of 7"):
        proof_texts(_reader(7), 7, indices, b"")
