"""OPC UA against a real server: what breaks on a shop floor becomes unknown time, and comes back by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua

from agent.config_opcua import OpcuaTag
from agent.sources import opcua as source
from protocols.plc.roles import SignalRole
from tests.agent import factory

STATE, TOTAL, PRODUCT = SignalRole.STATE, SignalRole.TOTAL, SignalRole.PRODUCT
URI = "urn:linetally:simulator"


class Plc:
    """An OPC UA server with a state, a counter and a product text."""

    def __init__(self, port: int, spare_namespaces: int = 0) -> None:
        self.endpoint = f"opc.tcp://127.0.0.1:{port}"
        self.nodes: dict[str, Any] = {}
        self._spare = spare_namespaces
        self._server = Server()

    async def start(self, *names: str) -> None:
        await self._server.init()
        self._server.set_endpoint(self.endpoint)
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for spare in range(self._spare):
            await self._server.register_namespace(f"urn:spare:{spare}")
        index = await self._server.register_namespace(URI)
        folder = await self._server.nodes.objects.add_object(index, "line")
        for name in names or ("State", "Total", "Product"):
            value: Any = "" if name == "Product" else 0
            kind = ua.VariantType.String if name == "Product" else ua.VariantType.Int32
            self.nodes[name] = await folder.add_variable(index, name, value, kind)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def write(self, name: str, value: Any, time_ms: int | None = None, status: int = 0) -> None:
        kind = ua.VariantType.String if isinstance(value, str) else ua.VariantType.Int32
        if isinstance(value, float):
            kind = ua.VariantType.Double
        moment = None if time_ms is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
        data = ua.DataValue(ua.Variant(value, kind), ua.StatusCode(status), SourceTimestamp=moment)
        await self._server.write_attribute_value(self.nodes[name].nodeid, data)


class Recorder:
    """A line's input that keeps what it is given."""

    def __init__(self) -> None:
        self.log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "test"})
        self.values: list[tuple[int, int | None, int | None]] = []
        self.events: list[str] = []
        self.alive_count = 0
        self._changed = asyncio.Event()

    def begin(self) -> None:
        pass

    def put(self, column: int, value: int | None, source_ms: int | None) -> None:
        self.values.append((column, value, source_ms))
        self._changed.set()

    def alive(self, age_ms: float = 0.0) -> None:
        self.alive_count += 1
        self._changed.set()

    def lost(self, words: str) -> None:
        self.events.append(f"lost: {words}")
        self._changed.set()

    def connected(self, words: str) -> None:
        self.events.append(words)
        self._changed.set()

    def newest(self, role: SignalRole) -> int | None:
        return next((value for found, value, _ in reversed(self.values) if found == role), None)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 8.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def tag(role: SignalRole, name: str) -> OpcuaTag:
    return OpcuaTag(role, ("line", name), URI, "", 0)


TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"), tag(PRODUCT, "Product"))


@asynccontextmanager
async def reading(folder: Path, endpoint: str, tags: tuple[OpcuaTag, ...] = TAGS) -> AsyncIterator[Recorder]:
    settings = factory.configuration(folder, factory.opcua(endpoint)).lines[0].source
    assert isinstance(settings, source.OpcuaSource)
    line = Recorder()
    reader = source.OpcuaReader(settings, tags, {"Cola": 5}, line, keep_alive_s=0.5)
    task = asyncio.create_task(reader.run())
    try:
        yield line
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.backoff.FIRST_S", 0.2)
    monkeypatch.setattr(source, "QUARANTINE_S", 0.5)
    monkeypatch.setattr(source.Backoff, "next_s", lambda self: 0.2)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)


def test_values_come_with_the_plcs_time_and_texts_become_codes(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        plc = Plc(free_port(), spare_namespaces=3)
        await plc.start()
        async with reading(tmp_path, plc.endpoint) as line:
            await line.until(lambda: any("3 of 3 tags" in event for event in line.events))
            await plc.write("State", 6, 1_790_000_000_123)
            await plc.write("Product", "Cola", 1_790_000_000_200)
            await line.until(lambda: line.newest(STATE) == 6 and line.newest(PRODUCT) == 5)
            assert (STATE, 6, 1_790_000_000_123) in line.values
            await plc.write("Product", "Unheard of", 1_790_000_000_300)
            await line.until(lambda: line.values[-1][:2] == (PRODUCT, None))
        await plc.stop()

    asyncio.run(scenario())


def test_bad_quality_and_a_wrong_type_are_no_value(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        async with reading(tmp_path, plc.endpoint) as line:
            await line.until(lambda: line.newest(TOTAL) == 0)
            await plc.write("Total", 17, status=ua.StatusCodes.BadSensorFailure)
            await line.until(lambda: line.values[-1][:2] == (TOTAL, None))
            await plc.write("Total", 18, status=ua.StatusCodes.UncertainLastUsableValue)
            await plc.write("Total", 19)
            await line.until(lambda: line.newest(TOTAL) == 19)
            assert (TOTAL, 18) not in [value[:2] for value in line.values]
        await plc.stop()

    asyncio.run(scenario())


def test_one_bad_node_does_not_stop_the_rest_and_is_tried_again(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start("State", "Total")
        async with reading(tmp_path, plc.endpoint) as line:
            await line.until(lambda: any("2 of 3 tags" in event for event in line.events))
            await plc.write("State", 6)
            await line.until(lambda: line.newest(STATE) == 6)
            folder = await plc.nodes["State"].get_parent()
            index = plc.nodes["State"].nodeid.NamespaceIndex
            await folder.add_variable(index, "Product", "Cola")
            await line.until(lambda: line.newest(PRODUCT) == 5)
        await plc.stop()

    asyncio.run(scenario())


def test_a_plc_that_is_off_is_said_and_waited_for(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        async with reading(tmp_path, f"opc.tcp://127.0.0.1:{port}") as line:
            await line.until(lambda: any("is the PLC on?" in event for event in line.events))
            plc = Plc(port)
            await plc.start()
            await line.until(lambda: line.newest(STATE) == 0)
            await plc.stop()

    asyncio.run(scenario())


def test_after_a_restart_with_other_node_ids_it_reads_on(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        plc = Plc(port)
        await plc.start()
        async with reading(tmp_path, plc.endpoint) as line:
            await line.until(lambda: line.newest(STATE) == 0)
            await plc.stop()
            await line.until(lambda: any(event.startswith("lost") for event in line.events))
            again = Plc(port, spare_namespaces=4)  # the namespace has another number now
            await again.start("Product", "Total", "State")
            await again.write("State", 11)
            await line.until(lambda: line.newest(STATE) == 11)
            await again.stop()

    asyncio.run(scenario())


def test_silence_is_noticed_although_the_socket_is_open(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(source, "LEAST_SILENCE_S", 1.0)
        plc = Plc(free_port())
        await plc.start()
        async with reading(tmp_path, plc.endpoint) as line:
            await line.until(lambda: line.alive_count > 3)  # keep-alives, for nothing changes
            internal = plc._server.iserver.subscription_service
            for subscription in internal.subscriptions.values():
                monkeypatch.setattr(subscription, "publish_results", _nothing)
            await line.until(lambda: any("has sent nothing" in event for event in line.events))
            monkeypatch.undo()
        await plc.stop()

    asyncio.run(scenario())


async def _nothing(*_: object, **__: object) -> bool:
    return False
