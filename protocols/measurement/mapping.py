"""From a machine's state to the category of its time: design table, as arrays that a kernel can index.

Decides what a state costs (ISO 22400-2 time elements). Transient states on the way back to Execute are SETUP while
a changeover is on (the product differs from the one last produced), otherwise HELD; the kernel keeps that memory.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocols.measurement.account import Category
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.machine import MachineMapping, PackML, PiecesOnly, RunningBit, Speed, StateValues
from protocols.plc.packml import State, is_legal

# State -> (category while an order is active, category without an order).
_TABLE: Final[dict[State, tuple[Category, Category]]] = {
    State.UNDEFINED: (Category.UNKNOWN, Category.UNKNOWN),
    State.EXECUTE: (Category.PRODUCING, Category.PRODUCING),
    State.STARTING: (Category.HELD, Category.NO_ORDER),
    State.COMPLETING: (Category.HELD, Category.NO_ORDER),
    State.RESETTING: (Category.HELD, Category.NO_ORDER),
    State.UNHOLDING: (Category.HELD, Category.NO_ORDER),
    State.UNSUSPENDING: (Category.HELD, Category.NO_ORDER),
    State.HELD: (Category.HELD, Category.NO_ORDER),
    State.HOLDING: (Category.HELD, Category.NO_ORDER),
    State.SUSPENDED: (Category.RESTRAINT, Category.NO_ORDER),
    State.SUSPENDING: (Category.RESTRAINT, Category.NO_ORDER),
    State.STOPPED: (Category.UNASSIGNED, Category.NO_ORDER),
    State.STOPPING: (Category.UNASSIGNED, Category.NO_ORDER),
    State.IDLE: (Category.UNASSIGNED, Category.NO_ORDER),
    State.COMPLETE: (Category.UNASSIGNED, Category.NO_ORDER),
    State.ABORTING: (Category.FAILURE, Category.FAILURE),
    State.ABORTED: (Category.FAILURE, Category.FAILURE),
    State.CLEARING: (Category.FAILURE, Category.FAILURE),
}

TRANSIENT: Final = frozenset({State.STARTING, State.COMPLETING, State.RESETTING, State.UNHOLDING, State.UNSUSPENDING})
"""States that are set-up during a changeover."""

STOPS: Final = frozenset({Category.FAILURE, Category.HELD, Category.UNASSIGNED})
"""Categories that together make a stop, which is a minor one if it is closed and short."""

HALTS: Final = STOPS | {Category.RESTRAINT}
"""Categories in which a machine stands that could run: what flapping goes to and from."""

_NS_PER_MS: Final = 1_000_000
_PACKML: Final = PackML()


def category_table(mapping: MachineMapping = _PACKML) -> NDArray[np.uint8]:
    """uint8[18, 3]: by state, the category with an order, without one, and with an order during a changeover."""
    setup = TRANSIENT
    if isinstance(mapping, RunningBit | Speed | PiecesOnly) and mapping.setup_when_stopped:
        setup |= {State.STOPPED}  # such a machine has no state of its own for a changeover
    table = np.zeros((len(State), 3), np.uint8)
    for state, (with_order, without_order) in _TABLE.items():
        table[state] = (with_order, without_order, Category.SETUP if state in setup else with_order)
    return table


def state_table(configuration: LineConfiguration) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Raw values in ascending order, and the state of each. A raw value that is not listed is UNDEFINED."""
    mapping = configuration.mapping
    pairs = mapping.values if isinstance(mapping, StateValues) else tuple((int(state), state) for state in State)
    listed = sorted(pairs)
    return (
        np.array([raw for raw, _ in listed], np.int64),
        np.array([int(state) for _, state in listed], np.uint8),
    )


def legal_table(configuration: LineConfiguration) -> NDArray[np.uint8]:
    """uint8[18, 18]: 1 where a move is legal. Only a machine that speaks PackML is held to PackML's moves."""
    return _legal(not isinstance(configuration.mapping, PackML))


@cache
def _legal(free: bool) -> NDArray[np.uint8]:
    table = np.array([[free or is_legal(before, after) for after in State] for before in State], np.uint8)
    table.flags.writeable = False  # all lines share it
    return table


def cycle_table(configuration: LineConfiguration) -> NDArray[np.int64]:
    """int64[p, 2]: product code, rising, and the ms within which its next piece must come; without an ideal cycle
    a product is left out. Empty for a machine whose state is told otherwise."""
    mapping = configuration.mapping
    rows = (
        sorted(
            (product.code, -(-mapping.cycles * product.ideal_cycle_ns // _NS_PER_MS))
            for product in configuration.products
            if product.ideal_cycle_ns
        )
        if isinstance(mapping, PiecesOnly)
        else []
    )
    return np.array(rows, np.int64).reshape(len(rows), 2)
