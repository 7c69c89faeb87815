"""The OPC UA server of a simulated plant: a real one, by asyncua.

Decides the address space and when a node is written. Under Objects, in the namespace `NAMESPACE`, for each line:

    <line id>/Status/StateCurrent                      Int32   PackML state
    <line id>/Status/UnitModeCurrent                   Int32   PackML mode
    <line id>/Status/CurMachSpeed                      Float   pieces a minute
    <line id>/Admin/ProdProcessedCount/AccCount        Int32   pieces in total, rolls over
    <line id>/Admin/ProdDefectiveCount/AccCount        Int32   rejected pieces, rolls over
    <line id>/Admin/ProductCode                        Int32
    <line id>/Admin/ProductName                        String
    <line id>/Admin/OrderActive                        Boolean

A node's id is that path as a string. A node is written when its value changed, with the exact simulated ms as
SourceTimestamp: states, products and orders when they change, counters at each scan and whenever a state changes.
No client may write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Final

from asyncua import ua
from asyncua.common.callback import CallbackType, ServerItemCallback
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from agent.clock import Clock
from agent.simulator.plant import Plant
from agent.simulator.ports import cannot_listen, free_port
from agent.simulator.request_log import RequestLog
from protocols.plc.roles import SignalRole

NAMESPACE: Final = "urn:linetally:simulator"
ENDPOINT_PATH: Final = "/linetally"

_EPOCH: Final = ua.DateTime(1970, 1, 1, tzinfo=UTC)

_NODES: Final[dict[str, tuple[ua.VariantType, int | float | str | bool]]] = {
    "Status/StateCurrent": (ua.VariantType.Int32, 0),
    "Status/UnitModeCurrent": (ua.VariantType.Int32, 0),
    "Status/CurMachSpeed": (ua.VariantType.Float, 0.0),
    "Admin/ProdProcessedCount/AccCount": (ua.VariantType.Int32, 0),
    "Admin/ProdDefectiveCount/AccCount": (ua.VariantType.Int32, 0),
    "Admin/ProductCode": (ua.VariantType.Int32, 0),
    "Admin/ProductName": (ua.VariantType.String, ""),
    "Admin/OrderActive": (ua.VariantType.Boolean, False),
}

_REAL_MS_A_SCAN: Final = 10
"""A scan takes at least this much real time: some 5 % of a core at any speed of the clock."""


def utc(time_ms: int) -> ua.DateTime:
    """The instant as OPC UA's DateTime: exact, for a float of seconds would not be."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def values_at(plant: Plant, time_ms: int) -> dict[str, int | float | str | bool]:
    """The value of each node of a line, by its path, at one instant."""
    image = plant.image(time_ms)
    return {
        "Admin/ProdProcessedCount/AccCount": image[SignalRole.TOTAL],
        "Admin/ProdDefectiveCount/AccCount": image[SignalRole.REJECT],
        "Admin/ProductCode": image[SignalRole.PRODUCT],
        "Admin/ProductName": plant.spec.product_name(image[SignalRole.PRODUCT]),
        "Admin/OrderActive": bool(image[SignalRole.ORDER]),
        "Status/UnitModeCurrent": image[SignalRole.MODE],
        "Status/CurMachSpeed": plant.pieces_per_minute(time_ms),
        "Status/StateCurrent": image[SignalRole.STATE],
    }


class OpcUaServer:
    """Serves lines on one port. `start` and `stop` from the event loop; stopping twice does nothing more."""

    def __init__(
        self,
        plants: Sequence[Plant],
        clock: Clock,
        log: RequestLog,
        host: str = "127.0.0.1",
        port: int = 4840,
        scan_ms: int = 1000,
    ) -> None:
        self._plants = plants
        self._clock = clock
        self._log = log
        self._host = host
        self._scan_ms = max(scan_ms, int(clock.speed * _REAL_MS_A_SCAN))
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._shown: dict[str, int | float | str | bool] = {}
        self._index = 0
        self.port = port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"opc.tcp://{self._host}:{self.port}{ENDPOINT_PATH}"

    async def start(self) -> None:
        """Build the address space and listen. Port 0 takes a free one and sets `port`.

        Raises ConfigurationError when the port is taken.
        """
        self.port = free_port(self._host, self.port, "--opcua-port")
        server = Server()
        server.set_endpoint(self.url)
        server.set_server_name("linetally simulated plant")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        server.allow_remote_admin(False)
        server.disable_clock()  # CurrentTime is the simulated time, written below
        await server.init()
        await server.set_application_uri("urn:linetally:simulator:server")
        self._index = await server.register_namespace(NAMESPACE)
        for plant in self._plants:
            await self._build(server, plant)
        self._watch(server)
        self._server = server
        now_ms = self._clock.now_ms()
        for plant in self._plants:
            await self._show(plant, now_ms)
        await self._show_time(now_ms)
        try:
            await server.start()
        except OSError as error:
            raise cannot_listen(error, self._host, self.port, "--opcua-port") from error
        for plant in self._plants:
            self._tasks.append(asyncio.create_task(self._follow(plant, now_ms), name=f"opcua {plant.spec.id}"))
        self._tasks.append(asyncio.create_task(self._tick(), name="opcua clock"))

    async def ended(self) -> None:
        """Wait until a writing task ends, which it does only by an error; `stop` then raises it."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Stop writing, close the port and every connection. Raises what made a writing task end early."""
        if self._server is None:
            return
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._server.stop()
        self._server = None
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    def node_id(self, path: str) -> str:
        """The id of a node, or of a line's folder, as OPC UA writes it (Part 6, 5.3.1.10)."""
        return f"ns={self._index};s={path}"

    async def _build(self, server: Server, plant: Plant) -> None:
        line = plant.spec.id
        folders = {"": server.nodes.objects}
        for path, (kind, value) in _NODES.items():
            above = ""
            parts = [line, *path.split("/")]
            for part in parts[:-1]:
                here = f"{above}/{part}" if above else part
                if here not in folders:
                    node_id = ua.NodeId.from_string(self.node_id(here))
                    folders[here] = await folders[above].add_object(node_id, ua.QualifiedName(part, self._index))
                above = here
            await folders[above].add_variable(
                ua.NodeId.from_string(self.node_id(f"{line}/{path}")),
                ua.QualifiedName(parts[-1], self._index),
                value,
                kind,
            )

    def _watch(self, server: Server) -> None:
        def read(event: ServerItemCallback, _: object) -> None:
            if event.is_external:
                self._log.opcua(self._clock.now_ms(), "read", len(event.request_params.NodesToRead))

        def write(event: ServerItemCallback, _: object) -> None:
            if event.is_external:
                nodes = [str(value.NodeId) for value in event.request_params.NodesToWrite]
                self._log.requests += 1
                self._log.write_refused(self._clock.now_ms(), "opcua", ", ".join(nodes))

        def subscribed(event: ServerItemCallback, _: object) -> None:
            if event.is_external:
                self._log.opcua(self._clock.now_ms(), "subscribe", len(event.request_params.ItemsToCreate))

        server.subscribe_server_callback(CallbackType.PreRead, read)
        server.subscribe_server_callback(CallbackType.PreWrite, write)
        server.subscribe_server_callback(CallbackType.ItemSubscriptionCreated, subscribed)

    async def _follow(self, plant: Plant, from_ms: int) -> None:
        """Write what changes, in time order. After a pause every state is still written, scans only once."""
        change_ms = plant.next_change_ms(from_ms)
        scan_ms = from_ms - from_ms % self._scan_ms + self._scan_ms
        while True:
            due_ms = min(change_ms, scan_ms)
            now_ms = self._clock.now_ms()
            if due_ms > now_ms:
                await self._clock.sleep(due_ms - now_ms)
                continue
            await self._show(plant, due_ms)
            if due_ms == change_ms:
                change_ms = plant.next_change_ms(due_ms)
            if due_ms == scan_ms:
                scan_ms = max(now_ms - now_ms % self._scan_ms, due_ms) + self._scan_ms
            await asyncio.sleep(0)  # while it catches up, clients are still answered

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._scan_ms)
            await self._show_time(self._clock.now_ms())

    async def _show(self, plant: Plant, time_ms: int) -> None:
        for path, value in values_at(plant, time_ms).items():
            name = f"{plant.spec.id}/{path}"
            if self._shown.get(name) != value:
                self._shown[name] = value
                await self._write(
                    ua.NodeId.from_string(self.node_id(name)), ua.Variant(value, _NODES[path][0]), time_ms
                )

    async def _show_time(self, time_ms: int) -> None:
        node_id = ua.NodeId.from_string(f"i={ObjectIds.Server_ServerStatus_CurrentTime}")
        await self._write(node_id, ua.Variant(utc(time_ms), ua.VariantType.DateTime), time_ms)

    async def _write(self, node_id: ua.NodeId, value: ua.Variant, time_ms: int) -> None:
        assert self._server is not None
        moment = utc(time_ms)
        # The server's clock is the simulated one too, so a client sees no offset between the two timestamps.
        data = ua.DataValue(value, SourceTimestamp=moment, ServerTimestamp=moment)
        await self._server.write_attribute_value(node_id, data)
