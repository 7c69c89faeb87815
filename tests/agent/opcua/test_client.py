"""The client cannot write: tried through asyncua's own client object, with every service there is."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import Client, ua

from agent.sources import opcua_client
from agent.sources.opcua_client import ALLOWED, PeerFault, ReadOnlyClient, WriteRefused, asked
from agent.sources.opcua_nodes import Batches
from tests.agent.opcua.support import Plc

CHANGES = {
    "WriteRequest", "CallRequest", "HistoryUpdateRequest", "AddNodesRequest", "AddReferencesRequest",
    "DeleteNodesRequest", "DeleteReferencesRequest", "RegisterNodesRequest", "UnregisterNodesRequest",
    "RegisterServerRequest", "RegisterServer2Request", "SetTriggeringRequest", "CancelRequest", "QueryFirstRequest",
    "QueryNextRequest", "HistoryReadRequest", "TestStackRequest", "TestStackExRequest",
}  # fmt: skip
"""Every other request of the standard, the harmless ones that are not needed too."""


@asynccontextmanager
async def client_of(port: int) -> AsyncIterator[tuple[Plc, ReadOnlyClient]]:
    plc = Plc(port)
    await plc.start()
    client = ReadOnlyClient(plc.endpoint, 5.0)
    await client.connect()
    try:
        yield plc, client
    finally:
        await client.end()
        await plc.stop()


def test_whatever_changes_a_server_is_not_sent(free_port: Callable[[], int], services: Counter[str]) -> None:
    async def scenario() -> None:
        async with client_of(free_port()) as (plc, client):
            node = client.get_node(plc.nodes["Total"].nodeid)
            folder = await node.get_parent()
            attempts: list[Callable[[], Any]] = [
                lambda: node.write_value(ua.Variant(1, ua.VariantType.Int32)),
                lambda: node.set_writable(),
                lambda: client.write_values([node], [ua.Variant(1, ua.VariantType.Int32)]),
                lambda: folder.call_method(ua.NodeId(ua.ObjectIds.Server_GetMonitoredItems), 1),
                lambda: folder.add_variable(2, "mine", 1),
                lambda: folder.add_object(2, "mine"),
                lambda: client.delete_nodes([node]),
                lambda: client.register_namespace("urn:mine"),
                lambda: client.register_nodes([node]),
                lambda: client.uaclient.session.history_update(ua.HistoryUpdateParameters()),
                lambda: client.uaclient.session.write(ua.WriteParameters()),
                lambda: client.uaclient.session.call([]),
            ]
            for attempt in attempts:
                with pytest.raises(WriteRefused):
                    await attempt()
            protocol = client.uaclient.protocol
            for name in CHANGES & set(dir(ua)):
                with pytest.raises(WriteRefused):
                    protocol._send_request(getattr(ua, name)())
            assert await node.read_value() == 0  # and the connection is as good as before

    asyncio.run(scenario())
    assert not set(services) & CHANGES


def test_every_request_of_the_standard_was_decided_about() -> None:
    every = {name for name, kind in inspect.getmembers(ua, inspect.isclass) if name.endswith("Request")}
    every -= {"MonitoredItemCreateRequest", "MonitoredItemModifyRequest", "CallMethodRequest"}  # parts of others
    decided = {kind.__name__ for kind in ALLOWED} | CHANGES
    assert {name for name in every - decided if hasattr(getattr(ua, name), "TypeId")} <= {"FindServersOnNetworkRequest"}


def test_a_socket_that_asyncua_opens_again_is_read_only_too(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with client_of(free_port()) as (_, client):
            client.disconnect_socket()
            await client.connect_socket()
            with pytest.raises(WriteRefused):
                client.uaclient.protocol._send_request(ua.WriteRequest())

    asyncio.run(scenario())


def test_nonsense_of_a_peer_is_one_kind_of_error() -> None:
    async def broken() -> None:
        raise KeyError(7)

    with pytest.raises(PeerFault, match="KeyError"):
        asyncio.run(asked(broken()))


def test_batches_are_as_large_as_the_server_takes() -> None:
    """A server that says nothing of its limit, and one whose answers are too few."""
    sizes: list[int] = []

    async def call(part: list[int]) -> list[int]:
        sizes.append(len(part))
        if len(part) > 30:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
        return [2 * item for item in part]

    batches = Batches(100)
    assert asyncio.run(batches.ask(range(60), call)) == [2 * item for item in range(60)]
    assert sizes == [60, 30, 30]
    assert batches.at_most == 30  # remembered

    async def short(part: list[int]) -> list[int]:
        return part[1:]

    with pytest.raises(PeerFault, match="answered for 4"):
        asyncio.run(Batches(5).ask(range(5), short))

    async def never(part: list[int]) -> list[int]:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadResponseTooLarge)

    with pytest.raises(ua.UaStatusCodeError):
        asyncio.run(Batches(5).ask(range(5), never))


def test_a_request_is_no_longer_than_the_server_takes() -> None:
    sizes: list[int] = []

    async def call(part: list[int]) -> list[int]:
        sizes.append(len(part))
        return part

    asyncio.run(Batches(100, most_bytes=1000).ask(range(20), call, item_bytes=128))
    assert sizes == [7, 7, 6]
    assert asyncio.run(Batches(100, most_bytes=1000).ask([], call, item_bytes=0)) == []  # no tag has a path


def test_asyncua_looks_after_nothing_that_is_not_its_own() -> None:
    """Its loop for stale subscriptions would wake the gateway twice a second; ours are not among those it has."""
    assert Client("opc.tcp://127.0.0.1:1")._stale_check_interval == 0.5, "asyncua calls it otherwise now"
    assert ReadOnlyClient("opc.tcp://127.0.0.1:1", 5.0)._stale_check_interval > 3600


def test_a_peer_that_takes_nothing_is_let_go_of_at_once(free_port: Callable[[], int]) -> None:
    """As over a link that is half open: close() would keep the socket until what is left to send was taken."""

    async def scenario() -> None:
        over = asyncio.Event()

        async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.transport.abort()

        server = await asyncio.start_server(ignore, "127.0.0.1", port := free_port(), limit=1024)
        client = ReadOnlyClient(f"opc.tcp://127.0.0.1:{port}", 1.0)
        await client.connect_socket()
        protocol = client.uaclient.protocol
        assert protocol is not None and protocol.transport is not None
        protocol.transport.write(bytes(50_000_000))
        await client.end()
        await asyncio.sleep(0.05)
        assert protocol.is_closed
        over.set()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


def test_a_goodbye_that_nobody_waits_for_closes_the_socket_too(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is taken out while its connection ends: the PLC has few sessions to give."""
    monkeypatch.setattr(opcua_client, "_GOODBYE_S", 0.2)

    async def scenario() -> None:
        async with client_of(free_port()) as (_, client):
            protocol = client.uaclient.protocol
            assert protocol is not None
            monkeypatch.setattr(ReadOnlyClient, "disconnect", lambda _: asyncio.sleep(3600))
            ending = asyncio.create_task(client.end())
            await asyncio.sleep(0.05)
            ending.cancel()
            await asyncio.wait([ending])
            await asyncio.wait([client._ending], timeout=10)
            assert protocol.transport is None or protocol.transport.is_closing()
            monkeypatch.undo()

    asyncio.run(scenario())
