"""The serving hub's side of challenges: sends those that wait, takes the answers, keeps what proves itself.

Decides what of an answer is kept: a piece of the line and time that were asked for, committed to by a record of the
log. An answer is acknowledged once it is durable; what is lost on the way is asked for again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Engine, select

from hub import database as db
from hub.audit import challenges
from hub.audit.challenges import ANSWERED, Asked
from hub.audit.store import RawStore, day_of
from hub.services import LogReader
from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence.cose import Kid
from protocols.evidence.raw import Piece, decode_piece, verify_piece
from protocols.evidence.record import SignedRecord
from protocols.wire.challenge import Answer, decode_answer, encode_challenge

logger = logging.getLogger("hub.audit")

LOOK_S: Final = 0.5
RESEND_MS: Final = 60_000
"""After this a gateway is asked again for what it has not answered."""
QUEUE: Final = 1_000
KEPT_AT_ONCE: Final = 200
RECORDS_KEPT: Final = 64
_FAULTS: Final = (Malformed, Unverified, Refused)


@dataclass(slots=True)
class _Progress:
    """What came of one challenge since this hub has started. `of`: None before its end was seen."""

    asked: Asked
    numbers: set[int] = field(default_factory=set)
    good: set[int] = field(default_factory=set)
    of: int | None = None
    words: str = ""
    refused: str = ""


class Challenger:
    """One thread. `publish(gateway_id, bytes)` sends a challenge; `owner(line_id)`: the active gateway of a line."""

    def __init__(
        self,
        engine: Engine,
        log: LogReader,
        store: RawStore,
        publish: Callable[[str, bytes], None],
        is_connected: Callable[[], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._log = log
        self._store = store
        self._publish = publish
        self._is_connected = is_connected
        self._now_ms = now_ms
        self._queue: queue.Queue[tuple[str, bytes, Callable[[], None]]] = queue.Queue(QUEUE)
        self._progress: dict[bytes, _Progress] = {}
        self._records: OrderedDict[tuple[Kid, int], SignedRecord] = OrderedDict()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="challenger")
        self.alarm: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def offer(self, gateway_id: str, payload: bytes, acknowledge: Callable[[], None]) -> None:
        """An answer, from the link's thread. Dropped when too many wait: it is asked for again."""
        try:
            self._queue.put_nowait((gateway_id, payload, acknowledge))
        except queue.Full:
            acknowledge()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        asked_s = float("-inf")
        while not self._stopping.is_set():
            try:
                if time.monotonic() - asked_s >= LOOK_S:
                    self.send_due()
                    asked_s = time.monotonic()
                self.take()
                self.alarm = None
            except (*db.DATABASE_ERRORS, OSError) as error:
                why = db.fault_words(error)
                self.alarm = (
                    f"Raw samples cannot be kept: {why}. They are asked for again; mend that, or free some space."
                )
                logger.error("%s", self.alarm)
                self._stopping.wait(10.0)

    def send_due(self) -> None:
        """Sends what waits, to the gateways whose lines are asked for."""
        if not self._is_connected():
            return
        now_ms = self._now_ms()
        for asked in challenges.due(self._engine, now_ms - RESEND_MS):
            for gateway_id in self._owners(asked.line_id):
                self._publish(gateway_id, encode_challenge(asked.challenge))
            challenges.note(self._engine, asked.id, sent_ms=now_ms)

    def take(self) -> None:
        """Takes the answers that are there; waits a moment for the first."""
        kept: dict[tuple[str, str], list[tuple[int, Piece]]] = {}
        acknowledgements: list[Callable[[], None]] = []
        touched: dict[bytes, _Progress] = {}
        timeout: float | None = LOOK_S
        while len(acknowledgements) < KEPT_AT_ONCE:
            try:
                gateway_id, payload, acknowledge = self._queue.get(timeout=timeout or 0.02)
            except queue.Empty:
                break
            timeout = None
            acknowledgements.append(acknowledge)
            try:
                progress = self._hear(gateway_id, decode_answer(payload), kept)
            except _FAULTS as error:
                logger.warning("an answer of %s is not taken: %s", gateway_id, error)
                continue
            touched[progress.asked.id] = progress
        for (line_id, _), pieces in kept.items():
            self._store.add(line_id, pieces[0][0], [piece for _, piece in pieces])
        for progress in touched.values():
            self._write(progress)
        for acknowledge in acknowledgements:
            acknowledge()

    def _hear(self, gateway_id: str, answer: Answer, kept: dict[tuple[str, str], list[tuple[int, Piece]]]) -> _Progress:
        """Raises Refused for an answer to nothing; a bad piece is noted, and not asked for again."""
        progress = self._progress.get(answer.id)
        if progress is None:
            asked = challenges.find(self._engine, answer.id)
            if asked is None:
                raise Refused("not-asked", "it answers no challenge of this hub")
            if asked.state == ANSWERED:
                raise Refused("not-asked", "it was answered already")
            progress = self._progress[answer.id] = _Progress(asked)
        if gateway_id not in self._owners(progress.asked.line_id):
            raise Refused("not-asked", f"line {progress.asked.line_id} is not this gateway's")
        if answer.piece is None:
            progress.of, progress.words = answer.of, answer.words
            return progress
        progress.numbers.add(answer.number)
        try:
            piece = decode_piece(answer.piece)
            chunk = verify_piece(piece, self._record((piece.kid, piece.sequence)))
            spans = progress.asked.spans
            if chunk.line_id != progress.asked.line_id or not any(
                chunk.start_ms < to_ms and from_ms < chunk.end_ms for from_ms, to_ms in spans
            ):
                raise Refused("not-asked", "a raw chunk of another line or time than was asked for")
        except _FAULTS as error:
            progress.refused = str(error)[:200]
            logger.warning("a raw piece of %s is refused: %s", gateway_id, error)
            return progress
        progress.good.add(answer.number)
        kept.setdefault((chunk.line_id, day_of(chunk.end_ms)), []).append((chunk.end_ms, piece))
        return progress

    def _write(self, progress: _Progress) -> None:
        complete = progress.of is not None and len(progress.numbers) >= progress.of
        values: Mapping[str, object] = {
            "pieces": len(progress.good), "words": progress.words, "refused": progress.refused,
        }  # fmt: skip
        if complete:
            values = {**values, "state": ANSWERED}
            self._progress.pop(progress.asked.id, None)
        challenges.note(self._engine, progress.asked.id, **values)

    def _owners(self, line_id: str) -> list[str]:
        with self._engine.connect() as connection:
            rows = connection.execute(select(db.gateway.c.id, db.gateway.c.lines).where(db.gateway.c.state == "active"))
            return [row.id for row in rows if line_id in row.lines]

    def _record(self, place: tuple[Kid, int]) -> SignedRecord:
        """The logged record. Its signature was checked when it was admitted. Raises Refused."""
        record = self._records.get(place)
        if record is None:
            t = db.record.c
            with self._engine.connect() as connection:
                leaf = connection.scalar(select(t.leaf_index).where(t.kid == place[0], t.sequence == place[1]))
            if leaf is None:
                raise Refused("not-logged", f"record {place[1]} of key {place[0].hex()} is not in the log")
            record = self._records[place] = SignedRecord(self._log.entry(int(leaf)))
            while len(self._records) > RECORDS_KEPT:
                self._records.popitem(last=False)
        return record
