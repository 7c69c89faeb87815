"""The walk over a bundle's records: each parsed, with its place, so that a fault can be laid at its door.

Decides how a fault becomes a `Failure` with file, record, sequence and byte, and whether a record is in the log. What
else a record must fulfil is `verify`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, NamedTuple

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence import merkle, proof
from protocols.evidence.bundle import Bundle
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid
from protocols.evidence.record import SignedRecord
from protocols.evidence.verdict import Failure, Step

Progress = Callable[[int, int], None]
"""Called with (bytes of records checked, bytes in all)."""

_FAULTS: Final = (Malformed, Unverified, Refused)


class Failed(Exception):
    """A check that does not hold ends the verification."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


@dataclass(slots=True)
class At:
    """What is being checked, so that whatever goes wrong can be laid at its door."""

    step: Step
    file: str | None = None
    index: int | None = None
    sequence: int | None = None
    offset: int | None = None

    def __enter__(self) -> At:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _FAULTS):
            raise self.failed(str(error)) from error

    def failed(self, words: str) -> Failed:
        return Failed(Failure(self.step, words, self.file, self.index, self.sequence, self.offset))


class Entry(NamedTuple):
    """A record as it lies in a file: the how many-th (from 0), where it begins, and its bytes."""

    file: str
    number: int
    offset: int
    raw: bytes


@dataclass(slots=True)
class Examination:
    """A bundle whose checkpoint is trusted, being read. `checkpoint_note`: the bytes that were trusted."""

    bundle: Bundle
    checkpoint: Checkpoint
    checkpoint_note: bytes
    progress: Progress
    done_bytes: int = 0
    total_bytes: int = 0

    def __post_init__(self) -> None:
        members = self.bundle.members.items()
        self.total_bytes = sum(member.size for name, member in members if name.endswith(".cbor-seq"))

    def entries(self, file: str, step: Step) -> Iterator[Entry]:
        """Each record of a file, unread, with its place. Raises Failed where no record can begin."""
        records = self.bundle.records(file)
        for index in count():
            at = At(step, file, index)
            try:
                entry = next(records, None)
            except Malformed as error:
                at.offset = error.offset
                raise at.failed(error.what) from error
            if entry is None:
                return
            yield Entry(file, index, *entry)

    def signed_record(self, entry: Entry, step: Step) -> tuple[At, SignedRecord]:
        """A record with its place. Its form is checked, nothing else."""
        at = At(step, entry.file, entry.number, offset=entry.offset)
        with at:
            record = SignedRecord(entry.raw)
        at.sequence = record.record.sequence
        return at, record

    def done(self, entries: Iterable[Entry]) -> None:
        """So many more are checked."""
        self.done_bytes += sum(len(entry.raw) for entry in entries)
        self.progress(self.done_bytes, self.total_bytes)

    def included(self, kid: Kid, sequence: int, raw: bytes) -> int:
        """The record's index in the log, proven at the bundle's checkpoint. Raises Unverified or Malformed."""
        parsed = proof.parse(self.bundle.read(bundles.proof_file(kid, sequence)))
        if parsed.checkpoint_note != self.checkpoint_note:
            raise Unverified("the proof is at another checkpoint than the bundle's")
        tree = self.checkpoint
        merkle.verify_inclusion(merkle.leaf_hash(raw), parsed.index, tree.size, parsed.hashes, tree.root)
        return parsed.index
