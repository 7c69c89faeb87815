"""Many raw chunks at once: plain bytes of one line, which are committed to, to rows as long as they follow each other.

Decides which chunks go together. The way of one chunk at a time (`protocols.evidence.raw.decode_chunk`) is the strict
one and words every fault; this one is taken where there are many, and gives up in favour of that one where in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocols.errors import Unverified
from protocols.evidence import canonical
from protocols.evidence.merkle import LeafHash, NodeHash, RootHash, leaf_hash, root, verify_inclusion
from protocols.evidence.raw import MAX_CHUNK_BYTES, VERSION, Piece
from protocols.evidence.statement import LineStatement
from protocols.measurement.kernels import unpack as k
from protocols.measurement.kernels.scan import I64
from protocols.measurement.replay import RawRows
from protocols.plc.sample import SampleBlock

_NULL = b"\xf6"


def prefix_of(line: LineStatement) -> bytes:
    """How every chunk begins that this statement may commit to."""
    return b"\x8a" + canonical.encode([VERSION, line.line_id, line.configuration_hash])[1:]


def span_of(plain: bytes) -> tuple[str, int, int] | None:
    """(line id, start_ms, end_ms) of a chunk, by its heads alone; None where these are not as usual."""
    at = 2 if plain[:2] == b"\x8a\x01" else len(plain)
    short = plain[at] & 31 if at < len(plain) else 31
    at, length = (at + 2, plain[at + 1]) if short == 24 and at + 1 < len(plain) else (at + 1, short)
    line_id, at = plain[at : at + length], at + length + 34
    if len(plain) < at + 18 or plain[at] != 0x1B or plain[at + 9] != 0x1B:  # times are of 64 bits since 1970-02-19
        return None
    start_ms, end_ms = (int.from_bytes(plain[i + 1 : i + 9], "big") for i in (at, at + 9))
    return line_id.decode("ascii", "replace"), start_ms, end_ms


class Tree:
    """The leaves that are here of one line's commitment in one record."""

    def __init__(self, line: LineStatement) -> None:
        assert line.raw is not None, "without a commitment there is no tree"
        self._raw = line.raw
        self._leaves: dict[int, tuple[LeafHash, tuple[NodeHash, ...]]] = {}

    def add(self, piece: Piece, plain: bytes) -> None:
        """Raises Unverified for a leaf that is here already: what is under it must be looked at alone."""
        if piece.leaf_index in self._leaves:
            raise Unverified(f"leaf {piece.leaf_index} comes twice")
        self._leaves[piece.leaf_index] = leaf_hash(plain), piece.path

    def check(self) -> None:
        """Raises Unverified unless all of them are under the root. Where none is missing, no path is needed."""
        count, expected = self._raw.chunk_count, RootHash(self._raw.root)
        indices = sorted(self._leaves)
        if indices == list(range(count)) and root([self._leaves[i][0] for i in indices]) == expected:
            return
        for index, (leaf, path) in self._leaves.items():
            verify_inclusion(leaf, index, count, path, expected)


class Committed:
    """Plain chunks of one line and configuration, and between which times the statement of each lets it end."""

    def __init__(self) -> None:
        self.plain: list[bytes] = []
        self._after_ms: list[int] = []
        self._until_ms: list[int] = []

    def add(self, plain: bytes, after_ms: int, until_ms: int) -> None:
        self.plain.append(plain)
        self._after_ms.append(after_ms)
        self._until_ms.append(until_ms)

    def rows(self, gather: int) -> list[RawRows] | None:
        """As `rows_of`; None also for a chunk that does not end within its statement."""
        return rows_of(self.plain, gather, np.array(self._after_ms, np.int64), np.array(self._until_ms, np.int64))


def rows_of(
    plain: Sequence[bytes], gather: int, after_ms: I64 | None = None, until_ms: I64 | None = None
) -> list[RawRows] | None:
    """The rows of these chunks in order of time, at most `gather` contiguous chunks together; None in doubt.

    `after_ms`, `until_ms`: each chunk ends after the one and not after the other. Raises Malformed for rows that go
    backwards within a chunk, or a memory that is no CBOR.
    """
    data = np.frombuffer(b"".join(plain), np.uint8)
    bounds = np.zeros(len(plain) + 1, np.int64)
    np.cumsum([len(each) for each in plain], out=bounds[1:])
    heads = np.zeros((len(plain), k.HEADS), np.int64)
    if not k.heads_of(data, bounds, heads):
        return None
    ended = heads[:, k.END_MS]
    if after_ms is not None and until_ms is not None and ((ended <= after_ms) | (ended > until_ms)).any():
        return None
    order = np.lexsort((heads[:, k.END_MS], heads[:, k.START_MS]))
    heads = heads[order]
    if (heads[1:, k.START_MS] < heads[:-1, k.END_MS]).any():
        return None
    out: list[RawRows] = []
    first = 0
    listed = order.tolist()
    starts, ends = heads[:, k.START_MS].tolist(), heads[:, k.END_MS].tolist()
    for i in range(1, len(listed) + 1):
        if (
            i == len(listed)
            or i - first == gather
            or starts[i] != ends[i - 1]
            or _carry(plain[listed[i]], heads[i]) == _NULL
        ):
            rows = _together([plain[which] for which in listed[first:i]], heads[first:i])
            if rows is None:
                return None
            out.append(rows)
            first = i
    return out


def _together(plain: Sequence[bytes], heads: I64) -> RawRows | None:
    """Chunks that follow each other, as one."""
    heads = np.ascontiguousarray(heads)
    data = np.frombuffer(b"".join(plain), np.uint8)
    bounds = np.zeros(len(plain) + 1, np.int64)
    np.cumsum([len(each) for each in plain], out=bounds[1:])
    rows, width = int(heads[:, k.ROWS].sum()), max(1, int(heads[:, k.COLUMNS_END].max()))
    time_ms, valid = np.zeros(rows, np.int64), np.zeros(rows, np.uint32)
    values, room = np.zeros((rows, width), np.int64), np.zeros(max(1, int(heads[:, k.ROWS].max())), np.int64)
    if not k.unpack(data, bounds, heads, time_ms, values, valid, room):
        return None
    carry = canonical.decode(_carry(plain[0], heads[0]), MAX_CHUNK_BYTES)
    if carry is not None and not isinstance(carry, dict):
        return None
    block = SampleBlock(time_ms, values, valid)
    return RawRows(int(heads[0, k.START_MS]), int(heads[-1, k.END_MS]), carry, block)


def _carry(plain: bytes, head: I64) -> bytes:
    return plain[int(head[k.CARRY_AT]) : int(head[k.CARRY_END])]
