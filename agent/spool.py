"""The spool: everything that the agent must not lose, in one SQLite file.

Decides what is durable when. Each method is one transaction, on disk (WAL, synchronous=FULL) when it returns: windows
and raw chunks together with the meter's memory, a record together with its place in the chain and the windows that it
took up. Nothing without a receipt is ever deleted or overwritten. One process writes; `status` may read beside it, and
`amend` may put an amendment into its queue.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from agent.chain_head import HEAD_FILE, ChainHead
from agent.raw_meter import ClosedChunk
from agent.spool_file import (
    LOCK_FILE,
    SPOOL_FILE,
    SpoolDamaged,
    SpoolFull,
    doubt,
    prepare,
    said,
    take_lock,
    wait_for_others,
)
from agent.spool_raw import RawDrop, RawShelf, RawSpan
from protocols.errors import LinetallyError
from protocols.evidence import canonical, cose
from protocols.evidence.record import NO_PREVIOUS, RecordHash
from protocols.measurement.account import CalendarKind, Category, TimeAccount, Window
from protocols.measurement.timeline import Stop

__all__ = [
    "KEPT_RECEIPTED", "SPOOL_FILE", "LineBatch", "QueuedAmendment", "Sender", "Spool", "SpoolDamaged", "SpoolFull",
    "SpooledRecord", "SpooledWindow",
]  # fmt: skip

KEPT_RECEIPTED: Final = 1000
"""Receipted records whose bytes are still kept, for a hub that lost its newest ones."""
_MAX_VALUE: Final = 16_000_000
_NO_META: Final[Mapping[str, bytes]] = {}
KEPT_STOPS: Final = 5000
"""Closed stops kept for each line: weeks of them, for reasons that come late."""


@dataclass(frozen=True, slots=True)
class LineBatch:
    """What one line closed: its windows and raw chunks, and the meter's memory and the open chunk after them."""

    line_id: str
    configuration_hash: bytes
    windows: tuple[Window, ...]
    carry: Mapping[str, Any]
    stops: tuple[Stop, ...] = ()
    chunks: tuple[ClosedChunk, ...] = ()
    open_chunk: bytes | None = None


@dataclass(frozen=True, slots=True)
class SpooledWindow:
    """A window that no record holds yet."""

    id: int
    line_id: str
    configuration_hash: bytes
    window: Window


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """A signed record. `hash` is of all its bytes. `spans`: whose raw chunks it commits to; only while it is new."""

    sequence: int
    hash: RecordHash
    type: str
    end_ms: int
    raw: bytes
    spans: tuple[RawSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class QueuedAmendment:
    """An amendment on its way into the chain. `body`: as it was queued (`agent.amendments`).

    `state`: "waiting", "signed" (by record `sequence`) or "refused" (`words` say why).
    """

    id: int
    queued_ms: int
    body: bytes
    state: str
    sequence: int | None
    words: str


@dataclass(frozen=True, slots=True)
class Sender:
    """By what an amendment's sender knows it, so that the same message twice is one. `digest`: of what it said."""

    id: str
    digest: bytes


class Spool:
    """The open spool. Use as a context manager; not for several threads at once."""

    def __init__(self, connection: apsw.Connection, lock: int | None) -> None:
        self._db = connection
        self._lock = lock
        self.shelf = RawShelf(connection)

    @classmethod
    def open(cls, folder: Path) -> Spool:
        """Opens for writing, making it when there is none.

        Raises SpoolDamaged, SpoolFull, or LinetallyError when another agent holds it.
        """
        lock = take_lock(folder / LOCK_FILE)
        path = folder / SPOOL_FILE
        try:
            with said(path):
                connection = apsw.Connection(str(path))
                prepare(connection, path)
        except BaseException:
            os.close(lock)
            raise
        return cls(connection, lock)

    @classmethod
    def open_read_only(cls, folder: Path) -> Spool:
        """Opens beside a running agent. Raises SpoolDamaged when there is none."""
        path = folder / SPOOL_FILE
        if not path.exists():
            raise SpoolDamaged(f"{path}: there is no spool yet; the agent has not run with this configuration")
        with said(path):
            # WAL needs the -shm file even for reading; query_only keeps this connection from changing anything.
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            connection.setbusytimeout(2000)
            connection.execute("PRAGMA query_only = 1")
        return cls(connection, None)

    @classmethod
    def open_beside(cls, folder: Path) -> Spool:
        """Opens beside a running agent, to read and to queue amendments. Raises SpoolDamaged when there is none."""
        spool = cls.open_read_only(folder)
        spool._db.execute("PRAGMA query_only = 0")
        spool._db.execute("PRAGMA synchronous = FULL")
        wait_for_others(spool._db)
        return spool

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None and self._lock is not None:
            doubt(Path(self._db.filename).parent)
        self.close()

    # Windows and the meters' memory

    def commit(self, batches: Sequence[LineBatch], meta: Mapping[str, bytes] = _NO_META) -> None:
        """Keeps closed windows, raw chunks, the memory that goes with them and `meta`, or nothing. Raises SpoolFull."""
        with self._transaction():
            for batch in batches:
                self._db.executemany(
                    "INSERT INTO window (line, configuration_hash, start_ms, end_ms, row) VALUES (?, ?, ?, ?, ?)",
                    [
                        (batch.line_id, batch.configuration_hash, w.start_ms, w.end_ms, _window_bytes(w))
                        for w in batch.windows
                    ],
                )
                self._db.execute(
                    "REPLACE INTO carry (line, configuration_hash, memory) VALUES (?, ?, ?)",
                    (batch.line_id, batch.configuration_hash, canonical.encode(batch.carry)),
                )
                self._keep_stops(batch)
                self.shelf.add(batch.chunks)
                self.shelf.set_open(batch.line_id, batch.configuration_hash, batch.open_chunk)
            self._set_meta(meta)

    def end_meter(self, line_id: str, end_ms: int, last_chunk: ClosedChunk | None) -> None:
        """A line's configuration changed: its meter's last chunk, up to its last window's end, and none after it."""
        with self._transaction():
            self.shelf.end_meter(line_id, end_ms)
            self.shelf.add([] if last_chunk is None else [last_chunk])

    def stops(self, line_id: str, count: int) -> list[Stop]:
        """The newest closed stops of a line, newest first: what an operator can give a reason to."""
        rows = self._db.execute(
            "SELECT start_ms, end_ms, category, reason, minor, long FROM stop WHERE line = ? "
            "ORDER BY start_ms DESC LIMIT ?",
            (line_id, count),
        )
        return [Stop(a, b, Category(c), reason, bool(minor), bool(long)) for a, b, c, reason, minor, long in rows]

    def _keep_stops(self, batch: LineBatch) -> None:
        if not batch.stops:
            return
        self._db.executemany(
            "REPLACE INTO stop VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(batch.line_id, s.start_ms, s.end_ms, int(s.category), s.reason, s.minor, s.long) for s in batch.stops],
        )
        self._db.execute(
            "DELETE FROM stop WHERE line = ?1 AND start_ms < "
            "(SELECT start_ms FROM stop WHERE line = ?1 ORDER BY start_ms DESC LIMIT 1 OFFSET ?2)",
            (batch.line_id, KEPT_STOPS - 1),
        )

    def carry(self, line_id: str) -> tuple[bytes, dict[str, Any]] | None:
        """(configuration hash, meter's memory) of a line that ran before."""
        row = self._one("SELECT configuration_hash, memory FROM carry WHERE line = ?", (line_id,))
        return None if row is None else (row[0], canonical.decode(row[1], _MAX_VALUE))

    def unsealed(self, until_ms: int) -> list[SpooledWindow]:
        """Windows in no record yet that end at `until_ms` or before, oldest first."""
        rows = self._db.execute(
            "SELECT id, line, configuration_hash, row FROM window WHERE end_ms <= ? ORDER BY start_ms, line, id",
            (until_ms,),
        )
        return [SpooledWindow(i, line, hash_, _window(row)) for i, line, hash_, row in rows]

    # The chain

    def head(self) -> tuple[int, RecordHash]:
        """(next sequence, hash of the record before it)."""
        row = self._one("SELECT sequence, hash FROM record ORDER BY sequence DESC LIMIT 1", ())
        return (0, NO_PREVIOUS) if row is None else (row[0] + 1, RecordHash(row[1]))

    def append(
        self,
        records: Sequence[SpooledRecord],
        windows: Sequence[int] = (),
        amendment: int | None = None,
        drop: RawDrop | None = None,
    ) -> None:
        """Chains records, takes the windows that they hold off the list, and the amendment, if any, and drops the raw
        chunks that they say are dropped: all or nothing.

        Raises SpoolFull. After it returned, the records may be published.
        """
        with self._transaction():
            before = self.head()[0] - 1
            self._db.executemany(
                "INSERT INTO record (sequence, hash, type, end_ms, bytes) VALUES (?, ?, ?, ?, ?)",
                [(r.sequence, r.hash, r.type, r.end_ms, r.raw) for r in records],
            )
            self._db.executemany("DELETE FROM window WHERE id = ?", [(i,) for i in windows])
            for record in records:
                if record.spans:
                    self.shelf.chain(record.spans, cose.parse(record.raw).kid, record.sequence)
            if drop is not None:
                self.shelf.drop(drop)
            if amendment is not None:
                done = (records[-1].sequence, amendment)
                self._db.execute("UPDATE amendment SET state = 'signed', sequence = ? WHERE id = ?", done)
            # Before the commit: a head that could not be written must leave no record behind.
            self._write_head(before, durable=True)

    def begin_chain(self, owner: bytes) -> None:
        """Forgets the receipted records, so that a new key's chain begins with sequence 0. Windows stay.

        `owner`: whose chain it is from now on (as the recorder writes it); configurations are logged anew in it.
        Raises LinetallyError while a record has no receipt.
        """
        with self._transaction():
            if self.depth():
                raise LinetallyError("a record has no receipt yet")
            self._db.execute("DELETE FROM record")
            (Path(self._db.filename).parent / HEAD_FILE).unlink(missing_ok=True)
            self._db.execute("DELETE FROM meta WHERE key = 'last_receipt' OR key GLOB 'config:*'")
            self._set_meta({"owner": owner})

    def records_after(self, from_ms: int, kind: str) -> Iterator[bytes]:
        """The records of a type that end after `from_ms`, as far as kept, in the chain's order."""
        sql = "SELECT bytes FROM record WHERE end_ms > ? AND type = ? ORDER BY sequence"
        for row in self._db.execute(sql, (from_ms, kind)):
            yield row[0]

    def newest_of(self, kind: str, count: int) -> list[bytes]:
        """The newest records of a type that are kept, newest first."""
        sql = "SELECT bytes FROM record WHERE type = ? ORDER BY sequence DESC LIMIT ?"
        return [row[0] for row in self._db.execute(sql, (kind, count))]

    def is_unsealed(self, line_id: str, at_ms: int) -> bool:
        """Whether a window that no record holds yet lies over this time."""
        sql = "SELECT 1 FROM window WHERE line = ? AND start_ms <= ? AND end_ms > ?"
        return self._one(sql, (line_id, at_ms, at_ms)) is not None

    def open_records(self, from_sequence: int, limit: int) -> list[SpooledRecord]:
        """Records without a receipt, in order, from a sequence on."""
        rows = self._db.execute(
            "SELECT sequence, hash, type, end_ms, bytes FROM record WHERE NOT receipted AND sequence >= ?"
            " ORDER BY sequence LIMIT ?",
            (from_sequence, limit),
        )
        return [SpooledRecord(s, RecordHash(h), t, e, raw) for s, h, t, e, raw in rows]

    def record(self, sequence: int) -> SpooledRecord | None:
        """A record that is still kept, receipted or not."""
        row = self._one("SELECT sequence, hash, type, end_ms, bytes FROM record WHERE sequence = ?", (sequence,))
        return None if row is None else SpooledRecord(row[0], RecordHash(row[1]), row[2], row[3], row[4])

    def receipted(self, sequences: Sequence[int], meta: Mapping[str, bytes]) -> None:
        """Notes verified receipts, and forgets receipted records but the newest `KEPT_RECEIPTED`. Raises SpoolFull."""
        with self._transaction():
            self._db.executemany("UPDATE record SET receipted = 1 WHERE sequence = ?", [(s,) for s in sequences])
            oldest = self._one("SELECT coalesce(max(sequence), 0) - ? FROM record", (KEPT_RECEIPTED,))
            assert oldest is not None
            self._db.execute("DELETE FROM record WHERE receipted AND sequence < ?", oldest)
            self._set_meta(meta)
        with contextlib.suppress(SpoolFull):  # an older file says that more is open than is
            self._write_head(self.head()[0] - 1, durable=False)

    def reopen(self, first: int, last: int) -> None:
        """Takes the receipts of kept records [first, last] back: the log that gave them has lost them."""
        with self._transaction():
            self._db.execute("UPDATE record SET receipted = 0 WHERE sequence BETWEEN ? AND ?", (first, last))

    def _write_head(self, before: int, *, durable: bool) -> None:
        newest = self._one("SELECT sequence, hash, end_ms FROM record ORDER BY sequence DESC LIMIT 1", ())
        if newest is None:
            return
        waiting = self._one("SELECT min(sequence) FROM record WHERE NOT receipted", ())
        assert waiting is not None
        receipted = newest[0] if waiting[0] is None else waiting[0] - 1
        folder = Path(self._db.filename).parent
        try:
            head = ChainHead(newest[0], RecordHash(newest[1]), newest[2], receipted, before)
            head.write(folder, durable=durable)
        except OSError as error:
            raise SpoolFull(f"{folder / HEAD_FILE}: {error.strerror}") from error

    def depth(self) -> int:
        """Records without a receipt."""
        row = self._one("SELECT count(*) FROM record WHERE NOT receipted", ())
        assert row is not None
        return int(row[0])

    def newest_record_end_ms(self) -> int | None:
        """The end of the newest record's span."""
        row = self._one("SELECT end_ms FROM record ORDER BY sequence DESC LIMIT 1", ())
        return None if row is None else int(row[0])

    def lines(self) -> dict[str, Window | None]:
        """The lines that ever ran, each with its newest window that no record holds yet."""
        out: dict[str, Window | None] = {}
        for (line,) in self._db.execute("SELECT line FROM carry ORDER BY line").fetchall():
            row = self._one("SELECT row FROM window WHERE line = ? ORDER BY id DESC LIMIT 1", (line,))
            out[str(line)] = None if row is None else _window(row[0])
        return out

    # Amendments

    def queue_amendment(self, body: bytes, now_ms: int, sender: Sender | None = None) -> int:
        """Keeps an amendment until the agent has signed or refused it; gives its number."""
        id_, digest = (None, None) if sender is None else (sender.id, sender.digest)
        with self._transaction():
            sql = "INSERT INTO amendment (queued_ms, body, sender, digest) VALUES (?, ?, ?, ?)"
            self._db.execute(sql, (now_ms, body, id_, digest))
            return int(self._db.last_insert_rowid())

    def amendment_of(self, sender_id: str) -> tuple[QueuedAmendment, bytes] | None:
        """The amendment that its sender calls so, and the digest of what was said."""
        sql = "SELECT id, queued_ms, body, state, sequence, words, digest FROM amendment WHERE sender = ?"
        row = self._one(sql, (sender_id,))
        return None if row is None else (QueuedAmendment(*row[:-1]), bytes(row[-1]))

    def amendments(self, count: int = -1) -> list[QueuedAmendment]:
        """The newest that were queued, or all that ever were, oldest first."""
        sql = "SELECT id, queued_ms, body, state, sequence, words FROM amendment ORDER BY id DESC LIMIT ?"
        return [QueuedAmendment(*row) for row in self._db.execute(sql, (count,))][::-1]

    def next_amendments(self) -> list[QueuedAmendment]:
        """Those that wait, oldest first. Asked at each tick, and usually there is none."""
        sql = "SELECT id, queued_ms, body, state, sequence, words FROM amendment WHERE state = 'waiting' ORDER BY id"
        return [QueuedAmendment(*row) for row in self._db.execute(sql)]

    def refuse_amendment(self, number: int, words: str) -> None:
        with self._transaction():
            self._db.execute("UPDATE amendment SET state = 'refused', words = ? WHERE id = ?", (words, number))

    # Small things to remember

    def meta(self, key: str) -> bytes | None:
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        with self._transaction():
            self._set_meta(values)

    def _set_meta(self, values: Mapping[str, bytes]) -> None:
        self._db.executemany("REPLACE INTO meta (key, value) VALUES (?, ?)", list(values.items()))

    def _one(self, sql: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
        row = self._db.execute(sql, tuple(values)).fetchone()
        return None if row is None else tuple(row)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with said(Path(self._db.filename)), self._db:
            yield


def _window_bytes(window: Window) -> bytes:
    head = [window.start_ms, window.end_ms, int(window.kind), window.product, window.order, window.shift]
    return canonical.encode([*head, *(int(value) for value in window.account.as_ints())])


def _window(data: bytes) -> Window:
    start, end, kind, product, order, shift, *account = canonical.decode(data, _MAX_VALUE)
    return Window(start, end, CalendarKind(kind), product, order, shift, TimeAccount.from_ints(account))
