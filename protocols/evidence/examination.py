"""The walk over a bundle's records: each parsed, with its place, so that a fault can be laid at its door.

Decides how a fault becomes a `Failure` with file, record, sequence and byte, and whether a record is in the log. What
else a record must fulfil is `verify`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence import merkle, proof
from protocols.evidence.bundle import Bundle
from protocols.evidence.checkpoint import Checkpoint
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

    def signed_records(self, file: str, step: Step) -> Iterator[tuple[At, SignedRecord]]:
        """Each record of a file with its place. Its form is checked, nothing else."""
        records = self.bundle.records(file)
        index = 0
        while True:
            at = At(step, file, index)
            try:
                entry = next(records, None)
            except Malformed as error:
                at.offset = error.offset
                raise at.failed(error.what) from error
            if entry is None:
                return
            at.offset, raw = entry
            with at:
                record = SignedRecord(raw)
            at.sequence = record.record.sequence
            yield at, record
            index += 1
            self.done_bytes += len(raw)
            self.progress(self.done_bytes, self.total_bytes)

    def included(self, record: SignedRecord) -> int:
        """The record's index in the log, proven at the bundle's checkpoint. Raises Unverified or Malformed."""
        parsed = proof.parse(self.bundle.read(bundles.proof_file(record.kid, record.record.sequence)))
        if parsed.checkpoint_note != self.checkpoint_note:
            raise Unverified("the proof is at another checkpoint than the bundle's")
        tree = self.checkpoint
        merkle.verify_inclusion(merkle.leaf_hash(record.raw), parsed.index, tree.size, parsed.hashes, tree.root)
        return parsed.index
