"""The soak: an agent among faults for minutes or hours, and the slope of its memory, threads and files.

Decides the faults (the broker away, the PLCs killed, in turn) and what is looked at. A slope is that of a straight line
through the calm looks after the warm-up: ten minutes of windows are kept for the live page, and a start fills caches. A
soak that is no longer than that has no slope. `./run soak --minutes N`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.agent_rig import Look, Rig, look, rig

LOOK_S: Final = 1.0
WARM_UP_MIN: Final = 15.0
MOST_GROWTH_MB: Final = 15.0
MOST_SLOPE_MB: Final = 5.0
"""Per hour, where the warm-up is as long as it has to be."""
MOST_THREADS: Final = 12
MOST_FILES: Final = 120


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it. `faults`: how many there were; `records`: that the hub got.

    `memory_mb`: at the first look, at the first after the warm-up, at the last. Slopes: per hour, after the warm-up;
    None where less than two looks came after it.
    """

    minutes: float
    faults: int
    records: int
    reading: bool
    memory_mb: tuple[float, float, float]
    warm_up_min: float
    memory_slope_mb: float | None
    thread_slope: float | None
    file_slope: float | None
    most_threads: int
    most_files: int

    @property
    def holds(self) -> bool:
        """Whether the lines are read at the end, and nothing has grown."""
        first, _, last = self.memory_mb
        slope_mb = self.memory_slope_mb if self.warm_up_min >= WARM_UP_MIN else None
        return (
            self.reading
            and self.records > 0
            and last - first < MOST_GROWTH_MB
            and (slope_mb is None or slope_mb <= MOST_SLOPE_MB)
            and self.most_threads <= MOST_THREADS
            and self.most_files <= MOST_FILES
        )

    @property
    def words(self) -> str:
        first, warm, last = self.memory_mb
        return (
            f"{self.minutes:.1f} min, {self.faults} faults, {self.records} records; "
            f"slopes leave out the first {self.warm_up_min:g} min\n"
            f"memory   {first:.1f} MB at first, {warm:.1f} MB warm, {last:.1f} MB at the end, "
            f"slope {_an_hour(self.memory_slope_mb, ' MB')}\n"
            f"threads  at most {self.most_threads}, slope {_an_hour(self.thread_slope)}\n"
            f"files    at most {self.most_files}, slope {_an_hour(self.file_slope)}\n"
            f"{'all lines are read at the end' if self.reading else 'NOT all lines are read at the end'}"
        )


def _an_hour(slope: float | None, unit: str = "") -> str:
    return "not known, the soak was too short" if slope is None else f"{slope:+.2f}{unit} an hour"


def soak(minutes: float, fault_s: float, calm_s: float, warm_up_min: float = WARM_UP_MIN) -> Soaked:
    """`calm_s` without a fault, then one of `fault_s`, and so on. Looks are taken at the end of each calm."""
    looks: list[Look] = []
    warm_s = time.monotonic() + warm_up_min * 60
    faults = 0
    with rig(window_s=10) as around, around.agent(jit=False) as agent:
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
    later = [each for each in looks if each.at_s >= warm_s]
    return Soaked(
        minutes, faults, records, reading,
        (looks[0].memory / 1e6, (later or looks)[0].memory / 1e6, looks[-1].memory / 1e6),
        warm_up_min,
        slope_an_hour([(each.at_s, each.memory / 1e6) for each in later]),
        slope_an_hour([(each.at_s, each.threads) for each in later]),
        slope_an_hour([(each.at_s, each.files) for each in later]),
        max(each.threads for each in looks),
        max(each.files for each in looks),
    )  # fmt: skip


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


def slope_an_hour(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the straight line of least squares through (seconds, value); None for less than two."""
    if len(points) < 2:
        return None
    x = sum(at for at, _ in points) / len(points)
    y = sum(value for _, value in points) / len(points)
    spread = sum((at - x) ** 2 for at, _ in points)
    return 3600 * sum((at - x) * (value - y) for at, value in points) / spread if spread else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run soak", description="An agent among faults, and what it uses.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--fault-seconds", type=float, default=20.0, help="how long broker or PLCs are away")
    parser.add_argument("--calm-seconds", type=float, default=40.0, help="how long nothing is wrong between two")
    parser.add_argument(
        "--warm-up-minutes", type=float, default=WARM_UP_MIN, help="at the beginning, left out of the slopes"
    )
    options = parser.parse_args()
    found = soak(options.minutes, options.fault_seconds, options.calm_seconds, options.warm_up_minutes)
    print(found.words)
    return 0 if found.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
