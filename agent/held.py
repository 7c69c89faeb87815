"""What closed while the disk took nothing: in memory, a bounded part of it.

Decides what goes when there is more: the oldest, which becomes a signed gap. Of each line's memory only the newest is
kept, for it is most of a batch (36 KB, where a window and its chunk take 2). When the disk takes nothing is found out
by `recorder`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.raw_meter import LostRaw
from agent.spool import KEPT_STOPS, LineBatch
from protocols.evidence.bodies import Gap

HELD_WINDOWS: Final = 10_080
"""Windows of all lines, and as many chunks: a week of minutes of one line."""
DISK_FULL: Final = "the gateway's disk was full"


class Held:
    """Batches that are not durable yet, and the gaps of what had to go."""

    def __init__(self) -> None:
        self._batches: dict[tuple[str, bytes], LineBatch] = {}
        self._gaps: list[Gap] = []

    @property
    def batches(self) -> list[LineBatch]:
        """One for each line and configuration."""
        return list(self._batches.values())

    @property
    def window_count(self) -> int:
        return sum(len(batch.windows) for batch in self._batches.values())

    def add(self, batch: LineBatch) -> None:
        """What a line closed after what is held of it."""
        key = (batch.line_id, batch.configuration_hash)
        before = self._batches.get(key)
        if before is not None:
            batch = replace(
                batch,
                windows=before.windows + batch.windows,
                stops=(before.stops + batch.stops)[-KEPT_STOPS:],
                chunks=before.chunks + batch.chunks,
            )
        self._batches[key] = batch

    def saved(self) -> None:
        """All of it is durable now."""
        self._batches.clear()

    def shrink(self) -> list[LostRaw]:
        """Lets the oldest go until what is left is within the bounds; the chunks that went."""
        lost: list[LostRaw] = []
        while self.window_count > HELD_WINDOWS:
            key, batch = min(
                ((key, batch) for key, batch in self._batches.items() if batch.windows),
                key=lambda each: each[1].windows[0].start_ms,
            )
            window = batch.windows[0]
            self._note(batch.line_id, window.start_ms, window.end_ms)
            self._batches[key] = replace(batch, windows=batch.windows[1:])
            lost += self._without_chunks(key, window.end_ms)
        while sum(len(batch.chunks) for batch in self._batches.values()) > HELD_WINDOWS:
            ends = {key: batch.chunks[0].end_ms for key, batch in self._batches.items() if batch.chunks}
            oldest = min(ends, key=lambda key: ends[key])
            lost += self._without_chunks(oldest, ends[oldest])
        return lost

    @property
    def gap(self) -> Gap | None:
        """A time of which the windows went, to be signed; `told` is to be called after."""
        return self._gaps[0] if self._gaps else None

    def told(self) -> None:
        del self._gaps[0]

    def _note(self, line_id: str, from_ms: int, to_ms: int) -> None:
        for number, gap in enumerate(self._gaps):
            if (gap.line_id, gap.to_ms) == (line_id, from_ms):
                self._gaps[number] = replace(gap, to_ms=to_ms)
                return
        self._gaps.append(Gap(line_id, from_ms, to_ms, DISK_FULL))

    def _without_chunks(self, key: tuple[str, bytes], until_ms: int) -> list[LostRaw]:
        batch = self._batches[key]
        gone = [chunk for chunk in batch.chunks if chunk.end_ms <= until_ms]
        self._batches[key] = replace(batch, chunks=batch.chunks[len(gone) :])
        return [LostRaw(chunk.line_id, chunk.start_ms, chunk.end_ms, DISK_FULL) for chunk in gone]
