"""Reading for a report: registry, index and log, of a hub that runs or of one that does not.

Decides how a chain of records is read again and again without being held in memory, and how the log's public files
are read without its lock: `linetally-hub report` works beside a running hub. Reads only.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from hub.config import HubConfig
from hub.cosigning import COSIGNED
from hub.database import open_database
from hub.dated import DatedFolder
from hub.log.reader import Reader
from hub.log.sequencer import CHECKPOINT
from hub.log.store import Store, read_file
from hub.projections.index import Index
from hub.registry import Registry
from protocols.errors import Refused
from protocols.evidence import checkpoint, merkle, note
from protocols.evidence.tiles import TILE_WIDTH


class EvidenceLog(Protocol):
    """What a report needs of a log. A checkpoint covers every entry that was there before it was read."""

    def checkpoint(self) -> bytes: ...

    def entry(self, index: int) -> bytes: ...

    def inclusion_proof(self, index: int, size: int) -> Any: ...


class Sources(Protocol):
    """What a report is made from. `hub.services.Services` is one; `opened` makes one from a configuration."""

    @property
    def registry(self) -> Registry: ...

    @property
    def index(self) -> Index: ...

    @property
    def log(self) -> EvidenceLog: ...

    @property
    def now_ms(self) -> Callable[[], int]: ...


@dataclass(frozen=True, slots=True)
class OpenedSources:
    """See `opened`."""

    registry: Registry
    index: Index
    log: EvidenceLog
    now_ms: Callable[[], int]


@contextmanager
def opened(config: HubConfig) -> Iterator[OpenedSources]:
    """The hub's database and log, to read. Raises Refused where there is no log yet."""
    engine = open_database(config.database_url)
    try:
        now_ms = lambda: time.time_ns() // 1_000_000  # noqa: E731 (a clock to be handed on)
        yield OpenedSources(Registry(engine), Index(engine), FolderLog(config.log_folder), now_ms)
    finally:
        engine.dispose()


class FolderLog:
    """The log's public files as they were when this was made; the log may grow meanwhile.

    Its checkpoint is the one that witnesses cosigned, where there is one.
    """

    def __init__(self, folder: Path) -> None:
        try:
            plain = (folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            raise Refused("no-log", f"there is no log in {folder} yet; run `linetally-hub init` first") from None
        self._folder = folder
        self._reader = Reader(Store(folder))
        self._size = checkpoint.parse(note.parse(plain).text).size
        self._note = read_file(folder / COSIGNED) or plain

    def checkpoint(self) -> bytes:
        return self._note

    def entry(self, index: int) -> bytes:
        return next(self.entries(index, index + 1))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self._reader.entries(start, self._size if stop is None else stop, self._size)

    def inclusion_proof(self, index: int, size: int) -> Any:
        return merkle.inclusion_proof(self._reader.hashes(self._size), index, size)

    def consistency_proof(self, old_size: int, size: int) -> Sequence[merkle.NodeHash]:
        return merkle.consistency_proof(self._reader.hashes(self._size), old_size, size)

    def dated(self) -> dict[int, Path]:
        return DatedFolder(self._folder).notes()


_READ_AT_ONCE: Final = TILE_WIDTH
"""Entries lie in files of this many: one of them is read once, not once for each entry."""


@runtime_checkable
class Streaming(Protocol):
    """A log that gives several entries from one read; `hub.log.sequencer.Log` does."""

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries at `indices` (ascending), read anew on each iteration."""

    log: EvidenceLog
    indices: Sequence[int]

    def __iter__(self) -> Iterator[bytes]:
        for _, group in groupby(self.indices, key=lambda index: index // _READ_AT_ONCE):
            wanted = list(group)
            if not isinstance(self.log, Streaming):
                yield from map(self.log.entry, wanted)
                continue
            found = list(self.log.entries(wanted[0], wanted[-1] + 1))
            yield from (found[index - wanted[0]] for index in wanted)


def file_hash(pieces: Iterator[bytes]) -> str:
    """SHA-256, hex, of the pieces one after another."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def incomplete(what: str) -> Refused:
    """The error for an index that lacks something of the log."""
    words = f"the index lacks {what}; make it again from the log with `linetally-hub rebuild`"
    return Refused("index-incomplete", words)
