"""The simulated plant's real servers, in a thread of their own, for commands that run an event loop themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import SimulatedClock
from agent.simulator.modbus_server import ModbusServer
from agent.simulator.opcua_server import OpcUaServer
from agent.simulator.plant import Plant
from agent.simulator.request_log import RequestLog
from agent.simulator.spec import load_plant
from protocols.errors import LinetallyError

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
START_MS = round(datetime(2026, 3, 2, 6, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True)
class Served:
    """`endpoint`: of OPC UA (line filling); `modbus_port`: of Modbus (line packing, device 1)."""

    endpoint: str
    modbus_port: int
    log: RequestLog


@contextmanager
def serving(speed: float = 1.0, start_ms: int = START_MS) -> Iterator[Served]:
    """Both servers. At the end, no write may have been seen."""
    ready: list[Served] = []
    failed: list[Exception] = []
    begun = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        clock = SimulatedClock.starting_at(start_ms, speed)
        spec = load_plant(EXAMPLES / "plant.toml")
        filling, packing = (Plant(spec.line(name), start_ms - 3_600_000) for name in ("filling", "packing"))
        log = RequestLog()
        opcua = OpcUaServer([filling], clock, log, port=0)
        modbus = ModbusServer([packing], clock, log, port=0)
        stop = asyncio.Event()
        await opcua.start()
        try:
            await modbus.start()
            try:
                loops.append((asyncio.get_running_loop(), stop))
                ready.append(Served(opcua.url, modbus.port, log))
                begun.set()
                await stop.wait()
            finally:
                await modbus.stop()
        finally:
            await opcua.stop()

    def run() -> None:
        try:
            asyncio.run(serve())
        except (OSError, LinetallyError) as error:
            failed.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=run, name="simulated plant")
    thread.start()
    begun.wait(30)
    try:
        if failed:
            raise failed[0]
        yield ready[0]
        assert ready[0].log.writes_seen == 0, "commissioning only reads"
    finally:
        for loop, stop in loops:
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
