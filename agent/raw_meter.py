"""A meter that keeps what it was given: the rows of one line, cut into chunks beside the windows.

Decides where a chunk ends: at each edge of a grid of the wall clock (a minute, or the window where that is shorter),
before anything after the edge is measured, so that each chunk stands with the meter's memory at its start and can be
measured again by itself. Edges over which nothing came, passed in one go, make one chunk. Where chunks are kept, and
for how long, is the spool's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from protocols.errors import Malformed
from protocols.evidence.merkle import LeafHash, leaf_hash
from protocols.evidence.raw import GRID_MS, Chunk, compress, decode_chunk, encode_chunk
from protocols.measurement.account import Window
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.meter import LineMeter
from protocols.plc.sample import Row, SampleBlock, joined

ROWS_A_CHUNK: Final = 4096
"""More rows than this end a chunk before its edge: it must travel in one message."""
_NO_ROWS: Final = SampleBlock(np.empty(0, np.int64), np.empty((0, 1), np.int64), np.empty(0, np.uint32))

_ROWS_LOOSE: Final = 16
"""So many single rows are put together: a block of one takes more memory than its row."""

Give = Callable[[int], None]
"""Pushes the rows up to and at a time that were not pushed before, in order."""


@dataclass(frozen=True, slots=True)
class ClosedChunk:
    """A chunk as it is kept. `leaf`: of its plain bytes; `compressed`: these in zstd."""

    line_id: str
    configuration_hash: bytes
    start_ms: int
    end_ms: int
    samples: int
    leaf: LeafHash
    compressed: bytes


@dataclass(frozen=True, slots=True)
class LostRaw:
    """A chunk that was not kept, and why."""

    line_id: str
    from_ms: int
    to_ms: int
    reason: str


class RawMeter(LineMeter):
    """A `LineMeter` that also makes chunks from `raw_start_ms` on; with `open_chunk` it goes on with that one.

    `keeps`: whether there will be chunks at all. Without them it measures exactly the same. `no_room`: why chunks
    cannot be kept just now; then they are lost, one by one.
    """

    def __init__(
        self,
        configuration: LineConfiguration,
        start_ms: int,
        carry: Mapping[str, Any] | None = None,
        open_chunk: bytes | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        super().__init__(configuration, start_ms, carry)
        self.keeps = keeps
        self.no_room: str | None = None
        self._closed: list[ClosedChunk] = []
        self._lost: list[LostRaw] = []
        self._given: list[SampleBlock] = []
        self._loose: list[Row] = []  # given after those
        self._rows = 0
        self._grid_ms = min(GRID_MS, configuration.window_ms)
        self._opening: Mapping[str, Any] | None = None
        self._raw_start_ms = max(start_ms, self.last_sample_ms)
        if open_chunk is not None and keeps:
            chunk = decode_chunk(open_chunk)
            self._raw_start_ms, self._opening = chunk.start_ms, chunk.carry
            self._note(chunk.block)
        elif carry is not None:
            self._opening = self.memory()
        self._edge_ms = self._next_edge(self._raw_start_ms)

    @property
    def floor_ms(self) -> int:
        """No row may be older: what was before is in a closed window or a closed chunk."""
        return max(self.last_sample_ms, self.closed_until_ms, self._raw_start_ms if self.keeps else 0)

    def push(self, block: SampleBlock) -> None:
        super().push(block)
        if self.keeps:
            self._note(block)

    def push_row(self, time_ms: int, values: tuple[int, ...], valid: int) -> None:
        super().push_row(time_ms, values, valid)
        if self.keeps:
            self._loose.append((time_ms, values, valid))
            self._rows += 1
            if len(self._loose) >= _ROWS_LOOSE:
                self._gather()

    def measure(self, until_ms: int, give: Give) -> list[Window]:
        """Takes the rows up to `until_ms`, to which all are known, and gives the windows that this closed."""
        windows: list[Window] = []
        if self.keeps:
            while self._edge_ms < until_ms:
                give(self._edge_ms)
                following = self._edge_ms + self._grid_ms
                if self._rows or following >= until_ms:
                    windows += self.advance(self._edge_ms)
                    self._cut(self._edge_ms)
                self._edge_ms = following
        give(until_ms)
        windows += self.advance(until_ms)
        if self._rows >= ROWS_A_CHUNK and until_ms > self._raw_start_ms:
            self._cut(until_ms)
            self._edge_ms = self._next_edge(until_ms)
        return windows

    def begin_chunks(self, at_ms: int) -> None:
        """From now on there are chunks; all rows up to `at_ms` have been given, and none after it."""
        self.keeps = True
        self._given, self._loose, self._rows = [], [], 0
        self._opening = self.memory()
        self._raw_start_ms = at_ms
        self._edge_ms = self._next_edge(at_ms)

    @property
    def has_chunks(self) -> bool:
        """Whether some were closed, or lost, and not taken yet."""
        return bool(self._closed or self._lost)

    def take_chunks(self) -> list[ClosedChunk]:
        """The chunks that were closed, each exactly once, in order of time."""
        closed, self._closed = self._closed, []
        return closed

    def take_lost(self) -> list[LostRaw]:
        """The chunks that could not be kept, each exactly once, in order of time."""
        lost, self._lost = self._lost, []
        return lost

    def open_chunk(self) -> bytes | None:
        """The chunk under way, to be kept together with `carry`."""
        if not self.keeps:
            return None
        try:
            return encode_chunk(self._chunk(max(self._raw_start_ms + 1, self.last_sample_ms)))
        except Malformed:  # it is too long, and will be lost when it ends
            return None

    def push_all(self, blocks: Iterable[SampleBlock]) -> None:
        """Takes blocks in time order."""
        for block in blocks:
            self.push(block)

    def _note(self, block: SampleBlock) -> None:
        if len(block):
            self._gather()
            self._given.append(block)
            self._rows += len(block)

    def _gather(self) -> None:
        if self._loose:
            self._given.append(SampleBlock.from_rows(self._loose))
            self._loose = []

    def _cut(self, end_ms: int) -> None:
        reason = self.no_room
        try:
            if reason is None:
                self._closed.append(closed_chunk(self._chunk(end_ms)))
        except Malformed as error:
            reason = str(error)
        if reason is not None:
            self._lost.append(LostRaw(self.configuration.line_id, self._raw_start_ms, end_ms, reason))
        self._given, self._loose, self._rows = [], [], 0
        self._opening = self.memory()
        self._raw_start_ms = end_ms

    def _chunk(self, end_ms: int) -> Chunk:
        configuration = self.configuration
        self._gather()
        block = joined(self._given) if self._given else _NO_ROWS
        return Chunk(configuration.line_id, configuration.hash, self._raw_start_ms, end_ms, self._opening, block)

    def _next_edge(self, at_ms: int) -> int:
        return (at_ms // self._grid_ms + 1) * self._grid_ms


def closed_chunk(chunk: Chunk) -> ClosedChunk:
    """Raises Malformed where it cannot be encoded."""
    plain = encode_chunk(chunk)
    return ClosedChunk(
        chunk.line_id,
        chunk.configuration_hash,
        chunk.start_ms,
        chunk.end_ms,
        len(chunk.block),
        leaf_hash(plain),
        compress(plain),
    )
