"""Whether the agent moves on, and systemd told so.

Decides when the watchdog is fed: only while every line is read (or tried again), what closed was made durable, and what
was due was signed. A PLC that is off, or a full disk, is no standstill: to start again would mend neither, and windows
that are held in memory would be lost. What stands still is said once, and systemd starts the agent again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

TICK_LIMIT_S: Final = 30.0
"""Measuring, storing and signing are looked at once a second; a slow card may stop them for some seconds."""
READ_LIMIT_S: Final = 180.0
"""An attempt to connect may take 30 s, to end it some more, and 30 s are waited between two; `Line` adds its own."""
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "agent"})


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that must move on: `age_s` since it last did, and how long it may stand."""

    name: str
    age_s: float
    limit_s: float

    @property
    def stands(self) -> bool:
        return self.age_s > self.limit_s


class Progress:
    """What moved on when. `parts` of a name that was never marked count from the start."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._marks = dict.fromkeys(("store", "sign"), now_s())

    def stored(self) -> None:
        """What closed is durable, or held because the disk is full, which is known."""
        self._marks["store"] = self._now_s()

    def signed(self) -> None:
        """What was due was signed, or nothing was."""
        self._marks["sign"] = self._now_s()

    def parts(self, reads: Mapping[str, tuple[float, float]]) -> list[Part]:
        """`reads`: by line, the monotonic second of its last attempt, and how long it may take."""
        now_s = self._now_s()
        lines = [Part(f"read {line_id}", now_s - at_s, limit_s) for line_id, (at_s, limit_s) in reads.items()]
        return lines + [Part(name, now_s - at_s, TICK_LIMIT_S) for name, at_s in self._marks.items()]


class Notifier:
    """systemd's notification socket (sd_notify(3)); says nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        period = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.period_s = int(period) / 1e6 if period.isdigit() and int(period) and ours else None
        """Within how many seconds systemd wants to be fed; None: not at all."""
        self._owes_ready = False

    def tell(self, *states: str) -> None:
        """For example "READY=1". Never waits: a message that cannot be sent now is dropped, since the next one says the
        same; that it is ready is said with the next."""
        if not self._address:
            return
        if self._owes_ready and "RELOADING=1" not in states:
            states = ("READY=1", *states)
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as peer:
            try:
                peer.connect(address)
                peer.send("\n".join(states).encode())
            except OSError as error:
                self._owes_ready = "READY=1" in states
                _log.debug("systemd does not hear: %s", error)
            else:
                self._owes_ready = False


async def watch(notifier: Notifier, parts: Callable[[], list[Part]], status: Callable[[], str]) -> None:
    """Looks a few times within the period, and feeds while nothing stands still. For ever."""
    pause_s = 5.0 if notifier.period_s is None else min(5.0, notifier.period_s / 3)
    said: set[str] = set()
    while True:
        standing = {part.name: part for part in parts() if part.stands}
        for name in standing.keys() - said:
            words = "%s has stood still for %.0f s; the watchdog is not fed"
            _log.error(words, name, standing[name].age_s)
        for name in said - standing.keys():
            _log.info("%s moves on again", name)
        said = set(standing)
        if standing:
            notifier.tell(f"STATUS=standing still: {', '.join(sorted(standing))}")
        else:
            notifier.tell("WATCHDOG=1", f"STATUS={status()}")
        await asyncio.sleep(pause_s)
