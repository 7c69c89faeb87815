"""Why an Effectiveness is over 100 %: told from what a real meter books of a line whose cycle and gaps are known."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import pytest

from protocols.measurement.account import Category, TimeAccount, total
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.definition import TPM
from protocols.measurement.excess import Excess, excess
from protocols.measurement.meter import LineMeter
from protocols.measurement.notes import excess_note, notes
from protocols.measurement.ratios import effectiveness
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole

START = 1_772_400_000_000
CONFIGURATION = LineConfiguration(
    "filling", "Filling", Calendar("Asia/Hong_Kong"), (Product(1, "a", 1_000_000_000),),
    (Counter(SignalRole.TOTAL, 0), Counter(SignalRole.REJECT, 0)), max_pieces_per_hour=8000, window_ms=60_000,
    staleness_ms=10_000,
)  # fmt: skip
STATE, COUNTS = 1 << SignalRole.STATE, 1 << SignalRole.TOTAL | 1 << SignalRole.REJECT
GAP = range(1000, 2200)
DROPS = [s for minute in range(1, 60) for s in range(60 * minute, 60 * minute + 5)]


def hour(a_second: float, unread: Container[int], blind: Container[int]) -> TimeAccount:
    """An hour of a line that runs at `a_second` pieces, read each second, but in `unread`; no state in `blind`."""
    meter, windows = LineMeter(CONFIGURATION, START), []
    for s in range(3600):
        if s in unread:
            continue
        values = [0] * len(SignalRole)
        values[SignalRole.STATE], values[SignalRole.TOTAL] = State.EXECUTE, int(s * a_second)
        meter.push_row(START + s * 1000, tuple(values), COUNTS if s in blind else COUNTS | STATE)
        windows += meter.advance(START + s * 1000)
    return total(window.account for window in windows)


@pytest.mark.parametrize(
    ("a_second", "unread", "blind", "because"),
    [
        (1.0, (), (), None),
        (0.9, GAP, (), Excess.UNOBSERVED),
        (1.0, GAP, (), Excess.UNOBSERVED),
        (1.0, (), DROPS, Excess.UNOBSERVED),  # no piece is flagged: its counter was read all the time
        (0.9, range(1000, 1120), (), None),
        (1.03, (), (), Excess.IDEAL_CYCLE),
        (1.3, GAP, (), Excess.IDEAL_CYCLE),
        (1.3, (), DROPS, Excess.IDEAL_CYCLE),
    ],
)
def test_the_cause_is_told_apart(
    a_second: float, unread: Container[int], blind: Container[int], because: Excess | None
) -> None:
    account = hour(a_second, unread, blind)
    assert excess(account) is because
    value = effectiveness(account)
    assert value is not None and (value > 1) is (because is not None)


def test_pieces_of_a_gap_before_the_span_are_enough() -> None:
    """A shift that begins with the first reading after a gap: the unknown time is the shift's before."""
    account = of(producing_s=600, pieces=900, estimated=320)
    assert excess(account) is Excess.UNOBSERVED
    assert excess(replace(account, estimated_count=200)) is Excess.IDEAL_CYCLE


def test_one_piece_is_no_excess() -> None:
    assert effectiveness(of(producing_s=600, pieces=601)) > 1  # type: ignore[operator]
    assert excess(of(producing_s=600, pieces=601)) is None
    assert excess(of(producing_s=600, pieces=602)) is Excess.IDEAL_CYCLE


def test_it_is_of_the_definitions_own_production_time() -> None:
    """Where minor stops are lost speed, they are production time."""
    account = of(producing_s=600, pieces=650, minor_s=60)
    assert excess(account) is Excess.IDEAL_CYCLE and excess(account, TPM) is None


def test_nothing_is_said_where_effectiveness_is_undefined() -> None:
    assert excess(TimeAccount()) is None
    assert excess(of(producing_s=0, pieces=50)) is None
    assert excess(replace(of(producing_s=600, pieces=900), without_ideal_count=1)) is None


def test_the_words_say_how_much_was_not_seen() -> None:
    note = excess_note(of(producing_s=600, pieces=2000, estimated=1402, unknown_s=1405))
    assert note is not None and note.sentence.startswith("1,402 pieces were read after a gap, and 23 min were not")
    assert "the ideal cycle may be right" in note.sentence and "slower" not in note.sentence
    slow = of(producing_s=600, pieces=2000, estimated=14, unknown_s=15)
    assert notes(slow)[0].code == Excess.IDEAL_CYCLE and "ideal cycle is slower" in notes(slow)[0].words
    assert excess_note(of(producing_s=600, pieces=600)) is None


def of(*, producing_s: int, pieces: int, estimated: int = 0, unknown_s: int = 0, minor_s: int = 0) -> TimeAccount:
    times = [0] * len(Category)
    times[Category.PRODUCING], times[Category.UNKNOWN] = producing_s * 1000, unknown_s * 1000
    times[Category.MINOR_STOP] = minor_s * 1000
    return TimeAccount(
        tuple(times), sum(times), pieces, pieces, estimated_count=estimated,
        standard_total_ns=pieces * 10**9, standard_good_ns=pieces * 10**9,
    )  # fmt: skip
