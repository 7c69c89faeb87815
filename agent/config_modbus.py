"""Modbus in the configuration: `[line.source]` with `protocol = "modbus"`, and the tags of such a line.

Decides the keys, the table of types and what goes together. How registers are asked for and what their bits mean is
decided in `agent.sources`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from pathlib import Path
from typing import Final

from agent.config_tags import ROLE_NAMES, counting, each_tag
from agent.toml_table import Table
from protocols.plc.roles import COUNTER_ROLES, ROLES, SignalRole

TRANSPORTS: Final = ("tcp", "udp", "tls", "rtu-over-tcp", "serial")
TABLES: Final = ("holding", "input", "coil", "discrete")
BIT_TABLES: Final = ("coil", "discrete")
_COUNTER_NAMES: Final = tuple(role.name.lower() for role in COUNTER_ROLES)
_BILLION: Final = 1_000_000_000
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


def read_modbus_source(table: Table, folder: Path) -> ModbusSource:
    """Raises ConfigurationError."""
    link = _link(table, folder)
    return ModbusSource(
        link,
        table.integer("device_id", 1, *link.devices),
        table.integer("poll_interval_ms", 1000, 10, 600_000),
        table.integer("timeout_ms", 1000, 10, 60_000),
        table.integer("hole_limit", 32, 0, 124),
        table.integer("max_registers", 125, 1, 125),
    )


def _link(table: Table, folder: Path) -> ModbusLink:
    transport = table.choice("transport", TRANSPORTS, "tcp")
    if transport == "serial":
        device = table.text("device", example='"/dev/serial/by-id/usb-…"')
        parity = table.choice("parity", ("even", "odd", "none"), "even")
        return ModbusLink(
            transport,
            device=device,
            baud_rate=table.integer("baud_rate", 19_200, 300, 4_000_000),
            parity=parity,
            stop_bits=table.integer("stop_bits", 1, 1, 2),
            local_echo=table.flag("local_echo", default=False),
        )
    host = table.text("host", example='"192.168.0.11"')
    port = table.integer("port", 802 if transport == "tls" else 502, 1, 65_535)
    if transport != "tls":
        return ModbusLink(transport, host, port)
    tls = table.table("tls", required=True)
    names = [tls.text("ca_file", example='"plc-ca.pem"'), *map(tls.optional_text, ("certificate_file", "key_file"))]
    if (names[1] is None) != (names[2] is None):
        raise tls.wrong("", "has half of the gateway's own certificate", "give both certificate_file and key_file")
    tls.done()
    ca, certificate, key = (folder / name if name else None for name in names)
    return ModbusLink(transport, host, port, ca_file=ca, certificate_file=certificate, key_file=key)


def read_modbus_tags(tags: Table, source: ModbusSource) -> tuple[tuple[ModbusTag, ...], ModbusTag | None]:
    """The tags of a line with this source, and the PLC's clock if there is one. Raises ConfigurationError."""
    out: list[ModbusTag] = []
    time_tag: ModbusTag | None = None
    for name, column, table in each_tag(tags, (*ROLE_NAMES, "time")):
        tag = _tag(table, name, column, source)
        table.done()
        if name == "time":
            time_tag = tag
        else:
            out.append(tag)
    return tuple(out), time_tag


def _tag(table: Table, name: str, column: int, line: ModbusSource) -> ModbusTag:
    register = table.integer("register", None, 0, 65_535)
    source = table.choice("table", TABLES, "holding")
    type_ = table.choice("type", tuple(MODBUS_TYPES), "bit" if source in BIT_TABLES else "uint16")
    size, kind = MODBUS_TYPES[type_]
    if (source in BIT_TABLES) != (kind is Kind.BIT):
        mend = "coils and discretes are bits; one bit of a register is: bit = 3"
        raise table.wrong("type", f"{type_} does not come from the table {source}", mend)
    length = 0
    if kind is Kind.TEXT:
        if name != "product":
            raise table.wrong("type", f"{name} cannot be a text", "only a product can; other tags are numbers")
        size = length = table.integer("length", None, 1, 100)
    if register + size > 65_536:
        raise table.wrong("register", f"{register} is past the last register", "at most 65535")
    little_words = little_bytes = False
    if kind is not Kind.BIT:
        little_words = table.choice("word_order", ("big", "little"), "big") == "little"
        little_bytes = table.choice("byte_order", ("big", "little"), "big") == "little"
    mask, shift = _field(table, kind, 16 * size)
    scale = UNSCALED
    if kind not in (Kind.TEXT, Kind.BIT):
        found = Fraction(table.scaled("scale", _BILLION, _BILLION, 1, 10**18), _BILLION)
        scale = UNSCALED if found == 1 else found
    if name in _COUNTER_NAMES and scale.denominator != 1:
        raise table.wrong("scale", "would make parts of pieces", "a whole number: how many pieces one step stands for")
    if name in _COUNTER_NAMES and (kind is not Kind.UNSIGNED or scale != 1) and table.flag("bcd", default=False):
        said = f"{type_} has a sign, BCD has none" if kind is Kind.SIGNED else "goes with an unsigned type, unscaled"
        raise table.wrong("bcd", said, 'write: type = "bcd16" (or bcd32, bcd64), without bcd = true')
    digits = 4 * size if kind is Kind.UNSIGNED and not mask else 0
    modulus = _modulus(kind, 16 * size, mask >> shift) * int(scale)
    modulus, bcd = counting(table, name, modulus if modulus <= 1 << 53 else 0, digits)
    role = SignalRole.STATE if name == "time" else SignalRole[name.upper()]
    device = table.integer("device_id", line.device_id, *line.link.devices)
    lane = column if column >= ROLES else -1
    return ModbusTag(
        role, register, type_, source, device, little_words, little_bytes,
        mask, shift, scale, length, modulus, bcd, lane,
    )  # fmt: skip


def _field(table: Table, kind: Kind, bits: int) -> tuple[int, int]:
    """Mask and shift of a bit field; a mask of 0 is none."""
    given = [key for key in ("bit", "mask", "shift") if key in table]
    if not given:
        return 0, 0
    if kind is not Kind.UNSIGNED:
        raise table.wrong(
            given[0], "only an unsigned type has bit fields", 'write: type = "uint16" (or uint32, uint64)'
        )
    if "bit" in table:
        if len(given) > 1:
            raise table.wrong("bit", "says the same as mask and shift", "leave those out")
        bit = table.integer("bit", None, 0, bits - 1)
        return 1 << bit, bit
    mask = table.integer("mask", None, 1, (1 << bits) - 1)
    lowest = (mask & -mask).bit_length() - 1
    return mask, table.integer("shift", lowest, 0, lowest)


def _modulus(kind: Kind, bits: int, field: int) -> int:
    """At which value a counter of this kind returns to 0; 0: never, or it cannot be told."""
    if kind is Kind.BCD:
        return 10 ** (bits // 4) if bits < 64 else 0
    if kind is not Kind.UNSIGNED or (bits == 64 and not field):
        return 0
    if field:
        return field + 1 if re.fullmatch("1+", f"{field:b}") and field < 1 << 52 else 0
    return 1 << bits
