"""How many values came too late, kept beside the records so that `status` can tell it, also after a restart.

Decides when the number is written: at most each WRITE_EACH_MS, for it is a hint and no evidence. What is late, and
what becomes of it, is decided in `agent.image`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.spool import Spool, SpoolFull

WRITE_EACH_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Late:
    """`count`: values since the state folder was made; `last_ms`: about when the last of them came."""

    count: int
    last_ms: int


def read_late(spool: Spool, line_id: str) -> Late | None:
    """None where none ever came late."""
    kept = spool.meta(f"late:{line_id}")
    if kept is None:
        return None
    count, last_ms = kept.decode().split()
    return Late(int(count), int(last_ms))


class LateCounts:
    """Counts on from what the spool holds. `keep` is called at each tick."""

    def __init__(self, spool: Spool, line_ids: list[str]) -> None:
        self._spool = spool
        self._before = {line_id: found.count if (found := read_late(spool, line_id)) else 0 for line_id in line_ids}
        self._written = dict.fromkeys(line_ids, 0)
        self._written_ms = 0

    def begin(self, line_id: str) -> None:
        """The line is counted from 0 again; `keep` was called just before."""
        found = read_late(self._spool, line_id)
        self._before[line_id] = found.count if found else 0
        self._written[line_id] = 0

    def keep(self, counts: Mapping[str, int], now_ms: int, *, at_once: bool = False) -> None:
        """`counts`: by line, the values that came late since the start."""
        changed = {line_id: count for line_id, count in counts.items() if count != self._written[line_id]}
        if not changed or (not at_once and 0 <= now_ms - self._written_ms < WRITE_EACH_MS):
            return
        values = {
            f"late:{line_id}": f"{self._before[line_id] + count} {now_ms}".encode()
            for line_id, count in changed.items()
        }
        self._written_ms = now_ms
        with contextlib.suppress(SpoolFull):  # tried again; the recorder says that the disk is full
            self._spool.set_meta(values)
            self._written |= changed
