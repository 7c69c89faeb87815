"""The spool's raw chunks: which chunk belongs to which record, and which may go.

Decides nothing about when: the spool's transactions and `raw_bounds` do. A chunk has no record until a statement over
its end is chained; it may be dropped only when that record has its receipt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

from agent.raw_meter import ClosedChunk
from protocols.evidence.cose import Kid
from protocols.evidence.merkle import LeafHash, inclusion_proof
from protocols.evidence.raw import Piece, raw_commitment
from protocols.evidence.statement import LineStatement, RawCommitment

ROW_BYTES: Final = 200
"""What a chunk takes in the spool's file beside its zstd: row, two indexes, room in pages. Measured: 195 beside 315
bytes, 275 beside 600."""
_OF_SPAN: Final = "line = ?1 AND configuration_hash = ?2 AND end_ms > ?3 AND end_ms <= ?4 AND sequence IS NULL"


@dataclass(frozen=True, slots=True)
class RawSpan:
    """A line's statement in a record: the chunks under `configuration_hash` that end in (from_ms, to_ms]."""

    line_id: str
    configuration_hash: bytes
    from_ms: int
    to_ms: int

    @classmethod
    def of(cls, line: LineStatement) -> RawSpan:
        return cls(line.line_id, line.configuration_hash, line.windows[0].start_ms, line.windows[-1].end_ms)


@dataclass(frozen=True, slots=True)
class RawPlace:
    """A chunk that is held. `size_bytes`: in zstd. `chained`: a record commits to it."""

    id: int
    start_ms: int
    end_ms: int
    size_bytes: int
    chained: bool


def disk_bytes(size: int, chunks: int = 1) -> int:
    """What chunks of together `size` bytes in zstd take on the disk, about."""
    return size + chunks * ROW_BYTES


@dataclass(frozen=True, slots=True)
class RawHeld:
    """What is held of one line. `size_bytes`: on the disk."""

    line_id: str
    chunks: int
    size_bytes: int
    oldest_ms: int
    newest_ms: int


@dataclass(frozen=True, slots=True)
class RawDrop:
    """Chunks of one line that may go, over (from_ms, to_ms]. `size_bytes`: on the disk."""

    line_id: str
    from_ms: int
    to_ms: int
    size_bytes: int
    ids: tuple[int, ...]


class RawShelf:
    """The tables of raw chunks. Whoever changes them holds the spool's transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def add(self, chunks: Sequence[ClosedChunk]) -> None:
        self._db.executemany(
            "INSERT INTO raw_chunk (line, configuration_hash, start_ms, end_ms, samples, leaf, size, chunk)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (c.line_id, c.configuration_hash, c.start_ms, c.end_ms, c.samples, c.leaf, len(c.compressed),
                 c.compressed)
                for c in chunks
            ],
        )  # fmt: skip

    def set_open(self, line_id: str, configuration_hash: bytes, chunk: bytes | None) -> None:
        if chunk is None:
            self._db.execute("DELETE FROM raw_open WHERE line = ?", (line_id,))
        else:
            self._db.execute("REPLACE INTO raw_open VALUES (?, ?, ?)", (line_id, configuration_hash, chunk))

    def open_chunk(self, line_id: str, configuration_hash: bytes) -> bytes | None:
        """The chunk that was under way when the line's memory was last kept."""
        sql = "SELECT chunk FROM raw_open WHERE line = ? AND configuration_hash = ?"
        row = self._db.execute(sql, (line_id, configuration_hash)).fetchone()
        return None if row is None else bytes(row[0])

    def end_meter(self, line_id: str, end_ms: int) -> None:
        """Drops what no window will ever speak of: the line's meter ended at `end_ms`."""
        self._db.execute("DELETE FROM raw_chunk WHERE line = ? AND end_ms > ?", (line_id, end_ms))
        self._db.execute("DELETE FROM raw_open WHERE line = ?", (line_id,))

    # Records

    def commitment(self, span: RawSpan) -> RawCommitment | None:
        """What a statement over `span` says of its raw samples."""
        sql = f"SELECT leaf, samples FROM raw_chunk WHERE {_OF_SPAN} ORDER BY end_ms"  # noqa: S608 - no value in it
        found: list[Any] = self._db.execute(sql, _values(span)).fetchall()
        return raw_commitment([LeafHash(leaf) for leaf, _ in found], sum(samples for _, samples in found))

    def chain(self, spans: Sequence[RawSpan], kid: Kid, sequence: int) -> None:
        """The record (kid, sequence) commits to these spans."""
        sql = f"UPDATE raw_chunk SET kid = ?5, sequence = ?6 WHERE {_OF_SPAN}"  # noqa: S608 - no value in it
        self._db.executemany(sql, [(*_values(span), kid, sequence) for span in spans])

    def overlapping(self, line_id: str, from_ms: int, to_ms: int) -> list[RawPlace]:
        """The chunks that overlap (from_ms, to_ms], in order of time."""
        sql = (
            "SELECT id, start_ms, end_ms, size, sequence IS NOT NULL FROM raw_chunk"
            " WHERE line = ? AND end_ms > ? AND start_ms < ? ORDER BY end_ms"
        )
        found = self._db.execute(sql, (line_id, from_ms, to_ms))
        return [RawPlace(i, start_ms, end_ms, size, bool(known)) for i, start_ms, end_ms, size, known in found]

    def pieces(self, ids: Iterable[int]) -> Iterator[Piece]:
        """The pieces of chunks by id; one that was dropped meanwhile, or is in no record yet, is left out."""
        tree: tuple[Any, ...] = ()
        order: list[int] = []
        leaves: list[LeafHash] = []
        for number in ids:
            sql = "SELECT kid, sequence, line, chunk FROM raw_chunk WHERE id = ? AND sequence IS NOT NULL"
            row = self._db.execute(sql, (number,)).fetchone()
            if row is None:
                continue
            kid, sequence, line, compressed = row
            if tree != (kid, sequence, line):
                tree = (kid, sequence, line)
                sql = "SELECT id, leaf FROM raw_chunk WHERE sequence = ? AND line = ? AND kid = ? ORDER BY end_ms"
                found: list[Any] = self._db.execute(sql, (sequence, line, kid)).fetchall()
                order, leaves = [i for i, _ in found], [LeafHash(leaf) for _, leaf in found]
            index = order.index(number)
            path = tuple(inclusion_proof(leaves, index, len(leaves)))
            yield Piece(Kid(kid), sequence, index, path, compressed)

    # Bounds

    def held(self) -> list[RawHeld]:
        """What is held of each line. The sums are kept by the file's triggers: millions of chunks are not counted."""
        sql = (
            "SELECT line, chunks, size, (SELECT min(end_ms) FROM raw_chunk AS c WHERE c.line = h.line),"
            " (SELECT max(end_ms) FROM raw_chunk AS c WHERE c.line = h.line)"
            " FROM raw_held AS h WHERE chunks ORDER BY line"
        )
        return [
            RawHeld(line_id, chunks, disk_bytes(size, chunks), oldest_ms, newest_ms)
            for line_id, chunks, size, oldest_ms, newest_ms in self._db.execute(sql)
        ]

    def oldest_ms(self, line_id: str) -> int | None:
        """The end of the oldest chunk of a line."""
        row = self._db.execute("SELECT min(end_ms) FROM raw_chunk WHERE line = ?", (line_id,)).fetchone()
        return None if row is None else row[0]

    def oldest_record_end_ms(self, line_id: str) -> int:
        """The end of the last chunk of the oldest record that has any of a line; 0 where none has."""
        sql = (
            "SELECT max(end_ms) FROM raw_chunk AS c, (SELECT kid, sequence FROM raw_chunk WHERE line = ?1"
            " AND sequence IS NOT NULL ORDER BY end_ms LIMIT 1) AS r"
            " WHERE c.line = ?1 AND c.sequence = r.sequence AND c.kid = r.kid"
        )
        row = self._db.execute(sql, (line_id,)).fetchone()
        return 0 if row is None or row[0] is None else int(row[0])

    def droppable(self, line_id: str, kid: Kid, before_ms: int) -> RawDrop | None:
        """The chunks that end before `before_ms`, of records that have their receipts: whole records, since without
        its neighbours' hashes a chunk proves nothing. `kid`: of the chain that the spool holds now.

        With them go chunks of windows that were lost while the disk was full: no record will ever hold these.
        """
        sql = "SELECT kid, sequence FROM raw_chunk WHERE line = ? AND end_ms >= ? ORDER BY end_ms LIMIT 1"
        kept = self._db.execute(sql, (line_id, before_ms)).fetchone() or (None, None)
        found: list[Any] = self._db.execute(
            "SELECT id, start_ms, end_ms, size FROM raw_chunk AS c WHERE line = ?1 AND end_ms < ?2 AND CASE"
            " WHEN sequence IS NULL THEN NOT EXISTS (SELECT 1 FROM window AS w WHERE w.line = c.line"
            "   AND w.end_ms >= c.end_ms AND w.start_ms < c.end_ms)"
            " WHEN kid = ?4 AND sequence IS ?5 THEN 0"
            " WHEN kid <> ?3 THEN 1 ELSE sequence < ?6 END ORDER BY end_ms",
            (line_id, before_ms, kid, *kept, self._first_open()),
        ).fetchall()
        if not found:
            return None
        size = disk_bytes(sum(each[3] for each in found), len(found))
        return RawDrop(line_id, found[0][1], found[-1][2], size, tuple(each[0] for each in found))

    def drop(self, drop: RawDrop) -> None:
        self._db.executemany("DELETE FROM raw_chunk WHERE id = ?", [(number,) for number in drop.ids])

    def _first_open(self) -> int:
        """The first record without a receipt: every one before it has one."""
        row = self._db.execute("SELECT min(sequence) FROM record WHERE NOT receipted").fetchone()
        return 2**63 - 1 if row is None or row[0] is None else int(row[0])


def _values(span: RawSpan) -> tuple[str, bytes, int, int]:
    return (span.line_id, span.configuration_hash, span.from_ms, span.to_ms)
