"""How a line's machine says what it does: the tables `[line.mapping]` and `[line.states]`.

Decides their keys, and which tags each way needs. What the ways mean is decided in `protocols.measurement.machine`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from agent.toml_table import Table
from protocols.measurement.configuration import Product
from protocols.measurement.machine import (
    ANY_FAULT,
    KINDS,
    MachineMapping,
    PackML,
    PiecesOnly,
    RunningBit,
    Speed,
    StateValues,
)
from protocols.plc.packml import State
from protocols.plc.roles import SPEED_SCALE, SignalRole

_TAGS: Final = {
    "packml": SignalRole.STATE,
    "values": SignalRole.STATE,
    "running": SignalRole.RUNNING,
    "speed": SignalRole.SPEED,
}
"""The tag that each way reads; "pieces" reads the counter, which every line has."""


def read_machine(table: Table, roles: Collection[SignalRole], products: Sequence[Product]) -> MachineMapping:
    """The mapping of a line with tags of these `roles`. Raises ConfigurationError."""
    states = _states(table)
    inner = table.table("mapping")
    kind = inner.choice("kind", tuple(KINDS), "values" if states else "packml")
    needed = _TAGS.get(kind)
    if needed is not None and needed not in roles:
        name = needed.name.lower()
        mend = f"a line needs its state: add line.tags.{name}, or say by [line.mapping] kind = … how it is told"
        raise table.wrong("tags", f"{name} is missing", mend)
    if states and kind != "values":
        raise table.wrong("states", f'has no use where kind = "{kind}"', "leave one of them out")
    mapping = _mapping(inner, kind, states, _fault_mask(inner, kind, roles))
    if isinstance(mapping, PiecesOnly):
        slow = next((product.name for product in products if product.ideal_cycle_ns is None), None)
        if slow is not None:
            mend = "give each product its ideal_cycle_s: it tells a stop from the wait for the next piece"
            raise table.wrong("product", f'"{slow}" has no ideal cycle', mend)
    inner.done()
    return mapping


def _mapping(inner: Table, kind: str, states: tuple[tuple[int, State], ...], fault_mask: int) -> MachineMapping:
    match kind:
        case "running":
            return RunningBit(fault_mask, inner.flag("setup_when_stopped", False))
        case "speed":
            above = inner.scaled("running_above", 0, SPEED_SCALE, 0, 2**53)
            return Speed(above, fault_mask, inner.flag("setup_when_stopped", False))
        case "pieces":
            cycles = inner.integer("cycles", 3, 1, 100_000)
            return PiecesOnly(cycles, fault_mask, inner.flag("setup_when_stopped", False))
        case "values" if not states:
            raise inner.wrong("kind", "needs the table [line.states]", 'write: [line.states] and 2 = "EXECUTE"')
    return StateValues(states) if states else PackML()


def _fault_mask(inner: Table, kind: str, roles: Collection[SignalRole]) -> int:
    if kind in ("packml", "values"):
        return 0
    if SignalRole.FAULT not in roles:
        if "fault_mask" in inner:
            raise inner.wrong("fault_mask", "there is no fault word", "add line.tags.fault, or leave this out")
        return 0
    return inner.integer("fault_mask", ANY_FAULT, 1, ANY_FAULT)


def _states(table: Table) -> tuple[tuple[int, State], ...]:
    inner = table.table("states")
    names = tuple(state.name for state in State)
    out = []
    for key in inner.keys:
        state = State[inner.choice(key, names)]
        out.append(
            (inner.parsed(key, key, int, 'the key is the tag\'s raw value, a whole number: 2 = "EXECUTE"'), state)
        )
    return tuple(sorted(out))
