"""Replay: the history of a simulated line, as fast as this machine measures it.

Decides which rows a line gets in a stretch of the plant's time, also when a replay goes on after it was killed, and
that raw chunks are made only of its last days: older ones would be dropped at once. Everything after the rows (meter,
windows, records, receipts) is the same as for a PLC.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from agent.config_line import LineSettings, ReplaySource
from agent.raw_meter import RawMeter
from agent.simulator.plant import Plant
from agent.simulator.spec import load_plant
from protocols.errors import ConfigurationError
from protocols.measurement.account import Window
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock

_DAY_MS: Final = 86_400_000


class Feed:
    """Blocks of rows in order of time, given out up to one time after the other."""

    def __init__(self, blocks: Iterator[SampleBlock]) -> None:
        self._blocks = blocks
        self._rest: SampleBlock | None = None

    def until(self, until_ms: int) -> Iterator[SampleBlock]:
        """The rows up to and at `until_ms` that were not given yet."""
        while (block := self._rest or next(self._blocks, None)) is not None:
            at = int(block.time_ms.searchsorted(until_ms, "right"))
            self._rest = None
            if at == len(block):
                yield block
                continue
            self._rest = SampleBlock(block.time_ms[at:], block.values[at:], block.valid[at:])
            if at:
                yield SampleBlock(block.time_ms[:at], block.values[:at], block.valid[:at])
            return


class ReplayedLine:
    """One line's history, pushed into its meter step by step. `raw_days`: how many of its last days are kept raw."""

    def __init__(self, settings: LineSettings, meter: RawMeter, raw_days: int = 0) -> None:
        assert isinstance(settings.source, ReplaySource)
        self.settings = settings
        self.meter = meter
        self._source = settings.source
        spec = load_plant(self._source.plant)
        try:
            line = spec.line(self._source.line)
        except KeyError:
            known = ", ".join(line.id for line in spec.lines)
            what = f'the plant has no line "{self._source.line}"'
            raise ConfigurationError(what, file=str(self._source.plant), mend=f"it has: {known}") from None
        self._plant = Plant(line, self._source.from_ms)
        roles = {tag.role for tag in settings.tags}
        self._mask = sum(1 << role for role in roles | {SignalRole.ORDER})
        self._has_order = SignalRole.ORDER in roles
        self._raw_from_ms = self._source.to_ms - raw_days * _DAY_MS

    @property
    def end_ms(self) -> int:
        return self._source.to_ms

    def step(self, until_ms: int) -> list[Window]:
        """Measures the plant's time up to `until_ms`; the windows that this closed."""
        until_ms = min(until_ms, self.end_ms)
        if until_ms <= self.meter.closed_until_ms:
            return []
        if not self.meter.keeps and until_ms > self._raw_from_ms:
            self.meter.begin_chunks(self.meter.floor_ms)
        feed = Feed(self._blocks(until_ms))
        return self.meter.measure(until_ms, lambda at_ms: self.meter.push_all(feed.until(at_ms)))

    def _blocks(self, until_ms: int) -> Iterator[SampleBlock]:
        """The rows before `until_ms` that the meter has not had, the same that a replay in one go would have."""
        newest = self.meter.last_sample_ms
        source = self._source
        # Rows of changes may lie between the last poll and the newest row, so the grid's point before is the start.
        polls = max(0, (newest - source.from_ms) // source.poll_ms)
        start_ms = source.from_ms + polls * source.poll_ms
        # A meter without rows names its start as its newest: a row at that instant is still due (twice is harmless).
        had = newest - 1 if newest == self.meter.closed_until_ms else newest
        if start_ms >= until_ms:
            return
        for block in self._plant.blocks(start_ms, until_ms, source.poll_ms):
            rows = block.time_ms > had
            if not rows.all():
                block = SampleBlock(block.time_ms[rows], block.values[rows], block.valid[rows])
            if len(block):
                yield self._masked(block)

    def _masked(self, block: SampleBlock) -> SampleBlock:
        values = block.values
        if not self._has_order:
            values = values.copy()
            values[:, SignalRole.ORDER] = 1
        return SampleBlock(block.time_ms, values, block.valid & np.uint32(self._mask))
