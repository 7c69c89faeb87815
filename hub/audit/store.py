"""The raw samples that the hub holds: what gateways answered to challenges, by line and day.

Decides where they lie (`<data>/raw/<line>/<UTC day>.raw`, the same form as an agent's file) and what goes when the
folder is full: the days that were written longest ago. Nothing here is evidence by itself: each piece proves itself
against the log whenever it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from protocols.evidence.fields import as_id
from protocols.evidence.raw import Piece, read_pieces, write_pieces

SUFFIX = ".raw"


class RawStore:
    """One writer at a time: the serving hub. Any process may read."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def add(self, line_id: str, end_ms: int, pieces: Sequence[Piece]) -> None:
        """Adds pieces of one line whose chunks end on the UTC day of `end_ms`; those that are there stay as they are.

        Durable when it returns. Raises OSError.
        """
        path = self._folder / as_id(line_id, "line id") / (day_of(end_ms) + SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        there = {_place(piece): piece for piece in _read(path)} if path.exists() else {}
        merged = {_place(piece): piece for piece in pieces} | there
        if len(merged) == len(there):
            return
        self._make_room(sum(len(piece.compressed) for piece in pieces), path)
        written = path.with_suffix(".new")
        with written.open("wb") as file:
            # A key's sequence rises with time: what is read in this order is in order of time, but for a new key.
            write_pieces((merged[place] for place in sorted(merged)), file)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
        _sync_folder(path.parent)

    def files(self, line_ids: Iterable[str], from_ms: int | None = None, to_ms: int | None = None) -> list[Path]:
        """The files of these lines that hold chunks which end in [from_ms, to_ms], by line, then day."""
        first = "" if from_ms is None else day_of(from_ms)
        last = "9999" if to_ms is None else day_of(to_ms)
        return [
            path
            for line_id in sorted(set(line_ids))
            for path in sorted((self._folder / as_id(line_id, "line id")).glob(f"*{SUFFIX}"))
            if first <= path.stem <= last
        ]

    def _make_room(self, more: int, keep: Path) -> None:
        files = [(path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._folder.glob(f"*/*{SUFFIX}")]
        total = more + sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            if path != keep:
                path.unlink()
                total -= size


def day_of(time_ms: int) -> str:
    """The UTC day, as YYYY-MM-DD."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()


def _place(piece: Piece) -> tuple[bytes, int, int]:
    return piece.kid, piece.sequence, piece.leaf_index


def _read(path: Path) -> Iterator[Piece]:
    with path.open("rb") as file:
        yield from read_pieces(file)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
