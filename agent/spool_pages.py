"""Rows out of a damaged SQLite file, without its tree: every leaf page of the file and its WAL is looked at by itself.

Decides nothing about what a row is worth: what it gives may be deleted, stale or wrong, and must be verified. The
format is that of https://www.sqlite.org/fileformat2.html (sections 1.6, 2.1 and 4).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_PAGE: Final = 4096
_LEAF: Final = 0x0D
_WAL_HEADER, _FRAME_HEADER = 32, 24
_MOST: Final = 1_000_000
"""Bytes of a row that are read at most: a record has 64 KB."""
_INTEGERS: Final = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}


class _Pages:
    """The pages of a file and its WAL, read one by one: a spool may be larger than the memory, and a disk have holes.

    `newer`: where in the WAL a page's newest version is.
    """

    def __init__(self, base: int, wal: int | None, size: int) -> None:
        self._base = base
        self._wal = wal
        self.size = size
        self.count = -(-os.fstat(base).st_size // size)
        self.newer: Mapping[int, int] = {} if wal is None else dict(self._frames(wal))

    def in_base(self, number: int) -> bytes:
        """b"" for one that is not there or cannot be read."""
        return _read(self._base, (number - 1) * self.size, self.size)

    def newest(self, number: int) -> bytes:
        """The same, of the WAL where it has one."""
        at = self.newer.get(number)
        if at is None or self._wal is None:
            return self.in_base(number)
        return _read(self._wal, at, self.size)

    def _frames(self, wal: int) -> Iterator[tuple[int, int]]:
        salts = _read(wal, 16, 8)
        step = _FRAME_HEADER + self.size
        for at in range(_WAL_HEADER, os.fstat(wal).st_size - step + 1, step):
            header = _read(wal, at, 16)
            if header[8:16] == salts:  # of this WAL, and not of one that was here before
                yield int.from_bytes(header[:4], "big"), at + _FRAME_HEADER


def _read(file: int, at: int, size: int) -> bytes:
    try:
        return os.pread(file, size, at)
    except OSError:
        return b""


def last_blobs(path: Path) -> Iterator[bytes]:
    """The last column of each row that still has its form, where that is a blob; the same one may come again."""
    wal_path = path.with_name(path.name + "-wal")
    with ExitStack() as stack:
        base = stack.enter_context(path.open("rb", buffering=0)).fileno()
        wal = stack.enter_context(wal_path.open("rb", buffering=0)).fileno() if wal_path.exists() else None
        size = int.from_bytes(_read(base, 16, 2), "big")
        size = 65_536 if size == 1 else size if size >= 512 and not size & (size - 1) else _PAGE
        pages = _Pages(base, wal, size)
        for number in range(1, pages.count + 1):
            yield from _leaf(pages.in_base(number), 100 if number == 1 else 0, pages)
        # Newer pages stand in the WAL, but also an old one may hold what is torn there.
        for number in pages.newer:
            yield from _leaf(pages.newest(number), 100 if number == 1 else 0, pages)


def _leaf(page: bytes, start: int, pages: _Pages) -> Iterator[bytes]:
    if len(page) != pages.size or page[start] != _LEAF:
        return
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for index in range(min(count, len(page) // 4)):
        pointer = start + 8 + 2 * index
        at = int.from_bytes(page[pointer : pointer + 2], "big")
        try:
            for payload in _payloads(page, at, pages):
                blob = _last_blob(payload)
                if blob is not None:
                    yield blob
        except IndexError:
            continue


def _payloads(page: bytes, at: int, pages: _Pages) -> Iterator[bytes]:
    """The row at `at`; of one that goes on in other pages both what these hold in the WAL and what in the file."""
    length, at = _varint(page, at)
    _, at = _varint(page, at)
    if length > _MOST:
        return
    usable = len(page)
    local = length
    if length > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = least if local > usable - 35 else local
    first = page[at : at + local]
    if len(first) == length:
        yield first
        return
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    for get in (pages.newest, pages.in_base) if pages.newer else (pages.in_base,):
        out, number = first, following
        while len(out) < length and number:
            overflow = get(number)
            if len(overflow) != usable:
                break
            number = int.from_bytes(overflow[:4], "big")
            out += overflow[4 : 4 + length - len(out)]
        if len(out) == length:
            yield out


def _last_blob(payload: bytes) -> bytes | None:
    header, at = _varint(payload, 0)
    if header > len(payload):
        return None
    total, kind = header, 0
    last = header
    while at < header:
        kind, at = _varint(payload, at)
        last = total
        total += _INTEGERS.get(kind, (kind - 12) // 2 if kind >= 12 else 0)
    is_blob = kind >= 12 and kind % 2 == 0
    return payload[last:total] if is_blob and total == len(payload) else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(9):
        byte = data[at + place]
        if place == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    raise IndexError(at)
