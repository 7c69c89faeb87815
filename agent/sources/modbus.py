"""Modbus: polls the devices of one line or several, over TCP, UDP, TLS, RTU over TCP or a serial line.

Decides when is polled, and when a line has all that a poll had for it. One device's silence takes only its own tags; a
register that does not exist only its own. How requests are planned (`modbus_plan`) and learned (`modbus_blocks`), who
may ask when (`modbus_link`), what is an answer (`modbus_frames`) and what a line makes of it (`modbus_part`) is decided
elsewhere. Functions 1 to 4 are all that can be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

from agent.config_modbus import ModbusLink, ModbusSource, ModbusTag
from agent.line import LineInput
from agent.sources.modbus_blocks import Blocks
from agent.sources.modbus_link import DeviceFailed, Link, LinkFailed, Refusal, Resting, shared_link
from agent.sources.modbus_part import Part, Share
from agent.sources.modbus_plan import Read, plan

_SLOW_POLLS: Final = 10
_SHARES_KEPT: Final = 1000
_TOO_SLOW: Final = "a poll takes longer than poll_interval_ms; make that longer, or have fewer lines on this link"


class ModbusReader:
    """Polls a line, and those that join it, until it is cancelled. `links`: those that all lines of the agent share."""

    def __init__(
        self,
        source: ModbusSource,
        tags: Sequence[ModbusTag],
        time_tag: ModbusTag | None,
        line: LineInput,
        product_codes: Mapping[str, int] | None = None,
        links: dict[ModbusLink, Link] | None = None,
    ) -> None:
        self._source = source
        self._link = shared_link({} if links is None else links, source.link)
        self._timeout_s = source.timeout_ms / 1000
        self._parts: list[Part] = []
        self._polled: list[Part] = []  # those that the plan is for
        self._blocks: dict[int, Blocks] = {}
        self._shares: dict[Read, list[Share]] = {}
        self._is_planned = False
        self._joined = asyncio.Event()
        self.join(tags, time_tag, line, product_codes)

    def join(
        self,
        tags: Sequence[ModbusTag],
        time_tag: ModbusTag | None,
        line: LineInput,
        product_codes: Mapping[str, int] | None = None,
    ) -> None:
        """Polls this line too, at once: the next poll may be minutes away."""
        self._parts.append(Part(line, tags, time_tag, product_codes or {}))
        self._is_planned = False
        self._joined.set()

    def leave(self, line: LineInput) -> None:
        """Polls it no more; the others go on."""
        for part in self._parts:
            part.is_open &= part.line is not line  # the poll that is under way tells it nothing
        self._parts = [part for part in self._parts if part.line is not line]
        self._is_planned = False

    async def run(self) -> None:
        """Polls for ever; never gives up."""
        loop = asyncio.get_running_loop()
        interval_s = self._source.poll_interval_ms / 1000
        due = loop.time()
        slow = 0
        with self._link:
            while True:
                self._joined.clear()
                await self._poll()
                is_slow = loop.time() - due > interval_s and any(part.lost is None for part in self._parts)
                slow = slow + 1 if is_slow else 0
                if slow == _SLOW_POLLS:
                    for part in self._parts:
                        part.say(_TOO_SLOW)
                # On a grid, not after the last answer: a slow device must not make the polls drift.
                if loop.time() >= due:
                    due = max(due + interval_s, loop.time())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._joined.wait()

    def _plan(self) -> None:
        self._is_planned = True
        self._polled = list(self._parts)
        wanted = {id(tag): tag for part in self._polled for tag in part.wanted}
        reads = plan(wanted.values(), self._source.hole_limit, self._source.max_registers)
        self._blocks = {
            device: Blocks((read for read in reads if read.device_id == device), self._blocks.get(device))
            for device in sorted({read.device_id for read in reads})
        }
        self._shares.clear()

    def _share(self, read: Read) -> list[Share]:
        """Whose the request is."""
        found = self._shares.get(read)
        if found is None:
            found = [share for part in self._polled if (share := part.share(read)) is not None]
            if len(self._shares) >= _SHARES_KEPT:
                self._shares.clear()  # requests that were only tried
            self._shares[read] = found
        return found

    async def _poll(self) -> None:
        if not self._is_planned:
            self._plan()
        asked_ms = self._polled[0].line.now_ms()
        for part in self._polled:
            part.begin(asked_ms)
        now = asyncio.get_running_loop().time()
        due = {device: blocks.due(now) for device, blocks in self._blocks.items()}
        for reads in due.values():
            self._expect(reads)
        try:
            for device, blocks in self._blocks.items():
                for part in self._polled:
                    part.line.tried()
                await self._device(device, blocks, due[device])
        except LinkFailed as error:
            for part in self._polled:
                if part.is_open:
                    part.lose(f"no connection to {self._link.words}: {error}")
            return
        for part in self._polled:
            self._end(part)  # of which nothing was due

    async def _device(self, device: int, blocks: Blocks, waiting: list[Read]) -> None:
        """One poll of one device. Raises LinkFailed."""
        loop = asyncio.get_running_loop()
        is_alive = False
        try:
            while waiting:
                read = waiting[0]
                try:
                    registers = await self._read(read, blocks.is_doubted(read))
                except Refusal as refusal:
                    is_alive = True
                    instead = blocks.refused(read, refusal.code, loop.time())
                    waiting[:1] = instead
                    self._expect(instead)
                    self._say_aside(read, blocks, refusal)
                except Resting:
                    raise
                except DeviceFailed as failure:
                    if not blocks.unanswered(read, is_alive, loop.time()):
                        raise
                    # What else is in doubt waits for the next poll: after two failures in a row the device would rest.
                    doubted = [each for each in waiting[1:] if blocks.is_doubted(each)]
                    waiting = [each for each in waiting[1:] if each not in doubted]
                    for each in doubted:
                        self._over(each)
                    self._say_aside(read, blocks, failure)
                else:
                    is_alive = True
                    del waiting[0]
                    blocks.answered(read)
                    for share in self._share(read):
                        share.part.take(share, read, registers)
                self._over(read)
        except DeviceFailed as error:
            for read in waiting:
                for share in self._share(read):
                    share.part.fail(device, str(error))
            for read in waiting:
                self._over(read)

    async def _read(self, read: Read, once: bool) -> Sequence[int]:
        try:
            return await self._link.read(read, self._timeout_s)
        except Resting:
            raise
        except DeviceFailed as failure:
            if once:
                raise
            # A single answer is lost now and then on a long line; to read again is harmless.
            try:
                return await self._link.read(read, self._timeout_s)
            except Resting:
                raise failure from None

    def _say_aside(self, read: Read, blocks: Blocks, why: Exception) -> None:
        if blocks.is_aside(read):
            words = f"at device {read.device_id} cannot be read: {why}; tried again now and then"
            for share in self._share(read):
                share.part.say(f"{share.words} {words}")

    def _expect(self, reads: Sequence[Read]) -> None:
        for read in reads:
            for share in self._share(read):
                share.part.left += 1

    def _over(self, read: Read) -> None:
        """A line is told as soon as all that is its own is there: what others wait for must not make its times late."""
        for share in self._share(read):
            share.part.left -= 1
            if not share.part.left:
                self._end(share.part)

    def _end(self, part: Part) -> None:
        if part.is_open:
            part.end(self._link.words, lambda: sum(part.share(read) is not None for read in self._reads()))

    def _reads(self) -> list[Read]:
        return [read for blocks in self._blocks.values() for read in blocks]
