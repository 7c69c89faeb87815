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
    REWORK = 7  # pieces that went through again
    RUNNING = 8  # machines without PackML: not 0 while the machine runs
    FAULT = 9  # a fault word: some bit is set while a fault is on
    SPEED = 10  # in thousandths of the tag's unit, since a speed may be a float
    HEARTBEAT = 11  # any value that changes while the PLC's program runs
    REASON = 12  # the code of why the line stands; 0: none given


ROLES: Final = len(SignalRole)
COLUMNS: Final = 32
"""The most columns of a line: the roles, then the further lanes of its counters. One bit each in `valid`."""

SPEED_SCALE: Final = 1000
"""What a speed is multiplied by to be a whole number."""

COUNTER_ROLES: Final = (SignalRole.TOTAL, SignalRole.GOOD, SignalRole.REJECT, SignalRole.REWORK)


class Quality(IntEnum):
    """The quality of one value, folded from OPC UA's StatusCode severity (Part 4, 7.39) or a Modbus exception."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
