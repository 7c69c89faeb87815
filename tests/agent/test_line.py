"""A line and its watermark: what comes too late neither changes a closed window nor is lost silently."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.clock import ManualClock
from agent.line import Line
from agent.raw_meter import RawMeter
from agent.standstill import STILL_S
from protocols.measurement.account import Category, TimeAccount, Window, total
from protocols.plc.roles import SignalRole
from tests.agent import factory

START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000
MINUTE = 60_000
EXECUTE, ABORTED = 6, 9


class Running:
    """A line that runs, with a piece each second; `late` values come with an older time than the watermark."""

    def __init__(self, folder: Path) -> None:
        settings = factory.configuration(folder, factory.opcua()).lines[0]
        self.clock = ManualClock(START, b"\1" * 16)
        self.line = Line(settings, RawMeter(settings.configuration, START), self.clock)
        self.line.begin()
        self.windows: list[Window] = []

    def second(self, now_ms: int, *, pieces: bool = True) -> None:
        self.clock.advance_to(now_ms)
        self.line.put(SignalRole.STATE, EXECUTE, now_ms)
        if pieces:
            self.line.put(SignalRole.TOTAL, (now_ms - START) // 1000, now_ms)
            self.line.put(SignalRole.REJECT, 0, now_ms)
        self.line.alive()
        self.windows += self.line.close_windows(now_ms)

    def run(self, from_ms: int, to_ms: int, *, pieces: bool = True) -> None:
        for now_ms in range(from_ms, to_ms, 1000):
            self.second(now_ms, pieces=pieces)

    def tick(self, now_ms: int) -> None:
        self.clock.advance_to(now_ms)
        self.windows += self.line.close_windows(now_ms)

    @property
    def account(self) -> TimeAccount:
        return total(window.account for window in self.windows)


def test_a_late_value_changes_no_closed_window(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "linetally")
    running = Running(tmp_path)
    edge = START + 5 * MINUTE
    running.run(START + 1000, edge + 1)
    running.tick(edge + running.line.delay_ms + 10)
    before = list(running.windows)
    assert before[-1].end_ms == edge
    # A fault and two pieces, of half a second before the edge: their minute is closed.
    running.line.put(SignalRole.STATE, ABORTED, edge - 500)
    running.line.put(SignalRole.TOTAL, 302, edge - 500)
    running.tick(edge + running.line.delay_ms + 20)
    assert running.line.late_count == 2
    (said,) = (record.getMessage() for record in caplog.records if "after their time" in record.getMessage())
    assert said.startswith("2 values so far")
    running.run(edge + 2000, edge + 2 * MINUTE + 2000, pieces=False)
    assert running.windows[: len(before)] == before
    # The values count from the watermark on: nothing of the counter is lost, and the fault's end is where it was seen.
    after = running.windows[len(before)].account
    assert after.total_count == 302 - before_count(before) == 2
    assert after.category_ms[Category.FAILURE] + after.category_ms[Category.MINOR_STOP] in range(1_000, 2_000)
    assert running.account.length_ms == running.windows[-1].end_ms - START


def before_count(windows: list[Window]) -> int:
    """The counter as the closed windows have it; the first reading was 1."""
    return 1 + sum(window.account.total_count for window in windows)


def test_many_late_values_are_said_once_in_a_hundred(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "linetally")
    running = Running(tmp_path)
    running.run(START + 1000, START + MINUTE)
    now = START + MINUTE
    for i in range(250):
        now += 100
        running.clock.advance_to(now)
        running.line.put(SignalRole.TOTAL, 60 + i // 10, now - running.line.delay_ms - 200)
        running.tick(now)
    assert running.line.late_count == 249  # before the first, the last tick was a second ago
    said = [record.getMessage().split()[0] for record in caplog.records if "after their time" in record.getMessage()]
    assert said == ["1", "101", "201"]


def test_when_a_value_holds_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A first value is as old as it may be; a later one must be of now, or the PLC's clock is not believed."""
    caplog.set_level(logging.WARNING, "linetally")
    running = Running(tmp_path)
    taken: list[int] = []
    monkeypatch.setattr(running.line._image, "put", lambda time_ms, values: taken.append(time_ms - START))
    hour = 3_600_000

    def put(at_ms: int, source_ms: int, *, good: bool = True) -> int:
        running.clock.advance_to(START + at_ms)
        running.line.put(SignalRole.STATE, EXECUTE if good else None, START + source_ms)
        return taken[-1]

    assert put(100, -hour) == 0  # unchanged for an hour: known since the connection
    assert put(1_000, 900) == 900
    assert put(2_000, -10) == 0  # a clock that is a little behind never reaches before the connection
    assert not caplog.records
    assert put(60_000, 60_000 - hour) == 60_000  # a clock that is an hour behind, although it was first right
    (said,) = [record.getMessage() for record in caplog.records]
    assert "3600.0 s behind" in said
    put(70_000, 70_000, good=False)
    assert put(70_500, -hour) == 70_000  # it was lost in between: not known before
    put(80_000, 80_000, good=False)
    assert put(200_000, 10_000) == 200_000  # set aside for two minutes: known from when it was read
    assert put(201_000, 201_000 + hour) == 201_000
    running.line.begin()
    assert put(202_000, -hour) == 201_000


def test_a_machine_that_slept_over_some_minutes_goes_on(tmp_path: Path) -> None:
    """The source was heard before minutes that are closed in the same tick: what it held is not repeated there."""
    running = Running(tmp_path)
    running.run(START, START + MINUTE)
    running.clock.advance_to(START + MINUTE + 5_000)
    running.line.alive()
    running.tick(START + 5 * MINUTE)
    running.run(START + 5 * MINUTE, START + 7 * MINUTE)
    assert sum(window.length_ms for window in running.windows) == running.windows[-1].end_ms - START
    assert running.account.unknown_ms > 0


def test_a_first_answer_that_is_taken_up_late_keeps_its_time(tmp_path: Path) -> None:
    """Otherwise the pieces until the next one would seem to have been made at once, and be refused."""
    running = Running(tmp_path)
    running.run(START, START + MINUTE)
    asked_ms = START + MINUTE
    for taken_ms, value_ms in ((asked_ms + 900, asked_ms + 5), (asked_ms + 1001, asked_ms + 1000)):
        running.clock.advance_to(taken_ms)
        if value_ms == asked_ms + 5:
            running.line.begin(asked_ms)
        for column, value in ((SignalRole.STATE, EXECUTE), (SignalRole.TOTAL, value_ms // 1000)):
            running.line.put(column, value, value_ms)
        assert running.line.last[SignalRole.TOTAL][1] == value_ms
    times = sorted(waiting[0] for waiting in running.line._image._waiting)
    assert times[-4:] == [asked_ms + 5, asked_ms + 5, asked_ms + 1000, asked_ms + 1000]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from((SignalRole.STATE, SignalRole.TOTAL, SignalRole.REJECT)),
            st.one_of(st.none(), st.integers(0, 3), st.just(2**63)),
            st.one_of(st.none(), st.sampled_from((-5_000, 990, 999, 1_000, 1_001, 90_000))),
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_values_of_one_answer_are_what_they_would_be_one_by_one(
    tmp_path: Path, values: list[tuple[int, int | None, int | None]], cut: int
) -> None:
    told = [(column, value, None if at is None else START + at) for column, value, at in values]
    one_by_one, together = Running(tmp_path), Running(tmp_path)
    for running in (one_by_one, together):
        running.clock.advance_to(START + 1_000)
    for value in told:
        one_by_one.line.put(*value)
    together.line.put_all(told[:cut])
    together.line.put_all(told[cut:])
    rows = [running.line._image.release(START + 100_000) for running in (one_by_one, together)]
    assert rows[0] == rows[1]
    assert one_by_one.line.last == together.line.last


class Reading:
    """A line by a machine's clock, with its source: 10 pieces a second, told as they are made."""

    def __init__(self, folder: Path, speed: float) -> None:
        settings = factory.configuration(folder, factory.opcua()).lines[0]
        self.clock = ManualClock(START, b"\1" * 16)
        self.clock.speed = speed
        self.line = Line(settings, RawMeter(settings.configuration, START), self.clock)
        self.second_ms = round(1000 * speed)

    @property
    def state(self) -> tuple[bool, bool]:
        return self.line.stood, self.line.reading

    def go_on(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now_ms() + round(seconds * self.second_ms))

    def told(self) -> bool:
        """Whether what the source tells now is taken."""
        now = self.clock.now_ms()
        self.line.put(SignalRole.TOTAL, now // 100, now)
        self.line.alive()
        taken, heard = self.line.last.get(SignalRole.TOTAL), self.line._image._alive_ms
        assert (heard == now) == (taken == (now // 100, now, now))
        return heard == now

    def measure(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.go_on(1)
            self.line.close_windows(self.clock.now_ms())

    def begin(self) -> None:
        self.line.begin()
        self.line.connected("connected")

    def stand(self, seconds: float) -> None:
        """And connects anew, if that is asked for."""
        self.go_on(seconds)
        self.line.close_windows(self.clock.now_ms())
        if self.line.stood:
            self.line.wake()
            self.begin()
        self.measure()


@pytest.mark.parametrize("measured_first", [False, True])
@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_what_waited_while_the_agent_stood_still_counts_for_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, speed: float, measured_first: bool
) -> None:
    """Whichever comes first on waking, and whatever the old reader does before it has ended."""
    running = Reading(tmp_path, speed)
    line = running.line
    running.begin()
    running.go_on(30)
    assert running.told(), "not measured yet: nothing is known of how long that took"
    running.measure(3)
    running.go_on(STILL_S)
    assert running.told(), "a card may hold a write up"
    line.close_windows(running.clock.now_ms())
    running.go_on(STILL_S + 0.1)
    for first in (measured_first, not measured_first):
        if first:
            line.close_windows(running.clock.now_ms())
        else:
            assert not running.told()
    assert running.state == (True, False)
    assert "the agent stood still for 5 s" in caplog.text
    said = len(caplog.records)
    running.measure(2)
    line.begin()
    line.connected("connected to what it was connected to")
    assert not running.told()
    line.lost("the connection was lost")
    assert len(caplog.records) == said and "stood still" in line.link
    assert running.state == (True, False)
    line.wake()
    running.begin()
    assert running.told() and running.state == (False, True)
    running.measure()
    running.go_on(60)
    assert not running.told()
    line.wake()  # before it is measured again
    running.begin()
    assert running.told() and running.state == (False, True)


def test_a_line_that_is_always_late_does_not_connect_again_and_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = Reading(tmp_path, 1.0)
    running.begin()
    running.measure()
    for _ in range(60):
        running.stand(9)
    assert caplog.text.count("stood still for") == 1
    running.stand(11)
    assert caplog.text.count("stood still for") == 2
    running.measure(601)
    running.stand(6)
    assert caplog.text.count("stood still for") == 3, "it was well for ten minutes"


def test_a_clock_that_something_else_drives_says_nothing_of_a_standstill(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.run(START, START + MINUTE)
    running.tick(START + 10 * MINUTE)
    assert not running.line.stood


@pytest.mark.parametrize("measured_first", [False, True])
@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_a_value_that_waited_for_us_holds_from_its_own_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    speed: float,
    measured_first: bool,
) -> None:
    """A disk held all up for 4 s: that is no fault of the PLC's clock."""
    running = Reading(tmp_path, speed)
    running.begin()
    running.measure(3)
    assert running.told()
    running.measure()
    taken: list[int] = []
    monkeypatch.setattr(running.line._image, "put", lambda time_ms, values: taken.append(time_ms))

    def age_s(told_s: float) -> float:
        now = running.clock.now_ms()
        running.line.put(SignalRole.TOTAL, 1, now - round(told_s * running.second_ms))
        return (now - taken[-1]) / running.second_ms

    running.go_on(4)
    if measured_first:
        running.line.close_windows(running.clock.now_ms())
    assert age_s(3.9) == 3.9
    assert not caplog.records
    assert age_s(-3.9) == 0, "nobody is held up before the time"
    assert age_s(8.0) == 0
    running.measure()
    assert age_s(3.9) == 3.9, "more of it comes a moment later"
    running.measure(3)
    assert age_s(3.9) == 0
    running.go_on(4)
    assert age_s(3.9) == 3.9
    running.line.wake()
    running.begin()
    running.line.put(SignalRole.TOTAL, 1, running.clock.now_ms())
    assert age_s(3.9) == 0, "of a new connection nothing waited"
    assert not running.line.stood
