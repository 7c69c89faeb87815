"""What a signal means for a line, and how good a value is.

Decides the columns of raw data. Apart from `sample`, so that whoever reads a configuration needs no numpy.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class SignalRole(IntEnum):
    """What a signal means for the line; its column in `SampleBlock.values`, its bit in `SampleBlock.valid`."""

    STATE = 0
    MODE = 1
    TOTAL = 2
    GOOD = 3
    REJECT = 4
    PRODUCT = 5
    ORDER = 6


ROLES: Final = len(SignalRole)


class Quality(IntEnum):
    """The quality of one value, folded from OPC UA's StatusCode severity (Part 4, 7.39) or a Modbus exception."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
