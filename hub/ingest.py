"""Ingest: the one writer. Statements come in by a bounded queue, go into the log, and only then is anything answered.

Decides batches and the order of durability. What is admitted is decided in `judge` and `admission`, what is answered in
`answers`, what a record becomes in the tables in `projections`.

The order, and what a crash after each step means:
1. `log.append` (fsync, checkpoint signed). Crash: the agent has no receipt, sends again, and the duplicate gets it.
2. What only the database keeps: quarantine, and what became of a command's submission. Crash: as above.
3. Receipts published, MQTT messages acknowledged by hand. Crash: as above.
The tables follow the log in a thread of their own (`projections.follower`), and at a start catch up with it first. The
writer waits for them after a root-signed record, which changes whom it believes, and when they are `MAX_BEHIND` behind.
A full disk stops the writer before a receipt: nothing is answered, the agents hold, and the same batch is tried again.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine, select

from hub import database as db
from hub import quarantine
from hub.admission import Admitted, Ahead, Duplicate, Fork, NotAdmitted, Verdict
from hub.answers import Counts, Receipts, counted
from hub.config import IngestConfig
from hub.judge import Judge
from hub.log.store import LogUnavailable
from hub.projections.follower import Follower
from hub.recent import Recent
from protocols.evidence.bodies import ROOT_TYPES
from protocols.evidence.merkle import NodeHash, RootHash

logger = logging.getLogger("hub.ingest")

POLL_S: Final = 0.5
RETRY_S: Final = (1.0, 2.0, 5.0, 10.0)
_LOG: Final = "The log cannot be written: {cause}. {held} Free some space or mend the disk; {on}"
_DATABASE: Final = "The database does not work: {cause}. {held} Start it again, or free some space; {on}"

MAX_BEHIND: Final = 16_384
"""Entries that the tables may be behind the log: what is in between is held in memory."""
MAX_BATCH_BYTES: Final = 4 * 2**20
MAX_QUEUE_BYTES: Final = 64 * 2**20

_T = TypeVar("_T")


def calm_collector() -> None:
    """For a process that reads records by the thousand: Python's cycle collector looks at them less often.

    A record is hundreds of small objects in no cycle, and with the usual thresholds a third of a hub's time went into
    looking at them again. What has no cycle is freed at once either way.
    """
    gc.freeze()
    gc.set_threshold(50_000)


class Log(Protocol):
    """The writing side of `hub.log.sequencer.Log`: `append` returns when the entries are durable and signed for."""

    @property
    def size(self) -> int: ...

    def append(self, entries: Sequence[bytes]) -> Sequence[int]: ...

    def entries(self, start: int, stop: int) -> Iterator[bytes]: ...

    def proof_texts(self, indices: Sequence[int]) -> Mapping[int, bytes]: ...

    def consistency_proof(self, old_size: int, size: int) -> Sequence[NodeHash]: ...

    def root_at(self, size: int) -> RootHash: ...

    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """One statement as it came. `acknowledge` tells the link, not the gateway; it must not block or raise.

    `seen_size`: of the newest checkpoint that its sender says it has verified; 0 if it says nothing.
    """

    raw: bytes
    topic_gateway_id: str | None
    acknowledge: Callable[[], None] = lambda: None
    submission_id: int | None = None
    seen_size: int = 0


class _Stopped(Exception):
    """Told to stop while something was waited for: nothing of the batch is answered."""


class Writer:
    """Owns the log's appending side and the heads of all chains. One thread runs it; `offer` may be called from any.

    `publish(gateway_id, bytes)` sends a receipt or refusal; it must not block.
    """

    def __init__(
        self,
        engine: Engine,
        log: Log,
        config: IngestConfig,
        now_ms: Callable[[], int],
        publish: Callable[[str, bytes], None],
        disbelieved: Collection[str] = (),
    ) -> None:
        self._engine = engine
        self._log = log
        self._config = config
        self._now_ms = now_ms
        self._publish = publish
        self._queue: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self._follower = Follower(engine, log, now_ms)
        self._recent = Recent(engine)
        self._judge = Judge(engine, log, self._recent, disbelieved)
        self._receipts = Receipts(log, self._recent)
        self._counts = Counts()
        self._trouble: str | None = None  # what is tried again and again just now
        self._overflow_count = 0  # this and the next are written by the link's thread only
        self._offered_bytes = 0
        self._taken_bytes = 0  # by the writer's only
        self.fatal: BaseException | None = None

    # ------------------------------------------------------------ from other threads

    def start(self) -> None:
        """Takes in what the log has and the index has not, then runs until `stop`."""
        self.recover()
        self._follower.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends after the batch at hand. What is still queued was not acknowledged, and comes again."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    @property
    def halted(self) -> str | None:
        """Why nothing more may be signed (`hub.log.foreseen`); None while all is well."""
        return self._judge.halted

    def offer(self, arrival: Arrival) -> None:
        """Queues a statement; drops it when the queue is full, which costs nothing but a repeat."""
        waiting_bytes = self._offered_bytes - self._taken_bytes
        if self._queue.qsize() >= self._config.queue_records or waiting_bytes > MAX_QUEUE_BYTES:
            self._overflow_count += 1
            arrival.acknowledge()
        else:
            self._queue.put(arrival)
            self._offered_bytes += len(arrival.raw)

    def counts(self) -> Counts:
        alarm = self._trouble or self.halted or self._follower.alarm
        return replace(self._counts, overflow_count=self._overflow_count, alarm=alarm)

    @property
    def indexed_size(self) -> int:
        """How many entries of the log the tables have."""
        return self._follower.size

    def may_speak_for(self, gateway_id: str, line_id: str) -> bool:
        """Whether an active gateway of this id owns the line, as of the last second."""
        return self._judge.may_speak_for(gateway_id, line_id)

    # ------------------------------------------------------------ the writer's thread

    def recover(self) -> None:
        """Brings index and heads to the log's state: the same code after a crash as after a clean stop."""
        self._follower.recover()
        self._judge.recover()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._follower.check()
                if batch := self._collect():
                    self.commit(batch)
                self.take_submissions()
        # The task boundary: whatever it was, the process must end and say so, for a hub without a writer is no hub.
        except BaseException as error:
            self.fatal = error
            logger.exception("the writer stopped")
            raise
        finally:
            self._follower.stop()

    def _collect(self) -> list[Arrival]:
        """Up to `batch_records` statements, of which the first has waited no longer than `batch_wait_ms`."""
        try:
            batch = [self._queue.get(timeout=POLL_S)]
        except queue.Empty:
            return []
        deadline = time.monotonic() + self._config.batch_wait_ms / 1000
        size = len(batch[0].raw)
        while len(batch) < self._config.batch_records and size < MAX_BATCH_BYTES:
            try:
                batch.append(self._queue.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                break
            size += len(batch[-1].raw)
        self._taken_bytes += size
        return batch

    def take_submissions(self) -> int:
        """Appends the root-signed records that commands have left in the database; gives how many there were."""
        if self.halted is not None:
            return 0  # they wait for the right log
        try:
            found = self._retried(self._submissions, _DATABASE)
        except _Stopped:
            return 0
        if found:
            self.commit(found)
        return len(found)

    def _submissions(self) -> list[Arrival]:
        t = db.submission.c
        query = select(t.id, t.raw).where(t.state == "waiting").order_by(t.kid, t.sequence)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        if rows:
            self._judge.load_keys()
        return [Arrival(bytes(row.raw), None, submission_id=row.id) for row in rows]

    def commit(self, arrivals: Sequence[Arrival]) -> None:
        """One batch from verdicts to answers. Returns early, with nothing answered, only when told to stop."""
        try:
            self._commit(arrivals)
        except _Stopped:
            return

    def _commit(self, arrivals: Sequence[Arrival]) -> None:
        self._await_tables(self._log.size - MAX_BEHIND)
        self._recent.forget(self._follower.size)
        statements = [(arrival.raw, arrival.topic_gateway_id) for arrival in arrivals]
        judged = self._retried(lambda: self._judge.judge(statements), _DATABASE)
        records = judged.admitted
        if records:
            first = self._retried(lambda: self._log.append([record.raw for record in records]), _LOG)[0]
            self._recent.add(first, records)
            self._follower.follow(first, records)
        self._judge.take(judged)
        changes_keys = any(record.record.type in ROOT_TYPES for record in records)
        if not self._follower.is_started:
            self._retried(self._follower.catch_up, _DATABASE)
        elif changes_keys or any(arrival.submission_id is not None for arrival in arrivals):
            self._await_tables(self._log.size)
        told = list(zip(arrivals, judged.verdicts, strict=True))
        self._retried(lambda: self._settle(told), _DATABASE)
        self._answer(told)
        if changes_keys:
            self._retried(self._judge.load_keys, _DATABASE)

    def _await_tables(self, size: int) -> None:
        """Until the tables have `size` entries: at once, where nothing holds the follower up."""
        while not self._follower.wait(size, POLL_S):
            self._follower.check()
            if self._stopping.is_set():
                raise _Stopped

    def _settle(self, judged: Sequence[tuple[Arrival, Verdict]]) -> None:
        """Keeps what only the database keeps, in one transaction; usually that is nothing."""
        aside = [(arrival.raw, verdict) for arrival, verdict in judged if isinstance(verdict, (Fork, NotAdmitted))]
        submitted = [
            (arrival.submission_id, verdict) for arrival, verdict in judged if arrival.submission_id is not None
        ]
        if aside or submitted:
            with self._engine.begin() as connection:
                quarantine.keep(connection, aside, self._now_ms(), self._config.quarantine_records, self._recent.logged)
                for submission_id, verdict in submitted:
                    _close_submission(connection, submission_id, verdict)

    def _answer(self, judged: Sequence[tuple[Arrival, Verdict]]) -> None:
        """Receipts and refusals, each with the link's acknowledgement."""
        heard = [(verdict, arrival.seen_size) for arrival, verdict in judged if arrival.topic_gateway_id is not None]
        answers = iter(self._retried(lambda: self._receipts.answers(heard), _DATABASE))
        for arrival, verdict in judged:
            if arrival.topic_gateway_id is not None and (told := next(answers)) is not None:
                self._publish(arrival.topic_gateway_id, told)
            if isinstance(verdict, Fork):
                logger.error("fork gateway=%s sequence=%d", verdict.record.issuer, verdict.record.record.sequence)
            elif isinstance(verdict, NotAdmitted):
                logger.warning("refused code=%s topic=%s: %s", verdict.code, arrival.topic_gateway_id, verdict.words)
            arrival.acknowledge()
        self._counts = counted(self._counts, [verdict for _, verdict in judged], self._now_ms())

    def _retried(self, action: Callable[[], _T], words: str) -> _T:
        """Tries until it works: a full disk or a database that is away holds everything up, and loses nothing.

        `words`: the alarm meanwhile. Raises _Stopped when told to stop meanwhile.
        """
        for delay_s in chain(RETRY_S, repeat(RETRY_S[-1])):
            try:
                result = action()
            except (LogUnavailable, *db.DATABASE_ERRORS) as error:
                held, on = "Nothing is receipted; agents hold their records.", "the hub goes on by itself."
                self._trouble = words.format(cause=db.fault_words(error), held=held, on=on)
                logger.error("%s Next try in %.0f s.", self._trouble, delay_s)
                if self._stopping.wait(delay_s):
                    raise _Stopped from None
            else:
                self._trouble = None
                return result
        raise AssertionError("the delays never end")


def _close_submission(connection: Connection, submission_id: int, verdict: Verdict) -> None:
    t = db.submission.c
    values: dict[str, object]
    match verdict:
        case Admitted(record) | Duplicate(record):
            index = select(db.record.c.leaf_index).where(db.record.c.hash == record.hash).scalar_subquery()
            values = {"state": "logged", "leaf_index": index}
        case NotAdmitted() as refused:
            values = {"state": "refused", "words": refused.words}
        case Fork() | Ahead():
            values = {"state": "refused", "words": "another record of the root key took its place: make it again"}
    connection.execute(db.submission.update().where(t.id == submission_id).values(**values))
