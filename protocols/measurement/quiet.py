"""Rows that do nothing but let time pass and counts grow, taken one by one without the kernel.

Decides which of a line's rows are such: quiet ones, as `kernels.scan` defines them in its first lines. Nearly all rows
of a line at work are; whatever is not certainly quiet is left to the kernel, so that nothing is measured differently.
For a single row the kernel's arrays cost more than its work, compiled or not.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter, sub
from typing import Final

import numpy as np

from protocols.measurement.kernels import scan as k
from protocols.plc.roles import ROLES, SignalRole

_LARGEST: Final = 2**60
_SPEED: Final = int(SignalRole.SPEED)
_HEARTBEAT: Final = int(SignalRole.HEARTBEAT)

Columns = Callable[[tuple[int, ...]], tuple[int, ...]]


class QuietRows:
    """Of one line, whose `limits` and `lanes` are the kernel's. Its memory is the meter's: `begin` reads it when the
    kernel has taken a row, `end` writes into it what the quiet rows after that row have changed.

    `rows`: the delta rows of quiet rows, as the kernel's: [time_ms, role, pieces, 0]. Lanes of one role are taken
    together, and all steps within a cell.
    """

    def __init__(self, limits: k.I64, lanes: k.I64) -> None:
        found = limits.tolist()
        self._staleness_ms: int = found[k.STALENESS_MS]
        self._per_hour: int = found[k.MAX_PER_HOUR]
        self._has_heartbeat = found[k.HAS_HEARTBEAT] == 1
        self._by_speed = found[k.KIND] == k.BY_SPEED
        self._above: int = found[k.SPEED_ABOVE]
        self._lanes: list[list[int]] = lanes.tolist()
        # Such machines change by themselves, and BCD has to be read first: neither is worth a second form here.
        self._able = found[k.KIND] != k.BY_PIECES and not any(lane[k.IS_BCD] for lane in self._lanes)
        self.rows: list[list[int]] = []
        self._open: dict[int, list[int]] = {}  # of a role: the row that may still grow
        self._open_until_ms = 0
        self._last_ms = -1
        self._valid = -1  # of the row before; -1: no row can be quiet now
        self._mask = -1  # the valid bits for which what follows was made
        self._width = 0

    def begin(self, memory: k.I64, values: tuple[int, ...], valid: int) -> None:
        """The kernel has taken this row last; `memory` is as it left it."""
        self._valid = -1
        if not self._able or len(values) < ROLES:
            return
        if valid != self._mask or len(values) != self._width:
            self._look(valid, len(values))
        held: list[int] = memory.tolist()
        lanes = [held[base : base + k.LANE] for base in self._bases.tolist()]
        self._heart_ms = held[k.HEART_MS]
        if self._has_heartbeat and (not valid >> _HEARTBEAT & 1 or self._heart_ms == -k.NEVER):
            return
        if not all(lane[k.LANE_SEEN] for lane in lanes):
            return  # it does not read as a number yet
        self._heart = held[k.HEART]
        self._last_ms = held[k.LAST_MS]
        self._product_ms = held[k.PRODUCT_MS]
        self._last = tuple(lane[k.LANE_LAST] for lane in lanes)
        since = [lane[k.LANE_SINCE] for lane in lanes]
        self._since: list[int] | None = None if all(ms == self._last_ms for ms in since) else since
        if self._since is not None and not self._has_heartbeat:
            return  # a count that was not taken in
        self._others = self._watched(values)
        self._fast = values[_SPEED] > self._above
        self._valid = valid

    def _look(self, valid: int, width: int) -> None:
        """Makes what picks out of a row of this form what is looked at."""
        self._mask, self._width = valid, width
        counted = {lane[k.COLUMN] for lane in self._lanes}
        alone = {_SPEED, _HEARTBEAT}
        self._watched = _picked([column for column in range(width) if column not in counted | alone])
        # Lanes of one role beside each other, so that their steps are a slice.
        good = sorted((lane[k.ROLE], at) for at, lane in enumerate(self._lanes) if valid >> lane[k.COLUMN] & 1)
        lanes = [self._lanes[at] for _, at in good]
        self._counts = _picked([lane[k.COLUMN] for lane in lanes])
        self._bases = np.array([k.CARRY + k.LANE * at for _, at in good], np.int64)
        self._least_modulus = min((lane[k.MODULUS] for lane in lanes if lane[k.MODULUS]), default=_LARGEST)
        roles = [lane[k.ROLE] for lane in lanes]
        self._parts = [
            (role, slice(roles.index(role), roles.index(role) + roles.count(role)), cell_ms)
            for role, cell_ms in sorted({(lane[k.ROLE], lane[k.CELL_MS]) for lane in lanes})
        ]

    def take(self, time_ms: int, values: tuple[int, ...], valid: int) -> bool:
        """Whether a row is quiet; then it is taken. One that is older than the row before is not."""
        gap_ms = time_ms - self._last_ms
        if valid != self._valid or not 0 <= gap_ms <= self._staleness_ms or len(values) != self._width:
            return False
        if self._watched(values) != self._others or (self._by_speed and (values[_SPEED] > self._above) != self._fast):
            return False
        beats = False
        longest_ms = gap_ms
        if self._has_heartbeat:
            if time_ms - self._heart_ms >= self._staleness_ms:
                return False
            beats = values[_HEARTBEAT] != self._heart
            if self._since:
                longest_ms = time_ms - min(self._since)
        counts = self._counts(values)
        steps = list(map(sub, counts, self._last))
        # A lane's own limit is that of the time since it was read: at least the first, at most the second.
        if steps and (min(steps) < 0 or max(steps) > k.most_pieces(gap_ms, self._per_hour) or max(counts) >= _LARGEST):
            return False
        if self._per_hour > 0 and self._least_modulus <= k.most_pieces(longest_ms, self._per_hour):
            return False
        if any(steps):
            self._count(time_ms, steps)
        self._last = counts
        self._last_ms = time_ms
        if beats:
            self._heart, self._heart_ms = values[_HEARTBEAT], time_ms
        if self._has_heartbeat and not beats:  # what has not moved is as fresh as the heartbeat
            before = self._since or [time_ms - gap_ms] * len(steps)
            heart_ms = self._heart_ms
            self._since = [time_ms if step else max(ms, heart_ms) for step, ms in zip(steps, before, strict=True)]
        else:
            self._since = None
        return True

    def _count(self, time_ms: int, steps: list[int]) -> None:
        if time_ms > self._open_until_ms:
            self._open.clear()
        for role, part, cell_ms in self._parts:
            pieces = sum(steps[part])
            if not pieces:
                continue
            row = self._open.get(role)
            if row is not None:
                row[0] = time_ms
                row[2] += pieces
                continue
            row = [time_ms, role, pieces, 0]
            self.rows.append(row)
            if cell_ms:
                self._open[role] = row
                # Windows are cut where the product changed: no row may lie on both sides.
                self._open_until_ms = time_ms + -time_ms % cell_ms if time_ms > self._product_ms else time_ms

    @property
    def last_ms(self) -> int | None:
        """The time of the row before, where rows after it can be quiet; None where they cannot."""
        return self._last_ms if self._valid >= 0 else None

    @property
    def news_ms(self) -> int | None:
        """The time of the newest news, where rows after it can be quiet; None where they cannot."""
        if self._valid < 0:
            return None
        return min(self._last_ms, self._heart_ms) if self._has_heartbeat else self._last_ms

    def still(self, until_ms: int) -> bool:
        """Whether nothing happens up to `until_ms` where no row comes."""
        news_ms = self.news_ms
        return news_ms is not None and until_ms <= news_ms + self._staleness_ms

    def write(self, memory: k.I64) -> None:
        """Brings the kernel's memory up to the newest quiet row."""
        if self._valid < 0:
            return
        memory[k.LAST_MS] = self._last_ms
        if self._has_heartbeat:
            memory[k.HEART], memory[k.HEART_MS] = self._heart, self._heart_ms
        memory[self._bases + k.LANE_LAST] = self._last
        memory[self._bases + k.LANE_SINCE] = self._last_ms if self._since is None else self._since

    def end(self, memory: k.I64) -> None:
        """What comes now may not be quiet: the memory is as the kernel needs it, and `begin` begins anew."""
        self.write(memory)
        self._valid = -1

    def take_rows(self) -> list[list[int]]:
        """`rows`, each exactly once; those of later steps are others."""
        rows, self.rows = self.rows, []
        self._open.clear()
        return rows


def _picked(columns: list[int]) -> Columns:
    """What gives these columns of a row."""
    if len(columns) > 1:
        return itemgetter(*columns)
    return lambda values: tuple(values[column] for column in columns)
