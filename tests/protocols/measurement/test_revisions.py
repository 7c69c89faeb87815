"""Amendments against a naive ledger; what contradicts what stands has no effect, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Refused
from protocols.measurement.account import ACCOUNT_FIELDS, TimeAccount, Window, total
from protocols.measurement.amendment import (
    Amendment,
    AmendmentKind,
    FieldChange,
    ReasonChange,
    Source,
    WindowChange,
    as_counted,
)
from protocols.measurement.lots import late_rejects
from protocols.measurement.revisions import LineRevisions, Stated, WindowState, apply, restated
from tests.support.evidence import START_MS, WINDOW_MS, window

KEY = b"gateway1"
GOOD, REJECT, TOTAL, STANDARD_GOOD, UNKNOWN, PRODUCING = map(
    ACCOUNT_FIELDS.index,
    ("good_count", "reject_count", "total_count", "standard_good_ns", "unknown_ms", "producing_ms"),
)


def stated(count: int, sequence: int = 3) -> list[Stated]:
    """Windows of 100 pieces, 5 of them bad."""
    return [Stated(window(START_MS + i * WINDOW_MS), sequence) for i in range(count)]


def amendment(*changes: WindowChange, kind: AmendmentKind = AmendmentKind.REJECT) -> Amendment:
    return Amendment("filling", kind, changes, "QC lab", "sample 4711")


def reason(old: str, new: str, stop_ms: int = START_MS + 10) -> Amendment:
    return Amendment("filling", AmendmentKind.REASON, ReasonChange(stop_ms, old, new), "M. Chan", "seen late")


def moved(of: Stated, pieces: int) -> WindowChange:
    account = of.window.account
    return WindowChange(
        of.window.start_ms,
        of.window.end_ms,
        of.sequence,
        (
            FieldChange(GOOD, account.good_count, account.good_count - pieces),
            FieldChange(REJECT, account.reject_count, account.reject_count + pieces),
            FieldChange(
                STANDARD_GOOD, account.standard_good_ns, account.standard_good_ns - pieces * 500_000_000
            ),
        ),
    )  # fmt: skip


def test_versions_and_deltas() -> None:
    windows = stated(3)
    first = amendment(moved(windows[1], 7))
    line = apply({"filling": windows}, [(9, first)])["filling"]
    assert [w.account.reject_count for w in line.windows] == [5, 12, 5]
    assert [line.version(w.start_ms) for w in line.windows] == [1, 2, 1]
    again = Stated(line.windows[1], 3)
    line = apply({"filling": windows}, [(9, first), (10, amendment(moved(again, -2), moved(windows[2], 1)))])["filling"]
    assert [w.account.reject_count for w in line.windows] == [5, 10, 6]
    assert [line.version(w.start_ms) for w in line.windows] == [1, 3, 2]
    delta = dict(zip(ACCOUNT_FIELDS, line.delta(line.windows[1]), strict=True))
    assert {name: by for name, by in delta.items() if by} == {
        "good_count": -5, "reject_count": 5, "standard_good_ns": -5 * 500_000_000,
    }  # fmt: skip
    assert not any(line.delta(line.windows[0]))


def test_the_state_of_a_version() -> None:
    assert [WindowState.of(version).value for version in range(4)] == ["provisional", "final", "restated", "restated"]


def changed(of: Stated, *fields: tuple[int, int, int]) -> WindowChange:
    return WindowChange(of.window.start_ms, of.window.end_ms, of.sequence, tuple(FieldChange(*f) for f in fields))


ONE = stated(1)[0]
REFUSED = {
    "the old value is not what stands": (amendment(changed(ONE, (GOOD, 94, 93), (REJECT, 6, 7))), "stands at 95"),
    "a window nobody stated": (amendment(replace(moved(ONE, 1), end_ms=START_MS + 1)), "states no window"),
    "stated by another record": (amendment(replace(moved(ONE, 1), sequence=2)), "states no window"),
    "a time without a window": (
        amendment(replace(moved(ONE, 1), start_ms=START_MS + WINDOW_MS, end_ms=START_MS + 2 * WINDOW_MS)),
        "states no window",
    ),
    "good + reject is not the total": (amendment(changed(ONE, (REJECT, 5, 6))), "would not be the total"),
    "more good than were made": (amendment(moved(ONE, -6)), "more good pieces than were made"),
    "more bad than were made": (amendment(moved(ONE, 101)), "106 rejects of 100 pieces"),
    "standard time of other pieces": (
        amendment(changed(ONE, (GOOD, 95, 94), (REJECT, 5, 6))),
        "standard time would not be theirs",
    ),
    "time among the rejects": (amendment(changed(ONE, (UNKNOWN, 0, 1))), "cannot change unknown_ms"),
    "time out of nothing": (
        amendment(changed(ONE, (UNKNOWN, 0, 1)), kind=AmendmentKind.WINDOW),
        "would add up to 60001 ms",
    ),
    "a stop outside every window": (reason("", "jam", START_MS + WINDOW_MS), "holds the time"),
    "another line": (replace(reason("", "jam"), line_id="packing"), "no windows of a line packing"),
}


@pytest.mark.parametrize(("late", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_contradicts_has_no_effect(late: Amendment, words: str) -> None:
    with pytest.raises(Refused, match=words):
        apply({"filling": [ONE]}, [(9, late)])
    line = LineRevisions("filling")
    line.add([ONE.window], Source(KEY, ONE.sequence))
    if late.line_id == line.line_id:
        included = line.amend(late, Source(KEY, 9))
        assert included is not None and words in included.refusals[0] and not any(included.versions)
    assert line.windows == [ONE.window]


def test_only_the_author_of_a_window_amends_it() -> None:
    line = LineRevisions("filling")
    line.add([ONE.window], Source(KEY, 3))
    included = line.amend(amendment(moved(ONE, 1)), Source(b"gateway2", 9))
    assert included is not None and "states no window" in included.refusals[0]


def test_time_may_be_restated_within_the_window() -> None:
    late = amendment(changed(ONE, (UNKNOWN, 0, 2_000), (PRODUCING, 57_000, 55_000)), kind=AmendmentKind.WINDOW)
    (found,) = apply({"filling": [ONE]}, [(9, late)])["filling"].windows
    assert (found.account.unknown_ms, found.account.producing_ms, found.account.length_ms) == (2_000, 55_000, WINDOW_MS)


def test_a_reason_keeps_what_it_was() -> None:
    line = apply({"filling": [ONE]}, [(9, reason("", "jam")), (10, reason("jam", "film torn"))])["filling"]
    assert line.reason(b"", START_MS + 10) == "film torn"
    assert [each.to_data()["stop"][1:] for each in line.included] == [["", "jam"], ["jam", "film torn"]]
    assert line.windows == [ONE.window]
    with pytest.raises(Refused, match='stands at "jam"'):
        apply({"filling": [ONE]}, [(9, reason("", "jam")), (10, reason("", "film torn"))])


def test_each_change_stands_or_falls_by_itself() -> None:
    windows = stated(3)
    line = LineRevisions("filling", lambda start_ms: start_ms < START_MS + 2 * WINDOW_MS)
    for each in windows:
        line.add([each.window], Source(KEY, each.sequence))
    wrong = changed(windows[1], (GOOD, 1, 2), (REJECT, 3, 4))
    included = line.amend(amendment(moved(windows[0], 2), wrong, moved(windows[2], 2)), Source(KEY, 9))
    assert included is not None
    assert included.versions == (2, 0)  # the third window does not count here
    assert included.refusals[0] == "" and "stands at 95" in included.refusals[1]
    assert [w.account.reject_count for w in line.windows] == [7, 5]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-8, 12)), max_size=12))
def test_a_sequence_of_amendments_is_a_naive_ledger(steps: list[tuple[int, int]]) -> None:
    """Each step moves pieces in one window; the ledger is a dictionary of good and bad."""
    windows = stated(6)
    line = LineRevisions("filling")
    line.add([each.window for each in windows], Source(KEY, 3))
    ledger = dict.fromkeys(range(6), (95, 5))
    versions = dict.fromkeys(range(6), 1)
    for sequence, (i, pieces) in enumerate(steps, 9):
        good, bad = ledger[i]
        included = line.amend(amendment(moved(Stated(line.windows[i], 3), pieces)), Source(KEY, sequence))
        assert included is not None
        allowed = 0 <= bad + pieces <= 100
        assert (included.refusals == ("",)) == allowed
        if allowed:
            ledger[i], versions[i] = (good - pieces, bad + pieces), versions[i] + 1
    assert [(w.account.good_count, w.account.reject_count) for w in line.windows] == list(ledger.values())
    assert [line.version(w.start_ms) for w in line.windows] == list(versions.values())
    counted = as_counted(total(w.account for w in line.windows), line.included, lambda _: True)
    assert counted == total(each.window.account for each in windows)
    for each, before in zip(line.windows, windows, strict=True):
        assert [a + b for a, b in zip(before.window.account.as_ints(), line.delta(each), strict=True)] == list(
            each.account.as_ints()
        )


@st.composite
def lots(draw: st.DrawFn) -> tuple[list[Stated], list[Stated], int]:
    """A lot, the windows where its rejects were counted (perhaps some of the same), and how many."""
    windows = []
    for i in range(draw(st.integers(2, 8))):
        made, bad = draw(st.integers(0, 60)), draw(st.integers(0, 20))
        account = TimeAccount(
            window(0).account.category_ms, 60_000, made, made - bad, bad,
            standard_total_ns=made * 700, standard_good_ns=(made - bad) * 700,
        )  # fmt: skip
        start = START_MS + i * WINDOW_MS
        windows.append(Stated(replace(window(start), account=account), i))
    cut = draw(st.integers(1, len(windows)))
    lot, counted = windows[:cut], windows[draw(st.integers(0, len(windows) - 1)) :]
    if draw(st.booleans()):
        counted = []
    rejects = sum(s.window.account.reject_count for s in counted) if counted else 10**6
    most = min(sum(max(0, s.window.account.good_count) for s in lot), rejects)
    return lot, counted, draw(st.integers(0, most))


@given(lots())
def test_late_rejects_move_whole_pieces_and_only_them(drawn: tuple[list[Stated], list[Stated], int]) -> None:
    lot, counted, count = drawn
    changes = late_rejects(lot, count, counted)
    windows = {s.window.start_ms: s for s in (*lot, *counted)}
    before = total(s.window.account for s in windows.values())
    after: list[Window] = []
    for change in changes:
        found = windows.pop(change.start_ms)
        account = restated(found.window.account, AmendmentKind.REJECT, change.fields)  # never refused
        after.append(replace(found.window, account=account))
        if found.window.account.total_count:
            assert account.standard_good_ns == account.good_count * 700
    sums = total([*(w.account for w in after), *(s.window.account for s in windows.values())])
    assert sums.total_count == before.total_count
    assert sums.reject_count == before.reject_count + (0 if counted else count)
    assert list(changes) == sorted(changes, key=lambda change: change.start_ms)


def test_largest_remainders_the_earlier_first() -> None:
    lot = stated(3)
    assert [f.new - f.old for c in late_rejects(lot, 5) for f in c.fields if f.field == REJECT] == [2, 2, 1]
    assert [f.new - f.old for c in late_rejects(lot, -4) for f in c.fields if f.field == REJECT] == [-2, -1, -1]


def test_a_lot_holds_no_more_than_it_made() -> None:
    with pytest.raises(Refused, match="only 190 good pieces"):
        late_rejects(stated(2), 191)
    with pytest.raises(Refused, match="only 5 rejects where they were counted"):
        late_rejects(stated(2), 6, stated(3)[2:])
    with pytest.raises(Refused, match="name the lot alone"):
        late_rejects(stated(2), -1, stated(3)[2:])
