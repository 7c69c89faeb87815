"""Modbus: polls the devices of one line, over TCP, UDP, TLS, RTU over TCP or a serial line.

Decides when a line is polled and what of a poll becomes a value, and what is said when something fails. One device's
silence takes only its own tags; a register that does not exist only its own. How requests are planned, who may ask
when, and what is an answer is decided in `modbus_plan`, `modbus_link`, `modbus_frames`; functions 1 to 4 are all that
can be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from agent.config_modbus import ModbusLink, ModbusSource, ModbusTag
from agent.line import LineInput
from agent.sources.modbus_link import DeviceFailed, Link, LinkFailed, Refusal, Resting, shared_link
from agent.sources.modbus_plan import Blocks, Read, plan
from agent.sources.modbus_values import Unusable, clock_ms, value

_SAID_AT_MOST: Final = 1000
_SLOW_POLLS: Final = 10
Found: TypeAlias = dict[int, Sequence[int]]
"""The registers (or bit) of each tag that was read, by the tag's id(): comparing tags costs more than reading them."""


class ModbusReader:
    """Polls one line until it is cancelled. `links`: those that all lines of the agent share."""

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
        self._tags = tags
        self._time_tag = time_tag
        self._line = line
        self._product_codes = product_codes or {}
        self._link = shared_link({} if links is None else links, source.link)
        self._timeout_s = source.timeout_ms / 1000
        wanted = tags if time_tag is None else (*tags, time_tag)
        reads = plan(wanted, source.hole_limit, source.max_registers)
        self._blocks = {
            device: Blocks(read for read in reads if read.device_id == device)
            for device in sorted({read.device_id for read in reads})
        }
        self._said: set[str] = set()
        self._lost: str | None = ""
        """Why nothing is read; None while something is."""
        self._silent: dict[int, str] = {}

    async def run(self) -> None:
        """Polls for ever; never gives up."""
        loop = asyncio.get_running_loop()
        interval_s = self._source.poll_interval_ms / 1000
        due = loop.time()
        slow = 0
        with self._link:
            while True:
                self._line.tried()
                await self._poll()
                slow = slow + 1 if loop.time() - due > interval_s and self._lost is None else 0
                if slow == _SLOW_POLLS:
                    self._say(
                        "a poll takes longer than poll_interval_ms; make that longer, or have fewer lines on this link"
                    )
                # On a grid, not after the last answer: a slow device must not make the polls drift.
                due = max(due + interval_s, loop.time())
                await asyncio.sleep(due - loop.time())

    async def _poll(self) -> None:
        found: Found = {}
        failed: dict[int, str] = {}
        asked_ms = self._line.now_ms()
        try:
            for device, blocks in self._blocks.items():
                try:
                    found.update(await self._device(blocks))
                except DeviceFailed as error:
                    failed[device] = str(error)
        except LinkFailed as error:
            self._lose(f"no connection to {self._link.words}: {error}")
            return
        if len(failed) == len(self._blocks):
            device, words = next(iter(failed.items()))
            named = f"device {device} at {self._link.words}" if len(failed) == 1 else f"no device at {self._link.words}"
            self._lose(f"{named} answers: {words}" if len(failed) > 1 else f"{named}: {words}")
            return
        self._give(found, failed, asked_ms)

    async def _device(self, blocks: Blocks) -> Found:
        """One poll of one device. Raises LinkFailed, DeviceFailed."""
        found: Found = {}
        loop = asyncio.get_running_loop()
        waiting = blocks.due(loop.time())
        while waiting:
            read = waiting.pop(0)
            try:
                registers = await self._read(read)
            except Refusal as refusal:
                waiting = blocks.refused(read, refusal.code, loop.time()) + waiting
                if blocks.is_aside(read):
                    where = ", ".join(tag.words for tag in read.tags)
                    self._say(f"{where} at device {read.device_id} cannot be read: {refusal}; tried again now and then")
                continue
            blocks.answered(read)
            found.update((id(tag), read.part(tag, registers)) for tag in read.tags)
        return found

    async def _read(self, read: Read) -> Sequence[int]:
        try:
            return await self._link.read(read, self._timeout_s)
        except Resting:
            raise
        except DeviceFailed:
            # A single answer is lost now and then on a long line; to read again is harmless.
            return await self._link.read(read, self._timeout_s)

    def _give(self, found: Found, failed: dict[int, str], asked_ms: int) -> None:
        if self._lost is not None:
            self._lost = None
            # Not from now: a first answer that was taken up late would come together with the next one's pieces.
            self._line.begin(asked_ms)
            good = sum(id(tag) in found for tag in self._tags)
            reads = sum(map(len, self._blocks.values()))
            devices = ", ".join(map(str, self._blocks))
            where = f"{self._link.words} device{'s' if len(self._blocks) > 1 else ''} {devices}"
            self._line.connected(f"connected to {where}, {good} of {len(self._tags)} tags in {reads} reads")
        for device, words in failed.items():
            if self._silent.get(device) != words:
                self._line.log.warning("device %d at %s: %s", device, self._link.words, words)
        for device in self._silent.keys() - failed.keys():
            self._line.log.info("device %d at %s answers again", device, self._link.words)
        self._silent = failed
        time_ms = self._time_ms(found)
        for tag in self._tags:
            self._line.put(tag.column, self._value(tag, found), time_ms)
        self._line.alive()

    def _time_ms(self, found: Found) -> int | None:
        if self._time_tag is None or (registers := found.get(id(self._time_tag))) is None:
            return None
        try:
            return clock_ms(self._time_tag, registers)
        except Unusable as error:
            self._say(f"the PLC's clock {error}")
            return None

    def _value(self, tag: ModbusTag, found: Found) -> int | None:
        registers = found.get(id(tag))
        if registers is None:
            return None
        try:
            return value(tag, registers, self._product_codes)
        except Unusable as error:
            self._say(f"{tag.role.name.lower()} ({tag.words}) {error}")
            return None

    def _lose(self, words: str) -> None:
        if words != self._lost:
            self._lost = words
            self._silent = {}
            self._line.lost(words)

    def _say(self, words: str) -> None:
        """Once for each thing to say: a bad register must not fill the log."""
        if words not in self._said and len(self._said) < _SAID_AT_MOST:
            self._said.add(words)
            self._line.log.warning("%s", words)
