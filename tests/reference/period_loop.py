"""Period sums from lists of windows that are all in memory: the plain way, for comparison with the tally.

The sums of a period as linetally first computed them, written out in loops over window objects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeVar

from protocols.errors import Malformed
from protocols.measurement.account import TimeAccount, Window, total
from protocols.measurement.elements import elements
from protocols.measurement.periods import Cell, Frozen, Gap, PeriodSums
from protocols.measurement.plan import Period, Plan

WEEK_MS: Final = 7 * 86_400_000
GAPS_LISTED: Final = 100
_Key = TypeVar("_Key", str, int)


def period_sums(plan: Plan, period: Period, windows: Mapping[str, Sequence[Window]]) -> PeriodSums:
    """The sums of one period. Raises Malformed when two windows of a line overlap."""
    cells: list[Cell] = []
    gaps: list[Gap] = []
    missing = 0
    for line_id in plan.line_ids:
        # Nothing but the period's own windows may matter: an auditor need not be given any other.
        line = sorted((w for w in windows.get(line_id, ()) if w.start_ms in period), key=lambda w: w.start_ms)
        _refuse_overlap(line_id, line)
        cells += _cells(plan, period, line_id, line)
        holes = _holes(period, line_id, line)
        missing += sum(hole.unknown_ms for hole in holes)
        gaps += holes + _unknown_stretches(line_id, line)
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


def _refuse_overlap(line_id: str, line: Sequence[Window]) -> None:
    for before, after in pairwise(line):
        if after.start_ms < before.end_ms:
            raise Malformed(f"windows of line {line_id!r} overlap at {after.start_ms} ms: the time would count twice")


def _cells(plan: Plan, period: Period, line_id: str, line: Sequence[Window]) -> list[Cell]:
    """Adds up a line's windows. Rows are gathered first and summed by column, which is what makes it fast."""
    rows: dict[tuple[str, str, str, int], list[tuple[int, ...]]] = defaultdict(list)
    estimated: dict[tuple[str, str, str, int], int] = defaultdict(int)
    first: dict[tuple[str, str, str, int], int] = {}
    unit = ""
    for window in line:
        unit = window.shift or unit
        account = window.account
        key = (window.product, window.shift, unit, (window.start_ms - period.from_ms) // WEEK_MS)
        rows[key].append(account.as_ints())
        first.setdefault(key, window.start_ms)
        if account.estimated_count:
            estimated[key] += _estimated_good(account)
    out: list[Cell] = []
    for key, ints in rows.items():
        product, shift, unit, week = key
        account = TimeAccount.from_ints([sum(column) for column in zip(*ints, strict=True)])
        frozen = _frozen(plan, product, account, estimated[key])
        out.append(Cell(line_id, product, shift, unit, week, account, frozen, first[key]))
    return out


def _estimated_good(account: TimeAccount) -> int:
    """Good pieces that were estimated: the window's share of estimated pieces, rounded up."""
    if account.total_count <= 0:
        return account.good_count
    return min(account.good_count, -(-account.good_count * account.estimated_count // account.total_count))


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


def _holes(period: Period, line_id: str, line: Sequence[Window]) -> list[Gap]:
    """Stretches of the period in which the line has no window that starts in it."""
    out: list[Gap] = []
    at = period.from_ms
    for window in line:
        if window.start_ms > at:
            out.append(Gap(line_id, at, window.start_ms, window.start_ms - at, missing=True))
        at = max(at, window.end_ms)
    if at < period.to_ms:
        out.append(Gap(line_id, at, period.to_ms, period.to_ms - at, missing=True))
    return out


def _unknown_stretches(line_id: str, line: Sequence[Window]) -> list[Gap]:
    """Runs of neighbouring windows with unknown time."""
    out: list[Gap] = []
    for window in line:
        unknown = window.account.unknown_ms
        if not unknown:
            continue
        if out and out[-1].to_ms == window.start_ms:
            last = out[-1]
            out[-1] = last._replace(to_ms=window.end_ms, unknown_ms=last.unknown_ms + unknown)
        else:
            out.append(Gap(line_id, window.start_ms, window.end_ms, unknown, missing=False))
    return out
