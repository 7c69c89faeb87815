"""The account of one line over one window: integer sums, and nothing that cannot be added.

Decides what is counted. What the sums mean as ratios is decided in `ratios`; which state costs what, in `mapping`.
Terms are ISO 22400-2:2014's; UNKNOWN, NO_ORDER and the split of the unplanned time are linetally's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from operator import add
from typing import Final

from protocols.errors import Malformed


class Category(IntEnum):
    """Where a millisecond of a line's time belongs. Each belongs to exactly one."""

    UNKNOWN = 0  # not observed: bad quality, link lost, PLC off. Neither running nor stopped.
    PRODUCING = 1  # APT: actual production time
    SETUP = 2  # AUST: actual unit setup time, a changeover
    FAILURE = 3  # ADET: malfunction
    MINOR_STOP = 4  # ADET: a stop shorter than the definition's threshold
    RESTRAINT = 5  # ADET: blocked or starved by the rest of the line
    HELD = 6  # ADET: internal hold
    UNASSIGNED = 7  # ADET: stopped, idle or complete while an order is in progress
    NO_ORDER = 8  # ADOT: available, but no order to execute
    PLANNED_DOWN = 9  # breaks, holidays, planned maintenance: planned downtime inside a shift
    NOT_SCHEDULED = 10  # outside every shift


class CalendarKind(IntEnum):
    """What the calendar says of a window. Windows are cut where it changes."""

    SCHEDULED = 0
    PLANNED_DOWN = 1  # a break, a planned stop, a holiday inside a shift
    NOT_SCHEDULED = 2


CATEGORIES: Final = len(Category)
_ZERO_TIME: Final = (0,) * CATEGORIES


@dataclass(frozen=True, slots=True)
class TimeAccount:
    """Sums over a stretch of time, in milliseconds, pieces and nanoseconds of standard time.

    `category_ms[c]` is the time in `Category` c; they add up to the stretch exactly.
    `planned_ms` is the part that the calendar schedules, plus what was produced outside it (the calendar beats
    tags, but production in a break counts). Standard time is the product's ideal cycle times its pieces.
    """

    category_ms: tuple[int, ...] = _ZERO_TIME
    planned_ms: int = 0
    total_count: int = 0  # PQ: produced quantity
    good_count: int = 0  # GQ
    reject_count: int = 0
    rework_count: int = 0  # pieces that went through again: never in the total a second time
    startup_reject_count: int = 0  # of the rejects: made while the line was starting up
    estimated_count: int = 0  # of the total: read after a gap in the data, and booked there
    lower_bound_count: int = 0  # counter resets: what came before each of them is lost
    standard_total_ns: int = 0  # sum of PRI * PQ
    standard_good_ns: int = 0  # sum of PRI * GQ
    without_ideal_count: int = 0  # pieces of a product that has no ideal cycle
    transition_count: int = 0
    illegal_count: int = 0  # moves that PackML's table does not know: states that were too short to be seen
    stop_count: int = 0  # closed stops longer than the minor-stop threshold, counted where they began
    minor_stop_count: int = 0
    failure_count: int = 0  # of the stops: those that began with a failure

    def __post_init__(self) -> None:
        if len(self.category_ms) != CATEGORIES:
            raise Malformed(f"an account needs {CATEGORIES} categories, not {len(self.category_ms)}")

    def __add__(self, other: TimeAccount) -> TimeAccount:
        return TimeAccount.from_ints(tuple(map(add, self.as_ints(), other.as_ints())))

    @property
    def length_ms(self) -> int:
        return sum(self.category_ms)

    @property
    def producing_ms(self) -> int:
        """APT, actual production time."""
        return self.category_ms[Category.PRODUCING]

    @property
    def unknown_ms(self) -> int:
        return self.category_ms[Category.UNKNOWN]

    @property
    def known_planned_ms(self) -> int:
        """PBT that was observed: planned time less what nobody saw.

        A window lies wholly inside or outside the schedule, and unobserved time is UNKNOWN only inside.
        """
        return self.planned_ms - self.unknown_ms

    def as_ints(self) -> tuple[int, ...]:
        """The account as the flat row of integers that is signed: the categories, then the fields in order."""
        return (
            *self.category_ms,
            self.planned_ms,
            self.total_count,
            self.good_count,
            self.reject_count,
            self.rework_count,
            self.startup_reject_count,
            self.estimated_count,
            self.lower_bound_count,
            self.standard_total_ns,
            self.standard_good_ns,
            self.without_ideal_count,
            self.transition_count,
            self.illegal_count,
            self.stop_count,
            self.minor_stop_count,
            self.failure_count,
        )

    @classmethod
    def from_ints(cls, row: Sequence[int]) -> TimeAccount:
        """The inverse of `as_ints`. Raises Malformed for a wrong length."""
        if len(row) != ACCOUNT_INTS:
            raise Malformed(f"an account has {ACCOUNT_INTS} integers, not {len(row)}")
        return cls(tuple(row[:CATEGORIES]), *row[CATEGORIES:])


ACCOUNT_INTS: Final = CATEGORIES + len(fields(TimeAccount)) - 1
ACCOUNT_FIELDS: Final = (
    *(f"{category.name.lower()}_ms" for category in Category),
    *(field.name for field in fields(TimeAccount)[1:]),
)
"""The names of `as_ints`, in order: column names of every projection."""


@dataclass(frozen=True, slots=True)
class Window:
    """One row of evidence: a half-open stretch [start_ms, end_ms) of one line with one product, order and shift.

    `product`, `order`, `shift` are "" where there is none; a shift is "<business day>/<name>", the business day
    being the local day on which it started.
    """

    start_ms: int
    end_ms: int
    kind: CalendarKind
    product: str
    order: str
    shift: str
    account: TimeAccount

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms


def total(accounts: Iterable[TimeAccount]) -> TimeAccount:
    """The sum of accounts; the zero account for none."""
    found = list(accounts)
    if len(found) <= 2:  # as for each line each second
        return found[0] + found[1] if len(found) == 2 else found[0] if found else TimeAccount()
    return TimeAccount.from_ints(tuple(map(sum, zip(*(each.as_ints() for each in found), strict=True))))
