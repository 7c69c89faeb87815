"""Which reader a line gets, by its protocol.

Decides what is imported when, so that a gateway loads what it uses, and holds what lines share: the polls of a
Modbus link, a connection to an OPC UA server.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Final

from agent.clock import Clock
from agent.config import AgentConfiguration
from agent.config_line import ModbusSource, OpcuaSource
from agent.config_modbus import ModbusTag
from agent.config_opcua import OpcuaTag
from agent.line import Line
from agent.sources.opcua_library import load

if TYPE_CHECKING:
    from agent.sources.modbus_shared import ModbusDevices
    from agent.sources.opcua_shared import OpcuaServers


HEAD_START_S: Final = 0.5
"""What is read by OPC UA waits so long at most for the first that is told of the others."""


class Sources:
    """The readers of one gateway. `told`: is set when something was told of a line."""

    def __init__(self, configuration: AgentConfiguration, clock: Clock, told: asyncio.Event) -> None:
        self._configuration = configuration
        self._told = told
        self._speed = clock.speed if math.isfinite(clock.speed) else 1.0
        self._devices: ModbusDevices | None = None
        self._servers: OpcuaServers | None = None
        self._loading = asyncio.Lock()

    async def read(self, line: Line) -> None:
        """Reads one line until it is cancelled."""
        if isinstance(line.settings.source, OpcuaSource):
            await self._opcua(line, line.settings.source)
        elif isinstance(line.settings.source, ModbusSource):
            await self._modbus(line, line.settings.source)

    async def _opcua(self, line: Line, source: OpcuaSource) -> None:
        async with self._loading:
            if self._servers is None:
                await self._give_way()
                # In a thread: it takes a gateway seconds, in which Modbus devices and the broker can answer already.
                await asyncio.to_thread(load, "agent.sources.opcua_shared")
                from agent.sources.opcua_shared import OpcuaServers

                self._servers = OpcuaServers(self._configuration.state_folder, self._configuration.gateway_id)
        if source.poll:
            self._look_at_polls(line, source.poll_interval_ms)
        tags = [tag for tag in line.settings.tags if isinstance(tag, OpcuaTag)]
        await self._servers.read(source, tags, line.settings.product_codes, line, self._staleness_s(line) / 3)

    async def _give_way(self) -> None:
        """Modbus devices answer in milliseconds, and loading OPC UA beside them would make half a second of it; by
        OPC UA itself a value is known only after seconds."""
        if any(isinstance(line.source, ModbusSource) for line in self._configuration.lines):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEAD_START_S):
                    await self._told.wait()

    async def _modbus(self, line: Line, source: ModbusSource) -> None:
        if self._devices is None:
            from agent.sources.modbus_shared import ModbusDevices

            self._devices = ModbusDevices()
        registers = [tag for tag in line.settings.tags if isinstance(tag, ModbusTag)]
        self._look_at_polls(line, source.poll_interval_ms)
        await self._devices.read(source, registers, line.settings.time_tag, line, line.settings.product_codes)

    def _look_at_polls(self, line: Line, poll_interval_ms: int) -> None:
        least_s = math.ceil(3 * poll_interval_ms / 1000 * self._speed)
        if line.settings.configuration.staleness_ms < 1000 * least_s:
            words = (
                "staleness_s is less than three polls: one slow answer makes the state unknown; write: staleness_s = %d"
            )
            line.log.warning(words, least_s)

    def _staleness_s(self, line: Line) -> float:
        return line.settings.configuration.staleness_ms / 1000 / self._speed
