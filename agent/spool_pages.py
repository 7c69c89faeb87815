"""Rows out of a damaged SQLite file, without its tree: every leaf page of the file and its WAL is looked at by itself.

Decides nothing about what a row is worth: what it gives may be deleted, stale or wrong, and must be verified. The
format is that of https://www.sqlite.org/fileformat2.html (sections 1.6, 2.1 and 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PAGE: Final = 4096
_LEAF: Final = 0x0D
_WAL_HEADER, _FRAME_HEADER = 32, 24
_MOST: Final = 1_000_000
"""Bytes of a row that are read at most: a record has 64 KB."""
_INTEGERS: Final = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}


def last_blobs(path: Path) -> Iterator[bytes]:
    """The last column of each row that still has its form, where that is a blob; the same one may come again."""
    data = path.read_bytes()
    wal = path.with_name(path.name + "-wal")
    size = int.from_bytes(data[16:18], "big")
    size = 65_536 if size == 1 else size if size >= 512 and not size & (size - 1) else _PAGE
    # Newer pages stand in the WAL, but also an old one may hold what is torn there.
    newer = dict(_frames(wal.read_bytes(), size)) if wal.exists() else {}
    base = {number + 1: data[at : at + size] for number, at in enumerate(range(0, len(data), size))}
    for pages in (base | newer, base):
        for number, page in pages.items():
            at = 100 if number == 1 else 0
            if len(page) == size and page[at] == _LEAF:
                yield from _leaf(page, at, pages)


def _frames(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    salts = data[16:24]
    step = _FRAME_HEADER + size
    for at in range(_WAL_HEADER, len(data) - step + 1, step):
        if data[at + 8 : at + 16] == salts:  # of this WAL, and not of one that was here before
            yield int.from_bytes(data[at : at + 4], "big"), data[at + _FRAME_HEADER : at + step]


def _leaf(page: bytes, start: int, pages: dict[int, bytes]) -> Iterator[bytes]:
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for index in range(min(count, len(page) // 4)):
        pointer = start + 8 + 2 * index
        at = int.from_bytes(page[pointer : pointer + 2], "big")
        try:
            payload = _payload(page, at, pages)
            blob = None if payload is None else _last_blob(payload)
        except IndexError:
            continue
        if blob is not None:
            yield blob


def _payload(page: bytes, at: int, pages: dict[int, bytes]) -> bytes | None:
    length, at = _varint(page, at)
    _, at = _varint(page, at)
    if length > _MOST:
        return None
    usable = len(page)
    local = length
    if length > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = least if local > usable - 35 else local
    out = page[at : at + local]
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while len(out) < length:
        overflow = pages.get(following)
        if overflow is None:
            return None
        following = int.from_bytes(overflow[:4], "big")
        out += overflow[4 : 4 + length - len(out)]
    return out


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
