"""Losses: where the observed planned busy time went, in whole milliseconds that add up to it.

Decides the table of a report, before and after. Stops are measured time; reduced speed and defects are what the ideal
cycles say about the producing time. The whole tree, exact, from calendar time down, is in `loss_tree`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import ISO, Charge, Definition
from protocols.measurement.elements import NS_PER_MS, charge, elements
from protocols.measurement.ratios import MS_PER_HOUR


class Loss(NamedTuple):
    """One part of the observed planned time, before and after: in all, and in ms for each planned hour."""

    name: str
    baseline_ms: int
    reporting_ms: int
    baseline_ms_per_hour: int | None
    reporting_ms_per_hour: int | None


GOOD: Final = "good-production"
DEFECTS: Final = "defects"
SPEED: Final = "reduced-speed"

_STOPS: Final = (
    ("setup", Category.SETUP),
    ("failure", Category.FAILURE),
    ("minor-stops", Category.MINOR_STOP),
    ("restraint", Category.RESTRAINT),
    ("held", Category.HELD),
    ("unassigned", Category.UNASSIGNED),
    ("no-order", Category.NO_ORDER),
    ("planned-down", Category.PLANNED_DOWN),
)
LOSS_NAMES: Final = (*(name for name, _ in _STOPS), SPEED, DEFECTS, GOOD)


def loss_parts(account: TimeAccount, definition: Definition = ISO) -> dict[str, int]:
    """The parts of the observed planned busy time in whole ms, by name; they add up to it exactly.

    What the definition leaves out of planned busy time is left out here. Standard times are cut to whole ms; what is
    cut stays in the part before. Reduced speed is negative where the line ran faster than its ideal cycle; pieces
    without an ideal cycle are in it wholly.
    """
    found = elements(account, definition)
    parts = {
        name: account.category_ms[category]
        for name, category in _STOPS
        if charge(category, definition) is not Charge.EXCLUDED
    }
    good = found.good_standard_ns // NS_PER_MS
    made = account.standard_total_ns // NS_PER_MS
    # By subtraction: whatever the account books as planned and observed, and no stop explains, was producing.
    producing = found.pbt_ms - sum(parts.values())
    return parts | {SPEED: producing - made, DEFECTS: made - good, GOOD: good}


def losses(baseline: TimeAccount, reporting: TimeAccount, definition: Definition = ISO) -> tuple[Loss, ...]:
    """Every part before and after, in the order of `LOSS_NAMES`."""
    before, after = loss_parts(baseline, definition), loss_parts(reporting, definition)
    per_hour0, per_hour1 = (_per_hour(elements(account, definition).pbt_ms) for account in (baseline, reporting))
    return tuple(
        Loss(name, before[name], after[name], per_hour0(before[name]), per_hour1(after[name]))
        for name in LOSS_NAMES
        if name in before
    )


def _per_hour(known: int) -> Callable[[int], int | None]:
    def scaled(part_ms: int) -> int | None:
        """Halves upward."""
        return (2 * part_ms * MS_PER_HOUR + known) // (2 * known) if known > 0 else None

    return scaled
