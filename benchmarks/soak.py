"""The soak: an agent among faults for minutes or hours, and the slope of its memory, threads and files.

Decides the faults (the broker away, the PLCs killed, in turn) and what is looked at. A slope is that of a straight line
through the calm looks after the first quarter, for a start fills caches. `./run soak --minutes N`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.agent_rig import Look, Rig, look, rig

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it. Slopes: per hour. `faults`: how many there were; `records`: that the hub got."""

    minutes: float
    faults: int
    records: int
    reading: bool
    memory_mb: tuple[float, float]
    memory_slope_mb: float
    thread_slope: float
    file_slope: float
    most_threads: int
    most_files: int

    @property
    def words(self) -> str:
        first, last = self.memory_mb
        return (
            f"{self.minutes:.1f} min, {self.faults} faults, {self.records} records\n"
            f"memory   {first:.1f} to {last:.1f} MB, slope {self.memory_slope_mb:+.2f} MB an hour\n"
            f"threads  at most {self.most_threads}, slope {self.thread_slope:+.2f} an hour\n"
            f"files    at most {self.most_files}, slope {self.file_slope:+.2f} an hour\n"
            f"{'all lines are read at the end' if self.reading else 'NOT all lines are read at the end'}"
        )


def soak(minutes: float, fault_s: float, calm_s: float) -> Soaked:
    """`calm_s` without a fault, then one of `fault_s`, and so on. Looks are taken at the end of each calm."""
    looks: list[Look] = []
    faults = 0
    with rig() as around, around.agent(jit=False) as agent:
        _read(around)
        end_s = time.monotonic() + minutes * 60
        while time.monotonic() < end_s:
            _fault(around, faults, fault_s)
            faults += 1
            _read(around)
            wait_s = time.monotonic() + calm_s
            while time.monotonic() < wait_s:
                time.sleep(LOOK_S)
            looks += [look(agent.pid)]
        reading = _read(around)
        records = around.hub.records
    return _told(minutes, faults, records, reading, looks)


def _fault(around: Rig, number: int, fault_s: float) -> None:
    if number % 2:
        around.broker.stop()
        time.sleep(fault_s)
        around.broker.start()
    else:
        around.servers.kill()
        around.servers.communicate()
        time.sleep(fault_s)
        around.start_servers()


def _read(around: Rig, patience_s: float = 120.0) -> bool:
    """Waits until each line is known again by live messages that come from now on."""
    around.hub.live_s.clear()
    deadline_s = time.monotonic() + patience_s
    while len(around.hub.live_s) < around.lines:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.1)
    return True


def _told(minutes: float, faults: int, records: int, reading: bool, looks: Sequence[Look]) -> Soaked:
    later = looks[len(looks) // 4 :]
    return Soaked(
        minutes, faults, records, reading,
        (looks[0].memory / 1e6, looks[-1].memory / 1e6),
        slope_an_hour([(each.at_s, each.memory / 1e6) for each in later]),
        slope_an_hour([(each.at_s, each.threads) for each in later]),
        slope_an_hour([(each.at_s, each.files) for each in later]),
        max(each.threads for each in looks),
        max(each.files for each in looks),
    )  # fmt: skip


def slope_an_hour(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line of least squares through (seconds, value); 0 for less than two."""
    if len(points) < 2:
        return 0.0
    x = sum(at for at, _ in points) / len(points)
    y = sum(value for _, value in points) / len(points)
    spread = sum((at - x) ** 2 for at, _ in points)
    return 3600 * sum((at - x) * (value - y) for at, value in points) / spread if spread else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run soak", description="An agent among faults, and what it uses.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--fault-seconds", type=float, default=20.0, help="how long broker or PLCs are away")
    parser.add_argument("--calm-seconds", type=float, default=40.0, help="how long nothing is wrong between two")
    options = parser.parse_args()
    found = soak(options.minutes, options.fault_seconds, options.calm_seconds)
    print(found.words)
    return 0 if found.reading else 1


if __name__ == "__main__":
    raise SystemExit(main())
