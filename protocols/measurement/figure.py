"""What a figure is: a name, a formula in words, where it comes from, and an exact value or the reason for none.

Decides the form that every ratio has. Which figures there are is decided in `ratios`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from protocols.measurement.account import TimeAccount
from protocols.measurement.definition import ISO, Definition, Mtbf


class Undefined(StrEnum):
    """Why a figure has no value. It is then neither 0 nor 100 %."""

    NO_TIME = "no-time"  # nothing was observed at all
    NO_PLANNED_TIME = "no-planned-time"  # nothing planned was observed: PBT is 0
    NO_BUSY_TIME = "no-busy-time"  # no order was worked on: neither production, set-up nor delay
    NO_PRODUCTION = "no-production"  # APT is 0
    NO_PIECES = "no-pieces"  # PQ is 0
    NO_IDEAL_CYCLE = "no-ideal-cycle"  # a product without PRI was made
    NO_FAILURE = "no-failure"  # a mean over no failures
    NO_DEMAND = "no-demand"  # a takt without demand


class Unit(StrEnum):
    """The unit of a value."""

    SHARE = "share"  # of 1
    PIECES_PER_HOUR = "pieces/h"
    MS = "ms"
    MS_PER_PIECE = "ms/piece"


class Direction(StrEnum):
    """Which way is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


Exact = Callable[[TimeAccount, Definition], Fraction | Undefined]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; called with an account and a definition it gives the exact value, or None where it is undefined.

    `formula`: in ISO 22400-2's abbreviations, over observed time. `formulas`: where the definition chooses one.
    `of_order`: the standard defines it for one production order; given one order's account it is that, given any
    other it is the same sums over all orders.
    """

    name: str
    title: str
    formula: str
    unit: Unit
    direction: Direction
    source: str
    exact: Exact = field(repr=False)
    of_order: bool = False
    formulas: Mapping[Mtbf, str] = field(default_factory=dict)

    def __call__(self, account: TimeAccount, definition: Definition = ISO) -> Fraction | None:
        found = self.exact(account, definition)
        return None if isinstance(found, Undefined) else found

    def undefined_because(self, account: TimeAccount, definition: Definition = ISO) -> Undefined | None:
        """Why there is no value; None when there is one."""
        found = self.exact(account, definition)
        return found if isinstance(found, Undefined) else None

    def formula_under(self, definition: Definition) -> str:
        """The formula that is used under a definition."""
        return self.formulas.get(definition.mtbf, self.formula)
