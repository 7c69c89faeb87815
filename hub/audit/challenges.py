"""Challenges in the database: what was asked for, and how far it was answered.

Decides how drawn minutes become challenges, and which of them wait. They are sent, and their answers taken, by the
serving hub (`challenger`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from hub import database as db
from hub.audit.minutes import Span, needed
from protocols.evidence.checkpoint import Checkpoint
from protocols.wire.challenge import ID_LENGTH, MAX_ASKED_MS, MAX_SPANS, Challenge

WAITING, ANSWERED = "waiting", "answered"


@dataclass(frozen=True, slots=True)
class Asked:
    """A row of the table. `windows`: the minutes that it is about; `spans`: what is asked for because of them.

    `pieces`: that came and prove themselves; `words`: what the gateway does not hold; `refused`: why a piece was not
    taken, "" for none.
    """

    id: bytes
    project_id: str
    line_id: str
    seed: bytes
    log_size: int
    windows: tuple[Span, ...]
    spans: tuple[Span, ...]
    state: str
    asked_ms: int
    sent_ms: int | None
    pieces: int
    words: str
    refused: str

    @property
    def challenge(self) -> Challenge:
        return Challenge(self.id, self.line_id, self.spans)


def ask(
    engine: Engine,
    project_id: str,
    line_id: str,
    windows: Sequence[Span],
    decide: Mapping[Span, int],
    seed: bytes,
    checkpoint: Checkpoint,
    now_ms: int,
) -> list[bytes]:
    """Leaves challenges for these windows of a line; their ids. `decide`: as of `minutes.needed`."""
    ids: list[bytes] = []
    with engine.begin() as connection:
        for part in _parts(sorted(windows), decide):
            ids.append(secrets.token_bytes(ID_LENGTH))
            connection.execute(
                db.challenge.insert().values(
                    id=ids[-1], project_id=project_id, line_id=line_id, seed=seed, log_size=checkpoint.size,
                    windows=[list(span) for span in part], spans=[list(span) for span in needed(part, decide)],
                    state=WAITING, asked_ms=now_ms, sent_ms=None, pieces=0, words="", refused="",
                )
            )  # fmt: skip
    return ids


def _parts(windows: Sequence[Span], decide: Mapping[Span, int]) -> Iterator[list[Span]]:
    """The windows in parts of which each is one challenge."""
    part: list[Span] = []
    asked_ms = 0
    for window in windows:
        length = window[1] - window[0] + decide[window] + 2
        if part and (len(part) == MAX_SPANS or asked_ms + length > MAX_ASKED_MS):
            yield part
            part, asked_ms = [], 0
        part.append(window)
        asked_ms += length
    if part:
        yield part


def listed(engine: Engine, project_id: str | None = None) -> list[Asked]:
    """All challenges, or a project's, oldest first."""
    t = db.challenge.c
    query = select(db.challenge).order_by(t.asked_ms, t.line_id, t.id)
    return _read(engine, query if project_id is None else query.where(t.project_id == project_id))


def due(engine: Engine, before_ms: int) -> list[Asked]:
    """Those that are not answered and were not sent since `before_ms`."""
    t = db.challenge.c
    not_since = t.sent_ms.is_(None) | (t.sent_ms < before_ms)
    return _read(engine, select(db.challenge).where(t.state == WAITING, not_since).order_by(t.asked_ms))


def find(engine: Engine, challenge_id: bytes) -> Asked | None:
    found = _read(engine, select(db.challenge).where(db.challenge.c.id == challenge_id))
    return found[0] if found else None


def note(engine: Engine, challenge_id: bytes, **values: object) -> None:
    """Writes columns of one row."""
    with engine.begin() as connection:
        connection.execute(db.challenge.update().where(db.challenge.c.id == challenge_id).values(**values))


def _read(engine: Engine, query: object) -> list[Asked]:
    with engine.connect() as connection:
        rows = connection.execute(query).all()  # type: ignore[call-overload]
    return [
        Asked(
            bytes(row.id), row.project_id, row.line_id, bytes(row.seed), row.log_size,
            tuple((start, end) for start, end in row.windows), tuple((start, end) for start, end in row.spans),
            row.state, row.asked_ms, row.sent_ms, row.pieces, row.words, row.refused,
        )
        for row in rows
    ]  # fmt: skip
