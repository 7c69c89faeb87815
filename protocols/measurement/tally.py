"""The tally of one line over one period: what is kept of its windows while they go by.

Decides what must be remembered of a window once it has been added up, so that half a year of minutes fits in little
memory: sums by product, shift and week, which stretches have windows, and which windows have unseen time. Windows
come in order of time; one that is amended later is taken out and put back in.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from protocols.measurement.account import ACCOUNT_INTS, TimeAccount, Window
from protocols.measurement.plan import Period

WEEK_MS: Final = 7 * 86_400_000
_ROWS_HELD: Final = 1_024


class CellKey(NamedTuple):
    """The smallest sum that is kept: one product, shift and week of the period.

    `unit`: the shift that it is resampled with: its own, or for time outside every shift the one before.
    """

    product: str
    shift: str
    unit: str
    week: int


@dataclass(slots=True)
class CellSums:
    """`ints`: the account. `estimated_good`: good pieces that were estimated over gaps, window by window."""

    ints: list[int]
    estimated_good: int
    first_ms: int


class Stretch(NamedTuple):
    """[from_ms, to_ms), and how much of it was unseen."""

    from_ms: int
    to_ms: int
    unknown_ms: int


def _integers() -> array[int]:
    return array("q")


@dataclass(slots=True, eq=False)
class Tally:
    """See above. The caller sees to it that windows do not overlap. Empty at first."""

    line_id: str
    period: Period
    cells: dict[CellKey, CellSums] = field(default_factory=dict)
    _from_ms: array[int] = field(default_factory=_integers)  # of each stretch without a hole
    _to_ms: array[int] = field(default_factory=_integers)
    _unseen: tuple[array[int], array[int], array[int]] = field(
        default_factory=lambda: (array("q"), array("q"), array("q"))
    )  # start, end and unseen time of each window that has some
    _unit_from_ms: array[int] = field(default_factory=_integers)  # from this time on, time outside every shift is ...
    _units: list[str] = field(default_factory=list)  # ... that shift's
    _held_key: CellKey | None = None
    _held: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """The last shift so far; "" before the first."""
        return self._units[-1] if self._units else ""

    def add(self, window: Window) -> None:
        """One more window; it starts in the period, and after all that were added."""
        self.add_unit(window.start_ms, window.shift)
        week = (window.start_ms - self.period.from_ms) // WEEK_MS
        key = CellKey(window.product, window.shift, self.unit, week)
        account = window.account
        # Rows of one cell follow each other: gathered and summed by column, which is what makes it fast.
        if key != self._held_key or len(self._held) == _ROWS_HELD:
            self.flush()
            self._held_key = key
            if key not in self.cells:
                self.cells[key] = CellSums([0] * ACCOUNT_INTS, 0, window.start_ms)
        self._held.append(account.as_ints())
        if account.estimated_count:
            self.cells[key].estimated_good += estimated_good(account)
        self.add_stretch(window.start_ms, window.end_ms)
        if account.unknown_ms:
            self.add_unseen(window.start_ms, window.end_ms, account.unknown_ms)

    def add_unit(self, start_ms: int, shift: str) -> None:
        """From `start_ms` on windows are of this shift ("": of none)."""
        if shift and shift != self.unit:
            self._unit_from_ms.append(start_ms)
            self._units.append(shift)

    def add_sums(self, key: CellKey, ints: Iterable[int], first_ms: int) -> CellSums:
        """The sums of neighbouring windows of one cell, added elsewhere; gives the cell."""
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = CellSums([0] * ACCOUNT_INTS, 0, first_ms)
        cell.ints = [a + b for a, b in zip(cell.ints, ints, strict=True)]
        return cell

    def add_stretch(self, from_ms: int, to_ms: int) -> None:
        """Windows without a hole between them."""
        if self._to_ms and self._to_ms[-1] == from_ms:
            self._to_ms[-1] = to_ms
        else:
            self._from_ms.append(from_ms)
            self._to_ms.append(to_ms)

    def add_unseen(self, from_ms: int, to_ms: int, unknown_ms: int) -> None:
        """A window with unseen time."""
        for column, value in zip(self._unseen, (from_ms, to_ms, unknown_ms), strict=True):
            column.append(value)

    def flush(self) -> None:
        """Adds up what is held."""
        if self._held and self._held_key is not None:
            self.add_sums(self._held_key, map(sum, zip(*self._held, strict=True)), 0)
        self._held = []

    def restate(self, window: Window, account: TimeAccount) -> None:
        """`window`, added before, has another account now."""
        self.flush()
        unit = self._unit_at(window.start_ms)
        week = (window.start_ms - self.period.from_ms) // WEEK_MS
        cell = self.cells[CellKey(window.product, window.shift, unit, week)]
        before, after = window.account, account
        cell.ints = [a - b + c for a, b, c in zip(cell.ints, before.as_ints(), after.as_ints(), strict=True)]
        cell.estimated_good += estimated_good(after) - estimated_good(before)
        if before.unknown_ms != after.unknown_ms:
            self._restate_unseen(window, after.unknown_ms)

    def _unit_at(self, at_ms: int) -> str:
        place = bisect_right(self._unit_from_ms, at_ms) - 1
        return self._units[place] if place >= 0 else ""

    def _restate_unseen(self, window: Window, unknown_ms: int) -> None:
        place = bisect_left(self._unseen[0], window.start_ms)
        if window.account.unknown_ms:
            for column in self._unseen:
                del column[place]
        if unknown_ms:
            for column, value in zip(self._unseen, (window.start_ms, window.end_ms, unknown_ms), strict=True):
                column.insert(place, value)

    @property
    def recorded_ms(self) -> int:
        """Time that has windows."""
        return sum(self._to_ms) - sum(self._from_ms)

    @property
    def unknown_ms(self) -> int:
        """Of it, unseen."""
        return sum(self._unseen[2])

    def holes(self) -> list[Stretch]:
        """Stretches of the period in which no window starts."""
        out: list[Stretch] = []
        at = self.period.from_ms
        for from_ms, to_ms in zip(self._from_ms, self._to_ms, strict=True):
            if from_ms > at:
                out.append(Stretch(at, from_ms, from_ms - at))
            at = max(at, to_ms)
        if at < self.period.to_ms:
            out.append(Stretch(at, self.period.to_ms, self.period.to_ms - at))
        return out

    def unknown_stretches(self) -> list[Stretch]:
        """Runs of neighbouring windows with unseen time."""
        return list(_joined(zip(*self._unseen, strict=True)))


def _joined(parts: Iterable[Sequence[int]]) -> Iterator[Stretch]:
    last: Stretch | None = None
    for from_ms, to_ms, unknown_ms in parts:
        if last is not None and last.to_ms == from_ms:
            last = Stretch(last.from_ms, to_ms, last.unknown_ms + unknown_ms)
            continue
        if last is not None:
            yield last
        last = Stretch(from_ms, to_ms, unknown_ms)
    if last is not None:
        yield last


def estimated_good(account: TimeAccount) -> int:
    """Good pieces of a window that were estimated."""
    return estimated_share(account.good_count, account.total_count, account.estimated_count)


def estimated_share(good: int, total: int, estimated: int) -> int:
    """Of `good` pieces, those that were estimated: the share of the estimated ones in all, rounded up."""
    if not estimated:
        return 0
    return good if total <= 0 else min(good, -(-good * estimated // total))
