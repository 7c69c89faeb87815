"""`linetally-agent simulate`: a plant on this machine, served as real PLCs would be.

Decides the options and the life of the two servers. asyncua and pymodbus are imported only when it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.clock import SimulatedClock
from protocols.errors import ConfigurationError

if TYPE_CHECKING:
    from agent.simulator.opcua_server import OpcUaServer
    from agent.simulator.spec import LineSpec

_DESCRIPTION = """\
Serve the lines of a plant file as PLCs: OPC UA (PackML) and Modbus TCP, on this machine only unless --host
says otherwise. The plant is seeded: the same file and start give the same states and pieces again.

examples:
  linetally-agent simulate --plant deploy/examples/plant.toml
      in real time; OPC UA on port 4840, Modbus on port 5020
  linetally-agent simulate --plant plant.toml --speed 60 --clock-file /tmp/plant-clock.json
      an hour a minute; an agent with the same clock file lives in the same time
  linetally-agent simulate --plant plant.toml --start 2026-03-02T06:00 --opcua-port 4850
      from a Monday morning (UTC, or with an offset: 2026-03-02T06:00+08:00)

Ctrl-C ends it. With a clock file that exists it goes on in that file's time, and --start and --speed are not used.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `simulate`; its `run` default is `run` of this module."""
    parser = subparsers.add_parser(
        "simulate",
        help="serve a simulated plant over OPC UA and Modbus TCP",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plant", type=Path, required=True, metavar="FILE", help="the plant's TOML file")
    parser.add_argument("--speed", type=_speed, default=1.0, help="times as fast as real time (1)")
    parser.add_argument("--start", type=_start, metavar="ISO", help="the plant's time at the start (now)")
    parser.add_argument("--clock-file", type=Path, metavar="FILE", help="share the time with agents through it")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--opcua-port", type=_port, default=4840, metavar="PORT", help="4840; 0 takes a free one")
    parser.add_argument("--modbus-port", type=_port, default=5020, metavar="PORT", help="5020; 0 takes a free one")
    parser.add_argument("--request-log", type=Path, metavar="FILE", help="write each request as a JSON line")
    parser.set_defaults(run=run)


def _speed(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 3600:
        raise argparse.ArgumentTypeError("a number from 0.01 to 3600")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("a port from 0 to 65535")
    return value


def _start(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a time such as 2026-03-02T06:00 or 2026-03-02T06:00+08:00") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def plant_start_ms(line: LineSpec, clock: SimulatedClock) -> int:
    """The instant at which a served line's life begins: local midnight before the clock's start.

    The same clock file gives the same plant again, and so does a restart on the same day.
    """
    began = datetime.fromtimestamp(clock.start_ms / 1000, line.timezone)
    midnight = began.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return round(midnight.timestamp() * 1000)


def open_clock(path: Path | None, start_ms: int | None, speed: float) -> SimulatedClock:
    """The clock of an existing file, or a new one, which is written to the file."""
    if path is not None and path.exists():
        clock = SimulatedClock.read(path)
    else:
        now_ms = round(datetime.now(UTC).timestamp() * 1000)
        clock = SimulatedClock.starting_at(now_ms if start_ms is None else start_ms, speed)
    if path is not None:
        try:
            clock.write(path)
        except OSError as error:
            what = f"the clock file cannot be written: {error.strerror}"
            raise ConfigurationError(what, file=str(path), mend="choose another --clock-file") from error
    return clock


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM. 0 when it was stopped, 2 when it could not start."""
    try:
        return asyncio.run(_serve(args))
    except ConfigurationError as error:
        print(f"linetally-agent simulate: {error}", file=sys.stderr)
        return 2


async def _serve(args: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    clock = open_clock(args.clock_file, args.start, args.speed)
    async with _servers(args, clock) as (lines, opcua):
        for line in lines:
            print(line)
        shown = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).isoformat(timespec="seconds")
        print(f"clock: {shown}, {clock.speed:g} times real time")
        print("ready", flush=True)
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait(), name="signal")]
        if opcua is not None:
            waits.append(asyncio.create_task(opcua.ended(), name="opcua ended"))
        _, unfinished = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
    return 0


@contextlib.asynccontextmanager
async def _servers(
    args: argparse.Namespace, clock: SimulatedClock
) -> AsyncIterator[tuple[list[str], OpcUaServer | None]]:
    """Both servers, running; yields what to print of each line, and the OPC UA server if a line needs it."""
    from agent.simulator.modbus_server import ModbusServer
    from agent.simulator.opcua_server import OpcUaServer
    from agent.simulator.plant import Plant
    from agent.simulator.request_log import RequestLog
    from agent.simulator.spec import Protocol, load_plant

    spec = load_plant(args.plant)
    plants = {line.id: Plant(line, plant_start_ms(line, clock)) for line in spec.lines}
    try:
        log = RequestLog(args.request_log)
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=str(args.request_log)) from error
    said: dict[str, str] = {}
    server: OpcUaServer | None = None
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(log)
        if modbus := [plants[line.id] for line in spec.served_by(Protocol.MODBUS)]:
            tcp = ModbusServer(modbus, clock, log, args.host, args.modbus_port)
            await tcp.start()
            stack.push_async_callback(tcp.stop)
            for number, plant in enumerate(modbus, 1):
                said[plant.spec.id] = f"modbus-tcp://{args.host}:{tcp.port} device {number}"
        if opcua := [plants[line.id] for line in spec.served_by(Protocol.OPCUA)]:
            server = OpcUaServer(opcua, clock, log, args.host, args.opcua_port)
            await server.start()
            stack.push_async_callback(server.stop)
            for plant in opcua:
                said[plant.spec.id] = f"{server.url} node {server.node_id(plant.spec.id)}/..."
        yield [f"{line.id}: {said.get(line.id, 'not served, a history only')}" for line in spec.lines], server
