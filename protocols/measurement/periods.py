"""Periods: the windows of a project's lines, added up before and after its upgrade.

Decides which window counts in which period, what a shift is for the statistics, and what of the planned time
nobody saw. Sums only; ratios and verdicts are in `outcome`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from protocols.errors import Malformed
from protocols.measurement.account import TimeAccount, Window, total
from protocols.measurement.elements import elements
from protocols.measurement.plan import Period, Plan
from protocols.measurement.tally import WEEK_MS, CellKey, CellSums, Tally

__all__ = ["GAPS_LISTED", "WEEK_MS", "Cell", "Frozen", "Gap", "PeriodSums", "period_sums", "period_sums_of", "tally"]

GAPS_LISTED: Final = 100
_Key = TypeVar("_Key", str, int)


class Gap(NamedTuple):
    """A stretch of a line in which time went unseen. `missing`: no window at all, rather than unknown time in some.

    `unknown_ms`: how much of the stretch was planned and unseen; for a missing one, its whole length.
    """

    line_id: str
    from_ms: int
    to_ms: int
    unknown_ms: int
    missing: bool


@dataclass(frozen=True, slots=True)
class Frozen:
    """Sums of the frozen-baseline output rate, over everything but new products.

    `standard_good_ns`: sum of PRI_0 * GQ. `observed_good_ns`: the same without pieces that were estimated over a
    gap. `known_ms`: PBT that was observed, under the plan's definition. `planned_ms`: with what nobody saw.
    """

    standard_good_ns: int = 0
    observed_good_ns: int = 0
    known_ms: int = 0
    planned_ms: int = 0

    def __add__(self, other: Frozen) -> Frozen:
        return Frozen(
            self.standard_good_ns + other.standard_good_ns,
            self.observed_good_ns + other.observed_good_ns,
            self.known_ms + other.known_ms,
            self.planned_ms + other.planned_ms,
        )


class Cell(NamedTuple):
    """The smallest sum that is kept: one line, product, shift and week of the period."""

    line_id: str
    product: str
    shift: str
    unit: str  # the shift that it is resampled with: its own, or for time outside every shift the one before
    week: int
    account: TimeAccount
    frozen: Frozen
    first_ms: int


@dataclass(frozen=True, slots=True)
class PeriodSums:
    """One side of the comparison. Weeks are of 168 hours, counted from the period's start."""

    period: Period
    account: TimeAccount
    known_ms: int  # PBT that was observed, under the plan's definition
    frozen: Frozen
    by_line: tuple[tuple[str, TimeAccount, Frozen], ...]
    by_product: tuple[tuple[str, TimeAccount], ...]
    by_shift: tuple[tuple[str, TimeAccount], ...]  # by the shift's name, over all days
    by_week: tuple[tuple[int, TimeAccount, Frozen], ...]
    units: tuple[tuple[str, TimeAccount, Frozen], ...]  # shift instances in order of time, as they are resampled
    gaps: tuple[Gap, ...]  # the longest ones, in order of time
    gap_count: int
    missing_ms: int  # time of the period without any window
    missing_planned_ms: int  # of it, planned: by the share of the time that has windows; rounded up

    @property
    def shifts(self) -> int:
        """Shift instances with planned time that was observed."""
        return sum(account.known_planned_ms > 0 for _, account, _ in self.units)

    @property
    def shifts_a_day(self) -> int:
        """The most shifts that one business day has; at least 1."""
        days: dict[str, int] = defaultdict(int)
        for unit, _, _ in self.units:
            days[unit.partition("/")[0]] += 1
        return max(days.values(), default=1)

    @property
    def planned_ms(self) -> int:
        """Planned time, with what is missing."""
        return self.account.planned_ms + self.missing_planned_ms


def period_sums(plan: Plan, period: Period, windows: Mapping[str, Sequence[Window]]) -> PeriodSums:
    """The sums of one period. Raises Malformed when two windows of a line overlap."""
    return period_sums_of(plan, period, [tally(line_id, period, windows.get(line_id, ())) for line_id in plan.line_ids])


def tally(line_id: str, period: Period, windows: Iterable[Window]) -> Tally:
    """The tally of those windows, in any order, that start in the period. Raises Malformed when two overlap."""
    # Nothing but the period's own windows may matter: an auditor need not be given any other.
    found, end_ms = Tally(line_id, period), None
    for window in sorted((w for w in windows if w.start_ms in period), key=lambda w: w.start_ms):
        if end_ms is not None and window.start_ms < end_ms:
            raise Malformed(f"windows of line {line_id!r} overlap at {window.start_ms} ms: the time would count twice")
        end_ms = window.end_ms
        found.add(window)
    return found


def period_sums_of(plan: Plan, period: Period, tallies: Sequence[Tally]) -> PeriodSums:
    """The sums of one period from the tally of each of the plan's lines, in the plan's order."""
    cells: list[Cell] = []
    gaps: list[Gap] = []
    missing = 0
    for line in tallies:
        line.flush()
        cells += [_cell(plan, line.line_id, key, sums) for key, sums in line.cells.items()]
        holes = [Gap(line.line_id, *hole, missing=True) for hole in line.holes()]
        missing += sum(hole.unknown_ms for hole in holes)
        gaps += holes
        gaps += [Gap(line.line_id, *stretch, missing=False) for stretch in line.unknown_stretches()]
    account = total(cell.account for cell in cells)
    seen = account.length_ms
    longest = sorted(gaps, key=lambda gap: (-gap.unknown_ms, gap.from_ms, gap.line_id))[:GAPS_LISTED]
    return PeriodSums(
        period=period,
        account=account,
        known_ms=elements(account, plan.definition).pbt_ms,
        frozen=sum((cell.frozen for cell in cells), Frozen()),
        by_line=tuple(_grouped((cell.line_id, cell) for cell in cells)),
        by_product=tuple((key, summed) for key, summed, _ in _grouped((cell.product, cell) for cell in cells)),
        by_shift=tuple(
            (key, summed) for key, summed, _ in _grouped((cell.shift.partition("/")[2], cell) for cell in cells)
        ),
        by_week=tuple(_grouped((cell.week, cell) for cell in cells)),
        units=_units(cells),
        gaps=tuple(sorted(longest, key=lambda gap: (gap.from_ms, gap.line_id))),
        gap_count=len(gaps),
        missing_ms=missing,
        missing_planned_ms=-(-missing * account.planned_ms // seen) if seen else missing,
    )


def _cell(plan: Plan, line_id: str, key: CellKey, sums: CellSums) -> Cell:
    account = TimeAccount.from_ints(sums.ints)
    frozen = _frozen(plan, key.product, account, sums.estimated_good)
    return Cell(line_id, *key, account, frozen, sums.first_ms)


def _frozen(plan: Plan, product: str, account: TimeAccount, estimated_good: int) -> Frozen:
    """Time without a product (idle before the first order) is everybody's; a new product's time is its own."""
    cycle = plan.ideal_cycles_ns.get(product, 0)
    if product and not cycle:
        return Frozen()
    found = elements(account, plan.definition)
    good = found.good_count
    known = found.pbt_ms
    return Frozen(cycle * good, cycle * (good - estimated_good), known, known + account.unknown_ms)


def _grouped(pairs: Iterable[tuple[_Key, Cell]]) -> list[tuple[_Key, TimeAccount, Frozen]]:
    """Sums by key, keys in order."""
    groups: dict[_Key, list[Cell]] = defaultdict(list)
    for key, cell in pairs:
        groups[key].append(cell)
    return [
        (key, total(cell.account for cell in cells), sum((cell.frozen for cell in cells), Frozen()))
        for key, cells in sorted(groups.items(), key=lambda item: item[0])
    ]


def _units(cells: Sequence[Cell]) -> tuple[tuple[str, TimeAccount, Frozen], ...]:
    """Shift instances in order of time, all lines together: what happens in a shift happens to all of them."""
    first: dict[str, int] = {}
    for cell in cells:
        first[cell.unit] = min(first.get(cell.unit, cell.first_ms), cell.first_ms)
    units = _grouped((cell.unit, cell) for cell in cells)
    # A holiday, or a night that nobody planned, is no shift; one with pieces but without observed time is.
    kept = [unit for unit in units if unit[1].known_planned_ms > 0 or unit[1].total_count or unit[1].good_count]
    return tuple(sorted(kept, key=lambda unit: (first[unit[0]], unit[0])))
