"""PackML (ANSI/ISA-TR88.00.02): the states of a machine and the moves between them, as a table.

Decides what a state is called and which moves are legal. What a state costs is decided in
`protocols.measurement.mapping`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class State(IntEnum):
    """StateCurrent of ISA-TR88.00.02-2015, table 3. UNDEFINED is the tag's value before the first scan."""

    UNDEFINED = 0
    CLEARING = 1
    STOPPED = 2
    STARTING = 3
    IDLE = 4
    SUSPENDED = 5
    EXECUTE = 6
    STOPPING = 7
    ABORTING = 8
    ABORTED = 9
    HOLDING = 10
    HELD = 11
    UNHOLDING = 12
    SUSPENDING = 13
    UNSUSPENDING = 14
    RESETTING = 15
    COMPLETING = 16
    COMPLETE = 17


class Mode(IntEnum):
    """UnitModeCurrent of ISA-TR88.00.02-2015, table 1; values above 3 are the vendor's."""

    INVALID = 0
    PRODUCTION = 1
    MAINTENANCE = 2
    MANUAL = 3


_STOPPABLE: Final = frozenset(State) - {
    State.UNDEFINED, State.STOPPING, State.STOPPED, State.CLEARING, State.ABORTING, State.ABORTED,
}  # fmt: skip
_ABORTABLE: Final = frozenset(State) - {State.UNDEFINED, State.ABORTING, State.ABORTED}

# State -> the states that may follow it: commands, and the transient states' own completion (SC).
_FORWARD: Final[dict[State, frozenset[State]]] = {
    State.UNDEFINED: frozenset(State),
    State.CLEARING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset({State.RESETTING}),
    State.STARTING: frozenset({State.EXECUTE}),
    State.IDLE: frozenset({State.STARTING}),
    State.SUSPENDED: frozenset({State.UNSUSPENDING}),
    State.EXECUTE: frozenset({State.COMPLETING, State.HOLDING, State.SUSPENDING}),
    State.STOPPING: frozenset({State.STOPPED}),
    State.ABORTING: frozenset({State.ABORTED}),
    State.ABORTED: frozenset({State.CLEARING}),
    State.HOLDING: frozenset({State.HELD}),
    State.HELD: frozenset({State.UNHOLDING}),
    State.UNHOLDING: frozenset({State.EXECUTE}),
    State.SUSPENDING: frozenset({State.SUSPENDED}),
    State.UNSUSPENDING: frozenset({State.EXECUTE}),
    State.RESETTING: frozenset({State.IDLE}),
    State.COMPLETING: frozenset({State.COMPLETE}),
    State.COMPLETE: frozenset({State.RESETTING}),
}

TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    state: forward
    | (frozenset({State.STOPPING}) if state in _STOPPABLE else frozenset())
    | (frozenset({State.ABORTING}) if state in _ABORTABLE else frozenset())
    for state, forward in _FORWARD.items()
}


def is_legal(before: State, after: State) -> bool:
    """Whether a machine may go from `before` to `after` in one step (ISA-TR88.00.02, figure 2).

    A poll can miss short states, so an illegal step is flagged and never refused.
    """
    return before is after or after in TRANSITIONS[before]
