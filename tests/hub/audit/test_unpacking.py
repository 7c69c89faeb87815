"""The fast way from chunks to rows gives what the strict one gives, and reads nothing outside a chunk."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.audit.unpacking import rows_of
from protocols.errors import Malformed
from protocols.evidence.raw import Chunk, decode_chunk, encode_chunk
from protocols.measurement.kernels import jit, unpack
from protocols.measurement.replay import RawRows
from protocols.plc.sample import SampleBlock, joined

HASH = bytes(range(32))


@st.composite
def chunks(draw: st.DrawFn) -> list[Chunk]:
    """Chunks of one line that follow each other, with a hole now and then."""
    out: list[Chunk] = []
    at_ms = draw(st.integers(0, 2**40))
    for _ in range(draw(st.integers(1, 5))):
        rows, width = draw(st.integers(0, 6)), draw(st.integers(1, 15))
        times = sorted(draw(st.lists(st.integers(0, 60_000), min_size=rows, max_size=rows)))
        limit = draw(st.sampled_from((1, 100, 40_000, 2**30, 2**60)))
        values = draw(st.lists(st.integers(-limit, limit), min_size=rows * width, max_size=rows * width))
        valid = draw(st.lists(st.integers(0, 2**width - 1), min_size=rows, max_size=rows))
        block = SampleBlock(
            np.array(times, np.int64) + at_ms,
            np.array(values, np.int64).reshape(rows, width),
            np.array(valid, np.uint32),
        )
        carry = draw(st.sampled_from((None, {"closed_ms": at_ms, "memory": [2**62, -(2**62), 0], "product": "é"})))
        out.append(Chunk("filling", HASH, at_ms, at_ms + 60_000, carry, block))
        at_ms += 60_000 + draw(st.sampled_from((0, 0, 0, 5)))
    return out


def in_python(plain: Sequence[bytes], gather: int) -> list[RawRows] | None:
    with jit.uncompiled():
        return rows_of(plain, gather)


@settings(max_examples=80, deadline=None)
@given(chunks(), st.integers(1, 4), st.randoms())
def test_rows_are_those_of_the_strict_way(made: list[Chunk], gather: int, rng: random.Random) -> None:
    shuffled = [encode_chunk(chunk) for chunk in made]
    rng.shuffle(shuffled)
    with jit.uncompiled():
        found = rows_of(shuffled, gather)
    wide = any(np.abs(chunk.block.values).max(initial=0) > 2**30 for chunk in made)
    assert found is not None or wide  # steps of 64 bits go the slow way
    if found is None:
        return
    want, have = joined([c.block for c in made]), joined([r.block for r in found])
    assert want.time_ms.tolist() == have.time_ms.tolist()
    assert want.valid.tolist() == have.valid.tolist()
    width = have.values.shape[1]
    assert want.values[:, :width].tolist() == have.values.tolist() and not want.values[:, width:].any()
    starts = {c.start_ms: c for c in made}
    assert all(r.carry == starts[r.start_ms].carry for r in found)
    for before, after in pairwise(found):
        assert before.end_ms <= after.start_ms
    compiled = rows_of(shuffled, gather)
    assert compiled is not None and joined([r.block for r in compiled]).values.tolist() == have.values.tolist()


@settings(max_examples=200, deadline=None)
@given(chunks(), st.data())
def test_whatever_the_bytes_are_no_read_is_outside(made: list[Chunk], data: st.DataObject) -> None:
    """In Python an index past the end raises; and what is accepted in both ways is the same."""
    plain = bytearray(encode_chunk(made[0]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(plain) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                plain[at] = data.draw(st.integers(0, 255))
            case 1:
                del plain[at:]
                plain += b"\xff"
            case _:
                plain[at:at] = data.draw(st.binary(max_size=9))
    try:
        found = in_python([bytes(plain)], 1)
    except Malformed:
        return
    if found is None:
        return
    try:
        strict = decode_chunk(bytes(plain))
    except Malformed:
        return
    (rows,) = found
    assert rows.block.time_ms.tolist() == strict.block.time_ms.tolist()
    assert rows.block.values.tolist() == strict.block.values.tolist()


@pytest.mark.parametrize("plain", [b"", b"\x8a", b"\x8a" * 30, bytes(40), b"\x9f" * 50, b"\x8a" + b"\xd9" * 60])
def test_what_is_no_chunk_is_left_to_the_strict_way(plain: bytes) -> None:
    assert in_python([plain], 1) is None
    assert rows_of([plain], 1) is None


def test_a_column_that_claims_more_than_is_there_is_not_read() -> None:
    block = SampleBlock(np.arange(5, dtype=np.int64), np.arange(5, dtype=np.int64).reshape(5, 1), np.ones(5, np.uint32))
    plain = encode_chunk(Chunk("filling", HASH, 0, 60_000, None, block))
    data, bounds = np.frombuffer(plain, np.uint8), np.array([0, len(plain)], np.int64)
    heads = np.zeros((1, unpack.HEADS), np.int64)
    assert unpack.heads_of(data, bounds, heads) == 1
    heads[0, unpack.ROWS] = 50
    room = (np.zeros(50, np.int64), np.zeros((50, 1), np.int64), np.zeros(50, np.uint32), np.zeros(50, np.int64))
    assert unpack.unpack(data, bounds, heads, *room) == 0
