"""Roll-up: accounts added over places, products, shifts, orders and days; and the OEE of a line of machines.

Decides what is added to what. Sums only: whoever wants a ratio makes it of the sum, and a ratio is never averaged.
Pure functions over accounts; where the rows come from is the caller's business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from protocols.measurement import ratios
from protocols.measurement.account import ACCOUNT_INTS, TimeAccount, Window
from protocols.measurement.definition import ISO, Charge, Definition
from protocols.measurement.elements import NS_PER_MS, elements
from protocols.measurement.figure import Undefined


class Place(NamedTuple):
    """Where a line stands: its site and area in the enterprise (IEC 62264), and the funded project that it is in.

    Ids; "" where there is none. A line belongs to one area and to one project, but a project may cross areas.
    """

    scheme: str
    enterprise: str
    site: str
    area: str
    project: str
    line: str


class By(StrEnum):
    """What rows are added up by."""

    SCHEME = "scheme"
    ENTERPRISE = "enterprise"
    SITE = "site"  # within its enterprise
    AREA = "area"  # within its site
    PROJECT = "project"  # within its scheme
    LINE = "line"
    PRODUCT = "product"
    ORDER = "order"
    SHIFT = "shift"  # by name, over all days
    DAY = "day"  # business day: the local day on which the shift started


class Row(NamedTuple):
    """An account with everything that it can be added up by. `day` and `shift` are "" outside every shift."""

    place: Place
    product: str
    order: str
    shift: str
    day: str
    account: TimeAccount


def row_of(place: Place, window: Window) -> Row:
    """The row of one window."""
    day, _, shift = window.shift.rpartition("/")
    return Row(place, window.product, window.order, shift, day, window.account)


def _key(row: Row, by: By) -> tuple[str, ...]:
    place = row.place
    match by:
        case By.SCHEME:
            return (place.scheme,)
        case By.ENTERPRISE:
            return (place.enterprise,)
        case By.SITE:
            return place.enterprise, place.site
        case By.AREA:
            return place.enterprise, place.site, place.area
        case By.PROJECT:
            return place.scheme, place.project
        case By.LINE:
            return (place.line,)
        case By.PRODUCT:
            return (row.product,)
        case By.ORDER:
            return (row.order,)
        case By.SHIFT:
            return (row.shift,)
        case By.DAY:
            return (row.day,)


def key_of(row: Row, by: Sequence[By]) -> tuple[str, ...]:
    """The key of the sum that a row goes into: the ids of each of `by` in turn."""
    return tuple(part for each in by for part in _key(row, each))


def roll_up(rows: Iterable[Row], by: Sequence[By] = ()) -> dict[tuple[str, ...], TimeAccount]:
    """The sums by key, keys in order. A key is the ids of each of `by` in turn; () has the one sum of all rows.

    No rows give no sums. An area, a site and a project are named with what they are in: two enterprises may both
    have a site "main".
    """
    sums: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * ACCOUNT_INTS)
    for row in rows:
        sum_of = sums[key_of(row, by)]
        for i, value in enumerate(row.account.as_ints()):
            sum_of[i] += value
    return {key: TimeAccount.from_ints(sums[key]) for key in sorted(sums)}


class Constraint(NamedTuple):
    """The machine that limits a line for a product, and its ideal cycle."""

    machine: str
    ideal_cycle_ns: int


def bottlenecks(cycles_ns: Mapping[str, Mapping[str, int | None]]) -> dict[str, Constraint]:
    """The slowest machine for each product, of ideal cycles by machine and product; by name where two are alike.

    A product for which a machine that makes it has no ideal cycle (None) has no constraint: any machine may be it. A
    machine that a product does not pass has no entry.
    """
    out: dict[str, Constraint] = {}
    unknown: set[str] = set()
    for machine in sorted(cycles_ns):
        for product, cycle in cycles_ns[machine].items():
            if not cycle:
                unknown.add(product)
            elif product not in out or cycle > out[product].ideal_cycle_ns:
                out[product] = Constraint(machine, cycle)
    return {product: out[product] for product in sorted(out.keys() - unknown)}


@dataclass(frozen=True, slots=True)
class LineOee:
    """The OEE of a line of machines, and of each machine apart. `undefined_because` is told where `oee` is None."""

    oee: Fraction | None
    undefined_because: Undefined | None
    constraints: Mapping[str, Constraint]
    machines: Mapping[str, Fraction | None]


def machine_oee(
    account: TimeAccount, definition: Definition = ISO, waiting: Charge = Charge.EXCLUDED
) -> Fraction | None:
    """OEE of one machine of a line. `waiting`: whether the time in which the others blocked or starved it is charged
    to it (AVAILABILITY) or not (EXCLUDED)."""
    return ratios.oee(account, replace(definition, restraint=waiting))


def line_oee(
    line: TimeAccount,
    good_out: Mapping[str, int],
    cycles_ns: Mapping[str, Mapping[str, int | None]],
    machines: Mapping[str, TimeAccount],
    definition: Definition = ISO,
    waiting: Charge = Charge.EXCLUDED,
) -> LineOee:
    """Line OEE by the bottleneck: the sum over products of PRI_bottleneck * good pieces out of the line, by PBT.

    `line` is the line's own account, whose observed PBT it is; `good_out` the good pieces that left the line, by
    product; `cycles_ns` ideal cycles by machine and product, `machines` each machine's own account, `waiting` as in
    `machine_oee`. Line OEE is not made of the machines' OEE: those would count each other's waiting.
    """
    constraints = bottlenecks(cycles_ns)
    pbt_ns = elements(line, definition).pbt_ms * NS_PER_MS
    undefined = None
    if any(count and product not in constraints for product, count in good_out.items()):
        undefined = Undefined.NO_IDEAL_CYCLE
    elif pbt_ns <= 0:
        undefined = Undefined.NO_PLANNED_TIME
    oee = None
    if undefined is None:
        made = sum(constraints[product].ideal_cycle_ns * count for product, count in good_out.items() if count)
        oee = Fraction(made, pbt_ns)
    return LineOee(
        oee=oee,
        undefined_because=undefined,
        constraints=MappingProxyType(constraints),
        machines=MappingProxyType(
            {name: machine_oee(machines[name], definition, waiting) for name in sorted(machines)}
        ),
    )


def fall_off_ratio(first: TimeAccount, operations: Iterable[TimeAccount]) -> Fraction | None:
    """ISO 22400-2, Fall off ratio: the scrap of all operations by what the first one produced; None if that is 0."""
    scrap = sum(account.reject_count - account.rework_count for account in operations)
    return Fraction(scrap, first.total_count) if first.total_count > 0 else None
