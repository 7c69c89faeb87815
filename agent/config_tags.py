"""The tags of a line: which node or register carries which role.

Decides the keys of `[line.tags]` that all protocols share; each protocol's own are in `agent.config_opcua` and
`agent.config_modbus`. How tags are read is decided in `agent.sources`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.toml_table import Table
from protocols.plc.roles import COLUMNS, COUNTER_ROLES, ROLES, SignalRole

ROLE_NAMES: Final = tuple(role.name.lower() for role in SignalRole)

_COUNTER_NAMES: Final = tuple(role.name.lower() for role in COUNTER_ROLES)
HOW_LANES: Final = "one tag each; only a counter may have several, as [[line.tags.total]]"


def each_tag(tags: Table, names: tuple[str, ...]) -> Iterator[tuple[str, int, Table]]:
    """(name, column, table) of each tag; the first lane of a counter has its role's column, further ones their own."""
    following = ROLES
    for name in names:
        for lane, table in enumerate(tags.one_or_more(name)):
            if lane and name not in _COUNTER_NAMES:
                raise table.wrong("", "is given more than once", HOW_LANES)
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
