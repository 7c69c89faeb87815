"""What a configuration says of Modbus: links, how they are polled, tags, and the table of types.

Decides what each of these is. The keys by which a file says it are `config_modbus_keys`'; how registers are asked for
and what their bits mean is decided in `agent.sources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from pathlib import Path
from typing import Final

from protocols.plc.roles import SignalRole

TRANSPORTS: Final = ("tcp", "udp", "tls", "rtu-over-tcp", "serial")
TABLES: Final = ("holding", "input", "coil", "discrete")
BIT_TABLES: Final = ("coil", "discrete")
UNSCALED: Final = Fraction(1)


class Kind(Enum):
    """How the bits of a type are read."""

    UNSIGNED = auto()
    SIGNED = auto()
    FLOAT = auto()
    BCD = auto()
    TEXT = auto()
    BIT = auto()


MODBUS_TYPES: Final[dict[str, tuple[int, Kind]]] = {
    "uint16": (1, Kind.UNSIGNED), "int16": (1, Kind.SIGNED), "uint32": (2, Kind.UNSIGNED), "int32": (2, Kind.SIGNED),
    "uint64": (4, Kind.UNSIGNED), "int64": (4, Kind.SIGNED), "float32": (2, Kind.FLOAT), "float64": (4, Kind.FLOAT),
    "bcd16": (1, Kind.BCD), "bcd32": (2, Kind.BCD), "bcd64": (4, Kind.BCD), "string": (0, Kind.TEXT),
    "bit": (1, Kind.BIT),
}  # fmt: skip
"""Name -> registers (of a string: as many as its `length` says), kind. A register has 16 bits."""


@dataclass(frozen=True, slots=True)
class ModbusLink:
    """What connects to one wire: lines that name the same one share it. `host` and `port`, or a serial `device`."""

    transport: str = "tcp"
    host: str = ""
    port: int = 0
    device: str = ""
    baud_rate: int = 19_200
    parity: str = "even"
    stop_bits: int = 1
    local_echo: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @property
    def is_rtu(self) -> bool:
        """Frames with a CRC and without a transaction id."""
        return self.transport in ("serial", "rtu-over-tcp")

    @property
    def devices(self) -> tuple[int, int]:
        """The least and the greatest device id that can be asked."""
        # 248 to 255 are reserved on a serial line, and 0 is a broadcast that nobody answers (Serial Line 1.02, 2.2).
        return (1, 247) if self.is_rtu else (0, 255)

    @property
    def words(self) -> str:
        return self.device or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ModbusSource:
    """Polling Modbus devices. `timeout_ms`: for one request; `hole_limit`: registers read along between two tags."""

    link: ModbusLink
    device_id: int
    poll_interval_ms: int
    timeout_ms: int
    hole_limit: int = 32
    max_registers: int = 125


@dataclass(frozen=True, slots=True)
class ModbusTag:
    """A register as the protocol counts it, from 0 (what some makers call 40001 is holding register 0).

    `little_words`: the low word comes first; `little_bytes`: the low byte of each register does. `mask` (0: none) is
    applied before `shift` to the right. `scale` is what the number is multiplied by. `length`: registers of a string.
    The PLC's own clock is no signal; its role means nothing.
    """

    role: SignalRole
    register: int
    type: str = "uint16"
    table: str = "holding"
    device_id: int = 1
    little_words: bool = False
    little_bytes: bool = False
    mask: int = 0
    shift: int = 0
    scale: Fraction = UNSCALED
    length: int = 0
    modulus: int = 0
    bcd: bool = False
    lane_column: int = -1

    @property
    def column(self) -> int:
        """Where its values go in a block."""
        return self.lane_column if self.lane_column >= 0 else int(self.role)

    @property
    def kind(self) -> Kind:
        return MODBUS_TYPES[self.type][1]

    @property
    def count(self) -> int:
        """Registers (or bits, in a table of bits) that it takes."""
        return self.length or MODBUS_TYPES[self.type][0]

    @property
    def words(self) -> str:
        """All that decides its numbers, for the log's reader."""
        parts = [f"{self.table} {self.register} {self.type}"]
        parts += [f"of {self.length} registers"] if self.length else []
        parts += ["low word first"] if self.little_words else []
        parts += ["low byte first"] if self.little_bytes else []
        parts += [f"& {self.mask:#x} >> {self.shift}"] if self.mask else []
        parts += [f"x {self.scale}"] if self.scale != 1 else []
        return ", ".join(parts)
