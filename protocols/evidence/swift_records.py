"""Many records read at once: what `SignedRecord` reads of each, by whole columns.

Decides nothing of its own. Records are either exactly what `SignedRecord` would make of their bytes, or they are left
to it (`Unusual`), and it says what is wrong with which. So every rule here is one of `cose`, `record` or `statement`,
and must be at least as strict (tests compare the two on bytes of every kind). No signature is looked at.

Only measurements and heartbeats are read by columns, since nearly all records are that, and only many of like length:
the longest one sets the number of steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np

from protocols.errors import Malformed
from protocols.evidence import cose
from protocols.evidence.bodies import Body, Heartbeat, Measurement, RecordType
from protocols.evidence.fields import MAX_TIME_MS
from protocols.evidence.keys import SIGNATURE_LENGTH
from protocols.evidence.lockstep import I64, PADDING, Flags, Unusual, Walk, demand
from protocols.evidence.record import (
    BOOT_ID_LENGTH,
    CONTENT_TYPE,
    MAX_OFFSET_MS,
    NO_PREVIOUS,
    CheckpointSeen,
    Clock,
    Record,
    RecordHash,
    SignedRecord,
)
from protocols.evidence.statement import LineStatement, RawCommitment, ReadWindows
from protocols.evidence.swift_statements import Statements, Texts, read_statements

_T = TypeVar("_T")

HASH_LENGTH: Final = len(NO_PREVIOUS)
MANY: Final = 96
"""So few are read as fast one by one."""
_LIKE: Final = 4
"""No record read by columns is longer than so many times the middle one."""
_PLAIN: Final = re.compile(rb"\xa9\x01\x01\x02(?:\x6bmeasurement|\x69heartbeat)\x03")
_SIGNATURE_HEAD: Final = b"\x58\x40"  # a byte string of 64


def read_records(raws: Sequence[bytes]) -> list[SignedRecord | Malformed]:
    """What `SignedRecord` gives or raises for each."""
    found: dict[int, SignedRecord] = {}
    plain = [i for i, raw in enumerate(raws) if _PLAIN.search(raw, 0, cose.MAX_BYTES)]
    if len(plain) >= MANY:
        longest = _LIKE * sorted(len(raws[i]) for i in plain)[len(plain) // 2]
        plain = [i for i in plain if len(raws[i]) <= min(longest, cose.MAX_BYTES)]
        with suppress(Unusual, Malformed):  # one of them is not what it looks like: each is read by itself
            found = dict(zip(plain, _read_plain([raws[i] for i in plain]), strict=True))
    return [found.get(i) or _read_one(raw) for i, raw in enumerate(raws)]


def read_all(raws: Sequence[bytes]) -> list[SignedRecord]:
    """`SignedRecord` of each entry of a log. Raises Malformed for the first that is none."""
    records = []
    for found in read_records(raws):
        if isinstance(found, Malformed):
            raise found
        records.append(found)
    return records


def _read_one(raw: bytes) -> SignedRecord | Malformed:
    try:
        return SignedRecord(raw)
    except Malformed as error:
        return error


@dataclass(slots=True)
class Frames:
    """The fields of many records before the bodies, as columns."""

    types: list[RecordType]
    sequences: I64
    previous: list[RecordHash]
    boot_ids: list[bytes]
    start_ms: I64
    end_ms: I64
    boot_start_ms: I64
    boot_end_ms: I64
    sources: list[str]
    offset_ms: list[int | None]
    error_ms: list[int | None]
    age_ms: list[int | None]


def read_frames(walk: Walk, texts: Texts) -> Frames:
    """From the payload's beginning; leaves `walk` at the bodies. Raises Unusual."""
    walk.expect(b"\xa9\x01\x01\x02")
    names = walk.texts()
    demand(_TYPES.keys() >= set(names))
    walk.expect(b"\x03")
    sequences = walk.integer()
    walk.expect(b"\x04\x58\x20")
    previous = walk.pieces(HASH_LENGTH)
    demand(all((each == NO_PREVIOUS) == first for each, first in zip(previous, (sequences == 0).tolist(), strict=True)))
    walk.expect(b"\x05\x50")
    boot_ids = walk.pieces(BOOT_ID_LENGTH)
    walk.expect(b"\x06\x82")
    start_ms, end_ms = walk.integer(high=MAX_TIME_MS), walk.integer(high=MAX_TIME_MS)
    demand(np.all(start_ms <= end_ms))
    walk.expect(b"\x07\x86")
    boot_start_ms, boot_end_ms = walk.integer(), walk.integer()
    demand(np.all(boot_start_ms <= boot_end_ms))
    sources = [texts.text(number) for number in texts.numbers(walk.texts())]
    demand("" not in sources)
    offset_ms = where(*walk.optional_integer(-MAX_OFFSET_MS, MAX_OFFSET_MS))
    error_ms, age_ms = where(*walk.optional_integer()), where(*walk.optional_integer())
    walk.expect(b"\x08")
    return Frames(
        [_TYPES[name] for name in names], sequences, list(map(RecordHash, previous)), boot_ids, start_ms, end_ms,
        boot_start_ms, boot_end_ms, sources, offset_ms, error_ms, age_ms,
    )  # fmt: skip


def read_seen(walk: Walk) -> list[CheckpointSeen | None]:
    """After the bodies: the checkpoint that each record names. Raises Unusual."""
    walk.expect(b"\x09")
    there = walk.present()
    part = walk.part(there)
    part.expect(b"\x82")
    sizes = part.integer().tolist()
    part.expect(b"\x58\x20")
    named = map(CheckpointSeen, sizes, part.pieces(HASH_LENGTH))
    walk.join(part, there)
    walk.ended()
    return [next(named) if is_there else None for is_there in there.tolist()]


def where(values: I64, there: Flags) -> list[int | None]:
    """The values that are there."""
    if np.all(there):
        return values.tolist()  # type: ignore[no-any-return]
    return [value if is_there else None for value, is_there in zip(values.tolist(), there.tolist(), strict=True)]


def _read_plain(raws: Sequence[bytes]) -> list[SignedRecord]:
    """Raises Unusual, or Malformed for a header, unless all are measurements and heartbeats in their one form."""
    ends = np.cumsum([len(raw) for raw in raws])
    starts = np.concatenate(([0], ends[:-1]))
    walk = Walk.of(np.frombuffer(b"".join([*raws, bytes(PADDING)]), np.uint8), starts, ends)
    walk.expect(cose.HEAD)
    protected, protected_length = walk.byte_string()
    walk.expect(b"\xa0")
    payload, payload_length = walk.byte_string()
    walk.expect(_SIGNATURE_HEAD)
    walk.skip(SIGNATURE_LENGTH)
    walk.ended()
    places = (each.tolist() for each in (protected - starts, protected + protected_length - starts, payload - starts))
    messages = [
        cose.parsed(raw, raw[header:header_end], start, end)
        for raw, header, header_end, start, end in zip(
            raws, *places, (payload + payload_length - starts).tolist(), strict=True
        )
    ]
    demand(all(message.content_type == CONTENT_TYPE for message in messages))
    records = _read_payloads(Walk(walk.data, payload, payload + payload_length, walk.steps))
    return [SignedRecord.of(*parts) for parts in zip(raws, messages, records, strict=True)]


def _read_payloads(walk: Walk) -> list[Record]:
    texts = Texts()
    frames = read_frames(walk, texts)
    kinds = np.array([kind is RecordType.MEASUREMENT for kind in frames.types])
    demand(all(kind in (RecordType.MEASUREMENT, RecordType.HEARTBEAT) for kind in frames.types))
    beats, measured = np.flatnonzero(~kinds), np.flatnonzero(kinds)
    part = walk.part(beats)
    part.expect(b"\xa0")
    walk.join(part, beats)
    lines: list[list[LineStatement]] = [[] for _ in frames.types]
    part = walk.part(measured)
    start_ms = frames.start_ms[measured]
    for which, found in read_statements(part, start_ms, frames.end_ms[measured], texts):
        for record, statement in zip(measured[which].tolist(), _statements(found, start_ms[which], texts), strict=True):
            lines[record].append(statement)
    walk.join(part, measured)
    bodies: list[Body] = [Measurement(tuple(each)) if each else Heartbeat() for each in lines]
    clocks = map(
        Clock, frames.boot_start_ms.tolist(), frames.boot_end_ms.tolist(), frames.sources, frames.offset_ms,
        frames.error_ms, frames.age_ms,
    )  # fmt: skip
    seen = read_seen(walk)
    records = map(
        Record, frames.sequences.tolist(), frames.previous, frames.boot_ids, frames.start_ms.tolist(),
        frames.end_ms.tolist(), clocks, bodies, seen,
    )  # fmt: skip
    return list(records)


def _statements(found: Statements, record_start_ms: I64, texts: Texts) -> list[LineStatement]:
    named = map(RawCommitment, found.roots, found.chunk_counts.tolist(), found.sample_counts.tolist())
    raws = [next(named) if is_there else None for is_there in found.with_raw.tolist()]
    rows = found.columns.T.tolist()
    names = [texts.text(number) for number in found.texts.tolist()]
    row_counts = np.bincount(found.owner, minlength=len(raws))
    windows = map(ReadWindows, _slices(rows, row_counts), _slices(names, found.text_counts), record_start_ms.tolist())
    return list(map(LineStatement, found.line_ids, found.configurations, raws, windows))


def _slices(items: list[_T], counts: I64) -> Iterator[list[_T]]:
    """So many of the items each, in turn."""
    ends = np.cumsum(counts).tolist()
    return (items[first:end] for first, end in pairwise([0, *ends]))


_TYPES: Final = {each.value.encode(): each for each in RecordType}
