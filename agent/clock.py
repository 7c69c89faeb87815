"""Clocks: what time it is for this process, and how sure of it the machine is.

Decides how wall time, elapsed time and waiting are read, so that the same agent runs on a gateway's own clock,
on a simulated plant's faster clock and in a replay. Does not decide what a doubtful clock means for a record.

Elapsed time is CLOCK_BOOTTIME: it goes on while the machine sleeps, and it is the same in every process of a
machine, so a simulator and an agent that share a clock file agree to the millisecond without talking.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from protocols.errors import ConfigurationError

UNKNOWN_AGE_MS: Final = -1

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC: Final = Path("/run/systemd/timesync/synchronized")


@dataclass(frozen=True, slots=True)
class ClockState:
    """How the wall clock is kept. `source`: "ntp", "none" or "simulated".

    offset_ms: the correction still to be made · error_ms: the kernel's bound on the error ·
    age_ms: since the last known synchronisation, or `UNKNOWN_AGE_MS`.
    """

    source: str
    offset_ms: int
    error_ms: int
    age_ms: int


class Clock(Protocol):
    """A source of time. Every method may be called from any thread, `sleep` from the event loop's only."""

    @property
    def speed(self) -> float:
        """Milliseconds of this clock for each real one; infinite when something else drives it."""

    def now_ms(self) -> int:
        """Wall time, UTC, in Unix milliseconds. May be set back by the system."""

    def boot_ms(self) -> int:
        """Elapsed time since some fixed instant, in milliseconds of this clock. Never goes back."""

    def boot_id(self) -> bytes:
        """16 bytes that name the period in which `boot_ms` can be compared."""

    def sync(self) -> ClockState:
        """How sure the wall time is."""

    async def sleep(self, ms: float) -> None:
        """Wait `ms` milliseconds of this clock."""


def machine_boot_id() -> bytes:
    """The kernel's random name of this boot, 16 bytes."""
    return bytes.fromhex(_BOOT_ID.read_text("ascii").strip().replace("-", ""))


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class SystemClock:
    """The machine's own clock."""

    speed: float = 1.0

    def __init__(self) -> None:
        self._boot_id = machine_boot_id()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        return _boottime_ns() // 1_000_000

    def boot_id(self) -> bytes:
        return self._boot_id

    def sync(self) -> ClockState:
        return _kernel_clock_state(self.now_ms())

    async def sleep(self, ms: float) -> None:
        await asyncio.sleep(max(ms, 0) / 1000)


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, adjtimex(2); the tail is what the kernel keeps for later."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("counts", ctypes.c_long * 5),
        ("tai", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


_STA_UNSYNC: Final = 0x0040
_STA_NANO: Final = 0x2000


def _kernel_clock_state(now_ms: int) -> ClockState:
    """adjtimex(2) with modes = 0: read only, so it needs no privilege."""
    timex = _Timex()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        outcome = libc.adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        outcome = -1
    if outcome < 0:
        # A sandbox may forbid the call; systemd-timesyncd's mark is then all that is known.
        known = _TIMESYNC.exists()
        return ClockState("ntp" if known else "none", 0, 0, _sync_age_ms(now_ms))
    offset_unit = 1_000_000 if timex.status & _STA_NANO else 1_000
    offset_ms = int(timex.offset / offset_unit)
    source = "none" if timex.status & _STA_UNSYNC else "ntp"
    return ClockState(source, offset_ms, timex.maxerror // 1000, _sync_age_ms(now_ms))


def _sync_age_ms(now_ms: int) -> int:
    try:
        marked_ms = _TIMESYNC.stat().st_mtime_ns // 1_000_000
    except OSError:
        return UNKNOWN_AGE_MS
    return max(now_ms - marked_ms, 0)


@dataclass(frozen=True, slots=True)
class SimulatedClock:
    """A clock that shows `start_ms` when CLOCK_BOOTTIME is `origin_boottime_ns` and runs `speed` times as fast.

    File form: JSON {"start_ms": int, "origin_boottime_ns": int, "speed": number, "boot_id": hex,
    "origin_wall_ms": int}. The last two let a clock go on after the machine restarted.
    """

    start_ms: int
    origin_boottime_ns: int
    speed: float = 1.0

    @classmethod
    def starting_at(cls, start_ms: int, speed: float) -> SimulatedClock:
        """A clock that shows `start_ms` now."""
        return cls(start_ms, _boottime_ns(), speed)

    def now_ms(self) -> int:
        return self.start_ms + self._elapsed_ms()

    def boot_ms(self) -> int:
        return self.origin_boottime_ns // 1_000_000 + self._elapsed_ms()

    def boot_id(self) -> bytes:
        return machine_boot_id()

    def sync(self) -> ClockState:
        return ClockState("simulated", 0, 0, 0)

    async def sleep(self, ms: float) -> None:
        await asyncio.sleep(max(ms, 0) / 1000 / self.speed)

    def _elapsed_ms(self) -> int:
        # The same float arithmetic in every process gives the same millisecond; floor keeps it monotone.
        return math.floor((_boottime_ns() - self.origin_boottime_ns) * self.speed / 1_000_000)

    def write(self, path: Path) -> None:
        """Write the clock file: a reader finds the old file or the new one, never half of it."""
        real_ms = (_boottime_ns() - self.origin_boottime_ns) // 1_000_000
        data = {
            "start_ms": self.start_ms,
            "origin_boottime_ns": self.origin_boottime_ns,
            "speed": self.speed,
            "boot_id": machine_boot_id().hex(),
            "origin_wall_ms": time.time_ns() // 1_000_000 - real_ms,
        }
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(data) + "\n", "utf-8")
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> SimulatedClock:
        """The clock of a file. Raises ConfigurationError when there is none or it is not one.

        After a restart of the machine CLOCK_BOOTTIME begins again: the clock then goes on by the wall time
        that passed, and its owner should `write` it again before others read it.
        """
        mend = "remove the file; the simulator writes a new one when it starts"
        try:
            data = json.loads(path.read_text("utf-8"))
            start_ms, origin_ns = data["start_ms"], data["origin_boottime_ns"]
            speed, boot_id, wall_ms = data["speed"], data["boot_id"], data["origin_wall_ms"]
        except OSError as error:
            what = f"the clock file cannot be read: {error.strerror}"
            raise ConfigurationError(what, file=str(path), mend="start the simulator first") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError("this is not a clock file", file=str(path), mend=mend) from error
        integers = all(type(value) is int for value in (start_ms, origin_ns, wall_ms))
        if not integers or type(speed) not in (int, float) or not 0 < speed <= 1e6:
            raise ConfigurationError("this is not a clock file", file=str(path), mend=mend)
        if boot_id != machine_boot_id().hex():
            real_ms = time.time_ns() // 1_000_000 - wall_ms
            origin_ns = _boottime_ns() - max(real_ms, 0) * 1_000_000
        return cls(start_ms, origin_ns, float(speed))


class ManualClock:
    """A clock that stands still until something advances it: a replay's. Its speed is infinite.

    `sleep` returns when the clock was advanced far enough, so a wait for a network peer must not use it.
    """

    speed: float = math.inf

    def __init__(self, start_ms: int, boot_id: bytes | None = None) -> None:
        self._start_ms = start_ms
        self._now_ms = start_ms
        self._boot_id = machine_boot_id() if boot_id is None else boot_id
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def advance_to(self, ms: int) -> None:
        """Move on to `ms`, waking who waits. A time in the past changes nothing. Event loop's thread only."""
        self._now_ms = max(self._now_ms, ms)
        while self._waiting and self._waiting[0][0] <= self._now_ms:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def now_ms(self) -> int:
        return self._now_ms

    def boot_ms(self) -> int:
        return self._now_ms - self._start_ms

    def boot_id(self) -> bytes:
        return self._boot_id

    def sync(self) -> ClockState:
        return ClockState("simulated", 0, 0, 0)

    async def sleep(self, ms: float) -> None:
        if ms <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (self._now_ms + ms, self._count, future))
        await future
