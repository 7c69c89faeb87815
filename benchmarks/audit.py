"""The audit: a line's raw samples, kept as a gateway keeps them, back to the windows that it signed.

Decides what is made for it: a day of the benchmarks' line at 1 Hz in chunks of a minute, committed to by statements of
a quarter of an hour as the agent signs them; and the same in one chunk and one statement an hour, which no agent makes,
to show what the small chunks cost. Each way must find every window equal, or its time does not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.measures import YEAR, Disagreement, Figure, Sizes
from benchmarks.samples import MODULUS, PIECES_PER_HOUR, START_MS, line
from hub.audit.examination import GATHERED
from hub.audit.inspection import Job, inspect
from hub.audit.unpacking import rows_of
from protocols.evidence import merkle
from protocols.evidence.bodies import Measurement
from protocols.evidence.cose import key_id
from protocols.evidence.keys import load_public_key
from protocols.evidence.merkle import leaf_hash
from protocols.evidence.raw import Chunk, Piece, compress, decode_chunk, decompress, encode_chunk, raw_commitment
from protocols.evidence.record import NO_PREVIOUS, Clock, Record, SignedRecord, sign_record
from protocols.evidence.statement import LineStatement
from protocols.measurement.account import Window
from protocols.measurement.calendar import Calendar
from protocols.measurement.comparison import compare
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.meter import LineMeter
from protocols.measurement.replay import RawRows, replay
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock

MINUTE_MS: Final = 60_000
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC: Final = KEY.public_key().public_bytes_raw()
KID: Final = key_id(PUBLIC)
FIRST_MS: Final = START_MS // MINUTE_MS * MINUTE_MS
LINE: Final = LineConfiguration(
    line_id="filling",
    name="Filling",
    calendar=Calendar("Asia/Hong_Kong"),
    products=(Product(1, "Cola", 250_000_000),),
    counters=(Counter(SignalRole.TOTAL, MODULUS), Counter(SignalRole.REJECT, MODULUS)),
    max_pieces_per_hour=PIECES_PER_HOUR * 3 // 2,
)


@dataclass(frozen=True)
class Kept:
    """What a gateway keeps and signs: chunks of `chunk_minutes`, statements of `statement_minutes`."""

    chunks: Sequence[Chunk]
    pieces: Sequence[Piece]
    records: Sequence[SignedRecord]
    windows: Sequence[Window]

    @property
    def rows(self) -> int:
        return sum(len(chunk.block) for chunk in self.chunks)

    def job(self, gather: int) -> Job:
        return Job(
            self.pieces,
            (),
            {(KID, made.record.sequence): made.raw for made in self.records},
            {KID: (PUBLIC, frozenset({LINE.line_id}))},
            {LINE.hash: LINE.to_data()},
            gather=gather,
        )


def kept(block: SampleBlock, chunk_minutes: int, statement_minutes: int) -> Kept:
    """The block as a gateway would keep and sign it."""
    meter = LineMeter(LINE, FIRST_MS)
    chunks: list[Chunk] = []
    windows: list[Window] = []
    carry: Mapping[str, Any] | None = None
    length_ms = chunk_minutes * MINUTE_MS
    last_ms = int(block.time_ms[-1]) // length_ms * length_ms
    for at_ms in range(FIRST_MS, last_ms, length_ms):
        first, last = np.searchsorted(block.time_ms, [at_ms, at_ms + length_ms], "right")
        rows = SampleBlock(block.time_ms[first:last], block.values[first:last], block.valid[first:last])
        chunks.append(Chunk(LINE.line_id, LINE.hash, at_ms, at_ms + length_ms, carry, rows))
        meter.push(rows)
        windows += meter.advance(at_ms + length_ms)
        memory = meter.carry()
        carry = deepcopy({name: memory[name] for name in memory if name not in ("ended", "handed_ms", "live")})
    records: list[SignedRecord] = []
    pieces: list[Piece] = []
    for first in range(0, len(windows), statement_minutes):
        stated = tuple(windows[first : first + statement_minutes])
        ended = [c for c in chunks if stated[0].start_ms < c.end_ms <= stated[-1].end_ms]
        plain = [encode_chunk(chunk) for chunk in ended]
        leaves = [leaf_hash(data) for data in plain]
        raw = raw_commitment(leaves, sum(len(chunk.block) for chunk in ended))
        record = Record(
            len(records), records[-1].hash if records else NO_PREVIOUS, bytes(16), stated[0].start_ms,
            stated[-1].end_ms, Clock(0, 0, "ntp"), Measurement((LineStatement(LINE.line_id, LINE.hash, raw, stated),)),
        )  # fmt: skip
        records.append(sign_record(KEY, record, issuer="GW", subject="bench"))
        pieces += [
            Piece(KID, record.sequence, i, tuple(merkle.inclusion_proof(leaves, i, len(leaves))), compress(data))
            for i, data in enumerate(plain)
        ]
    return Kept(chunks, pieces, records, windows)


def audit(sizes: Sizes) -> list[Figure]:
    """The whole of an audit, and where its time goes."""
    block = line(sizes.audit_rows).block()
    small, large = kept(block, 1, 15), kept(block, 60, 60)
    ways: dict[str, tuple[Kept, Callable[[], object]]] = {
        "chunks of a minute": (small, lambda: _whole(small, GATHERED)),
        "chunks of a minute, every memory compared": (small, lambda: _whole(small, 1)),
        "chunks of an hour": (large, lambda: _whole(large, 24)),
    }
    decompressor = zstandard.ZstdDecompressor()
    plain = [decompress(piece.compressed, decompressor) for piece in small.pieces]
    parts: dict[str, Callable[[], object]] = {
        "records: parsed, signature": lambda: _records(small),
        "pieces: zstd": lambda: [decompress(piece.compressed, decompressor) for piece in small.pieces],
        "chunks: to rows, many at once": lambda: rows_of(plain, GATHERED),
        "chunks: to rows, one by one": lambda: [decode_chunk(each) for each in plain],
        "chunks: path to the root, one by one": _paths(small),
        "rows to windows": lambda: _measured(small, GATHERED),
        "windows compared": lambda: compare(small.windows, small.windows),
    }
    found = cpu_medians({name: call for name, (_, call) in ways.items()} | parts, sizes.rounds)
    figures = [
        Figure(
            f"line-years a second a core, {name}",
            data.rows / YEAR / found[name],
            "1/s",
            8.0 if "hour" in name else None,
        )
        for name, (data, _) in ways.items()
    ]
    minutes = len(small.pieces)
    figures += [Figure(f"of a minute: {name}", found[name] / minutes * 1e6, "us") for name in parts]
    size = sum(len(piece.compressed) for piece in small.pieces)
    figures.append(Figure("a day at 1 Hz, compressed", size / small.rows * 86_400 / 1e6, "MB"))
    return figures


def cpu_medians(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """As `medians`, in seconds of this process's CPU time: a rate is one of a core, whatever else runs beside it."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def _whole(data: Kept, gather: int) -> None:
    inspected = inspect(data.job(gather))
    found = inspected.lines[LINE.line_id]
    if inspected.refused_count or found.different or found.memory_fault_count or not found.compared:
        raise Disagreement(f"the audit finds {inspected.refused or sorted(found.different)[:3]}")


def _records(data: Kept) -> None:
    key = load_public_key(PUBLIC)
    for record in data.records:
        SignedRecord(record.raw).verify(key)


def _paths(data: Kept) -> Callable[[], object]:
    plain = [decompress(piece.compressed) for piece in data.pieces]
    lines = [record.record.body.lines[0] for record in data.records if isinstance(record.record.body, Measurement)]

    def run() -> None:
        for piece, each in zip(data.pieces, plain, strict=True):
            raw = lines[piece.sequence].raw
            assert raw is not None
            merkle.verify_inclusion(
                leaf_hash(each), piece.leaf_index, raw.chunk_count, piece.path, merkle.RootHash(raw.root)
            )

    return run


def _measured(data: Kept, gather: int) -> None:
    replay(LINE, (RawRows(c.start_ms, c.end_ms, c.carry, c.block) for c in data.chunks), gather)
