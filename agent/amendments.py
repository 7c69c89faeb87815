"""Amendments on the gateway: what stands in its own chain, and which queued ones may be signed.

Decides whether an amendment would have an effect, from the records that the spool still keeps (all without a receipt,
and the newest thousand). The rules are `protocols.measurement.revisions`'; how a person asks for one is `amend`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.spool import Spool
from protocols.errors import Malformed
from protocols.evidence import canonical
from protocols.evidence.amendment import amendment_from_wire, amendment_to_wire
from protocols.evidence.bodies import Measurement
from protocols.evidence.fields import MAX_INT
from protocols.evidence.record import MAX_BYTES, SignedRecord
from protocols.measurement.amendment import Amendment, ReasonChange, Source
from protocols.measurement.revisions import LineRevisions, Stated

MAX_BODY_BYTES: Final = MAX_BYTES - 2_000
"""Of a queued amendment: the record around it is some 400 bytes, and two names of at most 200 characters."""
_LONGEST_OPEN_MS: Final = 86_400_000
"""How far past the last closed window a stop may have begun: a later time is a slip of the pen, not a stop."""


def to_bytes(amendment: Amendment) -> bytes:
    """For the queue. Raises Malformed for one that cannot be written, or is too long for one record."""
    body = canonical.encode(amendment_to_wire(amendment))
    if len(body) > MAX_BODY_BYTES:
        raise Malformed(f"it names too many windows for one record ({len(body)} bytes): amend them in parts")
    from_bytes(body)
    return body


def from_bytes(body: bytes) -> Amendment:
    """The inverse of `to_bytes`. Raises Malformed."""
    return amendment_from_wire(canonical.decode(body, MAX_BODY_BYTES))


@dataclass(frozen=True, slots=True)
class Standing:
    """A line's windows as they stand, each with the sequence of the record that states it. `key_id`: the gateway's."""

    key_id: bytes
    revisions: LineRevisions
    stated: tuple[Stated, ...]


def standing(spool: Spool, line_id: str, from_ms: int, to_ms: int, *, waiting: bool = False) -> Standing:
    """What this gateway signed of a line, of windows that touch [from_ms, to_ms).

    `waiting`: with the amendments that wait to be signed, so that the next one builds on them.
    """
    revisions = LineRevisions(line_id)
    sequences: dict[int, int] = {}
    key_id = b""
    for raw in spool.records_after(from_ms, "measurement"):
        signed = SignedRecord(raw)
        if signed.record.start_ms >= to_ms:
            break  # a chain's statements begin later and later
        key_id, sequence = signed.kid, signed.record.sequence
        assert isinstance(signed.record.body, Measurement)
        for line in signed.record.body.lines:
            if line.line_id == line_id:
                windows = [w for w in line.windows if w.start_ms < to_ms and w.end_ms > from_ms]
                sequences |= {window.start_ms: sequence for window in windows}
                revisions.add(windows, Source(key_id, sequence))
    for raw in spool.records_after(from_ms, "amendment"):  # after the windows that they speak of, in the chain too
        signed = SignedRecord(raw)
        key_id = signed.kid
        assert isinstance(signed.record.body, Amendment)
        if signed.record.body.line_id == line_id:
            revisions.amend(signed.record.body, Source(key_id, signed.record.sequence))
    for queued in spool.next_amendments() if waiting else ():
        amendment = from_bytes(queued.body)
        if amendment.line_id == line_id:
            revisions.amend(amendment, Source(key_id, MAX_INT))
    stated = tuple(Stated(window, sequences[window.start_ms]) for window in revisions.windows)
    return Standing(key_id, revisions, stated)


def refusal(spool: Spool, amendment: Amendment, *, waiting: bool = False) -> str:
    """Why the amendment would have no effect; "" if it would have all of it. `waiting`: after those that wait."""
    change = amendment.change
    if isinstance(change, ReasonChange):
        span = (change.stop_ms, change.stop_ms + 1)
    else:
        span = (change[0].start_ms, change[-1].end_ms)
    found = standing(spool, amendment.line_id, *span, waiting=waiting)
    included = found.revisions.amend(amendment, Source(found.key_id, MAX_INT))
    return "" if included is None else next(filter(None, included.refusals), "")


def must_wait(spool: Spool, amendment: Amendment) -> bool:
    """Whether it speaks of time that is not signed yet: its turn comes after the next statement."""
    change = amendment.change
    if not isinstance(change, ReasonChange):
        return any(spool.is_unsealed(amendment.line_id, window.start_ms) for window in change)
    kept = spool.carry(amendment.line_id)
    closed_ms = 0 if kept is None else int(kept[1]["closed_ms"])
    open_stop = closed_ms <= change.stop_ms < closed_ms + _LONGEST_OPEN_MS
    return open_stop or spool.is_unsealed(amendment.line_id, change.stop_ms)
