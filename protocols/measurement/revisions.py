"""Revisions: what came late, and what it changes in windows that are signed already.

Decides when an amendment (`amendment`) has an effect, and the version of a window: provisional (0) while only live
messages show it, final (1) as its gateway signed it, and restated (2 and up) by amendments, each of which states the
old value and the new one. Nothing is overwritten: what was measured stays in the log, and the delta is known.

An amendment counts only for windows of its own key's chain. So each window has one author, and the order of its
amendments is the order of that chain: the hub and an offline auditor cannot come to different ends. Each change stands
or falls by itself; one that contradicts what stands is kept, told, and changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple

from protocols.errors import Refused
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount, Window
from protocols.measurement.amendment import (
    REJECT_FIELDS,
    Amendment,
    AmendmentKind,
    FieldChange,
    Included,
    ReasonChange,
    Source,
    WindowChange,
)

FINAL: Final = 1
"""The version of a window as it was first signed."""


class WindowState(StrEnum):
    PROVISIONAL = "provisional"
    FINAL = "final"
    RESTATED = "restated"

    @classmethod
    def of(cls, version: int) -> WindowState:
        return (cls.PROVISIONAL, cls.FINAL)[version] if version <= FINAL else cls.RESTATED


def restated(account: TimeAccount, kind: AmendmentKind, fields: Iterable[FieldChange]) -> TimeAccount:
    """The account with the change made.

    Raises Refused: "old-value" when the account does not hold the old values, "not-allowed" for a field that the kind
    may not change, "impossible" when what held of the sums would hold no longer.
    """
    ints = list(account.as_ints())
    for index, old, new in fields:
        if kind is AmendmentKind.REJECT and index not in REJECT_FIELDS:
            raise Refused("not-allowed", f"late rejects cannot change {ACCOUNT_FIELDS[index]}")
        if ints[index] != old:
            raise Refused("old-value", f"{ACCOUNT_FIELDS[index]} stands at {ints[index]}, not at {old}")
        ints[index] = new
    changed = TimeAccount.from_ints(ints)
    for words, holds in _RULES:
        if holds(account) and not holds(changed):
            raise Refused("impossible", words)
    if changed.length_ms != account.length_ms:
        raise Refused("impossible", f"the categories would add up to {changed.length_ms} ms, not {account.length_ms}")
    if changed.good_count < min(0, account.good_count):
        raise Refused("impossible", f"{changed.reject_count} rejects of {changed.total_count} pieces")
    return changed


_RULES: Final[tuple[tuple[str, Callable[[TimeAccount], bool]], ...]] = (
    ("good + reject would not be the total", lambda a: a.good_count + a.reject_count == a.total_count),
    ("more good pieces than were made", lambda a: a.good_count <= a.total_count),
    ("more start-up rejects than rejects", lambda a: a.startup_reject_count <= a.reject_count),
    ("planned time would be longer than the window", lambda a: a.planned_ms <= a.length_ms),
    # A window is of one product, so both standard times are its ideal cycle times the pieces.
    (
        "the good pieces' standard time would not be theirs",
        lambda a: a.standard_good_ns * a.total_count == a.standard_total_ns * a.good_count,
    ),
)


@dataclass(slots=True)
class Revisions(ABC):
    """The amendments of one line's windows, wherever those are kept.

    `counts` tells which times matter to the caller (a report's periods): windows and stops that begin at other times
    are not kept, and changes of them are passed over.
    """

    line_id: str
    counts: Callable[[int], bool] = lambda start_ms: True
    included: list[Included] = field(default_factory=list)
    _measured: dict[int, TimeAccount] = field(default_factory=dict)  # by start, of the restated windows
    _versions: dict[int, int] = field(default_factory=dict)
    _reasons: dict[tuple[bytes, int], str] = field(default_factory=dict)

    @abstractmethod
    def stated_by(self, at_ms: int) -> Source | None:
        """The record that states the window which holds `at_ms`; None if there is none."""

    @abstractmethod
    def window(self, at_ms: int) -> Window:
        """The window that holds `at_ms`, as it stands. `stated_by` has told that there is one."""

    @abstractmethod
    def replace(self, window: Window, account: TimeAccount) -> None:
        """From now on `window`, as it stood, stands with this account."""

    def version(self, start_ms: int) -> int:
        """Of the window that begins at `start_ms`."""
        return self._versions.get(start_ms, FINAL)

    def delta(self, window: Window) -> tuple[int, ...]:
        """What stands less what was measured, integer by integer."""
        measured = self._measured.get(window.start_ms, window.account)
        return tuple(a - b for a, b in zip(window.account.as_ints(), measured.as_ints(), strict=True))

    def reason(self, key_id: bytes, stop_ms: int) -> str | None:
        """The amended reason of a stop; None where no amendment gave it one."""
        return self._reasons.get((key_id, stop_ms))

    def amend(self, amendment: Amendment, source: Source) -> Included | None:
        """Takes an amendment in; None if nothing of it counts here. Never raises: see `Included.refusals`."""
        change = amendment.change
        if isinstance(change, ReasonChange):
            if not self.counts(change.stop_ms):
                return None
            found = Included(source, amendment, (), (_refusal(partial(self._amend_reason, change, source)),))
        else:
            windows = tuple(each for each in change if self.counts(each.start_ms))
            if not windows:
                return None
            refusals = tuple(_refusal(partial(self._amend_window, amendment.kind, w, source)) for w in windows)
            versions = tuple(
                0 if refusal else self.version(w.start_ms) for w, refusal in zip(windows, refusals, strict=True)
            )
            found = Included(source, replace(amendment, change=windows), versions, refusals)
        self.included.append(found)
        return found

    def _stated_before(self, at_ms: int, source: Source) -> Source | None:
        """The record of the same chain, before the amendment, that states the window which holds `at_ms`."""
        stated = self.stated_by(at_ms)
        earlier = stated is not None and stated.key_id == source.key_id and stated.sequence < source.sequence
        return stated if earlier else None

    def _amend_reason(self, change: ReasonChange, source: Source) -> None:
        if self._stated_before(change.stop_ms, source) is None:
            raise Refused("unknown-window", f"no window of this gateway holds the time {change.stop_ms}")
        refuse_other_reason(self._reasons.get((source.key_id, change.stop_ms)), change)
        self._reasons[source.key_id, change.stop_ms] = change.new

    def _amend_window(self, kind: AmendmentKind, change: WindowChange, source: Source) -> None:
        stated = self._stated_before(change.start_ms, source)
        window = self.window(change.start_ms) if stated == (source.key_id, change.sequence) else None
        if window is None or (window.start_ms, window.end_ms) != (change.start_ms, change.end_ms):
            words = f"record {change.sequence} of this gateway states no window [{change.start_ms}, {change.end_ms})"
            raise Refused("unknown-window", words)
        account = restated(window.account, kind, change.fields)
        self._measured.setdefault(window.start_ms, window.account)
        self._versions[window.start_ms] = self.version(window.start_ms) + 1
        self.replace(window, account)


@dataclass(slots=True)
class LineRevisions(Revisions):
    """The windows of one line as they stand. `windows` ascend in time and never overlap."""

    windows: list[Window] = field(default_factory=list)
    _statements: list[tuple[int, Source]] = field(default_factory=list)  # from this time on, this record's windows

    def add(self, windows: Iterable[Window], source: Source) -> None:
        """Windows that a record states. The caller has checked that they begin after all that are here."""
        fresh = [window for window in windows if self.counts(window.start_ms)]
        if fresh:
            self._statements.append((fresh[0].start_ms, source))
            self.windows += fresh

    def stated_by(self, at_ms: int) -> Source | None:
        if self._place(at_ms) is None:
            return None
        of = bisect_right(self._statements, at_ms, key=lambda statement: statement[0]) - 1
        return self._statements[of][1]

    def window(self, at_ms: int) -> Window:
        place = self._place(at_ms)
        assert place is not None
        return self.windows[place]

    def replace(self, window: Window, account: TimeAccount) -> None:
        place = self._place(window.start_ms)
        assert place is not None
        self.windows[place] = replace(window, account=account)

    def _place(self, at_ms: int) -> int | None:
        """Where in `windows` the window that holds `at_ms` is."""
        place = bisect_right(self.windows, at_ms, key=lambda window: window.start_ms) - 1
        return None if place < 0 or self.windows[place].end_ms <= at_ms else place


def refuse_other_reason(stands: str | None, change: ReasonChange) -> None:
    """Raises Refused unless the stop's reason is the old one; the first amendment says itself what it was."""
    if stands is not None and stands != change.old:
        raise Refused("old-value", f'the reason stands at "{stands}", not at "{change.old}"')


def _refusal(change: Callable[[], None]) -> str:
    try:
        change()
    except Refused as refused:
        return str(refused)
    return ""


class Stated(NamedTuple):
    """A window, and the sequence of the record that states it."""

    window: Window
    sequence: int


def apply(
    windows: Mapping[str, Sequence[Stated]], amendments: Iterable[tuple[int, Amendment]]
) -> dict[str, LineRevisions]:
    """One chain's windows, by line, with its (sequence, amendment) pairs made: versions and deltas are known then.

    Raises Refused at the first amendment that would have no effect, "unknown-line" for a line without windows.
    """
    lines = {line_id: LineRevisions(line_id) for line_id in windows}
    for line_id, stated in windows.items():
        for window, sequence in sorted(stated, key=lambda each: each.window.start_ms):
            lines[line_id].add([window], Source(b"", sequence))
    for sequence, amendment in amendments:
        if amendment.line_id not in lines:
            raise Refused("unknown-line", f"there are no windows of a line {amendment.line_id}")
        included = lines[amendment.line_id].amend(amendment, Source(b"", sequence))
        assert included is not None
        if refusal := next(filter(None, included.refusals), ""):
            raise Refused("no-effect", refusal)
    return lines
