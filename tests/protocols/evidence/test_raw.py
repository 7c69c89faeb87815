"""Raw chunks and pieces: what went in comes out, any other form is refused, a piece holds only where it belongs."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LinetallyError, Malformed, Unverified
from protocols.evidence import canonical
from protocols.evidence.canonical import TypedArray
from protocols.evidence.merkle import NodeHash, inclusion_proof, leaf_hash
from protocols.evidence.raw import (
    MAX_CHUNK_BYTES,
    MAX_ROWS,
    Chunk,
    Piece,
    compress,
    decode_chunk,
    decode_piece,
    decompress,
    encode_chunk,
    encode_piece,
    raw_commitment,
    read_pieces,
    verify_piece,
    write_pieces,
)
from protocols.evidence.record import (
    Clock,
    Heartbeat,
    LineStatement,
    Measurement,
    Record,
    RecordHash,
    SignedRecord,
    sign_record,
)
from protocols.measurement.account import CalendarKind, TimeAccount, Window
from protocols.plc.sample import SampleBlock
from tests.reference import rfc6962

START = 1_790_000_040_000
HASH = bytes(range(32))
INT64 = st.integers(-(2**63), 2**63 - 1)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CARRY = {"armed": 0, "closed_ms": START, "deltas": [[START, 2, 5, 0]], "memory": [1, -(2**62)], "product": "Cup é"}


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    rows = draw(st.integers(0, 12))
    width = draw(st.integers(1, 32))
    span = draw(st.sampled_from((1, 60_000, 3_600_000)))
    times = sorted(draw(st.lists(st.integers(0, span), min_size=rows, max_size=rows)))
    small = st.integers(0, 3) | st.just(0)
    cell = draw(st.sampled_from((small, INT64, st.sampled_from((0, 2**63 - 1, -(2**63))))))
    values = draw(st.lists(cell, min_size=rows * width, max_size=rows * width))
    valid = draw(st.lists(st.integers(0, 2**width - 1), min_size=rows, max_size=rows))
    block = SampleBlock(
        np.array(times, np.int64) + START,
        np.array(values, np.int64).reshape(rows, width),
        np.array(valid, np.uint32),
    )
    return Chunk("L1", HASH, START, START + span, draw(st.sampled_from((None, CARRY, {}))), block)


def padded(block: SampleBlock) -> tuple[list[int], list[list[int]], list[int]]:
    """The rows with all 32 columns: one that is left out is 0 and not valid."""
    values = np.zeros((len(block), 32), np.int64)
    values[:, : block.values.shape[1]] = block.values
    return block.time_ms.tolist(), values.tolist(), block.valid.tolist()


def simple(rows: int = 60, *, start_ms: int = START, carry: dict[str, Any] | None = None) -> Chunk:
    time_ms = start_ms + 1000 * np.arange(1, rows + 1, dtype=np.int64)
    values = np.zeros((rows, 13), np.int64)
    values[:, 0] = 6
    values[:, 2] = np.arange(rows) * 2
    return Chunk(
        "L1", HASH, start_ms, start_ms + 60_000, carry, SampleBlock(time_ms, values, np.full(rows, 5, np.uint32))
    )


@settings(deadline=None)
@given(chunks())
def test_a_chunk_comes_back_the_same(chunk: Chunk) -> None:
    data = encode_chunk(chunk)
    found = decode_chunk(data)
    assert padded(found.block) == padded(chunk.block)
    assert (found.line_id, found.configuration_hash) == (chunk.line_id, chunk.configuration_hash)
    assert (found.start_ms, found.end_ms, found.carry) == (chunk.start_ms, chunk.end_ms, chunk.carry)
    assert encode_chunk(found) == data


@settings(deadline=None)
@given(chunks())
def test_a_column_means_what_the_format_says(chunk: Chunk) -> None:
    """Decoded here with cbor2 and Python's integers, by docs/formats.md alone."""
    wire = cbor2.loads(encode_chunk(chunk))

    def column(value: list[Any]) -> list[int]:
        if len(value) < 2:
            return value * wire[6]
        width = {64: 1, 69: 2, 70: 4, 71: 8}[value[1].tag]
        raw = value[1].value
        out = [value[0]]
        for i in range(0, len(raw), width):
            zigzag = int.from_bytes(raw[i : i + width], "little")
            step = zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2
            out.append((out[-1] + step + 2**63) % 2**64 - 2**63)
        return out

    times, values, valid = padded(chunk.block)
    assert [START + offset for offset in column(wire[7])] == times
    assert column(wire[9]) == valid
    columns = {index: column(each) for index, each in wire[8].items()}
    assert [[columns[i][row] if i in columns else 0 for i in range(32)] for row in range(wire[6])] == values


@settings(deadline=None)
@given(chunks(), st.data())
def test_other_bytes_are_refused_or_mean_another_chunk(chunk: Chunk, data: st.DataObject) -> None:
    plain = bytearray(encode_chunk(chunk))
    at = data.draw(st.integers(0, len(plain) - 1))
    plain[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = decode_chunk(bytes(plain))
    except Malformed:
        return
    assert encode_chunk(found) == bytes(plain)


def wire_of(chunk: Chunk) -> list[Any]:
    return list(canonical.decode(encode_chunk(chunk), MAX_CHUNK_BYTES, typed_arrays=True))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, 2, "version"),
        (1, "a/b", "line id"),
        (2, b"short", "configuration hash"),
        (4, START, "ends before it starts"),
        (5, [], "carry"),
        (5, {1: 2}, "keys must be text"),
        (5, {"a": [{"b": TypedArray(64, b"ab")}]}, "typed array"),
        (6, 61, "61 values"),
        (6, MAX_ROWS + 1, "rows"),
        (7, [1000, TypedArray(64, bytes(59))], "narrowest"),
        (7, [1000, TypedArray(69, (2).to_bytes(2, "little") * 59)], "narrowest"),
        (7, [1000, TypedArray(71, (2000).to_bytes(8, "little") * 59)], "narrowest"),
        (7, [1000, TypedArray(69, (2001).to_bytes(2, "little") * 59)], "outside its span"),
        (7, [59_000, TypedArray(69, (1999).to_bytes(2, "little") + (2).to_bytes(2, "little") * 58)], "backwards"),
        (7, [60_001], "outside its span"),
        (7, [-1], "outside its span"),
        (7, [1000, [1] * 59], "typed array"),
        (7, [1000, TypedArray(64, b"a" * 59), 1], "60 values"),
        (7, [2**63], "first value"),
        (8, {0: [6], 2: [1], 3: [0]}, "says nothing"),
        (8, {0: [6]}, "not there"),
        (8, {0: [6], 2: [1], 32: [1]}, "a column"),
        (9, [2**32], "bits"),
        (9, [-1], "bits"),
        (9, [], "60 values"),
    ],
)
def test_what_is_not_the_one_form_is_refused(place: int, value: object, words: str) -> None:
    wire = wire_of(simple())
    wire[place] = value
    with pytest.raises(Malformed, match=words):
        decode_chunk(canonical.encode(wire))


def test_rows_outside_the_span_are_not_encoded() -> None:
    with pytest.raises(Malformed, match="outside"):
        encode_chunk(replace(simple(), start_ms=START + 1001))
    with pytest.raises(Malformed, match="outside"):
        encode_chunk(replace(simple(), end_ms=START + 59_999))
    with pytest.raises(Malformed, match="is empty"):
        encode_chunk(replace(simple(0), end_ms=START))
    rows = MAX_ROWS + 1
    block = SampleBlock(np.full(rows, START, np.int64), np.zeros((rows, 1), np.int64), np.zeros(rows, np.uint32))
    with pytest.raises(Malformed, match="rows"):
        encode_chunk(replace(simple(), block=block))


def test_a_bomb_is_not_unpacked() -> None:
    plain = encode_chunk(simple())
    assert decompress(compress(plain)) == plain
    long = zstandard.ZstdCompressor().compress(bytes(MAX_CHUNK_BYTES + 1))
    unstated = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    for bad in (
        long,
        unstated,
        b"",
        b"\x28\xb5\x2f\xfd",
        compress(plain)[:-1],
        compress(plain) + b"\0",
        compress(plain) * 2,
    ):
        with pytest.raises(Malformed, match="zstd"):
            decompress(bad)
    lying = bytearray(zstandard.ZstdCompressor().compress(bytes(MAX_CHUNK_BYTES)))
    at = bytes(lying).index(MAX_CHUNK_BYTES.to_bytes(4, "little"))
    lying[at : at + 4] = (100).to_bytes(4, "little")
    with pytest.raises(Malformed, match="zstd"):
        decompress(bytes(lying))


# Pieces


def committed(count: int, start_ms: int = START) -> tuple[SignedRecord, list[Chunk], list[Piece]]:
    """A record over `count` minutes, its chunks, and the pieces that lead to it."""
    made = [simple(start_ms=start_ms + 60_000 * i, carry={"i": i}) for i in range(count)]
    plain = [encode_chunk(chunk) for chunk in made]
    leaves = [leaf_hash(each) for each in plain]
    account = TimeAccount((60_000, *[0] * 10))
    windows = tuple(Window(c.start_ms, c.end_ms, CalendarKind.SCHEDULED, "", "", "", account) for c in made)
    raw = raw_commitment(leaves, 60 * count)
    body = Measurement((LineStatement("L1", HASH, raw, windows),))
    record = Record(3, RecordHash(b"p" * 32), bytes(16), start_ms, made[-1].end_ms, Clock(0, 1, "none"), body)
    signed = sign_record(KEY, record, issuer="GW-01", subject="site")
    pieces = [
        Piece(signed.kid, 3, i, tuple(inclusion_proof(leaves, i, count)), compress(plain[i])) for i in range(count)
    ]
    return signed, made, pieces


@pytest.mark.parametrize("count", [1, 2, 5, 8, 15])
def test_the_root_is_that_of_an_independent_tree(count: int) -> None:
    record, made, pieces = committed(count)
    body = record.record.body
    assert isinstance(body, Measurement) and body.lines[0].raw is not None
    raw = body.lines[0].raw
    leaves = [hashlib.sha256(b"\0" + encode_chunk(chunk)).digest() for chunk in made]
    assert raw.root == rfc6962.mth([encode_chunk(chunk) for chunk in made])
    assert (raw.chunk_count, raw.sample_count) == (count, 60 * count)
    for piece, leaf, chunk in zip(pieces, leaves, made, strict=True):
        found = verify_piece(decode_piece(encode_piece(piece)), record)
        assert padded(found.block) == padded(chunk.block) and found.carry == chunk.carry
        assert leaf_hash(decompress(piece.compressed)) == leaf


def test_a_piece_holds_only_where_it_belongs() -> None:
    record, made, pieces = committed(5)
    piece = pieces[2]
    other = compress(encode_chunk(replace(made[2], carry={"i": 99})))
    line = compress(encode_chunk(replace(made[2], line_id="L2")))
    configuration = compress(encode_chunk(replace(made[2], configuration_hash=bytes(32))))
    later = compress(encode_chunk(replace(made[2], end_ms=made[-1].end_ms + 1)))
    for wrong, words in (
        (replace(piece, sequence=4), "record 4"),
        (replace(piece, kid=b"12345678"), "key"),
        (replace(piece, leaf_index=1), "leaf 1"),
        (replace(piece, leaf_index=5), "not in a tree"),
        (replace(piece, path=piece.path[:-1]), "too short"),
        (replace(piece, path=(*piece.path, NodeHash(bytes(32)))), "too long"),
        (replace(piece, compressed=pieces[1].compressed), "leaf 2"),
        (replace(piece, compressed=other), "leaf 2"),
        (replace(piece, compressed=line), "no raw samples of line L2"),
        (replace(piece, compressed=configuration), "another configuration"),
        (replace(piece, compressed=later), "does not end within"),
    ):
        with pytest.raises(Unverified, match=words):
            verify_piece(wrong, record)
    heartbeat = sign_record(
        KEY, Record(3, RecordHash(b"p" * 32), bytes(16), START, START, Clock(0, 1, "none"), Heartbeat()),
        issuer="GW-01", subject="site",
    )  # fmt: skip
    with pytest.raises(Unverified, match="no raw samples"):
        verify_piece(piece, heartbeat)


def test_a_file_of_pieces_is_read_one_at_a_time() -> None:
    _, _, pieces = committed(15)
    noise = np.random.default_rng(1).bytes(300_000)
    long = replace(pieces[0], compressed=noise, path=tuple(NodeHash(bytes(32)) for _ in range(64)))
    wanted = [*pieces, long, *pieces, long]
    file = io.BytesIO()
    assert write_pieces(wanted, file) == len(wanted)
    data = file.getvalue()
    assert list(read_pieces(io.BytesIO(data))) == wanted
    assert list(read_pieces(io.BytesIO())) == []
    ends = np.cumsum([len(encode_piece(piece)) for piece in wanted]).tolist()
    for cut in (1, 30, ends[0] - 1, ends[3] + 2, len(data) - 1):
        whole = sum(end <= cut for end in ends)
        reading = read_pieces(io.BytesIO(data[:cut]))
        assert [next(reading) for _ in range(whole)] == wanted[:whole]
        with pytest.raises(Malformed, match="cut off"):
            next(reading)
    with pytest.raises(Malformed, match=f"at byte {ends[0]}"):
        list(read_pieces(io.BytesIO(data[: ends[0]] + b"junk" + data[ends[0] :])))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80), st.data())
def test_a_damaged_file_is_refused_or_read(noise: bytes, data: st.DataObject) -> None:
    _, _, pieces = committed(2)
    file = io.BytesIO()
    write_pieces(pieces, file)
    good = file.getvalue()
    at = data.draw(st.integers(0, len(good)))
    try:
        list(read_pieces(io.BytesIO(good[:at] + noise + good[at + len(noise) :])))
    except LinetallyError as error:
        assert isinstance(error, Malformed)


@pytest.mark.parametrize(
    "head",
    [
        b"\x86\x01\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x86\x01\x48kkkkkkkk\x00\x00\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x86\x01\x48kkkkkkkk\x00\x00\x80\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x85\x01", b"\x86\x1f", b"\xa0",
    ],
)  # fmt: skip
def test_a_hostile_length_reserves_nothing(head: bytes) -> None:
    with pytest.raises(Malformed, match="at byte 0"):
        list(read_pieces(io.BytesIO(head + bytes(5000))))
