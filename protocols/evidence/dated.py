"""Dated checkpoints: when the log had grown to some size, by the clocks of its witnesses.

Decides the file in which a bundle carries one, and what times follow from those that hold. The log's own clock says
nothing here, nor does a gateway's: only a cosignature (c2sp.org/tlog-cosignature) has a time that a stranger signed.

    linetally-dated-checkpoint@v1
    <base64 hash>               (RFC 6962 consistency proof from this checkpoint to the bundle's)
                                (an empty line)
    <checkpoint with cosignatures, verbatim>
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from protocols.errors import Malformed, Unverified
from protocols.evidence import checkpoint, merkle
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import HASH_LENGTH, NodeHash
from protocols.evidence.note import VerifierKey, decode_base64, encode_base64
from protocols.evidence.policy import NO_QUORUM, Policy
from protocols.evidence.proof import MAX_HASHES

HEADER: Final = "linetally-dated-checkpoint@v1"


class Undated(Exception):
    """The checkpoint is the log's, and tells no time."""


@dataclass(frozen=True, slots=True)
class Dated:
    """The log had `size` entries. The policy's witnesses signed so between these two times (POSIX ms)."""

    size: int
    earliest_ms: int
    latest_ms: int


def format(note: bytes, consistency: Sequence[NodeHash]) -> bytes:
    """The file of a cosigned checkpoint; `consistency`: from it to the bundle's checkpoint."""
    return "\n".join([HEADER, *map(encode_base64, consistency), "", ""]).encode() + note


def open(data: bytes, policy: Policy, bundle: Checkpoint) -> Dated:
    """What a file tells. `bundle`: the checkpoint that is trusted already.

    Raises Malformed, and Unverified unless a log of the policy signed it and the bundle's tree begins with its tree;
    Undated where the policy's witnesses have not dated it, or too few: an older policy may have had others.
    """
    head, separator, note = data.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    if not separator or lines.pop(0) != HEADER:
        raise Malformed(f"a dated checkpoint begins with {HEADER}, and has an empty line before the checkpoint", 0)
    hashes = [NodeHash(decode_base64(line)) for line in lines]
    if len(hashes) > MAX_HASHES or any(len(each) != HASH_LENGTH for each in hashes):
        raise Malformed(f"a consistency proof has at most {MAX_HASHES} hashes of {HASH_LENGTH} bytes")
    found = replace(policy, groups=(), quorum=NO_QUORUM).accepts(note)
    if found.origin != bundle.origin or found.size == 0:
        raise Unverified(f"it is a checkpoint of {found.size} entries of {found.origin}, not of {bundle.origin}")
    merkle.verify_consistency(found.size, bundle.size, hashes, found.root, bundle.root)
    times = [time for _, key in policy.witnesses if (time := _cosigned_at(note, key)) is not None]
    try:
        policy.accepts(note)
    except Unverified as error:
        raise Undated(str(error)) from error
    if not times:
        raise Undated("no witness of the policy has dated it")
    return Dated(found.size, min(times) * 1000, max(times) * 1000)


def _cosigned_at(note: bytes, witness: VerifierKey) -> int | None:
    try:
        return checkpoint.cosigned_at(note, witness)
    except Unverified:
        return None


class Calendar:
    """What the dated checkpoints of a bundle say together."""

    def __init__(self, dated: Iterable[Dated] = ()) -> None:
        found = sorted(dated, key=lambda each: each.size)
        self._sizes = [each.size for each in found]
        self._latest_before = list(accumulate((each.earliest_ms for each in found), max))
        self._earliest_after = list(accumulate((each.latest_ms for each in reversed(found)), min))[::-1]

    def __len__(self) -> int:
        return len(self._sizes)

    def not_before_ms(self, size: int) -> int | None:
        """Before this time nobody can have seen the log with `size` entries: it was shorter when it was cosigned."""
        place = bisect_left(self._sizes, size)
        return self._latest_before[place - 1] if place else None

    def not_after_ms(self, index: int) -> int | None:
        """At this time entry `index` was in the log: a witness cosigned a checkpoint that includes it."""
        place = bisect_right(self._sizes, index)
        return self._earliest_after[place] if place < len(self._sizes) else None
