"""The timeline of a line: runs of one category, and which stops were minor.

Decides the class of a stop on its closed interval, before any window cuts it (design rule: a stop that begins or
ends unobserved is never a minor one). Until a short stop closes, the time from its start on is undecided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from protocols.measurement.account import Category
from protocols.measurement.mapping import STOPS


@dataclass(frozen=True, slots=True)
class Run:
    """Time of one category from `start_ms` to the next run's start."""

    start_ms: int
    category: Category


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop's runs taken together: [start_ms, end_ms).

    `minor`: seen to begin and to end within the threshold. `long`: not shorter than the threshold, closed or not.
    A short stop that was not seen whole is neither.
    """

    start_ms: int
    end_ms: int
    category: Category  # the first run's: what stopped the line
    minor: bool
    long: bool


class Timeline:
    """Runs that are not yet wholly behind the last closed window. Time is unknown before the first run."""

    def __init__(self, start_ms: int, minor_stop_ms: int) -> None:
        self._minor_stop_ms = minor_stop_ms
        self._runs: list[Run] = [Run(start_ms, Category.UNKNOWN)]

    def append(self, start_ms: int, category: Category) -> None:
        """Begins a run. Times never decrease; a run of no length is replaced."""
        last = self._runs[-1]
        if last.category is category:
            return
        if last.start_ms == start_ms and len(self._runs) > 1:
            self._runs.pop()
            if self._runs[-1].category is category:
                return
        self._runs.append(Run(start_ms, category))

    def decided_until(self, watermark_ms: int) -> int:
        """Up to when categories can no longer change: the watermark, or the start of a stop that may be minor."""
        start = self._open_stop()
        if start is None or watermark_ms - start >= self._minor_stop_ms:
            return watermark_ms
        return start

    def resolved(self, now_ms: int) -> Iterator[tuple[int, int, Category]]:
        """(start_ms, end_ms, category) of all runs up to `now_ms`, minor stops named as such."""
        minor = [stop for stop in self.stops(now_ms) if stop.minor]
        at = 0
        for run, end_ms in self._bounded(now_ms):
            while at < len(minor) and minor[at].end_ms <= run.start_ms:
                at += 1
            inside = at < len(minor) and minor[at].start_ms <= run.start_ms
            yield run.start_ms, end_ms, Category.MINOR_STOP if inside else run.category

    def stops(self, now_ms: int) -> list[Stop]:
        """All stops that are remembered, in order; the last may be open, and then ends at `now_ms`."""
        out: list[Stop] = []
        before = Category.UNKNOWN
        start: Run | None = None
        for run, _ in self._bounded(now_ms):
            if run.category in STOPS:
                start = start or run
                continue
            if start is not None:
                closed = before is not Category.UNKNOWN and run.category is not Category.UNKNOWN
                out.append(self._stop(start, run.start_ms, closed))
                start = None
            before = run.category
        if start is not None:
            out.append(self._stop(start, now_ms, closed=False))
        return out

    def _stop(self, first: Run, end_ms: int, closed: bool) -> Stop:
        short = end_ms - first.start_ms < self._minor_stop_ms
        return Stop(first.start_ms, end_ms, first.category, minor=closed and short, long=not short)

    def forget(self, closed_ms: int) -> None:
        """Drops what lies wholly before `closed_ms`, but never part of a stop, nor the run before one."""
        keep = 0
        for i in range(1, len(self._runs)):
            if self._runs[i].start_ms > closed_ms:
                break
            if self._runs[i].category not in STOPS:
                keep = i
        # A run that ends exactly where a stop begins tells that the stop was seen to begin.
        del self._runs[:keep]

    def to_data(self) -> list[list[int]]:
        return [[run.start_ms, int(run.category)] for run in self._runs]

    def load(self, data: Sequence[Sequence[Any]]) -> None:
        """The inverse of `to_data`."""
        self._runs = [Run(start_ms, Category(category)) for start_ms, category in data]

    def _bounded(self, end_ms: int) -> Iterator[tuple[Run, int]]:
        for i, run in enumerate(self._runs):
            if run.start_ms >= end_ms:
                return
            following = self._runs[i + 1].start_ms if i + 1 < len(self._runs) else end_ms
            yield run, min(following, end_ms)

    def _open_stop(self) -> int | None:
        start = None
        for run in reversed(self._runs):
            if run.category not in STOPS:
                break
            start = run.start_ms
        return start
