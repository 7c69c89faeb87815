"""What was logged lately: asked before the database, which may not have it yet.

Decides nothing. The tables follow the log (`projections.follower`), so for a while this is the only place that knows
where the newest records stand. `forget` drops what the tables have; the writer sees to it that they stay close.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from sqlalchemy import Engine

from hub.chains import leaf_indices, logged
from protocols.evidence.cose import Kid
from protocols.evidence.record import RecordHash, SignedRecord


class Recent:
    """Places of records by identity and by hash. One thread uses it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._order: deque[tuple[int, Kid, int, RecordHash]] = deque()
        self._by_identity: dict[tuple[Kid, int], tuple[RecordHash, int]] = {}
        self._by_hash: dict[RecordHash, int] = {}

    def add(self, first_index: int, records: Sequence[SignedRecord]) -> None:
        for index, record in enumerate(records, first_index):
            kid, sequence, record_hash = record.kid, record.record.sequence, record.hash
            self._order.append((index, kid, sequence, record_hash))
            self._by_identity[kid, sequence] = record_hash, index
            self._by_hash[record_hash] = index

    def forget(self, size: int) -> None:
        """Drops the entries below `size`, which the tables have."""
        while self._order and self._order[0][0] < size:
            _, kid, sequence, record_hash = self._order.popleft()
            del self._by_identity[kid, sequence]
            del self._by_hash[record_hash]

    def logged(self, kid: Kid, sequence: int) -> tuple[RecordHash, int] | None:
        """Hash and leaf index of the logged record with this identity."""
        return self._by_identity.get((kid, sequence)) or logged(self._engine, kid, sequence)

    def indices(self, hashes: Collection[RecordHash]) -> dict[RecordHash, int]:
        """Where records stand in the log; those that do not are left out."""
        found = {each: self._by_hash[each] for each in hashes if each in self._by_hash}
        left = [each for each in hashes if each not in found]
        return found | leaf_indices(self._engine, left) if left else found
