"""Challenges: the hub asks for the raw samples of some minutes, and this is what goes back.

Decides what is held of what was asked for, in which messages it goes, and how many are under way at once. Records and
live data go first (`publisher`); an answer that is lost on the way is asked for again by the hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from agent.spool import Spool
from agent.spool_raw import RawPlace
from protocols.errors import Malformed
from protocols.evidence.raw import encode_piece
from protocols.wire.challenge import MAX_ANSWER_BYTES, Answer, Challenge, decode_challenge, encode_answer

OUTSTANDING: Final = 16
MAX_WAITING: Final = 64
"""Challenges that wait; one more takes the place of the oldest, for the hub asks again."""
_HEADS: Final = 4096  # of a piece and its message, path and all
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "raw"})


class Link(Protocol):
    """Where answers go. `publish` gives a call that tells whether the broker has the message; without `has_room` it
    would wait behind what a slow network has not taken yet."""

    @property
    def has_room(self) -> bool: ...

    def publish(self, topic: str, payload: bytes, qos: int) -> Callable[[], bool]: ...


class Challenges:
    """What was asked for and is not answered yet, oldest first."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._waiting: dict[bytes, Challenge] = {}
        self._answer: Iterator[bytes] | None = None
        self._outstanding: list[Callable[[], bool]] = []

    def begin(self) -> None:
        """A new connection: what was under way on the old one may be lost."""
        self._outstanding.clear()

    def take(self, payload: bytes) -> None:
        """A message on the challenge topic."""
        try:
            challenge = decode_challenge(payload)
        except Malformed as error:
            _log.warning("a challenge of the hub cannot be read: %s", error)
            return
        self._waiting[challenge.id] = challenge
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        minutes = sum(to_ms - from_ms for from_ms, to_ms in challenge.spans) / 60_000
        _log.info("asked for the raw samples of %g min of line %s", round(minutes, 1), challenge.line_id)

    def send(self, link: Link, topic: str) -> None:
        """Sends what may be under way at once."""
        self._outstanding = [done for done in self._outstanding if not done()]
        while len(self._outstanding) < OUTSTANDING and link.has_room:
            message = self._next()
            if message is None:
                return
            self._outstanding.append(link.publish(topic, message, qos=1))

    def _next(self) -> bytes | None:
        while self._answer is not None or self._waiting:
            if self._answer is None:
                self._answer = answer(self._spool, self._waiting.pop(next(iter(self._waiting))))
            message = next(self._answer, None)
            if message is not None:
                return message
            self._answer = None
        return None


def answer(spool: Spool, challenge: Challenge) -> Iterator[bytes]:
    """The messages that answer a challenge; the last says what of it is not held."""
    found: dict[int, RawPlace] = {}
    missing_ms = 0
    for from_ms, to_ms in challenge.spans:
        places = spool.shelf.overlapping(challenge.line_id, from_ms, to_ms)
        missing_ms += to_ms - from_ms - sum(min(p.end_ms, to_ms) - max(p.start_ms, from_ms) for p in places)
        found |= {place.id: place for place in places}
    fits = [p.id for p in found.values() if p.chained and p.size_bytes + _HEADS <= MAX_ANSWER_BYTES]
    words = _words(list(found.values()), missing_ms)
    for number, piece in enumerate(spool.shelf.pieces(fits)):
        yield encode_answer(Answer(challenge.id, number, len(fits), encode_piece(piece)))
    yield encode_answer(Answer(challenge.id, len(fits), len(fits), None, words))


def _words(places: list[RawPlace], missing_ms: int) -> str:
    """What of it does not come, for a person; empty if all of it does."""
    out = []
    if missing_ms > 0:
        out.append(f"{missing_ms / 1000:g} s of it are not held (see the raw-gap records)")
    if waiting := sum(not place.chained for place in places):
        out.append(f"{waiting} chunks are in no signed record yet: ask again after the next")
    if long := sum(place.size_bytes + _HEADS > MAX_ANSWER_BYTES for place in places):
        out.append(f"{long} chunks are too long for a message: linetally-agent raw writes them to a file")
    return "; ".join(out)
