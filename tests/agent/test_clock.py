"""Clocks: two processes with one file agree, time never goes back, a replay's clock moves only when driven."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.clock import ClockState, ManualClock, SimulatedClock, SystemClock, machine_boot_id
from protocols.errors import ConfigurationError

START_MS = 1_772_000_000_000


def test_system_clock() -> None:
    clock = SystemClock()
    assert clock.boot_ms() <= clock.boot_ms()
    assert len(clock.boot_id()) == 16
    state = clock.sync()
    assert state.source in ("ntp", "none")
    assert state.error_ms >= 0
    assert state.age_ms >= -1


def test_simulated_clock_runs_faster() -> None:
    clock = SimulatedClock.starting_at(START_MS, 1000.0)
    before_ms, before_boot_ms = clock.now_ms(), clock.boot_ms()
    asyncio.run(clock.sleep(20_000))
    assert clock.now_ms() - before_ms >= 19_000
    assert abs((clock.now_ms() - before_ms) - (clock.boot_ms() - before_boot_ms)) < 5_000
    assert clock.sync() == ClockState("simulated", 0, 0, 0)


def test_a_second_process_reads_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    clock = SimulatedClock.starting_at(START_MS, 10.0)
    clock.write(path)
    assert SimulatedClock.read(path) == clock
    program = (
        "import sys, pathlib; from agent.clock import SimulatedClock;"
        "print(SimulatedClock.read(pathlib.Path(sys.argv[1])).now_ms())"
    )
    before_ms = clock.now_ms()
    other = subprocess.run([sys.executable, "-c", program, path], capture_output=True, check=True, text=True)
    assert before_ms <= int(other.stdout) <= clock.now_ms()


def test_it_goes_on_after_the_machine_restarted(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    clock = SimulatedClock.starting_at(START_MS, 10.0)
    clock.write(path)
    data = json.loads(path.read_text())
    data["boot_id"] = "00" * 16  # another boot, whose CLOCK_BOOTTIME says nothing here
    data["origin_boottime_ns"] = 10**18
    path.write_text(json.dumps(data))
    again = SimulatedClock.read(path)
    assert again.speed == 10.0
    assert 0 <= abs(again.now_ms() - clock.now_ms()) < 1_000


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"start_ms": 1.5, "origin_boottime_ns": 1, "speed": 1, "boot_id": "", "origin_wall_ms": 1}',
     '{"start_ms": 1, "origin_boottime_ns": 1, "speed": 0, "boot_id": "", "origin_wall_ms": 1}'],
)  # fmt: skip
def test_what_is_not_a_clock_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clock.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="not a clock file"):
        SimulatedClock.read(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        SimulatedClock.read(tmp_path / "none.json")


def test_manual_clock_wakes_who_waits() -> None:
    async def drive() -> list[str]:
        clock = ManualClock(START_MS)
        said: list[str] = []

        async def wait(name: str, ms: int) -> None:
            await clock.sleep(ms)
            said.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(wait("second", 2_000))
            group.create_task(wait("first", 1_000))
            await asyncio.sleep(0)
            clock.advance_to(START_MS + 1_500)
            await asyncio.sleep(0)
            assert said == ["first"]
            clock.advance_to(START_MS + 1_000)  # never back
            assert clock.now_ms() == START_MS + 1_500
            clock.advance_to(START_MS + 2_000)
        assert clock.boot_ms() == 2_000
        assert clock.boot_id() == machine_boot_id()
        return said

    assert asyncio.run(drive()) == ["first", "second"]
