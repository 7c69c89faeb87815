"""Modbus TCP against a real server and against peers that misbehave."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.backoff import Backoff
from agent.config_line import ModbusSource
from agent.config_modbus import ModbusTag
from agent.sources import modbus as source
from protocols.plc.roles import SignalRole
from tests.agent import factory
from tests.support.line_input import LineRecorder

STATE, TOTAL, REJECT = SignalRole.STATE, SignalRole.TOTAL, SignalRole.REJECT


def tag(
    role: SignalRole, register: int, kind: str = "uint16", table: str = "holding", little: bool = False
) -> ModbusTag:
    return ModbusTag(role, register, kind, table, little_words=little)


TAGS = (tag(STATE, 0), tag(TOTAL, 1, "uint32"), tag(REJECT, 3))


@asynccontextmanager
async def plc(port: int, registers: list[int]) -> AsyncIterator[None]:
    device = SimDevice(id=1, simdata=[SimData(0, values=registers, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer([device], address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


@asynccontextmanager
async def reading(folder: Path, port: int, tags: tuple[ModbusTag, ...] = TAGS) -> AsyncIterator[LineRecorder]:
    settings = factory.configuration(folder, factory.modbus(port)).lines[0].source
    assert isinstance(settings, ModbusSource)
    line = LineRecorder()
    task = asyncio.create_task(source.ModbusReader(settings, tags, None, line).run())
    try:
        yield line
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.1)


def test_a_device_is_polled(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        async with plc(port, [2, 1, 2, 7]), reading(tmp_path, port) as line:
            await line.until(lambda: line.alive_count >= 3)
            assert [line.newest(role) for role in (STATE, TOTAL, REJECT)] == [2, 65538, 7]
            assert line.events == [f"connected to 127.0.0.1:{port} device 1, 3 of 3 tags in 1 reads"]

    asyncio.run(scenario())


def test_a_register_that_does_not_exist_leaves_the_others_alone(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        tags = (tag(STATE, 0), tag(TOTAL, 1), tag(REJECT, 90))
        async with plc(port, [2, 5, 0]), reading(tmp_path, port, tags) as line:
            await line.until(lambda: line.alive_count >= 2)
            assert [line.newest(role) for role in (STATE, TOTAL, REJECT)] == [2, 5, None]
            assert "2 of 3 tags" in line.events[0]

    asyncio.run(scenario())


def test_a_plc_that_is_off_is_said_and_waited_for(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        async with reading(tmp_path, port) as line:
            await line.until(lambda: any("is the PLC on?" in event for event in line.events))
            async with plc(port, [2, 0, 1, 0]):
                await line.until(lambda: line.newest(STATE) == 2)
            await line.until(lambda: line.events[-1].startswith("lost"))
            async with plc(port, [1, 0, 1, 0]):
                await line.until(lambda: line.newest(STATE) == 1)

    asyncio.run(scenario())


Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(port: int, answer: Answer) -> AsyncIterator[list[int]]:
    """A hand-made device; gives how many connections it had."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        try:
            while request := await reader.readexactly(12):
                await answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield connections
    finally:
        server.close()
        await asyncio.sleep(0.05)


def reply(request: bytes, registers: list[int], transaction: int | None = None) -> bytes:
    number = struct.unpack(">H", request[:2])[0] if transaction is None else transaction
    body = bytes([1, 3, 2 * len(registers)]) + b"".join(struct.pack(">H", register) for register in registers)
    return struct.pack(">HHH", number, 0, len(body)) + body


def test_a_short_answer_is_refused(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def short(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(request, []))

    _refuses(tmp_path, free_port(), short, "asked for 8 bytes of data, got 0")


def test_an_answer_without_a_transaction_id_is_refused(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def nameless(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(request, [2, 0, 1, 0], transaction=0))

    _refuses(tmp_path, free_port(), nameless, "without a transaction id")


def test_after_a_timeout_the_socket_is_closed(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def late(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        writer.write(reply(request, [2, 0, 1, 0]))

    _refuses(tmp_path, free_port(), late, "no answer in time")


async def until(condition: Callable[[], bool], timeout_s: float = 8.0) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def _refuses(folder: Path, port: int, answer: Answer, words: str) -> None:
    """No value is taken from such a device, and each attempt has a connection of its own."""

    async def scenario() -> None:
        async with peer(port, answer) as connections, reading(folder, port) as line:
            await line.until(lambda: bool(line.events))
            await until(lambda: len(connections) >= 4)
            assert all(words in event and event.startswith("lost") for event in line.events)
            assert line.values == []

    asyncio.run(scenario())
