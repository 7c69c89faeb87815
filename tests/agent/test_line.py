"""A line and its watermark: what comes too late neither changes a closed window nor is lost silently."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agent.clock import ManualClock
from agent.line import Line
from agent.raw_meter import RawMeter
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
