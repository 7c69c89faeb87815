"""Raw samples as evidence: chunks of a line's rows, and pieces that tie a chunk to the record that committed to it.

Decides their bytes (docs/formats.md, "Raw samples"), their hashes and what a commitment covers. Does not decide what a
meter's memory may hold (`protocols.measurement.kept_memory`), nor where chunks are kept or who may ask for them.

A chunk is deterministic CBOR; the hash is over its plain bytes, and zstd is only how it lies and travels:

    [1, line_id, configuration_hash, start_ms, end_ms, carry, rows, time, {column index: column, ...}, valid]

It needs numpy and zstandard, which the offline verifier does without: nothing that it imports at start imports this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from protocols.errors import Malformed, Unverified
from protocols.evidence import canonical
from protocols.evidence.canonical import TYPED_ARRAY_BYTES, TypedArray
from protocols.evidence.cose import KID_LENGTH, Kid
from protocols.evidence.fields import MAX_INT, as_bytes, as_id, as_int, as_list, as_map, as_time_ms
from protocols.evidence.merkle import HASH_LENGTH, LeafHash, NodeHash, RootHash, leaf_hash, root, verify_inclusion
from protocols.evidence.record import Measurement, SignedRecord
from protocols.evidence.statement import LineStatement, RawCommitment
from protocols.plc.roles import COLUMNS
from protocols.plc.sample import SampleBlock

VERSION: Final = 1
GRID_MS: Final = 60_000
"""Chunks end on this grid of the wall clock, or on that of the windows where those are shorter."""
MAX_CHUNK_BYTES: Final = 4_000_000
MAX_ROWS: Final = 65_536
"""A row a millisecond for a minute: what a length without an array behind it may make us allocate."""
MAX_PATH: Final = 64
MAX_PIECE_BYTES: Final = MAX_CHUNK_BYTES + 65_536

_LEVEL: Final = 3
_READ: Final = 65_536
_LONGEST_HEAD: Final = 4096  # of a piece, before its chunk's bytes
_INT64_MIN: Final = -(2**63)
_UNSIGNED, _BYTES, _ARRAY = 0, 2, 4  # major types
_TAGS: Final = {width: tag for tag, width in TYPED_ARRAY_BYTES.items()}
_I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """What was pushed into one line's meter from `start_ms` to `end_ms`.

    Rows lie in (start_ms, end_ms], and at `start_ms` itself where they came when the chunk before had ended (or a
    fresh meter's first row). `carry`: the meter's memory at `start_ms` (`LineMeter.carry` without "ended",
    "handed_ms" and "live"), so that the chunk can be measured again by itself; None: a fresh meter began there.
    `configuration_hash`: 32 bytes, `LineConfiguration.hash`.
    """

    line_id: str
    configuration_hash: bytes
    start_ms: int
    end_ms: int
    carry: Mapping[str, Any] | None
    block: SampleBlock


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk and where it is committed to: leaf `leaf_index` of its line's raw root in record (kid, sequence).

    `path`: the RFC 9162 inclusion path. `compressed`: the chunk's bytes in zstd. Proves nothing yet: `verify_piece`.
    """

    kid: Kid
    sequence: int
    leaf_index: int
    path: tuple[NodeHash, ...]
    compressed: bytes


def encode_chunk(chunk: Chunk) -> bytes:
    """The chunk's plain bytes. A column is left out where it is 0 and not valid throughout.

    Raises Malformed for rows out of place, or more than `MAX_ROWS` or `MAX_CHUNK_BYTES`.
    """
    block = chunk.block
    rows = len(block)
    if rows > MAX_ROWS:
        raise Malformed(f"raw chunk: {rows} rows; at most {MAX_ROWS}")
    if chunk.end_ms <= chunk.start_ms:
        raise Malformed("raw chunk: ends before it starts, or is empty")
    if rows and not chunk.start_ms <= int(block.time_ms[0]) <= int(block.time_ms[-1]) <= chunk.end_ms:
        raise Malformed("raw chunk: rows outside its span")
    ever_valid = int(np.bitwise_or.reduce(block.valid)) if rows else 0
    held = np.bitwise_or.reduce(block.values, axis=0).tolist()
    indices = [index for index, holds in enumerate(held) if holds or ever_valid >> index & 1]
    matrix = np.empty((2 + len(indices), rows), np.int64)
    matrix[0] = block.time_ms - chunk.start_ms
    matrix[1] = block.valid
    matrix[2:] = block.values.T[indices]
    time, valid, *columns = _to_columns(matrix)
    data = canonical.encode(
        [
            VERSION, chunk.line_id, chunk.configuration_hash, chunk.start_ms, chunk.end_ms, chunk.carry,
            rows, time, dict(zip(indices, columns, strict=True)), valid,
        ]
    )  # fmt: skip
    if len(data) > MAX_CHUNK_BYTES:
        raise Malformed(f"raw chunk: {len(data)} bytes; at most {MAX_CHUNK_BYTES}")
    return data


def decode_chunk(data: bytes) -> Chunk:
    """The chunk whose plain bytes these are. Raises Malformed for any other form of it."""
    version, line_id, configuration_hash, start, end, carry, row_count, time, columns, valid_bits = as_list(
        canonical.decode(data, MAX_CHUNK_BYTES, typed_arrays=True), "raw chunk", 10
    )
    as_int(version, "raw chunk: version", VERSION, VERSION)
    start_ms, end_ms = as_time_ms(start, "raw chunk: start"), as_time_ms(end, "raw chunk: end")
    if end_ms <= start_ms:
        raise Malformed("raw chunk: ends before it starts, or is empty")
    rows = as_int(row_count, "raw chunk: rows", 0, MAX_ROWS)
    indices = [as_int(i, "raw chunk: a column", 0, COLUMNS - 1) for i in as_map(columns, "raw chunk: columns")]
    matrix = _from_columns([time, valid_bits, *columns.values()], rows)
    if rows and not 0 <= int(matrix[0].min()) <= int(matrix[0].max()) <= end_ms - start_ms:
        raise Malformed("raw chunk: rows outside its span")
    if rows and not 0 <= int(matrix[1].min()) <= int(matrix[1].max()) < 1 << COLUMNS:
        raise Malformed(f"raw chunk: valid has more than {COLUMNS} bits")
    ever_valid = int(np.bitwise_or.reduce(matrix[1])) if rows else 0
    if ever_valid & ~sum(1 << index for index in indices):
        raise Malformed("raw chunk: a column is valid that is not there")
    for index, column in zip(indices, matrix[2:], strict=True):
        if not ever_valid >> index & 1 and not column.any():
            raise Malformed(f"raw chunk: column {index} says nothing")
    values = np.zeros((rows, max(indices, default=0) + 1), np.int64)
    values[:, indices] = matrix[2:].T
    return Chunk(
        as_id(line_id, "raw chunk: line id"),
        as_bytes(configuration_hash, "raw chunk: configuration hash", HASH_LENGTH),
        start_ms,
        end_ms,
        _carry(carry),
        SampleBlock(matrix[0] + start_ms, values, matrix[1].astype(np.uint32)),
    )


def raw_commitment(leaves: Sequence[LeafHash], samples: int) -> RawCommitment | None:
    """What a statement says of the chunks whose leaves (in order of their ends) these are; None where there is none.

    A line's statement covers the chunks of its configuration that end in (start of its first window, end of its last].
    """
    return RawCommitment(root(leaves), len(leaves), samples) if leaves else None


# A column is [] without rows, [first] where all are equal, else [first, typed array of zigzag differences]. These are
# taken modulo 2^64, so that every step between two integers of 64 bits has one.


def _to_columns(matrix: _I64) -> list[list[Any]]:
    """`matrix`: a column of the chunk in each row."""
    if not matrix.shape[1]:
        return [[] for _ in matrix]
    steps = matrix[:, 1:] - matrix[:, :-1]
    zigzag = ((steps << 1) ^ (steps >> 63)).view(np.uint64)
    widths = [_width(most) for most in zigzag.max(axis=1, initial=0).tolist()]
    # All columns in each width that one of them has: to begin to write one costs more than its few numbers.
    written = {width: zigzag.astype(f"<u{width}").tobytes() for width in set(widths) - {0}}
    rows = matrix.shape[1] - 1
    out: list[list[Any]] = []
    for at, (first, width) in enumerate(zip(matrix[:, 0].tolist(), widths, strict=True)):
        size = rows * width
        out.append([first, TypedArray(_TAGS[width], written[width][at * size : (at + 1) * size])] if width else [first])
    return out


def _from_columns(columns: Sequence[object], rows: int) -> _I64:
    """The inverse: int64[columns, rows]."""
    firsts = np.zeros((len(columns), 1), np.int64)
    zigzag = np.zeros((len(columns), max(rows - 1, 0)), np.uint64)
    widths = []
    for i, wire in enumerate(columns):
        column = as_list(wire, "raw chunk: a column")
        if len(column) > 2 or (not column) != (rows == 0):
            raise Malformed(f"raw chunk: a column does not have {rows} values")
        if column:
            firsts[i] = as_int(column[0], "raw chunk: a column's first value", _INT64_MIN, MAX_INT)
        steps = column[1] if len(column) == 2 else None
        width = 0
        if isinstance(steps, TypedArray):
            width = TYPED_ARRAY_BYTES[steps.tag]
            if len(steps.data) != width * (rows - 1):
                raise Malformed(f"raw chunk: a column does not have {rows} values")
            zigzag[i] = np.frombuffer(steps.data, f"<u{width}")
        elif len(column) == 2:
            raise Malformed("raw chunk: a column's differences must be a typed array")
        widths.append(width)
    if widths != [_width(most) for most in zigzag.max(axis=1, initial=0).tolist()]:
        raise Malformed("raw chunk: a column's differences are not in the narrowest form")
    steps_back = (zigzag >> np.uint64(1)).view(np.int64) ^ -(zigzag & np.uint64(1)).view(np.int64)
    return np.cumsum(np.concatenate((firsts, steps_back), axis=1)[:, :rows], axis=1)


def _width(largest: int) -> int:
    """The bytes of each difference; 0 where there is none but 0."""
    return 0 if largest == 0 else 1 if largest < 1 << 8 else 2 if largest < 1 << 16 else 4 if largest < 1 << 32 else 8


def _carry(value: object) -> dict[str, Any] | None:
    """A map of text to plain data, or null. What it must say is for whoever measures with it."""
    if value is None:
        return None
    data = as_map(value, "raw chunk: carry")
    if not all(isinstance(key, str) for key in data):
        raise Malformed("raw chunk: carry: its keys must be text")
    waiting: list[Any] = list(data.values())
    while waiting:
        item = waiting.pop()
        if isinstance(item, TypedArray):
            raise Malformed("raw chunk: carry: a typed array")
        waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
    return data


# Pieces


def compress(chunk: bytes) -> bytes:
    """zstd of a chunk's plain bytes. The hash is over the plain bytes: which compressor made these is all the same."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(chunk)


def decompress(data: bytes, decompressor: zstandard.ZstdDecompressor | None = None) -> bytes:
    """The plain bytes of exactly one zstd frame, which must state a length of at most `MAX_CHUNK_BYTES`.

    `decompressor`: one to use again, which saves 20 us a call; never from two threads at once. Raises Malformed.
    """
    try:
        length = zstandard.get_frame_parameters(data).content_size
        if not 0 < length <= MAX_CHUNK_BYTES:  # also where it is not stated
            raise Malformed(f"raw chunk: its zstd frame must state a length of at most {MAX_CHUNK_BYTES} bytes")
        # Never writes more than that, whatever follows in the frame.
        context = zstandard.ZstdDecompressor() if decompressor is None else decompressor
        return context.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"raw chunk: zstd: {error}") from error


def encode_piece(piece: Piece) -> bytes:
    return canonical.encode([VERSION, piece.kid, piece.sequence, piece.leaf_index, list(piece.path), piece.compressed])


def decode_piece(data: bytes) -> Piece:
    """Raises Malformed, naming the field."""
    return _piece(canonical.decode(data, MAX_PIECE_BYTES))


def verify_piece(piece: Piece, record: SignedRecord) -> Chunk:
    """The chunk, once `record` (whose signature the caller has checked) is found to commit to exactly it.

    Raises Unverified when it does not, Malformed for broken bytes.
    """
    if record.kid != piece.kid or record.record.sequence != piece.sequence:
        raise Unverified(f"the raw piece is for record {piece.sequence} of key {piece.kid.hex()}")
    plain = decompress(piece.compressed)
    chunk = decode_chunk(plain)
    line = _statement(record, chunk.line_id)
    if line is None or line.raw is None:
        raise Unverified(f"record {piece.sequence} commits to no raw samples of line {chunk.line_id}")
    if line.configuration_hash != chunk.configuration_hash:
        raise Unverified("the raw chunk was measured under another configuration than the record's")
    if not line.windows[0].start_ms < chunk.end_ms <= line.windows[-1].end_ms:
        raise Unverified("the raw chunk does not end within the record's windows")
    verify_inclusion(leaf_hash(plain), piece.leaf_index, line.raw.chunk_count, piece.path, RootHash(line.raw.root))
    return chunk


def write_pieces(pieces: Iterable[Piece], file: IO[bytes]) -> int:
    """A `.raw` file: a CBOR sequence (RFC 8742) of pieces. The number written."""
    count = 0
    for piece in pieces:
        file.write(encode_piece(piece))
        count += 1
    return count


def read_pieces(file: IO[bytes]) -> Iterator[Piece]:
    """The pieces of a `.raw` file, one at a time. Raises Malformed, with its offset, at the first that is not one."""
    buffer = file.read(_READ)
    at = 0
    while buffer:
        if len(buffer) < _LONGEST_HEAD:
            buffer += file.read(_READ)
        try:
            length = _piece_length(buffer)
            while len(buffer) < length:
                more = file.read(_READ)
                if not more:
                    raise Malformed("raw piece: cut off")
                buffer += more
            yield decode_piece(buffer[:length])
        except (IndexError, Malformed) as error:
            raise Malformed(f"{error.what if isinstance(error, Malformed) else 'raw piece: cut off'}", at) from error
        buffer = buffer[length:] or file.read(_READ)
        at += length


def _piece_length(data: bytes) -> int:
    """How long the piece is that `data` begins with, by its heads alone. IndexError where `data` ends before them."""
    at = _head(data, 0, _ARRAY)[1]
    at = _head(data, at, _UNSIGNED)[1]  # version
    length, at = _head(data, at, _BYTES)  # kid
    at = _head(data, at + length, _UNSIGNED)[1]  # sequence
    at = _head(data, at, _UNSIGNED)[1]  # leaf index
    hashes, at = _head(data, at, _ARRAY)
    if hashes > MAX_PATH:
        raise Malformed(f"raw piece: a path of more than {MAX_PATH} hashes")
    for _ in range(hashes):
        length, at = _head(data, at, _BYTES)
        at += length
    length, at = _head(data, at, _BYTES)
    if at + length > MAX_PIECE_BYTES:
        raise Malformed(f"raw piece: longer than {MAX_PIECE_BYTES} bytes")
    return at + length


def _head(data: bytes, at: int, major: int) -> tuple[int, int]:
    """(argument, position after it) of the data item at `at` (RFC 8949 section 3)."""
    if data[at] >> 5 != major:
        raise Malformed("raw piece: not one")
    short = data[at] & 31
    if short < 24:
        return short, at + 1
    if short > 27:
        raise Malformed("raw piece: not one")
    end = at + 1 + (1 << (short - 24))
    if end > len(data):
        raise IndexError("the data end in a head")
    return int.from_bytes(data[at + 1 : end], "big"), end


def _piece(wire: object) -> Piece:
    version, kid, sequence, leaf_index, path, compressed = as_list(wire, "raw piece", 6)
    as_int(version, "raw piece: version", VERSION, VERSION)
    hashes = as_list(path, "raw piece: path")
    if len(hashes) > MAX_PATH:
        raise Malformed(f"raw piece: a path of more than {MAX_PATH} hashes")
    if not isinstance(compressed, bytes):
        raise Malformed("raw piece: its chunk must be bytes")
    return Piece(
        Kid(as_bytes(kid, "raw piece: kid", KID_LENGTH)),
        as_int(sequence, "raw piece: sequence"),
        as_int(leaf_index, "raw piece: leaf index"),
        tuple(NodeHash(as_bytes(each, "raw piece: path", HASH_LENGTH)) for each in hashes),
        compressed,
    )


def _statement(record: SignedRecord, line_id: str) -> LineStatement | None:
    body = record.record.body
    lines = body.lines if isinstance(body, Measurement) else ()
    return next((line for line in lines if line.line_id == line_id), None)
