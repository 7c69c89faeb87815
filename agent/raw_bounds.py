"""How many raw chunks a gateway keeps: for so many days, and in so many bytes.

Decides which chunks go, and what is said of those that went or were never kept: `raw-gap` records, one for each line
and some hours. Only what the hub has a record of, and has receipted, goes. Where nothing may go, no new chunk is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from agent.config import RawSettings
from agent.raw_meter import ClosedChunk, LostRaw
from agent.spool_raw import RawDrop, RawShelf
from protocols.evidence.bodies import RawGap
from protocols.evidence.cose import Kid

LOOK_MS: Final = 60_000
STEP_MS: Final = 6 * 3_600_000
"""Chunks go this much at a time, and lost ones are said at least this often: a record each, not one a minute."""
ROOM: Final = 20
"""Over the limit, this part (1/20) of it is made free at once."""
NO_ROOM: Final = "no room, and nothing that may go: the hub has not receipted it"
OLDER: Final = "older than "
MORE: Final = "more than "
"""How the reason of a drop begins: the oldest chunks of a line went, up to the gap's end."""
DAY_MS: Final = 86_400_000
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "raw"})


class RawBounds:
    """Watches what is kept. Belongs to the recorder."""

    def __init__(self, settings: RawSettings, shelf: RawShelf, kid: Kid, line_ids: Sequence[str]) -> None:
        self._settings = settings
        self._shelf = shelf
        self._kid = kid
        held = shelf.held()
        self._lines = sorted({*line_ids, *(line.line_id for line in held)})
        self._size = sum(line.size_bytes for line in held)
        self._looked_ms: int | None = None
        self._losses: dict[str, RawGap] = {}
        self._told: list[RawGap] = []
        self.no_room: str | None = None

    def watch(self, line_ids: Iterable[str]) -> None:
        """These lines are kept chunks of too."""
        self._lines = sorted({*self._lines, *line_ids})

    def use(self, settings: RawSettings) -> None:
        """Other bounds; they are looked at again at once."""
        self._settings = settings
        self._looked_ms = None

    def added(self, chunks: Iterable[ClosedChunk]) -> None:
        """These are durable now."""
        for chunk in chunks:
            self._size += len(chunk.compressed)
            if chunk.line_id in self._losses:  # chunks are kept again
                self._told.append(self._losses.pop(chunk.line_id))

    def dropped(self, drop: RawDrop) -> None:
        """These are gone."""
        self._size -= drop.size_bytes

    def due(self, now_ms: int) -> list[tuple[RawGap, RawDrop]]:
        """What is to go now, with the record that says so. Looks once a minute; `settled` is to be called after."""
        if self._looked_ms is not None and 0 <= now_ms - self._looked_ms < LOOK_MS:
            return []
        self._looked_ms = now_ms
        settings = self._settings
        before_ms = now_ms - settings.keep_days * DAY_MS
        oldest = {line: at for line in self._lines if (at := self._shelf.oldest_ms(line)) is not None}
        old = [line for line, at in oldest.items() if at < before_ms - (STEP_MS if settings.keep_days else 0)]
        out = self._drops(old, before_ms, f"{OLDER}{settings.keep_days} days")
        if not out and self._size > settings.max_bytes and oldest:
            # Lines grow about evenly: the oldest part of the time is that part of the bytes.
            first = min(oldest.values())
            surplus = self._size - settings.max_bytes + settings.max_bytes // ROOM
            before_ms = first + 1 + (now_ms - first) * surplus // self._size
            out = self._drops(list(oldest), before_ms, f"{MORE}{settings.max_bytes // 1_000_000} MB")
        return out

    def settled(self) -> None:
        """Tells whether there is room now."""
        full = self._size > self._settings.max_bytes
        if full and self.no_room is None:
            _log.warning("%s. No new raw samples are kept until the hub answers, or max_megabytes is raised", NO_ROOM)
        if not full and self.no_room is not None:
            _log.info("there is room for raw samples again")
        self.no_room = NO_ROOM if full else None

    def lost(self, losses: Iterable[LostRaw]) -> None:
        """Notes chunks that could not be kept."""
        for loss in losses:
            chunk = RawGap(loss.line_id, loss.from_ms, loss.to_ms, 1, loss.reason)
            before = self._losses.get(loss.line_id)
            if before is not None and (before.to_ms, before.reason) == (chunk.from_ms, chunk.reason):
                chunk = RawGap(loss.line_id, before.from_ms, chunk.to_ms, before.chunks + 1, chunk.reason)
            elif before is not None:
                self._told.append(before)
            self._losses[loss.line_id] = chunk

    def to_tell(self) -> RawGap | None:
        """A stretch of lost chunks that is to be told now; `told` is to be called after."""
        for line_id, gap in list(self._losses.items()):
            if gap.to_ms - gap.from_ms >= STEP_MS:
                self._told.append(self._losses.pop(line_id))
        return self._told[0] if self._told else None

    def told(self) -> None:
        """The one that `to_tell` gave is in the chain."""
        del self._told[0]

    def _drops(self, line_ids: Iterable[str], before_ms: int, reason: str) -> list[tuple[RawGap, RawDrop]]:
        found = (self._shelf.droppable(line_id, self._kid, before_ms) for line_id in line_ids)
        return [
            (RawGap(drop.line_id, drop.from_ms, drop.to_ms, len(drop.ids), reason), drop)
            for drop in found
            if drop is not None
        ]
