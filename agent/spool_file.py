"""The spool's file: its tables, its lock, and what SQLite's errors mean for a person.

Decides how the file is opened and when it counts as damaged: what measuring and signing go on from is checked before,
the raw chunks, a thousand times as much, when the agent is under way. What is kept in it is decided in `spool`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import apsw

from protocols.errors import LinetallyError

SPOOL_FILE: Final = "spool.sqlite"
LOCK_FILE: Final = "agent.lock"
DOUBT_FILE: Final = "spool.doubt"
"""Where it is the whole spool is checked before it is used: the agent ended by an error, or found it damaged."""
RAW_CHUNKS: Final = "raw_chunk"
_CACHE: Final = "cache_size = -512"  # KiB: the pages of fifty lines; 2 MB would fill with what is not read again
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE carry (line TEXT PRIMARY KEY, configuration_hash BLOB NOT NULL, memory BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE window (
    id INTEGER PRIMARY KEY, line TEXT NOT NULL, configuration_hash BLOB NOT NULL,
    start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, row BLOB NOT NULL);
CREATE INDEX window_end ON window (end_ms);
CREATE TABLE record (
    sequence INTEGER PRIMARY KEY, hash BLOB NOT NULL, type TEXT NOT NULL, end_ms INTEGER NOT NULL,
    receipted INTEGER NOT NULL DEFAULT 0, bytes BLOB NOT NULL);
CREATE INDEX record_open ON record (sequence) WHERE NOT receipted;
CREATE TABLE stop (
    line TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, category INTEGER NOT NULL,
    reason INTEGER NOT NULL, minor INTEGER NOT NULL, long INTEGER NOT NULL, PRIMARY KEY (line, start_ms)) WITHOUT ROWID;
CREATE TABLE amendment (
    id INTEGER PRIMARY KEY, queued_ms INTEGER NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting', sequence INTEGER, words TEXT NOT NULL DEFAULT '',
    sender TEXT UNIQUE, digest BLOB);
CREATE INDEX amendment_waiting ON amendment (id) WHERE state = 'waiting';
CREATE TABLE raw_chunk (
    id INTEGER PRIMARY KEY, line TEXT NOT NULL, configuration_hash BLOB NOT NULL, start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL, samples INTEGER NOT NULL, leaf BLOB NOT NULL, size INTEGER NOT NULL,
    kid BLOB, sequence INTEGER, chunk BLOB NOT NULL);
CREATE INDEX raw_chunk_time ON raw_chunk (line, end_ms, size);
CREATE INDEX raw_chunk_record ON raw_chunk (sequence, line);
CREATE TABLE raw_held (line TEXT PRIMARY KEY, chunks INTEGER NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER raw_more AFTER INSERT ON raw_chunk BEGIN
    INSERT INTO raw_held VALUES (new.line, 1, new.size)
    ON CONFLICT DO UPDATE SET chunks = chunks + 1, size = size + excluded.size; END;
CREATE TRIGGER raw_less AFTER DELETE ON raw_chunk BEGIN
    UPDATE raw_held SET chunks = chunks - 1, size = size - old.size WHERE line = old.line; END;
CREATE TABLE raw_open (line TEXT PRIMARY KEY, configuration_hash BLOB NOT NULL, chunk BLOB NOT NULL) WITHOUT ROWID;
"""


class SpoolFull(LinetallyError):
    """Nothing can be written now: mostly, the disk has no room. Nothing that was durable is lost; try again later."""


class SpoolDamaged(LinetallyError):
    """The file is not a spool, or SQLite's check found it damaged."""


def take_lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        words = f"{path.parent}: another agent is running with this state folder; stop it, or give each its own"
        raise LinetallyError(words) from None
    return descriptor


def prepare(connection: apsw.Connection, path: Path) -> None:
    # No mmap: an I/O error would be a signal instead of an error code.
    wait_for_others(connection)
    for pragma in ("mmap_size = 0", "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 500", _CACHE):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    in_doubt = path.with_name(DOUBT_FILE)
    whole = in_doubt.exists()
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    _check(connection, [str(name) for (name,) in names if whole or name != RAW_CHUNKS])
    in_doubt.unlink(missing_ok=True)
    version = connection.execute("PRAGMA user_version").fetchone()
    if version == (0,):
        with connection:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    elif version != (_SCHEMA_VERSION,):
        raise LinetallyError(f"{path} was written by another version of the agent (format {version}); install that one")


def check_raw_chunks(path: Path) -> None:
    """What `prepare` leaves out, beside a running agent: half a minute for a gigabyte. Raises SpoolDamaged; the next
    opening will, too."""
    with said(path), contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.setbusytimeout(5000)
        connection.execute("PRAGMA query_only = 1")
        _check(connection, [RAW_CHUNKS])


def _check(connection: apsw.Connection, tables: Iterable[str]) -> None:
    """Raises apsw.CorruptError."""
    for table in tables:
        (verdict,) = connection.execute(f"PRAGMA quick_check('{table}')").fetchone() or ("no answer",)
        if verdict != "ok":
            raise apsw.CorruptError(str(verdict).replace("\n", "; "))


def wait_for_others(connection: apsw.Connection) -> None:
    """Agent and operators' input write beside each other: a transaction has the file from its beginning, for one that
    had only read would be refused at once where another wrote meanwhile."""
    connection.setbusytimeout(5000)
    connection.transaction_mode = "IMMEDIATE"


_DAMAGED_MEND: Final = "the agent salvages what it can when it starts: linetally-agent run"


def doubt(folder: Path) -> None:
    """The spool is to be checked as a whole when it is opened next."""
    with contextlib.suppress(OSError):
        (folder / DOUBT_FILE).touch()


@contextlib.contextmanager
def said(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours."""
    try:
        yield
    except apsw.FullError as error:
        raise SpoolFull(f"{path}: the disk is full; free some space") from error
    except apsw.BusyError as error:
        raise SpoolFull(f"{path}: another program has had it for long; end what has it open") from error
    except (apsw.NotADBError, apsw.CorruptError) as error:
        doubt(path.parent)
        raise SpoolDamaged(f"{path} is damaged ({error}); {_DAMAGED_MEND}") from error
    except apsw.ReadOnlyError as error:
        raise SpoolFull(f"{path}: the disk is read-only; check the card or remount it") from error
    except apsw.CantOpenError as error:
        raise LinetallyError(f"{path} cannot be opened; check that the agent's user may write there") from error
    except apsw.IOError as error:
        raise SpoolFull(f"{path}: the disk does not take data ({error})") from error
