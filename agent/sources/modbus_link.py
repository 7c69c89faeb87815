"""A Modbus link and the devices on it: who may ask, and when.

Decides that one request is in flight at a time whoever asks, that a connection is closed after each failure and made
anew, how long to wait before that (1 to 30 s, with jitter), and that a device which does not answer is left in peace
for as long, so that the others on its link are read on time. pymodbus' own reconnecting and retrying is not used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Self

from agent.backoff import Backoff
from agent.config_modbus import BIT_TABLES, ModbusLink
from agent.sources.modbus_frames import NoAnswer, Refusal
from agent.sources.modbus_plan import Read
from agent.sources.modbus_wire import LinkFailed, Wire

__all__ = ["Breaker", "DeviceFailed", "Link", "LinkFailed", "Refusal", "Resting", "shared_link"]

FAILURES: Final = 2
"""So many in a row open a device's breaker: the first request after one lost answer is made at once."""
LEAST_CONNECT_S: Final = 2.0
_BUSY: Final = frozenset({5, 6, 10, 11})  # exceptions by which a device, or what is before it, asks for time


class DeviceFailed(Exception):
    """The device did not answer as it must; the others on its link may be well."""


class Resting(DeviceFailed):
    """The device failed a moment ago and is not asked for now."""


class Breaker:
    """Of one device: open for a while after failures, closed by an answer. `now`: seconds, only going forward."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self._failures = 0
        self._until = 0.0
        self.words = ""

    def is_open(self, now: float) -> bool:
        return self._failures >= FAILURES and now < self._until

    def failed(self, now: float, words: str) -> None:
        self._failures += 1
        self.words = words
        if self._failures >= FAILURES:
            self._until = now + self._backoff.next_s()

    def good(self) -> None:
        if self._failures:
            self._failures = 0
            self._backoff.reset()


class Unanswered:
    """What one device on a line without transaction ids may still answer.

    Such an answer looks like one to any request of the same function and length. A device answers one after the other:
    once it has answered a request of another length, nothing older can follow.
    """

    def __init__(self) -> None:
        self._shapes: set[tuple[str, int]] = set()

    def add(self, read: Read) -> None:
        self._shapes.add(_shape(read))

    def clear(self) -> None:
        self._shapes.clear()

    @property
    def any(self) -> bool:
        return bool(self._shapes)

    def __contains__(self, read: Read) -> bool:
        return _shape(read) in self._shapes

    def unlike(self, read: Read) -> Read:
        """A read of the same place whose answer has a length of its own."""
        step = 8 if read.table in BIT_TABLES else 1
        for size in range(1, 126):
            count = step * size
            found = replace(read, address=min(read.address, 0x10000 - count), count=count, tags=())
            if found not in self:
                return found
        return read  # each of 125 answers is still due: nobody has such a device


def _shape(read: Read) -> tuple[str, int]:
    return read.table, (read.count + 7) // 8 if read.table in BIT_TABLES else read.count


class Link:
    """Reads for every line that uses this link: `with link:` while it does. Event loop's thread only."""

    def __init__(self, link: ModbusLink, now: Callable[[], float] | None = None) -> None:
        self.words = link.words
        self._link = link
        self._now = now or asyncio.get_running_loop().time
        self._one = asyncio.Lock()
        self._wire: Wire | None = None
        self._breakers: dict[int, Breaker] = {}
        self._unanswered: dict[int, Unanswered] = {}
        self._backoff = Backoff()
        self._closed_until = 0.0
        self._why = ""
        self._late_s = 0.0
        self._users = 0
        # pymodbus logs each failure; they are said by us, once and in plain words.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    def __enter__(self) -> Self:
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._close()

    async def read(self, read: Read, timeout_s: float) -> list[int]:
        """The registers or bits of a request. Raises LinkFailed, DeviceFailed, or Refusal for what cannot be read."""
        async with self._one:
            breaker = self._breakers.setdefault(read.device_id, Breaker())
            if breaker.is_open(self._now()):
                raise Resting(breaker.words)
            wire = await self._open(timeout_s)
            try:
                found = await self._ask(wire, read, timeout_s)
            except NoAnswer as error:
                self._drop(timeout_s)
                breaker.failed(self._now(), str(error))
                raise DeviceFailed(str(error)) from error
            except Refusal as refusal:
                if refusal.code in _BUSY:
                    breaker.failed(self._now(), str(refusal))
                    raise DeviceFailed(str(refusal)) from refusal
                breaker.good()
                raise
            except asyncio.CancelledError:
                self._drop(timeout_s)  # its answer may still come
                raise
            breaker.good()
            self._backoff.reset()
            return found

    async def _ask(self, wire: Wire, read: Read, timeout_s: float) -> list[int]:
        if not self._link.is_rtu:
            return await wire.ask(read.device_id, read.table, read.address, read.count, timeout_s)
        due = self._unanswered.setdefault(read.device_id, Unanswered())
        asks = [due.unlike(read), read] if read in due else [read]
        found: list[int] = []
        for ask in asks:
            doubted = due.any
            due.add(ask)
            try:
                found = await wire.ask(ask.device_id, ask.table, ask.address, ask.count, timeout_s)
            except Refusal:
                # All refusals look alike: this one may be an older request's, and the answer still be due.
                if not doubted:
                    due.clear()
                if ask is read:
                    raise
                await asyncio.sleep(timeout_s)  # what comes now was due; the wire fails of it
            else:
                due.clear()
        return found

    def _close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _open(self, timeout_s: float) -> Wire:
        if self._wire is not None and self._wire.failed is None:
            return self._wire
        if self._wire is not None:
            self._drop(timeout_s)
        if self._now() < self._closed_until:
            raise LinkFailed(self._why)
        try:
            wire = Wire(self._link, max(timeout_s, LEAST_CONNECT_S))
            with ExitStack() as undo:
                undo.callback(wire.close)
                await wire.open(self._late_s)
                undo.pop_all()
        except LinkFailed as error:
            self._closed_until = self._now() + self._backoff.next_s()
            self._why = str(error)
            raise
        self._late_s = 0.0
        self._wire = wire
        return wire

    def _drop(self, timeout_s: float) -> None:
        """Closes a connection that may still bring an answer. Without transaction ids nothing tells a late one from
        the next: whatever comes within another timeout is thrown away."""
        self._close()
        if self._link.is_rtu:
            self._late_s = timeout_s


def shared_link(links: dict[ModbusLink, Link], link: ModbusLink) -> Link:
    """The one `Link` of a wire: two connections to one serial line, or to a small PLC, would be in each other's way."""
    if link not in links:
        links[link] = Link(link)
    return links[link]
