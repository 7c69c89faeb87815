"""The loss tree: where all time went, in time and in pieces, always adding up to the whole.

Decides how an account falls, under a definition, from calendar time through planned busy time to fully productive
time, and which of the six big losses (Nakajima) each part is. Unknown time stands apart: nobody knows what was lost
in it. Exact fractions; rounding belongs to whoever shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import ISO, Charge, Definition
from protocols.measurement.elements import NS_PER_MS, charge, elements
from protocols.measurement.figure import Undefined


class Factor(StrEnum):
    """Which factor bears a loss."""

    NOT_OBSERVED = "not-observed"  # nobody knows
    SCHEDULE = "schedule"  # TEEP and, inside the shifts, OOE; never OEE
    AVAILABILITY = "availability"
    PERFORMANCE = "performance"
    QUALITY = "quality"


class BigLoss(StrEnum):
    """Nakajima's six big losses, and the other stops, so that nothing is left over."""

    BREAKDOWN = "breakdown"
    SETUP = "setup"
    MINOR_STOPS = "minor-stops"
    SPEED = "reduced-speed"
    DEFECTS = "process-defects"
    STARTUP = "startup-yield"
    OTHER_STOPS = "other-stops"  # not one of the six: blocked, starved, held, no reason, no order, planned downtime


@dataclass(frozen=True, slots=True)
class Node:
    """One part of the whole. `ms` is exact, and the sum of the children's where there are any.

    `pieces`: the same in pieces at the mean ideal cycle of what was made, and so also exact and adding up; None where
    there is no such cycle. `factor`: of a leaf that is a loss. `big_loss`: of a loss inside planned busy time.
    """

    name: str
    title: str
    ms: Fraction
    pieces: Fraction | None
    factor: Factor | None = None
    big_loss: BigLoss | None = None
    children: tuple[Node, ...] = ()

    def __iter__(self) -> Iterator[Node]:
        """This part and all below it, from the top and from left to right."""
        yield self
        for child in self.children:
            yield from child

    @property
    def leaves(self) -> tuple[Node, ...]:
        return tuple(part for part in self if not part.children)

    def find(self, name: str) -> Node:
        """The part of that name, this one included. Raises KeyError."""
        for part in self:
            if part.name == name:
                return part
        raise KeyError(name)


_STOPS: Final[Mapping[Category, tuple[str, str]]] = MappingProxyType(
    {
        Category.UNKNOWN: ("unknown", "Not observed"),
        Category.NOT_SCHEDULED: ("not-scheduled", "Not scheduled"),
        Category.PLANNED_DOWN: ("planned-down", "Breaks and planned downtime"),
        Category.NO_ORDER: ("no-order", "No order"),
        Category.SETUP: ("setup", "Set-up, changeover"),
        Category.FAILURE: ("failure", "Failure"),
        Category.MINOR_STOP: ("minor-stops", "Minor stops"),
        Category.RESTRAINT: ("restraint", "Blocked or starved"),
        Category.HELD: ("held", "Held"),
        Category.UNASSIGNED: ("unassigned", "Stopped, no reason"),
    }
)
_BIG: Final[Mapping[Category, BigLoss]] = MappingProxyType(
    {
        Category.FAILURE: BigLoss.BREAKDOWN,
        Category.SETUP: BigLoss.SETUP,
        Category.MINOR_STOP: BigLoss.MINOR_STOPS,
    }
)
_FACTOR: Final[Mapping[Charge, Factor]] = MappingProxyType(
    {
        Charge.EXCLUDED: Factor.SCHEDULE,
        Charge.AVAILABILITY: Factor.AVAILABILITY,
        Charge.PERFORMANCE: Factor.PERFORMANCE,
    }
)


class _Grower:
    """Makes the parts of one account's tree."""

    def __init__(self, account: TimeAccount, definition: Definition) -> None:
        self._account = account
        self._definition = definition
        self._per_ms: Fraction | None = None
        if account.total_count > 0 and account.standard_total_ns > 0 and not account.without_ideal_count:
            self._per_ms = Fraction(account.total_count * NS_PER_MS, account.standard_total_ns)

    def leaf(
        self, name: str, title: str, ms: Fraction, factor: Factor | None = None, big_loss: BigLoss | None = None
    ) -> Node:
        return Node(name, title, ms, self._in_pieces(ms), factor, big_loss)

    def level(self, name: str, title: str, *children: Node) -> Node:
        ms = sum((child.ms for child in children), Fraction(0))
        return Node(name, title, ms, self._in_pieces(ms), children=children)

    def _in_pieces(self, ms: Fraction) -> Fraction | None:
        return None if self._per_ms is None else ms * self._per_ms

    def stops(self, charged_to: Charge) -> list[Node]:
        out = []
        for category, (name, title) in _STOPS.items():
            if charge(category, self._definition) is not charged_to:
                continue
            factor = Factor.NOT_OBSERVED if category is Category.UNKNOWN else _FACTOR[charged_to]
            big_loss = None if charged_to is Charge.EXCLUDED else _BIG.get(category, BigLoss.OTHER_STOPS)
            out.append(self.leaf(name, title, Fraction(self._account.category_ms[category]), factor, big_loss))
        return out

    def running(self) -> list[Node]:
        """What the producing time was worth."""
        account = self._account
        producing = Fraction(account.category_ms[Category.PRODUCING])
        if account.without_ideal_count:
            return [self.leaf("unvalued-production", "Production without an ideal cycle", producing)]
        made = Fraction(account.standard_total_ns, NS_PER_MS)
        good = elements(account, self._definition).good_standard_ns / NS_PER_MS
        startup = Fraction(0)
        if account.reject_count > 0:
            # The account knows no product: start-up rejects take their share of all rejects' ideal time.
            startup = (made - good) * Fraction(account.startup_reject_count, account.reject_count)
        return [
            self.leaf("reduced-speed", "Reduced speed", producing - made, Factor.PERFORMANCE, BigLoss.SPEED),
            self.level(
                "net-production",
                "Net production time",
                self.leaf("startup-rejects", "Start-up rejects", startup, Factor.QUALITY, BigLoss.STARTUP),
                self.leaf("rejects", "Rejects", made - good - startup, Factor.QUALITY, BigLoss.DEFECTS),
                self.leaf("fully-productive", "Fully productive time", good),
            ),
        ]


def loss_tree(account: TimeAccount, definition: Definition = ISO) -> Node:
    """The whole of an account: calendar > planned-busy > production > net-production > fully-productive.

    Each level is what is left of the one before after its losses. The levels are those of `elements` when the
    account's planned time is what its categories say, as a meter's is. Reduced speed is negative where the line ran
    faster than its ideal cycle. With pieces that have no ideal cycle, production is not divided further than
    `unvalued-production`: what is not known is not put at 0.
    """
    grow = _Grower(account, definition)
    production = grow.level("production", "Production time (APT)", *grow.stops(Charge.PERFORMANCE), *grow.running())
    busy = grow.level("planned-busy", "Planned busy time (PBT)", *grow.stops(Charge.AVAILABILITY), production)
    return grow.level("calendar", "Calendar time", *grow.stops(Charge.EXCLUDED), busy)


@dataclass(frozen=True, slots=True)
class BigLosses:
    """The six big losses and the other stops. With the fully productive time they add up to planned busy time.

    `ms` and `pieces` leave out what the definition puts outside planned busy time and what is undefined. `pieces` and
    `fully_productive_ms` are None where no ideal cycle is known; `undefined_because` then says why.
    """

    ms: Mapping[BigLoss, Fraction]
    pieces: Mapping[BigLoss, Fraction] | None
    fully_productive_ms: Fraction | None
    planned_busy_ms: Fraction
    undefined_because: Undefined | None


def big_losses(account: TimeAccount, definition: Definition = ISO) -> BigLosses:
    """The six big losses of an account, and the other stops."""
    busy = loss_tree(account, definition).find("planned-busy")
    ms: dict[BigLoss, Fraction] = {}
    pieces: dict[BigLoss, Fraction] = {}
    for leaf in busy.leaves:
        if leaf.big_loss is None:
            continue
        ms[leaf.big_loss] = ms.get(leaf.big_loss, Fraction(0)) + leaf.ms
        if leaf.pieces is not None:
            pieces[leaf.big_loss] = pieces.get(leaf.big_loss, Fraction(0)) + leaf.pieces
    unvalued = account.without_ideal_count > 0
    return BigLosses(
        ms=MappingProxyType(ms),
        pieces=MappingProxyType(pieces) if pieces else None,
        fully_productive_ms=None if unvalued else busy.find("fully-productive").ms,
        planned_busy_ms=busy.ms,
        undefined_because=Undefined.NO_IDEAL_CYCLE if unvalued else None,
    )
