"""Verdicts: a batch of statements, by the keys that are believed and the heads of their chains.

Decides which head a statement is held against (its batch's, then the log's), and that nothing is admitted once a
gateway has shown that the log lost what it had signed for. What is admitted otherwise is decided in `admission`, whom
to believe in `chains`, what the log lacks in `log.foreseen`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Engine

from hub.admission import Admitted, Head, Key, NotAdmitted, Verdict, examine_all, place
from hub.chains import load_heads, load_keys
from hub.log.foreseen import Foreseen, TreeReader
from hub.recent import Recent
from protocols.evidence.cose import Kid
from protocols.evidence.record import RecordHash, SignedRecord

logger = logging.getLogger("hub.judge")

KEYS_MAX_AGE_S: Final = 1.0
"""A command of another process (approve, revoke) takes effect within this time."""
LOG_BEHIND: Final = "log-behind"


@dataclass(slots=True)
class Judged:
    """One batch: `verdicts` in its order, and what it adds, seen by the records that come later in it."""

    verdicts: list[Verdict] = field(default_factory=list)
    admitted: list[SignedRecord] = field(default_factory=list)
    heads: dict[Kid, Head] = field(default_factory=dict)
    logged: dict[tuple[Kid, int], RecordHash] = field(default_factory=dict)


class Judge:
    """The writer's thread uses it; `may_speak_for` and `halted` may be asked from any."""

    def __init__(self, engine: Engine, log: TreeReader, recent: Recent, disbelieved: Collection[str] = ()) -> None:
        self._engine = engine
        self._recent = recent
        self._keys: Mapping[Kid, Key] = {}
        self._active: Mapping[str, frozenset[str]] = {}  # lines of each gateway with an active key
        self._keys_s = float("-inf")
        self._heads: dict[Kid, Head] = {}
        self._foreseen = Foreseen(log, disbelieved)

    @property
    def halted(self) -> str | None:
        """Why nothing more may be signed (`hub.log.foreseen`); None while all is well."""
        return self._foreseen.words

    def may_speak_for(self, gateway_id: str, line_id: str) -> bool:
        """Whether an active gateway of this id owns the line, as of the last second."""
        return line_id in self._active.get(gateway_id, ())

    def recover(self) -> None:
        """Keys and heads as the tables have them, which have all of the log."""
        self._heads = load_heads(self._engine)
        self.load_keys()

    def load_keys(self) -> None:
        self._keys = load_keys(self._engine)
        self._keys_s = time.monotonic()
        self._active = {key.owner: key.lines for key in self._keys.values() if key.refusal is None}

    def judge(self, statements: Sequence[tuple[bytes, str | None]]) -> Judged:
        """Of raw statements, each with the gateway id of its topic. What is admitted counts only after `take`."""
        if time.monotonic() - self._keys_s > KEYS_MAX_AGE_S:
            self.load_keys()
        examined = examine_all(statements, self._keys)
        batch = self._place_all(examined)
        if self.halted is not None and batch.admitted:
            # One of this batch has shown it: what came before it in the batch must not be signed either.
            batch = self._place_all(examined)
        return batch

    def take(self, batch: Judged) -> None:
        """What the batch admits is in the log."""
        self._heads |= batch.heads

    def _place_all(self, examined: Sequence[SignedRecord | NotAdmitted]) -> Judged:
        batch = Judged()
        batch.verdicts += [self._place(each, batch) for each in examined]
        return batch

    def _place(self, examined: SignedRecord | NotAdmitted, batch: Judged) -> Verdict:
        if isinstance(examined, NotAdmitted):
            return examined
        if behind := self._behind(examined):
            return behind
        kid, sequence = examined.kid, examined.record.sequence
        head = batch.heads.get(kid) or self._heads.get(kid, Head())
        known = batch.logged.get((kid, sequence))
        if known is None and sequence < head.next_sequence and (logged := self._recent.logged(kid, sequence)):
            known = logged[0]
        verdict = place(examined, head, known)
        if isinstance(verdict, Admitted):
            batch.heads[kid] = Head(sequence + 1, examined.hash, examined.subject)
            batch.logged[kid, sequence] = examined.hash
            batch.admitted.append(examined)
        return verdict

    def _behind(self, record: SignedRecord) -> NotAdmitted | None:
        """The refusal of everything, once a gateway has shown that the log lost what it had signed for."""
        seen = record.record.checkpoint_seen
        if self._foreseen.disbelieves(record.issuer, seen):
            words = "its gateway claims to have verified a checkpoint that the log never had, and is disbelieved"
            return NotAdmitted(record.hash, "disbelieved", words, record, genuine=True)
        known = self.halted
        halted = self._foreseen.hear(record.issuer, seen)
        if halted is None:
            return None
        if known is None:
            logger.critical("%s", halted)
        short = "the hub's log lacks entries that it once signed for; its operator is told, and nothing is logged"
        return NotAdmitted(record.hash, LOG_BEHIND, short, record, genuine=True)
