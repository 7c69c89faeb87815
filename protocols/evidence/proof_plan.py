"""Which records of a chain need a tlog-proof of their own in a bundle.

Decides it once, for whoever writes a bundle; `verify` insists on it. A proof of each record would be larger than the
records, and adds nothing: the chain ties each record to every later one that is proven.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from protocols.evidence.record import ROOT_TYPES, RecordType

DAY_MS: Final = 86_400_000


def sequences_to_prove(records: Iterable[tuple[int, RecordType, int, int]], from_ms: Collection[int] = ()) -> list[int]:
    """Which records of a chain need a tlog-proof in a bundle, given (sequence, type, start_ms, end_ms) of each.

    Each configuration and each record of the root key; the last record before each change of the UTC day and the
    last of all (the chain covers what is before it); for each of `from_ms`, the first measurement that ends after it.
    """
    wanted: set[int] = set()
    day = None
    waiting = set(from_ms)
    last = None
    for sequence, record_type, start_ms, end_ms in records:
        if record_type is RecordType.CONFIG or record_type in ROOT_TYPES:
            wanted.add(sequence)
        if record_type is RecordType.MEASUREMENT and (reached := {at for at in waiting if end_ms > at}):
            waiting -= reached
            wanted.add(sequence)
        # A clock that was set back, or a gap told afterwards, comes back to a day: the chain's order counts.
        if last is not None and start_ms // DAY_MS != day:
            wanted.add(last)
        day, last = start_ms // DAY_MS, sequence
    wanted.update(() if last is None else (last,))
    return sorted(wanted)
