"""How many raw chunks a gateway keeps: for so many days, and in so many bytes.

Decides which chunks go, and what is said of those that went or were never kept: `raw-gap` records, one for each line
and some hours. The oldest go first, and only what the hub has receipted. Where nothing may go, no new chunk is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from agent.config import RawSettings
from agent.raw_meter import ClosedChunk, LostRaw
from agent.spool_raw import RawDrop, RawShelf, disk_bytes
from protocols.evidence import canonical
from protocols.evidence.bodies import RawGap
from protocols.evidence.cose import Kid

LOOK_MS: Final = 60_000
STEP_MS: Final = 6 * 3_600_000
"""Chunks go this much at a time, and lost ones are said at least this often: a record each, not one a minute."""
ROOM: Final = 20
"""Over the limit, this part (1/20) of the time goes at once, but `STEP_MS` at most and a statement at least."""
NO_ROOM: Final = "no room, and nothing that may go: the hub has not receipted it"
LOSSES_META: Final = "raw_losses"
"""Lost chunks that no record tells yet: [line, from, to, chunks, reason] each."""
OLDER: Final = "older than "
MORE: Final = "more than "
"""How the reason of a drop begins: the oldest chunks of a line went, up to the gap's end."""
DAY_MS: Final = 86_400_000
_MOST_LOSSES: Final = 1_000_000
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "raw"})


class RawBounds:
    """Watches what is kept. Belongs to the recorder. `losses`: what `losses_meta` gave last, before an earlier end."""

    def __init__(
        self, settings: RawSettings, shelf: RawShelf, kid: Kid, line_ids: Sequence[str], losses: bytes | None = None
    ) -> None:
        self._settings = settings
        self._shelf = shelf
        self._kid = kid
        held = shelf.held()
        self._lines = sorted({*line_ids, *(line.line_id for line in held)})
        self._size = sum(line.size_bytes for line in held)
        self._looked_ms: int | None = None
        self._nothing_may_go = False
        self._losses: dict[str, RawGap] = {}
        self._told = [RawGap(*each) for each in canonical.decode(losses, _MOST_LOSSES)] if losses else []
        self._losses_kept = bool(self._told)
        self.no_room: str | None = None

    @property
    def size_bytes(self) -> int:
        """What all chunks take on the disk, about."""
        return self._size

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
            self._size += disk_bytes(len(chunk.compressed))
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
            line_id, first = min(oldest.items(), key=lambda each: each[1])
            part_ms = min((now_ms - first) // ROOM, STEP_MS)
            before_ms = 1 + max(first + part_ms, self._shelf.oldest_record_end_ms(line_id))
            out = self._drops(list(oldest), before_ms, f"{MORE}{settings.max_bytes // 1_000_000} MB")
        self._nothing_may_go = not out
        return out

    def settled(self) -> None:
        """Tells whether there is room now, or will be after the next looks."""
        full = self._size > self._settings.max_bytes and self._nothing_may_go
        if full and self.no_room is None:
            _log.warning(
                "%s. No new raw samples are kept until the hub answers, or raw.max_megabytes is raised", NO_ROOM
            )
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

    def losses_meta(self) -> dict[str, bytes]:
        """What is to be kept with the windows, so that a loss is told after a crash too; {} where there is nothing new.

        What was told shortly before a crash may be told twice.
        """
        gaps = [*self._told, *self._losses.values()]
        if not gaps and not self._losses_kept:
            return {}
        self._losses_kept = bool(gaps)
        return {LOSSES_META: canonical.encode([[g.line_id, g.from_ms, g.to_ms, g.chunks, g.reason] for g in gaps])}

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
