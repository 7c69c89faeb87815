"""Samples: what a source read from a PLC, before anything is decided about it.

Decides the shape of raw data. A row is the whole image of one line's signals at one instant, with values held
from earlier reads, so that polling (Modbus) and events (OPC UA) come to the same table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.errors import Malformed
from protocols.plc.roles import ROLES, Quality, SignalRole


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

    time_ms: int64[n], never decreasing · values: int64[n, 7], raw values by `SignalRole` ·
    valid: uint8[n], bit r is set when role r was of good quality at that row.
    """

    time_ms: NDArray[np.int64]
    values: NDArray[np.int64]
    valid: NDArray[np.uint8]

    def __post_init__(self) -> None:
        rows = len(self.time_ms)
        if self.values.shape != (rows, ROLES) or self.valid.shape != (rows,):
            raise Malformed(f"a sample block of {rows} rows needs values of ({rows}, {ROLES}) and valid of ({rows},)")
        if rows > 1 and bool((np.diff(self.time_ms) < 0).any()):
            raise Malformed("the times of a sample block go backwards")

    def __len__(self) -> int:
        return len(self.time_ms)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, tuple[int, ...], int]]) -> SampleBlock:
        """A block from (time_ms, seven values, valid bits) tuples."""
        listed = list(rows)
        return cls(
            np.fromiter((r[0] for r in listed), np.int64, len(listed)),
            np.array([r[1] for r in listed], np.int64).reshape(len(listed), ROLES),
            np.fromiter((r[2] for r in listed), np.uint8, len(listed)),
        )
