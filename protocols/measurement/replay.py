"""Replay: raw rows and a configuration back to windows.

Decides which windows come out: those that begin and close within the rows given, since what a memory says of the time
before them is a claim, not a measurement. What a kept memory must look like is decided in `kept_memory`, which windows
are equal in `comparison`; where rows come from, and who signed what, by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import Malformed
from protocols.measurement.account import Window
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.kept_memory import checked_carry, normal_form
from protocols.measurement.meter import LineMeter
from protocols.plc.sample import SampleBlock, joined


@dataclass(frozen=True, slots=True)
class RawRows:
    """One line's rows from `start_ms` to `end_ms`, both included: a row at an edge lies on the side on which it came.

    `carry`: what the meter remembered before the first of them (`LineMeter.carry` without "ended", "handed_ms" and
    "live"); None: a fresh meter began at `start_ms`.
    """

    start_ms: int
    end_ms: int
    carry: Mapping[str, Any] | None
    block: SampleBlock


@dataclass(slots=True)
class Replayed:
    """What came out. `spans`: the stretches of rows without a hole, as (start_ms, end_ms).

    `memory_checked`: edges between chunks at which the kept memory was compared with what the replay remembers;
    `memory_faults`: those (ms) at which they differ.
    """

    windows: list[Window] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    memory_checked: int = 0
    memory_faults: list[int] = field(default_factory=list)


def replay(configuration: LineConfiguration, chunks: Iterable[RawRows], gather: int = 1) -> Replayed:
    """The windows that begin and close within `chunks` (in order of time), measured anew.

    `gather`: how many chunks are measured at once: more is faster, and memory is compared only between gatherings.
    Raises Malformed for chunks that overlap, rows that go backwards, or a memory that no meter leaves.
    """
    out = Replayed()
    run: _Run | None = None
    for chunk in chunks:
        if run is not None and chunk.start_ms < run.end_ms:
            raise Malformed(f"raw rows from {chunk.start_ms} on lie over those up to {run.end_ms}")
        if run is not None and chunk.start_ms == run.end_ms and chunk.carry is not None:
            if len(run.blocks) >= gather:
                run.measure(out)
                out.memory_checked += 1
                if run.remembers() != remembered(configuration, chunk.carry, chunk.start_ms):
                    out.memory_faults.append(chunk.start_ms)
        else:
            if run is not None:
                run.end(out)
            run = _Run(configuration, chunk)
        run.blocks.append(chunk.block)
        run.end_ms = chunk.end_ms
    if run is not None:
        run.end(out)
    return out


class _Run:
    """Chunks that follow each other without a hole."""

    def __init__(self, configuration: LineConfiguration, first: RawRows) -> None:
        carry = None if first.carry is None else checked_carry(configuration, first.carry, first.start_ms)
        self._configuration = configuration
        self._meter = LineMeter(configuration, first.start_ms, carry)
        self.start_ms = self.end_ms = first.start_ms
        self.blocks: list[SampleBlock] = []

    def measure(self, out: Replayed) -> None:
        self._meter.push(joined(self.blocks))
        self.blocks.clear()
        closed = self._meter.advance(self.end_ms)  # a row at the very end may still come with the next chunk
        out.windows += [window for window in closed if window.start_ms >= self.start_ms]

    def end(self, out: Replayed) -> None:
        self.measure(out)
        out.spans.append((self.start_ms, self.end_ms))

    def remembers(self) -> dict[str, Any]:
        return normal_form(self._configuration, self._meter.carry())


def remembered(configuration: LineConfiguration, carry: Mapping[str, Any], at_ms: int) -> dict[str, Any]:
    """What a memory kept at `at_ms` says, in a form that does not depend on how rows were split or windows closed.

    Raises Malformed for a memory that no meter leaves.
    """
    meter = LineMeter(configuration, at_ms, checked_carry(configuration, carry, at_ms))
    meter.advance(at_ms)
    return normal_form(configuration, meter.carry())
