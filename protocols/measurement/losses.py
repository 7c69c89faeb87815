"""Losses: where the observed planned time went, in time that adds up to the whole.

Decides how a period's account falls into good production and the losses beside it. Set-up and failures and the
other stops are measured time; reduced speed and defects are what the ideal cycles say about the producing time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.ratios import MS_PER_HOUR, NS_PER_MS


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
)
LOSS_NAMES: Final = (*(name for name, _ in _STOPS), SPEED, DEFECTS, GOOD)


def loss_parts(account: TimeAccount) -> dict[str, int]:
    """The parts of the observed planned time in ms, by name; they add up to it exactly.

    Standard times are cut to whole ms; what is cut stays in the part before. Reduced speed is negative where the
    line ran faster than its ideal cycle; pieces without an ideal cycle are in it wholly.
    """
    parts = {name: account.category_ms[category] for name, category in _STOPS}
    good = account.standard_good_ns // NS_PER_MS
    made = account.standard_total_ns // NS_PER_MS
    # By subtraction: whatever the account books as planned and observed, and no stop explains, was producing.
    producing = account.known_planned_ms - sum(parts.values())
    return parts | {SPEED: producing - made, DEFECTS: made - good, GOOD: good}


def losses(baseline: TimeAccount, reporting: TimeAccount) -> tuple[Loss, ...]:
    """Every part before and after, in the order of `LOSS_NAMES`."""
    before, after = loss_parts(baseline), loss_parts(reporting)
    per_hour0, per_hour1 = _per_hour(baseline), _per_hour(reporting)
    return tuple(
        Loss(name, before[name], after[name], per_hour0(before[name]), per_hour1(after[name])) for name in LOSS_NAMES
    )


def _per_hour(account: TimeAccount) -> Callable[[int], int | None]:
    known = account.known_planned_ms

    def scaled(part_ms: int) -> int | None:
        """Halves upward."""
        return (2 * part_ms * MS_PER_HOUR + known) // (2 * known) if known > 0 else None

    return scaled
