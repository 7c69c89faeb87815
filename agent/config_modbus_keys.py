"""The keys of Modbus in the configuration: `[line.source]` with `protocol = "modbus"`, and the tags of such a line.

Decides what may be written, what goes together and how each mistake is said. What it means is `config_modbus`'.
"""

from __future__ import annotations

import re
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from agent.config_modbus import (
    BIT_TABLES,
    MODBUS_TYPES,
    TABLES,
    TRANSPORTS,
    UNSCALED,
    Kind,
    ModbusLink,
    ModbusSource,
    ModbusTag,
)
from agent.config_tags import ROLE_NAMES, counting, each_tag
from agent.toml_table import Table
from protocols.plc.roles import COUNTER_ROLES, ROLES, SignalRole

_COUNTER_NAMES: Final = tuple(role.name.lower() for role in COUNTER_ROLES)
_BILLION: Final = 1_000_000_000


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
        if not re.fullmatch(r"/[^\0]+", device):
            raise table.wrong("device", f'"{device}" is no port', 'write its path, as "/dev/serial/by-id/usb-…"')
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
    table.parsed("host", host, _host, 'write a name or an address alone, as "192.168.0.11"; the port has its own key')
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


def _host(host: str) -> None:
    """Raises ValueError for what can be no host: an address of IPv6 may have colons, a name has labels."""
    if ":" in host:
        ip_address(host)
    elif not re.fullmatch(r"[^\s/\0]+", host):
        raise ValueError(host)
    host.encode("idna")


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
