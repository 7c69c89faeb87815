"""The chain of one key's records: sequence +1, and each names the hash of the one before.

Decides whether records follow each other without a break, a repetition or a fork. Does not decide whose key it is,
nor check a signature: the caller has done that for each record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from protocols.errors import Unverified
from protocols.evidence.cose import Kid
from protocols.evidence.record import NO_PREVIOUS, RecordHash, SignedRecord


class Break(StrEnum):
    """How a record fails to follow."""

    OTHER_KEY = "other-key"
    OTHER_ISSUER = "other-issuer"
    MISSING = "missing"  # a sequence was left out
    REPEATED = "repeated"  # this very record came before
    FORK = "fork"  # the same sequence with other bytes: the key signed two histories
    PREVIOUS = "previous"  # the right sequence, but it follows another record


class ChainBroken(Unverified):
    """`record` does not follow. `expected_sequence`: what should have come."""

    def __init__(self, kind: Break, record: SignedRecord, expected_sequence: int, words: str) -> None:
        super().__init__(words)
        self.kind = kind
        self.record = record
        self.expected_sequence = expected_sequence


@dataclass(frozen=True, slots=True)
class ChainState:
    """The head of a chain: all that is needed to tell whether a record follows.

    `head`: hash of the last record. A chain that starts in the middle has the state after its first record.
    """

    kid: Kid
    issuer: str
    subject: str
    next_sequence: int
    head: RecordHash

    @classmethod
    def after(cls, record: SignedRecord) -> ChainState:
        """The state after `record`, whatever came before it."""
        return cls(record.kid, record.issuer, record.subject, record.record.sequence + 1, record.hash)

    def follow(self, record: SignedRecord) -> ChainState:
        """The state after `record`. Raises ChainBroken if it is not the next one."""
        found, expected = record.record.sequence, self.next_sequence
        if record.kid != self.kid:
            raise self._broken(Break.OTHER_KEY, record, f"signed with key {record.kid.hex()}, not {self.kid.hex()}")
        if (record.issuer, record.subject) != (self.issuer, self.subject):
            words = f"issued by {record.issuer} of {record.subject}, the chain by {self.issuer} of {self.subject}"
            raise self._broken(Break.OTHER_ISSUER, record, words)
        if found > expected:
            raise self._broken(
                Break.MISSING, record, f"sequence {found} follows {expected - 1}: {found - expected} left out"
            )
        if found < expected:
            if record.hash == self.head:
                raise self._broken(Break.REPEATED, record, f"sequence {found} stands there twice")
            raise self._broken(Break.FORK, record, f"sequence {found} came before, with other content or order")
        if record.record.previous != self.head:
            raise self._broken(
                Break.PREVIOUS, record, f"sequence {found} names another record than {expected - 1} as the one before"
            )
        return ChainState.after(record)

    def _broken(self, kind: Break, record: SignedRecord, words: str) -> ChainBroken:
        return ChainBroken(kind, record, self.next_sequence, words)


def check_chain(records: Iterable[SignedRecord], state: ChainState | None = None) -> ChainState | None:
    """The state after all `records`, continuing from `state`; without one, the first record begins the chain.

    Raises ChainBroken for the first record that does not follow. None for no records and no state.
    """
    for record in records:
        state = ChainState.after(record) if state is None else state.follow(record)
    return state


def is_fork(one: SignedRecord, other: SignedRecord) -> bool:
    """Whether the two prove by themselves that one key signed two histories (their signatures being checked)."""
    same_place = one.kid == other.kid and one.record.sequence == other.record.sequence
    return same_place and one.message.payload != other.message.payload


def is_beginning(record: SignedRecord) -> bool:
    """Whether nothing came before it."""
    return record.record.sequence == 0 and record.record.previous == NO_PREVIOUS
