"""The clock's sandwich: whether the times that a gateway claims fit between what others can say.

Decides what is a contradiction, which is refused, and what is only worth telling. Below, a record is not older than
the newest checkpoint that it names; above, not younger than the first dated checkpoint that includes it; and between
two records of one boot the wall clock moves as the uptime does. Times come from `dated`.

A record says when the time ended that it speaks of, not when it was signed. After an outage measurements and gaps are
signed late, honestly: so a checkpoint that is younger than they are is told, and refused only where a record speaks of
the instant at which it was made (a configuration, a heartbeat, an amendment).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from protocols.errors import Unverified
from protocols.evidence.dated import Calendar
from protocols.evidence.record import RecordType

SLACK_MS: Final = 300_000
"""Between a checkpoint, its cosignatures and its way to a gateway, and for a witness's own clock."""
EDGE_MS: Final = 1_000
"""The two clocks of an edge are not read at the same instant."""
DRIFT_PPM: Final = 100
LATE_MS: Final = 3_600_000
WIDE_MS: Final = 86_400_000
FLAGS_KEPT: Final = 20

_INSTANTS: Final = frozenset({RecordType.CONFIG, RecordType.HEARTBEAT, RecordType.AMENDMENT})


class ClockRow(NamedTuple):
    """What a record says of its time. `error_ms`, `age_ms`: None where the source does not tell; times in ms."""

    sequence: int
    type: RecordType
    boot_id: bytes
    start_ms: int
    end_ms: int
    boot_start_ms: int
    boot_end_ms: int
    source: str
    error_ms: int | None
    age_ms: int | None
    seen_size: int | None

    @property
    def claimed_ms(self) -> int:
        """How far its clock may have been off, by its own words."""
        return (self.error_ms or 0) + (self.age_ms or 0) * DRIFT_PPM // 1_000_000


@dataclass(slots=True)
class ClockFound:
    """What is told of the clocks. `widest_ms`: of the sandwiches, None where there is none."""

    flags: list[str] = field(default_factory=list)
    flag_count: int = 0
    bounded: int = 0  # proven records that have both bounds
    widest_ms: int | None = None

    def flag(self, words: str) -> None:
        self.flag_count += 1
        if len(self.flags) < FLAGS_KEPT:
            self.flags.append(words)

    def __add__(self, other: ClockFound) -> ClockFound:
        widest = [each.widest_ms for each in (self, other) if each.widest_ms is not None]
        return ClockFound(
            (self.flags + other.flags)[:FLAGS_KEPT],
            self.flag_count + other.flag_count,
            self.bounded + other.bounded,
            max(widest, default=None),
        )


class _Edge(NamedTuple):
    boot_id: bytes
    wall_ms: int
    boot_ms: int
    claimed_ms: int


@dataclass(slots=True)
class ClockWatch:
    """One gateway key's records, in the order of the chain."""

    calendar: Calendar
    found: ClockFound = field(default_factory=ClockFound)
    _edge: _Edge | None = None
    _lower_ms: int | None = None  # no record from here on was made before
    _latest: tuple[int, ClockRow] | None = None  # of those since the last proven one, the latest claim

    def copy(self) -> ClockWatch:
        """One that may be thrown away."""
        return ClockWatch(self.calendar, self.found + ClockFound(), self._edge, self._lower_ms, self._latest)

    def add(self, row: ClockRow, log_index: int | None) -> None:
        """The next record; `log_index` if it is proven. Raises Unverified for a time that contradicts the log's."""
        if row.source == "simulated":
            return
        self._check_uptime(row)
        if len(self.calendar) == 0:
            return
        self._check_lower(row)
        claim = row.end_ms - row.claimed_ms - SLACK_MS
        if self._latest is None or claim > self._latest[0]:
            self._latest = claim, row
        if log_index is not None:
            self._check_upper(row, log_index)
            self._latest = None

    def _check_uptime(self, row: ClockRow) -> None:
        claimed = row.claimed_ms
        for wall_ms, boot_ms in ((row.start_ms, row.boot_start_ms), (row.end_ms, row.boot_end_ms)):
            if boot_ms == 0:  # before this boot
                continue
            edge, last = _Edge(row.boot_id, wall_ms, boot_ms, claimed), self._edge
            self._edge = edge
            if last is None or last.boot_id != edge.boot_id:
                continue
            elapsed_ms = boot_ms - last.boot_ms
            moved_ms = abs(wall_ms - last.wall_ms - elapsed_ms)
            if moved_ms > claimed + last.claimed_ms + abs(elapsed_ms) * DRIFT_PPM // 1_000_000 + EDGE_MS:
                said = f"{(claimed + last.claimed_ms) / 1000:g} s"
                self.found.flag(
                    f"Record {row.sequence}: the gateway's clock moved by {moved_ms / 1000:g} s against its uptime; "
                    f"it claimed an error of {said}."
                )

    def _check_lower(self, row: ClockRow) -> None:
        seen_ms = None if row.seen_size is None else self.calendar.not_before_ms(row.seen_size)
        if seen_ms is not None and (self._lower_ms is None or seen_ms > self._lower_ms):
            self._lower_ms = seen_ms
        if self._lower_ms is None:
            return
        early_ms = self._lower_ms - SLACK_MS - row.claimed_ms - row.end_ms
        if early_ms > 0 and row.type in _INSTANTS and row.error_ms is not None:
            raise Unverified(
                f"record {row.sequence} claims {_utc(row.end_ms)}, "
                f"but rests on a checkpoint that did not exist before {_utc(self._lower_ms)}: it is backdated"
            )
        if early_ms > LATE_MS:
            self.found.flag(
                f"Record {row.sequence} speaks of {_utc(row.end_ms)} and was made after {_utc(self._lower_ms)}: "
                f"{_hours(early_ms)} late."
            )

    def _check_upper(self, row: ClockRow, log_index: int) -> None:
        upper_ms = self.calendar.not_after_ms(log_index)
        if upper_ms is None:
            return
        if self._latest is not None and self._latest[0] > upper_ms:
            late = self._latest[1]
            words = (
                f"record {late.sequence} claims {_utc(late.end_ms)}, "
                f"but a witness saw it in the log at {_utc(upper_ms)} already"
            )
            if late.error_ms is not None:
                raise Unverified(words)
            self.found.flag(f"{words[0].upper()}{words[1:]}; its clock was not synchronized.")
        if self._lower_ms is not None:
            width_ms = upper_ms - self._lower_ms
            self.found.bounded += 1
            self.found.widest_ms = max(width_ms, self.found.widest_ms or 0)
            if width_ms > WIDE_MS:
                self.found.flag(
                    f"Record {row.sequence} was made between {_utc(self._lower_ms)} and {_utc(upper_ms)}: "
                    f"others can date it to {_hours(width_ms)} only."
                )


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _hours(length_ms: int) -> str:
    return f"{length_ms / 3_600_000:.1f} h"
