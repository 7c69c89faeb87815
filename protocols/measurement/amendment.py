"""What an amendment says: which windows or stop of a line somebody changes, from what to what, and why.

Decides the words and their plain form in a report. Whether an amendment has an effect is decided in `revisions`; its
bytes, in `protocols.evidence.amendment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount


class AmendmentKind(StrEnum):
    """What an amendment may change; the value is the wire name."""

    REASON = "reason"  # the reason code of one stop
    REJECT = "reject"  # good and reject counts, restated to the lot that was made then
    WINDOW = "window"  # any integers of a window's account


class FieldChange(NamedTuple):
    """`field`: index into ACCOUNT_FIELDS."""

    field: int
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class WindowChange:
    """New integers for the window [start_ms, end_ms) that this chain's record `sequence` stated; fields ascending."""

    start_ms: int
    end_ms: int
    sequence: int
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class ReasonChange:
    """The reason of the stop that began at `stop_ms`. `old` is "" for a stop that had none."""

    stop_ms: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Amendment:
    """What one person changes of one line, and why. Windows in order of time, each once."""

    line_id: str
    kind: AmendmentKind
    change: ReasonChange | tuple[WindowChange, ...]
    who: str
    why: str


REJECT_FIELDS: Final = frozenset(
    map(
        ACCOUNT_FIELDS.index, ("good_count", "reject_count", "startup_reject_count", "rework_count", "standard_good_ns")
    )
)
"""What an amendment of kind REJECT may change: never a time, and never how many pieces were made."""


class Source(NamedTuple):
    """Which record said it: the 8-byte id of the key that signed it, and its sequence in that key's chain."""

    key_id: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Included:
    """An amendment in a report, or the part of it that touches the report's periods.

    `versions`: of each window of the change, after it; 0 where `refusals` says why it has no effect. A change of a
    reason has one refusal ("" for none) and no version.
    """

    source: Source
    amendment: Amendment
    versions: tuple[int, ...]
    refusals: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        """Plain data for report.json."""
        amendment = self.amendment
        data: dict[str, Any] = {
            "key_id": self.source.key_id.hex(),
            "kind": amendment.kind.value,
            "line_id": amendment.line_id,
            "refusals": list(self.refusals),
            "sequence": self.source.sequence,
            "who": amendment.who,
            "why": amendment.why,
        }
        if isinstance(amendment.change, ReasonChange):
            return data | {"stop": [amendment.change.stop_ms, amendment.change.old, amendment.change.new]}
        windows = [
            [w.start_ms, w.end_ms, w.sequence, version, [[ACCOUNT_FIELDS[f], old, new] for f, old, new in w.fields]]
            for w, version in zip(amendment.change, self.versions, strict=True)
        ]
        return data | {"windows": windows}


def as_counted(account: TimeAccount, included: Iterable[Included], counts: Callable[[int], bool]) -> TimeAccount:
    """The sums without the effect of the amendments of windows that begin at times that `counts`: as first signed."""
    ints = list(account.as_ints())
    for each in included:
        if isinstance(each.amendment.change, ReasonChange):
            continue
        for change, refusal in zip(each.amendment.change, each.refusals, strict=True):
            if not refusal and counts(change.start_ms):
                for index, old, new in change.fields:
                    ints[index] -= new - old
    return TimeAccount.from_ints(ints)
