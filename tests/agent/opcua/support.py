"""An OPC UA server by asyncua, and a line's input that keeps what it is given: what the tests of the reader share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Server, ua

from agent.config_opcua import OpcuaSource, OpcuaTag
from agent.line import Fresh
from agent.sources.opcua import OpcuaReader
from agent.trust import TrustStore
from protocols.plc.roles import SignalRole
from tests.agent import factory
from tests.support.line_input import LineRecorder

STATE, TOTAL, PRODUCT = SignalRole.STATE, SignalRole.TOTAL, SignalRole.PRODUCT
URI = "urn:linetally:simulator"


class Plc:
    """An OPC UA server with a state, a counter and a product text."""

    def __init__(self, port: int, spare_namespaces: int = 0, clock_ahead_ms: int = 0) -> None:
        self.port = port
        self._ahead_ms = clock_ahead_ms
        self.endpoint = f"opc.tcp://127.0.0.1:{port}"
        self.nodes: dict[str, Any] = {}
        self._policies = [ua.SecurityPolicyType.NoSecurity]
        self._spare = spare_namespaces
        self._server = Server()

    async def start(self, *names: str) -> None:
        if self._ahead_ms:
            self._server.disable_clock()
        await self._server.init()
        self._server.set_endpoint(self.endpoint)
        self._server.set_security_policy(self._policies)
        for spare in range(self._spare):
            await self._server.register_namespace(f"urn:spare:{spare}")
        index = await self._server.register_namespace(URI)
        folder = await self._server.nodes.objects.add_object(index, "line")
        if self._ahead_ms:
            moment = datetime.now(UTC) + timedelta(milliseconds=self._ahead_ms)
            await self._server.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)).write_value(moment)
        for name in names or ("State", "Total", "Product"):
            value: Any = "" if name == "Product" else 0
            kind = ua.VariantType.String if name == "Product" else ua.VariantType.Int32
            self.nodes[name] = await folder.add_variable(index, name, value, kind)
        await self._server.start()

    async def secure(self, certificate: Path, key: Path, *policies: str) -> None:
        """Before `start`: these policies, each signed or encrypted too."""
        await self._server.load_certificate(str(certificate))
        await self._server.load_private_key(str(key))
        names = [f"{policy}_{mode}" for policy in policies for mode in ("Sign", "SignAndEncrypt")]
        self._policies = [getattr(ua.SecurityPolicyType, name) for name in names]

    async def stop(self) -> None:
        await self._server.stop()

    @property
    def subscriptions(self) -> list[Any]:
        """asyncua's own, to make them misbehave."""
        return list(self._server.iserver.subscription_service.subscriptions.values())

    def forget_items(self) -> None:
        """The monitored items are gone; the subscription lives, and nobody is told."""
        for subscription in self.subscriptions:
            subscription.monitored_item_srv.delete_all_monitored_items()

    async def add(self, name: str, value: Any) -> None:
        """A further variable in the folder."""
        folder = await self.nodes["State"].get_parent()
        self.nodes[name] = await folder.add_variable(self.nodes["State"].nodeid.NamespaceIndex, name, value)

    async def deny(self, number: int) -> None:
        """A node of OPC UA's own namespace cannot be read any more."""
        denied = ua.DataValue(None, ua.StatusCode(ua.StatusCodes.BadUserAccessDenied))
        await self._server.write_attribute_value(ua.NodeId(number), denied)

    async def register_namespace(self, uri: str) -> None:
        await self._server.register_namespace(uri)

    async def write(self, name: str, value: Any, time_ms: int | None = None, status: int = 0) -> None:
        kind = ua.VariantType.String if isinstance(value, str) else ua.VariantType.Int32
        if isinstance(value, float):
            kind = ua.VariantType.Double
        moment = None if time_ms is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
        data = ua.DataValue(ua.Variant(value, kind), ua.StatusCode(status), moment, datetime.now(UTC))
        await self._server.write_attribute_value(self.nodes[name].nodeid, data)


class Recorder(LineRecorder):
    """A line's input that wakes for each value too, and looks again by itself: what is waited for may be the peer's."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: OpcuaReader
        self.begins = 0

    def begin(self, since_ms: int | None = None) -> None:
        self.begins += 1

    def put(self, column: int, value: int | None, source_ms: int | None) -> None:
        super().put(column, value, source_ms)
        self._changed.set()

    def put_all(self, values: Iterable[Fresh]) -> None:
        super().put_all(values)
        self._changed.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 12.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                try:
                    async with asyncio.timeout(0.1):
                        await self._changed.wait()
                except TimeoutError:
                    continue


def tag(role: SignalRole, name: str) -> OpcuaTag:
    return OpcuaTag(role, ("line", name), URI, "", 0)


TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"), tag(PRODUCT, "Product"))


def trust_server(state_folder: Path, certificate: Path) -> None:
    """As if somebody had accepted it."""
    folder = TrustStore(state_folder).trusted_folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / certificate.name).write_bytes(certificate.read_bytes())


@asynccontextmanager
async def reading(
    folder: Path, endpoint: str, tags: Sequence[OpcuaTag] = TAGS, **settings: Any
) -> AsyncIterator[Recorder]:
    """A reader at work. `settings`: what differs of the source's; the reader is `line.reader`."""
    found = factory.configuration(folder, factory.opcua(endpoint)).lines[0].source
    assert isinstance(found, OpcuaSource)
    line = Recorder()
    line.reader = OpcuaReader(replace(found, **settings), tags, {"Cola": 5}, line, 0.5, folder / "state", "GW-01")
    task = asyncio.create_task(line.reader.run())
    try:
        yield line
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            raise ended  # the reader never gives up, so it ended by a mistake of ours
