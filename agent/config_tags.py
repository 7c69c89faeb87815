"""The tags of a line: which node or register carries which role.

Decides the keys of `[line.tags]` and the table of Modbus types. How they are read is decided in `agent.sources`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from agent.toml_table import Table
from protocols.plc.roles import SignalRole

ROLE_NAMES: Final = tuple(role.name.lower() for role in SignalRole)

MODBUS_TYPES: Final[dict[str, tuple[int, bool]]] = {
    "uint16": (1, False), "int16": (1, True), "uint32": (2, False), "int32": (2, True),
    "uint64": (4, False), "int64": (4, True), "bit": (1, False),
}  # fmt: skip
"""Name -> registers, signed. A register is 16 bits, big-endian on the wire (Modbus Application Protocol, 4.2)."""

TABLES: Final = ("holding", "input", "coil", "discrete")
_COUNTER_NAMES: Final = ("total", "good", "reject")


@dataclass(frozen=True, slots=True)
class OpcuaTag:
    """A node: a browse path below Objects, each name of `namespace` (a URI), or a node id with its URI in it."""

    role: SignalRole
    path: tuple[str, ...]
    namespace: str
    node: str
    modulus: int

    @property
    def words(self) -> str:
        return self.node or "/".join(self.path) or "simulated"


@dataclass(frozen=True, slots=True)
class ModbusTag:
    """A register as the protocol counts it, from 0 (what some makers call 40001 is holding register 0).

    `role` is None for the PLC's own clock. `little_words`: the low word comes first.
    """

    role: SignalRole
    register: int
    type: str
    table: str
    little_words: bool
    modulus: int

    @property
    def count(self) -> int:
        """Registers (or bits, in a table of bits) that it takes."""
        return MODBUS_TYPES[self.type][0]

    @property
    def words(self) -> str:
        return f"{self.table} {self.register} {self.type}"


Tag: TypeAlias = OpcuaTag | ModbusTag


def read_opcua_tags(tags: Table, *, replay: bool = False) -> tuple[OpcuaTag, ...]:
    """Raises ConfigurationError. In a replay a tag has no address: `total = { modulus = 65536 }`, `state = {}`."""
    out: list[OpcuaTag] = []
    for name in ROLE_NAMES:
        table = tags.table(name)
        if name not in tags:
            continue
        path = node = ""
        namespace = ""
        if not replay:
            path, node = table.text("path", ""), table.text("node", "")
            if bool(path) == bool(node):
                mend = (
                    'write: path = "FillingLine/Status/StateCurrent", namespace = "urn:…"  (or node = "nsu=urn:…;s=…")'
                )
                raise table.wrong("", "needs either a path or a node", mend)
            namespace = table.text("namespace", "") if path else ""
            if path and not namespace:
                raise table.wrong("namespace", "is missing", 'the namespace\'s URI, for example "urn:maker:machine"')
            if node and not re.fullmatch(r"(nsu=[^;]+|ns=0);[isgb]=.+|[isgb]=.+", node):
                mend = 'write: node = "nsu=urn:maker:machine;s=Name" (by URI: its number may change)'
                raise table.wrong("node", f'"{node}" is not a lasting node id', mend)
        modulus = table.integer("modulus", 0, 0, 2**63) if name in _COUNTER_NAMES else 0
        table.done()
        parts = tuple(part for part in path.split("/") if part)
        out.append(OpcuaTag(SignalRole[name.upper()], parts, namespace, node, modulus))
    return tuple(out)


def read_modbus_tags(tags: Table) -> tuple[tuple[ModbusTag, ...], ModbusTag | None]:
    """The tags, and the PLC's clock if there is one. Raises ConfigurationError."""
    out: list[ModbusTag] = []
    time_tag: ModbusTag | None = None
    for name in (*ROLE_NAMES, "time"):
        table = tags.table(name)
        if name not in tags:
            continue
        register = table.integer("register", None, 0, 65_535)
        source = table.choice("table", TABLES, "holding")
        bits = source in ("coil", "discrete")
        kind = table.choice("type", tuple(MODBUS_TYPES), "bit" if bits else "uint16")
        if bits != (kind == "bit"):
            raise table.wrong("type", f"{kind} does not come from the table {source}", "coils and discretes are bits")
        size, signed = MODBUS_TYPES[kind]
        if register + size > 65_536:
            raise table.wrong("register", f"{register} is past the last register", "at most 65535")
        default = 0 if signed or size == 4 else 2 ** (16 * size)
        counter = name in _COUNTER_NAMES
        tag = ModbusTag(
            SignalRole[name.upper()] if name != "time" else SignalRole.STATE,
            register,
            kind,
            source,
            table.choice("word_order", ("big", "little"), "big") == "little",
            table.integer("modulus", default, 0, 2**63) if counter else 0,
        )
        table.done()
        if name == "time":
            time_tag = tag
        else:
            out.append(tag)
    return tuple(out), time_tag
