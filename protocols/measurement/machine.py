"""How a machine's state is told from its signals: one of five ways, each a small frozen type.

Decides the data of `LineConfiguration.mapping`. What a state costs is decided in `mapping`. The rules:

- `PackML`: the state tag speaks PackML's numbers.
- `StateValues`: the state tag's values mean PackML states; a value that is not listed is UNDEFINED.
- `RunningBit`: EXECUTE while the running tag is not 0.
- `Speed`: EXECUTE while the speed is above a threshold.
- `PiecesOnly`: EXECUTE while pieces come within `cycles` ideal cycles of the product.

The last three are ABORTED when they do not execute and a masked bit of the fault word is set, otherwise STOPPED. They
know no state of a changeover; with `setup_when_stopped` it is set-up when they are STOPPED while the product differs
from the one last produced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from protocols.errors import Malformed
from protocols.plc.packml import State

ANY_FAULT: Final = 2**53 - 1  # the largest that a configuration's hash can hold


@dataclass(frozen=True, slots=True)
class PackML:
    """Role STATE in the numbers of ISA-TR88.00.02. Only here are moves held against PackML's table."""


@dataclass(frozen=True, slots=True)
class StateValues:
    """Role STATE: raw value -> state."""

    values: tuple[tuple[int, State], ...]


@dataclass(frozen=True, slots=True)
class RunningBit:
    """Role RUNNING, and FAULT where `fault_mask` is not 0: the bits of the fault word that are faults."""

    fault_mask: int = 0
    setup_when_stopped: bool = False


@dataclass(frozen=True, slots=True)
class Speed:
    """Role SPEED: running above `above_milli` thousandths of the tag's unit. `fault_mask` as in `RunningBit`."""

    above_milli: int = 0
    fault_mask: int = 0
    setup_when_stopped: bool = False


@dataclass(frozen=True, slots=True)
class PiecesOnly:
    """Role TOTAL (GOOD where there is no total): running until `cycles` ideal cycles after the last piece.

    A line of products without an ideal cycle is UNDEFINED while it makes them.
    """

    cycles: int = 3
    fault_mask: int = 0
    setup_when_stopped: bool = False


MachineMapping: TypeAlias = PackML | StateValues | RunningBit | Speed | PiecesOnly

KINDS: Final[dict[str, type[MachineMapping]]] = {
    "packml": PackML, "values": StateValues, "running": RunningBit, "speed": Speed, "pieces": PiecesOnly,
}  # fmt: skip


def mapping_data(mapping: MachineMapping) -> dict[str, Any]:
    """A map of texts, integers and lists; `kind` names the way."""
    match mapping:
        case PackML():
            return {"kind": "packml"}
        case StateValues(values):
            return {"kind": "values", "values": [[raw, state.name] for raw, state in values]}
        case RunningBit(mask, setup):
            return {"fault_mask": mask, "kind": "running", "setup_when_stopped": int(setup)}
        case Speed(above, mask, setup):
            return {"above_milli": above, "fault_mask": mask, "kind": "speed", "setup_when_stopped": int(setup)}
        case PiecesOnly(cycles, mask, setup):
            return {"cycles": cycles, "fault_mask": mask, "kind": "pieces", "setup_when_stopped": int(setup)}


def mapping_from(data: Mapping[str, Any]) -> MachineMapping:
    """The inverse of `mapping_data`. Raises Malformed, KeyError or TypeError."""
    given = dict(data)
    kind = KINDS.get(given.pop("kind"))
    if kind is None:
        raise Malformed(f"a machine cannot be mapped by {data['kind']!r}")
    if kind is StateValues:
        return StateValues(tuple((raw, State[state]) for raw, state in given["values"]))
    if not all(type(value) is int and value >= 0 for value in given.values()):
        raise Malformed("a machine's mapping has whole numbers from 0 on")
    if kind is not PackML:
        if given["setup_when_stopped"] > 1:
            raise Malformed("setup_when_stopped is 0 or 1")
        given["setup_when_stopped"] = bool(given["setup_when_stopped"])
    return kind(**given)
