"""The log's older checkpoints with their witnesses' times: about one an hour, kept for good.

Decides how often one is kept and which of them a bundle carries: of each record that has a proof, the newest one that
its gateway may have seen, and the first that includes it. They bound the gateways' clocks
(`protocols.evidence.clockwatch`); nothing else rests on them, so one that is lost only makes the bounds wider.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from hub.log.store import no_failpoint, replace_file
from protocols.evidence import dated
from protocols.evidence.merkle import NodeHash

FOLDER: Final = "dated"
EVERY_S: Final = 3_600.0
_NAME: Final = re.compile(r"[1-9][0-9]{0,18}")


class DatedFolder:
    """`<log folder>/dated/<size>`: cosigned notes, each as it was published first."""

    def __init__(self, log_folder: Path, now_s: Callable[[], float] = time.time) -> None:
        self._folder = log_folder / FOLDER
        self._now_s = now_s
        self._kept_s = max((each.stat().st_mtime for each in self._files()), default=0.0)

    def keep(self, size: int, note: bytes) -> bool:
        """Keeps a cosigned note if the last one is an hour old. Raises LogFailed where it cannot be written."""
        now = self._now_s()
        path = self._folder / str(size)
        if 0 <= now - self._kept_s < EVERY_S or size == 0 or path.exists():
            return False
        self._folder.mkdir(exist_ok=True)
        replace_file(path, note, no_failpoint, "dated")
        self._kept_s = now
        return True

    def notes(self) -> dict[int, Path]:
        """By size."""
        return {int(each.name): each for each in self._files()}

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return [each for each in self._folder.iterdir() if _NAME.fullmatch(each.name)]


@runtime_checkable
class DatedLog(Protocol):
    """A log that kept dated checkpoints; `hub.cosigning.CosignedLog` and `hub.report.reading.FolderLog` are."""

    def dated(self) -> Mapping[int, Path]: ...

    def consistency_proof(self, old_size: int, size: int) -> Sequence[NodeHash]: ...


def for_bundle(log: object, records: Iterable[tuple[int, int | None]], size: int) -> dict[int, bytes]:
    """The files of a bundle at `size` for proven records: (log index, size of the checkpoint that it names) of each."""
    if not isinstance(log, DatedLog):
        return {}
    notes = {each: path for each, path in log.dated().items() if each <= size}
    sizes = sorted(notes)
    wanted: set[int] = set()
    for index, seen in records:
        after = bisect_right(sizes, index)
        before = bisect_left(sizes, seen or 0) - 1
        wanted.update(sizes[place] for place in (before, after) if 0 <= place < len(sizes))
    return {each: dated.format(notes[each].read_bytes(), log.consistency_proof(each, size)) for each in sorted(wanted)}
