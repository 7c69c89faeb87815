"""What is shown of the shift under way: its account so far, the ribbon of its states, and the last stops.

Decides what a page is shown and what of it survives a restart. Nothing here is measured or signed: a meter without
it closes the same windows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Final

from protocols.errors import Malformed
from protocols.measurement.account import Category, TimeAccount, Window, total
from protocols.measurement.timeline import Stop, Stretch

RECENT_MS: Final = 300_000
RIBBON_RUNS: Final = 400
STOPS_SHOWN: Final = 5

Run = tuple[int, Category]
"""(start_ms, category); it lasts until the next one's start."""


@dataclass(slots=True)
class Shown:
    """Of all that was closed. `shift`: the name of the last closed window's shift; `account`: what was closed of it.

    `recent`: windows of the last minutes, which a restart forgets. `_since`: how many of them are left out of a sum,
    and the sum of the others.
    """

    shift: str = ""
    account: TimeAccount = field(default_factory=TimeAccount)
    ribbon: list[Run] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    recent: list[Window] = field(default_factory=list)
    _since: tuple[int, TimeAccount] | None = field(default=None, compare=False, repr=False)

    def remember(
        self, windows: Sequence[Window], stretches: Iterable[Stretch], stops: Iterable[Stop], closed_ms: int
    ) -> None:
        """Windows that are closed now; `closed_ms`: up to when windows were closed before them."""
        end_ms, name = windows[-1].end_ms, windows[-1].shift
        before = [self.account] if self.shift == name else []
        self.shift, self.account = name, total([*before, *(w.account for w in windows if w.shift == name)])
        self._since = None
        self.recent = [w for w in [*self.recent, *windows] if w.end_ms > end_ms - 2 * RECENT_MS]
        runs = [(max(s, closed_ms), c) for s, e, c in stretches if e > closed_ms and s < end_ms]
        self.ribbon = list(merged([*self.ribbon, *runs], 0))[-RIBBON_RUNS:]
        ended = {s.start_ms: s for s in [*self.stops, *stops] if s.end_ms <= end_ms}
        self.stops = list(ended.values())[-STOPS_SHOWN:]

    def account_since(self, from_ms: int) -> TimeAccount:
        """The sum of those closed windows of the last minutes that begin at `from_ms` or later."""
        first = bisect_left(self.recent, from_ms, key=lambda window: window.start_ms)
        if self._since is None or self._since[0] != first:
            self._since = first, total(w.account for w in self.recent[first:])
        return self._since[1]

    def ribbon_with(self, runs: Iterable[Run], from_ms: int) -> tuple[Run, ...]:
        """The ribbon with the `runs` that follow it, from `from_ms` on, merged. It is merged already, and a shift has
        hundreds of runs: only its first and its last two, to which the others are joined, are looked at."""
        first = max(bisect_right(self.ribbon, from_ms, key=lambda run: run[0]) - 1, 0)
        if len(self.ribbon) - first < 4:
            return merged([*self.ribbon[first:], *runs], from_ms)
        return (
            *merged(self.ribbon[first : first + 1], from_ms),
            *self.ribbon[first + 1 : -2],
            *merged([*self.ribbon[-2:], *runs], from_ms),
        )

    def to_data(self) -> list[Any]:
        """Integers, texts and lists: [shift, account, ribbon, stops]."""
        return [
            self.shift,
            list(self.account.as_ints()),
            [[start_ms, int(category)] for start_ms, category in self.ribbon],
            [[int(value) for value in astuple(stop)] for stop in self.stops],
        ]

    @classmethod
    def from_data(cls, data: Sequence[Any]) -> Shown:
        """The inverse of `to_data`. Raises Malformed."""
        try:
            shift, account, ribbon, stops = data
            return cls(
                shift,
                TimeAccount.from_ints(account),
                [(start_ms, Category(category)) for start_ms, category in ribbon],
                [Stop(a, b, Category(c), reason, bool(minor), bool(long)) for a, b, c, reason, minor, long in stops],
            )
        except (TypeError, ValueError) as error:
            raise Malformed("what was kept of the shift under way is of another form") from error


def merged(runs: Iterable[Run], from_ms: int) -> tuple[Run, ...]:
    """Runs from `from_ms` on, neighbours of one category taken together."""
    out: list[Run] = []
    for start, category in runs:
        at = max(start, from_ms)
        if out and out[-1][0] == at:
            out.pop()
        if not out or out[-1][1] is not category:
            out.append((at, category))
    return tuple(out)
