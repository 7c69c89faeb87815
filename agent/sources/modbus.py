"""Modbus TCP: polls one device's registers for a line.

Decides how a poll is made and what is refused. One request at a time; an answer that is late, short or nameless
(transaction id 0) is refused, and after a timeout the socket is closed, so that no old answer is taken for a new one.
Only the functions 1 to 4 are ever sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse

from agent.backoff import Backoff
from agent.config_line import ModbusSource
from agent.config_tags import ModbusTag
from agent.line import LineInput
from agent.sources.modbus_plan import Read, plan, split, value
from protocols.plc.roles import SPEED_SCALE, SignalRole

_EXCEPTIONS: Final = {
    1: "the device does not know this function", 2: "the register does not exist",
    3: "the device refuses this request", 4: "the device has failed", 6: "the device is busy",
    10: "the gateway in between has no path", 11: "the device behind the gateway does not answer",
}  # fmt: skip


class LinkFailed(Exception):
    """The link or the device did not answer as it must; the socket has to be closed."""


class Refusal(Exception):
    """The device answered with an exception code: the link is good, the registers are not."""

    def __init__(self, code: int) -> None:
        super().__init__(_EXCEPTIONS.get(code, f"exception {code}"))
        self.code = code


class ModbusReader:
    """Polls one line until it is cancelled."""

    def __init__(
        self, source: ModbusSource, tags: Sequence[ModbusTag], time_tag: ModbusTag | None, line: LineInput
    ) -> None:
        self._source = source
        self._tags = tags
        self._time_tag = time_tag
        self._line = line
        self._said: set[str] = set()
        # pymodbus logs each failure; they are said by us, once and in plain words.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    async def run(self) -> None:
        """Connects, polls, and begins again; never gives up."""
        backoff = Backoff()
        where = f"{self._source.host}:{self._source.port}"
        while True:
            client = AsyncModbusTcpClient(
                self._source.host,
                port=self._source.port,
                timeout=self._source.timeout_ms / 1000,
                retries=0,
                reconnect_delay=0,
                reconnect_delay_max=0,
            )
            try:
                async with asyncio.timeout(self._source.timeout_ms / 1000 + 1):
                    if not await client.connect():
                        raise LinkFailed("nothing answers there; is the PLC on?")
                self._line.begin()
                await self._poll(client, backoff)
            except LinkFailed as error:
                self._line.lost(f"no connection to {where}: {error}")
            except TimeoutError:
                self._line.lost(f"no connection to {where}: no answer in time")
            finally:
                client.close()
            await asyncio.sleep(backoff.next_s())

    async def _poll(self, client: AsyncModbusTcpClient, backoff: Backoff) -> None:
        loop = asyncio.get_running_loop()
        tags = self._tags if self._time_tag is None else (*self._tags, self._time_tag)
        reads = plan(tags)
        interval_s = self._source.poll_interval_ms / 1000
        due = loop.time()
        connected = False
        while True:
            reads, values = await self._round(client, reads)
            if not connected:
                connected = True
                good = sum(1 for tag in self._tags if values.get(tag) is not None)
                where = f"{self._source.host}:{self._source.port} device {self._source.device_id}"
                self._line.connected(f"connected to {where}, {good} of {len(self._tags)} tags in {len(reads)} reads")
            time_ms = values.get(self._time_tag) if self._time_tag is not None else None
            for tag in self._tags:
                number = values.get(tag)
                if number is not None and tag.role is SignalRole.ORDER:
                    number = int(number != 0)
                elif number is not None and tag.role is SignalRole.SPEED:
                    number *= SPEED_SCALE
                self._line.put(tag.column, number, time_ms)
            self._line.alive()
            backoff.reset()
            # On a grid, not after the last answer: a slow device must not make the polls drift.
            due = max(due + interval_s, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _round(
        self, client: AsyncModbusTcpClient, reads: list[Read]
    ) -> tuple[list[Read], dict[ModbusTag | None, int | None]]:
        """One poll: the reads to use from now on, and each tag's value (None: refused)."""
        kept: list[Read] = []
        values: dict[ModbusTag | None, int | None] = {}
        waiting = list(reads)
        while waiting:
            read = waiting.pop(0)
            try:
                registers = await self._request(client, read)
            except Refusal as refusal:
                if len(read.tags) > 1:
                    # One bad register must not take the others with it.
                    waiting = split(read) + waiting
                    continue
                values[read.tags[0]] = None
                kept.append(read)
                self._say(f"the register {read.tags[0].words} cannot be read: {refusal}")
                continue
            kept.append(read)
            for tag in read.tags:
                values[tag] = value(tag, read, registers)
        return kept, values

    async def _request(self, client: AsyncModbusTcpClient, read: Read) -> Sequence[int]:
        ask: Any = {
            "holding": client.read_holding_registers, "input": client.read_input_registers,
            "coil": client.read_coils, "discrete": client.read_discrete_inputs,
        }[read.table]  # fmt: skip
        try:
            async with asyncio.timeout(self._source.timeout_ms / 1000 + 1):
                answer = await ask(read.address, count=read.count, device_id=self._source.device_id)
        except (ModbusException, OSError) as error:
            raise LinkFailed("the device does not answer") from error
        if isinstance(answer, ExceptionResponse):
            raise Refusal(answer.exception_code)
        if answer.isError():
            raise LinkFailed("the device does not answer as it should")
        if answer.transaction_id == 0:
            # pymodbus takes 0 for any request: a stale answer would pass for a fresh one.
            raise LinkFailed("the device answers without a transaction id; its answers cannot be told apart")
        if read.table in ("coil", "discrete"):
            bits = list(answer.bits)
            if not read.count <= len(bits) < read.count + 8:
                raise LinkFailed(f"asked for {read.count} bits, got {len(bits)}")
            return [int(bit) for bit in bits[: read.count]]
        if len(answer.registers) != read.count:
            raise LinkFailed(f"asked for {read.count} registers, got {len(answer.registers)}")
        return list(answer.registers)

    def _say(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            self._line.log.warning("%s", words)
