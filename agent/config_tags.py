"""The tags of a line: which node or register carries which role.

Decides the keys of `[line.tags]` that all protocols share, and those of OPC UA; Modbus has `agent.config_modbus`. How
they are read is decided in `agent.sources`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.toml_table import Table
from protocols.plc.roles import COLUMNS, COUNTER_ROLES, ROLES, SignalRole

ROLE_NAMES: Final = tuple(role.name.lower() for role in SignalRole)

_COUNTER_NAMES: Final = tuple(role.name.lower() for role in COUNTER_ROLES)
_HOW_LANES: Final = "one tag each; only a counter may have several, as [[line.tags.total]]"


@dataclass(frozen=True, slots=True)
class OpcuaTag:
    """A node: a browse path below Objects, each name of `namespace` (a URI), or a node id with its URI in it."""

    role: SignalRole
    path: tuple[str, ...]
    namespace: str
    node: str
    modulus: int
    bcd: bool = False
    lane_column: int = -1  # of a counter's second lane and those after it

    @property
    def column(self) -> int:
        """Where its values go in a block."""
        return self.lane_column if self.lane_column >= 0 else int(self.role)

    @property
    def words(self) -> str:
        return self.node or "/".join(self.path) or "simulated"


def read_opcua_tags(tags: Table, *, replay: bool = False) -> tuple[OpcuaTag, ...]:
    """Raises ConfigurationError. In a replay a tag has no address: `total = { modulus = 65536 }`, `state = {}`."""
    out: list[OpcuaTag] = []
    for name, column, table in each_tag(tags, ROLE_NAMES):
        path = node = ""
        namespace = ""
        if replay and column >= ROLES:
            raise table.wrong("", "a simulated line has one lane", _HOW_LANES)
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
        modulus, bcd = counting(table, name, 0, 0)
        table.done()
        parts = tuple(part for part in path.split("/") if part)
        lane = column if column >= ROLES else -1
        out.append(OpcuaTag(SignalRole[name.upper()], parts, namespace, node, modulus, bcd, lane))
    return tuple(out)


def each_tag(tags: Table, names: tuple[str, ...]) -> Iterator[tuple[str, int, Table]]:
    """(name, column, table) of each tag; the first lane of a counter has its role's column, further ones their own."""
    following = ROLES
    for name in names:
        for lane, table in enumerate(tags.one_or_more(name)):
            if lane and name not in _COUNTER_NAMES:
                raise table.wrong("", "is given more than once", _HOW_LANES)
            if not lane:
                yield name, ROLE_NAMES.index(name) if name in ROLE_NAMES else 0, table
                continue
            if following == COLUMNS:
                raise table.wrong("", "is one lane too many", f"at most {COLUMNS - ROLES} further lanes in all")
            yield name, following, table
            following += 1


def counting(table: Table, name: str, modulus: int, digits: int) -> tuple[int, bool]:
    """Modulus and BCD of a counter's tag; nothing for another. `digits`: of BCD, where the type tells."""
    if name not in _COUNTER_NAMES:
        return 0, False
    bcd = table.flag("bcd", default=False)
    if bcd and not digits and "modulus" not in table:
        raise table.wrong("modulus", "is missing", "write: modulus = 10000 for four BCD digits")
    found = table.integer("modulus", 10**digits if bcd else modulus, 0, 2**53)
    if bcd and str(found).strip("0") != "1":
        raise table.wrong("modulus", f"{found} is no power of ten", "write: modulus = 10000 for four BCD digits")
    return found, bcd
