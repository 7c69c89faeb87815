"""The follower: keeps the tables close behind the log, in a thread of its own.

Decides when what is projected, and what is said when the tables fall behind. A receipt needs only the log: the tables
are made from it, and whatever a crash leaves undone here is done at the next start (`projector.catch_up`).

Memory: records are handed over parsed up to `KEPT_BYTES` of them; past that they are read from the log again. How far
the tables may fall behind is the writer's to decide, by waiting (`wait`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from sqlalchemy import Connection, Engine

from hub import database as db
from hub.projections import projector
from hub.projections.projector import LogEntries
from protocols.evidence.record import SignedRecord
from protocols.evidence.swift_records import read_all

logger = logging.getLogger("hub.follower")

KEPT_BYTES: Final = 2 * 2**20
"""Of signed records; parsed they take some fifteen times as much."""
STEP_RECORDS: Final = 256
"""In one transaction: other writers of the database wait no longer than that takes."""
RETRY_S: Final = (1.0, 2.0, 5.0, 10.0)
SLOW_S: Final = 10.0
STOP_S: Final = 5.0


class Follower:
    """`follow` is called by the writer; the tables then have it at once, or soon when `start` was called."""

    def __init__(self, engine: Engine, log: LogEntries, now_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._log = log
        self._now_ms = now_ms
        self._changed = threading.Condition()  # guards what follows
        self._size = 0  # entries that the tables have
        self._end = 0  # entries that they should have
        self._kept: deque[SignedRecord] = deque()  # the entries from `_size` on, as far as they are kept
        self._kept_bytes = 0
        self._stopping = False
        self._stop_s = float("inf")  # when it ends at the latest, of time.monotonic
        self._error: str | None = None
        self._ends: dict[str, int] = {}  # see `WindowRows`
        self._current_s = time.monotonic()  # when the tables last had everything
        self._thread = threading.Thread(target=self._run, name="follower")
        self._fatal: BaseException | None = None

    def recover(self) -> None:
        """Projects all that the log has. Raises IndexBehindLog."""
        projector.catch_up(self._engine, self._log)
        self._size = self._end = self._log.size

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends when the tables have everything, or after some seconds: the next start does the rest."""
        with self._changed:
            self._stopping, self._stop_s = True, time.monotonic() + STOP_S
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def size(self) -> int:
        """How many entries of the log the tables have."""
        return self._size

    @property
    def is_started(self) -> bool:
        return self._thread.ident is not None

    def check(self) -> None:
        """Raises what has ended the thread, if anything has."""
        if self._fatal is not None:
            raise self._fatal

    @property
    def alarm(self) -> str | None:
        """What is wrong, as a sentence; None when the tables are close behind the log."""
        behind = self._end - self._size
        if behind == 0 or time.monotonic() - self._current_s < SLOW_S:
            return None
        if self._error is None:
            return f"The pages are {behind:,} records behind the log and catch up; records are logged and receipted."
        return (
            f"The database cannot be written: {self._error}. The pages are {behind:,} records behind the log, which "
            "has them safely. Free some space or mend the database; the hub goes on by itself."
        )

    def follow(self, first_index: int, records: Sequence[SignedRecord]) -> None:
        """The log has these entries now."""
        with self._changed:
            if self._size == self._end:
                self._current_s = time.monotonic()
            if self._kept_bytes < KEPT_BYTES and self._size + len(self._kept) == first_index:
                self._kept.extend(records)
                self._kept_bytes += sum(len(record.raw) for record in records)
            self._end = first_index + len(records)
            self._changed.notify_all()

    def wait(self, size: int, timeout_s: float) -> bool:
        """Until the tables have `size` entries; whether they do. At once where it has failed for good."""
        with self._changed:
            self._changed.wait_for(lambda: self._size >= size or self._fatal is not None, timeout_s)
            return self._size >= size

    def catch_up(self) -> bool:
        """Where no thread runs: does now what it would do; True. Raises what the database raises."""
        while self._step():
            pass
        return True

    # ------------------------------------------------------------ the follower's thread

    def _run(self) -> None:
        failures = 0
        try:
            while self._is_behind():
                try:
                    self._step()
                except db.DATABASE_ERRORS as error:
                    self._error = db.fault_words(error)
                    logger.error("the tables cannot be written: %s", self._error)
                    with self._changed:
                        self._changed.wait_for(lambda: self._stopping, RETRY_S[min(failures, len(RETRY_S) - 1)])
                        if self._stopping:
                            return
                    failures += 1
                else:
                    failures, self._error = 0, None
        # The task boundary: the writer sees it and ends the process, for tables that stand still would be wrong soon.
        except BaseException as error:
            logger.exception("the follower stopped")
            with self._changed:
                self._fatal = error
                self._changed.notify_all()

    def _is_behind(self) -> bool:
        """Waits for something to do; False when told to stop and done, or out of time."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._size < self._end)
            return self._size < self._end and (not self._stopping or time.monotonic() < self._stop_s)

    def _step(self) -> bool:
        """Projects the next records in one transaction; False where there are none."""
        with self._changed:
            start, end = self._size, self._end
            records = list(islice(self._kept, STEP_RECORDS))
        if start == end:
            return False
        if not records:
            records = read_all(list(self._log.entries(start, min(start + STEP_RECORDS, end))))
        try:
            with self._engine.begin() as connection:
                projector.apply(connection, start, records, self._ends)
                self._note_receipts(connection, start, records)
        except BaseException:
            self._ends.clear()
            raise
        with self._changed:
            for _ in range(min(len(records), len(self._kept))):
                self._kept_bytes -= len(self._kept.popleft().raw)
            self._size += len(records)
            self._changed.notify_all()
        return True

    def _note_receipts(self, connection: Connection, start: int, records: Sequence[SignedRecord]) -> None:
        """The newest record of each key that was receipted: for people, so that time may be this moment's."""
        now_ms = self._now_ms()
        newest = {
            record.kid: {"kid": record.kid, "sequence": record.record.sequence, "leaf_index": index, "time_ms": now_ms}
            for index, record in enumerate(records, start)
        }
        insert = db.upsert(connection, db.receipt)
        values = {name: insert.excluded[name] for name in ("sequence", "leaf_index", "time_ms")}
        connection.execute(insert.on_conflict_do_update(index_elements=["kid"], set_=values), list(newest.values()))
