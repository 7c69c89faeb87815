"""Samples: what a source read from a PLC, before anything is decided about it.

Decides the shape of raw data. A row is the whole image of one line's signals at one instant, with values held
from earlier reads, so that polling (Modbus) and events (OPC UA) come to the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.errors import Malformed
from protocols.plc.roles import COLUMNS, ROLES, Quality, SignalRole

Row: TypeAlias = tuple[int, tuple[int, ...], int]
"""One row by itself: time_ms, values by column, valid bits, each as in `SampleBlock`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one signal. `source_time_ms`: Unix milliseconds, of the source where it has a clock.

    `value` is the PLC's raw integer (a state before mapping, a counter before unwrapping).
    """

    role: SignalRole
    source_time_ms: int
    value: int
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Rows of one line in time order.

    time_ms: int64[n], never decreasing · values: int64[n, k], raw values: column r is `SignalRole` r, and from
    column 13 on come the further lanes of counters, in the configuration's order · valid: uint32[n], bit c is set
    when column c was of good quality at that row. k may be less than the line has, down to 1: a column that is not
    there is not valid.
    """

    time_ms: NDArray[np.int64]
    values: NDArray[np.int64]
    valid: NDArray[np.uint32]

    def __post_init__(self) -> None:
        rows = len(self.time_ms)
        columns = self.values.shape[1] if self.values.ndim == 2 else 0
        if len(self.values) != rows or self.valid.shape != (rows,) or not 1 <= columns <= COLUMNS:
            raise Malformed(f"a sample block of {rows} rows needs values of ({rows}, {ROLES}) and valid of ({rows},)")
        if self.time_ms.dtype != np.int64 or self.values.dtype != np.int64 or self.valid.dtype != np.uint32:
            raise Malformed("a sample block needs int64 times and values, and uint32 valid bits")
        if rows == 1:  # as a line at work pushes them: spare what follows
            backwards, beyond = False, int(self.valid[0]) >> columns != 0
        else:
            backwards = bool((self.time_ms[1:] < self.time_ms[:-1]).any())
            beyond = columns < COLUMNS and bool((self.valid >> np.uint32(columns)).any())
        if backwards:
            raise Malformed("the times of a sample block go backwards")
        if beyond:
            raise Malformed(f"a sample block calls columns valid past its {columns}")

    def __len__(self) -> int:
        return len(self.time_ms)

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> SampleBlock:
        """A block from (time_ms, values by column, valid bits) tuples, all of one width."""
        listed = list(rows)
        columns = len(listed[0][1]) if listed else ROLES
        return cls(
            np.fromiter((r[0] for r in listed), np.int64, len(listed)),
            np.array([r[1] for r in listed], np.int64).reshape(len(listed), columns),
            np.fromiter((r[2] for r in listed), np.uint32, len(listed)),
        )


def joined(blocks: Sequence[SampleBlock]) -> SampleBlock:
    """The blocks as one, as wide as the widest."""
    if len(blocks) == 1:
        return blocks[0]
    width = max(block.values.shape[1] for block in blocks)
    values = np.zeros((sum(len(block) for block in blocks), width), np.int64)
    at = 0
    for block in blocks:
        values[at : at + len(block), : block.values.shape[1]] = block.values
        at += len(block)
    return SampleBlock(
        np.concatenate([block.time_ms for block in blocks]), values, np.concatenate([block.valid for block in blocks])
    )
