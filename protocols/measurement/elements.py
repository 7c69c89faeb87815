"""The time elements of ISO 22400-2, read out of an account under a definition.

Decides what each switch of a definition does to planned busy time, production time and good quantity, once for all
figures and losses. What they are divided by is decided in `ratios`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import ISO, Charge, Definition, Rework

NS_PER_MS: Final = 1_000_000

SWITCHED: Final = {
    Category.SETUP: "setup",
    Category.RESTRAINT: "restraint",
    Category.NO_ORDER: "no_order",
    Category.PLANNED_DOWN: "planned_down",
    Category.MINOR_STOP: "minor_stop_side",
}
"""Categories whose charge is a switch of the definition, by its name."""
_FIXED: Final = {
    Category.UNKNOWN: Charge.EXCLUDED,
    Category.NOT_SCHEDULED: Charge.EXCLUDED,
    Category.FAILURE: Charge.AVAILABILITY,
    Category.HELD: Charge.AVAILABILITY,
    Category.UNASSIGNED: Charge.AVAILABILITY,
}


def charge(category: Category, definition: Definition = ISO) -> Charge | None:
    """What a category's time is charged to; None for PRODUCING, which is no loss by itself."""
    if category is Category.PRODUCING:
        return None
    name = SWITCHED.get(category)
    found: Charge = _FIXED[category] if name is None else getattr(definition, name)
    return found


@dataclass(frozen=True, slots=True)
class Elements:
    """Times in ms, all of them observed; quantities in pieces. ISO's abbreviations.

    `pbt_ms` planned busy time; `apt_ms` actual production time; `aust_ms` actual unit set-up time, whether it is in
    PBT or not; `adet_ms` actual unit delay time; `aubt_ms` actual unit busy time, as far as it is in PBT;
    `pot_ms` planned operation time: the shifts with their breaks; `calendar_ms` all time.
    `good_standard_ns` is the ideal time of the good pieces: exact, and of one product a whole number.
    """

    pbt_ms: int
    apt_ms: int
    aust_ms: int
    adet_ms: int
    aubt_ms: int
    pot_ms: int
    calendar_ms: int
    good_count: int
    good_standard_ns: Fraction

    @property
    def aupt_ms(self) -> int:
        """Actual unit processing time: production and set-up."""
        return self.apt_ms + self.aust_ms


def elements(account: TimeAccount, definition: Definition = ISO) -> Elements:
    """The elements of an account. Planned time that nobody observed is in none of them."""
    ms = account.category_ms
    pbt = account.known_planned_ms
    if definition.planned_down is Charge.AVAILABILITY:
        pbt += ms[Category.PLANNED_DOWN]
    for category in (Category.SETUP, Category.RESTRAINT, Category.NO_ORDER):
        if charge(category, definition) is Charge.EXCLUDED:
            pbt -= ms[category]
    apt, adet = ms[Category.PRODUCING], ms[Category.FAILURE] + ms[Category.HELD] + ms[Category.UNASSIGNED]
    if definition.minor_stop_side is Charge.PERFORMANCE:
        apt += ms[Category.MINOR_STOP]
    else:
        adet += ms[Category.MINOR_STOP]
    if definition.restraint is Charge.AVAILABILITY:
        adet += ms[Category.RESTRAINT]
    setup = ms[Category.SETUP]
    good, good_ns = account.good_count, Fraction(account.standard_good_ns)
    if definition.rework is Rework.GOOD and account.rework_count:
        good += account.rework_count
        if account.total_count > 0:
            # The account knows no product: a reworked piece has the mean ideal cycle. Of one product that is exact.
            good_ns += Fraction(account.standard_total_ns * account.rework_count, account.total_count)
    return Elements(
        pbt_ms=pbt,
        apt_ms=apt,
        aust_ms=setup,
        adet_ms=adet,
        aubt_ms=apt + adet + (setup if definition.setup is Charge.AVAILABILITY else 0),
        pot_ms=account.known_planned_ms + ms[Category.PLANNED_DOWN],
        calendar_ms=account.length_ms - account.unknown_ms,
        good_count=good,
        good_standard_ns=good_ns,
    )
