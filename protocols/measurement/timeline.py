"""The timeline of a line: runs of one category as they were seen, and what they are once flapping and minor stops
are told.

Decides the class of a stop on its closed interval, before any window cuts it. Three passes, each over what the one
before made: short stops become running, short runs become part of the stop, stops become minor. As long as a stretch
may still turn out to be short, the time from its start on is undecided. The raw runs stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from protocols.measurement.account import Category
from protocols.measurement.definition import Definition
from protocols.measurement.mapping import HALTS, STOPS

Stretch: TypeAlias = tuple[int, int, Category]
"""(start_ms, end_ms, category); a list of them is contiguous."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop's runs taken together: [start_ms, end_ms).

    `category`: the first run's: what stopped the line. `reason`: the last code that the reason tag showed in it; 0 if
    none. `minor`: seen to begin and to end within the threshold. `long`: not shorter than the threshold, closed or
    not. A short stop that was not seen whole is neither.
    """

    start_ms: int
    end_ms: int
    category: Category
    reason: int
    minor: bool
    long: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """A timeline up to some instant. What lies before `decided_ms` can no longer change.

    `stops`: all that are remembered, in order; the last may be open, and then ends at that instant.
    """

    stretches: list[Stretch]
    stops: list[Stop]
    decided_ms: int


class Timeline:
    """Runs that are not yet wholly behind the last closed window. Time is unknown before the first run."""

    def __init__(self, start_ms: int, definition: Definition) -> None:
        self._definition = definition
        self._runs: list[tuple[int, Category]] = [(start_ms, Category.UNKNOWN)]
        self._reasons: list[tuple[int, int]] = []  # (time_ms, the code from then on)

    def append(self, start_ms: int, category: Category) -> None:
        """Begins a run. Times never decrease; a run of no length is replaced."""
        last_ms, last = self._runs[-1]
        if last is category:
            return
        if last_ms == start_ms and len(self._runs) > 1:
            self._runs.pop()
            if self._runs[-1][1] is category:
                return
        self._runs.append((start_ms, category))

    def give_reason(self, time_ms: int, code: int) -> None:
        """The reason tag shows `code` from `time_ms` on. Times never decrease."""
        self._reasons.append((time_ms, code))

    def resolve(self, until_ms: int) -> Resolved:
        """The timeline up to `until_ms`, up to which every run is known."""
        definition = self._definition
        starts = [run for run in self._runs if run[0] < until_ms]
        if not starts:
            return Resolved([], [], until_ms)
        ends = [*(start for start, _ in starts[1:]), until_ms]
        raw: list[Stretch] = [(start, end, what) for (start, what), end in zip(starts, ends, strict=True)]
        steady, decided_ms = _without_short_stops(raw, until_ms, definition.min_stop_ms)
        steady, decided_ms = _without_short_runs(steady, decided_ms, definition.min_run_ms)
        return self._told(steady, decided_ms)

    def _told(self, runs: list[Stretch], decided_ms: int) -> Resolved:
        """The third pass: which stops are minor."""
        threshold_ms = self._definition.minor_stop_ms
        stretches: list[Stretch] = []
        stops: list[Stop] = []
        open_ms = decided_ms
        at = 0
        while at < len(runs):
            first = at
            while at < len(runs) and runs[at][2] in STOPS:
                at += 1
            if at == first:
                stretches.append(runs[at])
                at += 1
                continue
            start_ms, end_ms, category = runs[first][0], runs[at - 1][1], runs[first][2]
            short = end_ms - start_ms < threshold_ms
            # A stop that began or ended unobserved is never a minor one.
            seen = first > 0 and at < len(runs) and Category.UNKNOWN not in (runs[first - 1][2], runs[at][2])
            if end_ms >= decided_ms and decided_ms - start_ms < threshold_ms:
                open_ms = min(open_ms, start_ms)
            minor = seen and short
            stops.append(Stop(start_ms, end_ms, category, self._reason(start_ms, end_ms), minor, not short))
            stretches += [(start_ms, end_ms, Category.MINOR_STOP)] if minor else runs[first:at]
        return Resolved(stretches, stops, open_ms)

    def _reason(self, start_ms: int, end_ms: int) -> int:
        """The last code that is not 0 from what held at `start_ms` to before `end_ms`."""
        found = 0
        for time_ms, code in self._reasons:
            if time_ms >= end_ms:
                break
            if time_ms <= start_ms or code:
                found = code
        return found

    def forget(self, closed_ms: int) -> None:
        """Drops what nothing after `closed_ms` can depend on.

        What is kept begins with a run that no pass can change or look behind: neither a halt nor production, or
        production that is long enough already.
        """
        keep = 0
        for i, (start_ms, category) in enumerate(self._runs):
            if start_ms > closed_ms:
                break
            end_ms = min(self._runs[i + 1][0] if i + 1 < len(self._runs) else closed_ms, closed_ms)
            firm = category is not Category.PRODUCING or end_ms - start_ms >= self._definition.min_run_ms
            if category not in HALTS and firm:
                keep = i
        # A run that ends exactly where a stop begins tells that the stop was seen to begin.
        del self._runs[:keep]
        old = sum(time_ms <= self._runs[0][0] for time_ms, _ in self._reasons) - 1
        if old > 0:
            del self._reasons[:old]

    def to_data(self) -> dict[str, Any]:
        """What a restart needs: lists of integers."""
        return {
            "reasons": [list(reason) for reason in self._reasons],
            "runs": [[start_ms, int(category)] for start_ms, category in self._runs],
        }

    def load(self, runs: Iterable[Sequence[int]], reasons: Iterable[Sequence[int]]) -> None:
        """The inverse of `to_data`."""
        self._runs = [(start_ms, Category(category)) for start_ms, category in runs]
        self._reasons = [(time_ms, code) for time_ms, code in reasons]


def _without_short_stops(runs: list[Stretch], until_ms: int, min_stop_ms: int) -> tuple[list[Stretch], int]:
    """The first pass: a halt shorter than `min_stop_ms` between two runs of production is production.

    Also the time up to which this can no longer change.
    """
    if min_stop_ms == 0:
        return runs, until_ms
    out: list[Stretch] = []
    at = 0
    while at < len(runs):
        first = at
        while at < len(runs) and runs[at][2] in HALTS:
            at += 1
        if at == first:
            _join(out, runs[at])
            at += 1
            continue
        short = runs[at - 1][1] - runs[first][0] < min_stop_ms
        if short and first > 0 and runs[first - 1][2] is Category.PRODUCING:
            if at == len(runs):
                return out + runs[first:], runs[first][0]
            if runs[at][2] is Category.PRODUCING:
                _join(out, (runs[first][0], runs[at - 1][1], Category.PRODUCING))
                continue
        out += runs[first:at]
    return out, until_ms


def _without_short_runs(runs: list[Stretch], decided_ms: int, min_run_ms: int) -> tuple[list[Stretch], int]:
    """The second pass: production shorter than `min_run_ms` between two halts of one kind is part of the halt.

    It gets the category that the first of them ended with.
    """
    if min_run_ms == 0:
        return runs, decided_ms
    out: list[Stretch] = []
    until_ms = decided_ms
    for i, run in enumerate(runs):
        start_ms, end_ms, category = run
        before = runs[i - 1][2] if i > 0 else Category.UNKNOWN
        if category is Category.PRODUCING and before in HALTS:
            if end_ms >= decided_ms:
                if start_ms < decided_ms and decided_ms - start_ms < min_run_ms:
                    until_ms = start_ms
            elif end_ms - start_ms < min_run_ms and i + 1 < len(runs) and _one_kind(before, runs[i + 1][2]):
                run = (start_ms, end_ms, before)
        _join(out, run)
    return out, until_ms


def _one_kind(before: Category, after: Category) -> bool:
    return after in HALTS and (before is Category.RESTRAINT) == (after is Category.RESTRAINT)


def _join(out: list[Stretch], run: Stretch) -> None:
    """Appends a stretch, together with the one before if that is of its category."""
    if out and out[-1][2] is run[2]:
        out[-1] = (out[-1][0], run[1], run[2])
    else:
        out.append(run)
