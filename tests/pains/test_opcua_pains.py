"""What users of other gateways suffer with OPC UA, and what they get here: the rows of the table in docs/opcua.md.

The servers are node-opcua (npm), which we did not write, and asyncua's own where one must be made to misbehave. Every
one of them counts what it is asked: nothing but reading.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.backoff import Backoff
from agent.config_opcua import OpcuaTag
from agent.sources import opcua as source
from agent.sources import opcua_subscription
from agent.trust import TrustStore
from protocols.plc.roles import SignalRole
from tests.agent.opcua.conftest import quick, services  # noqa: F401 - every test here runs under them
from tests.agent.opcua.support import PRODUCT, STATE, TOTAL, URI, Plc, Recorder, reading, tag, trust_server
from tests.support.opcua import NodeServer, make_certificate, node_server

TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"))
SECURE = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
node = [pytest.mark.needs("node"), pytest.mark.needs("npm")]


def connected(line: Recorder, count: int = 1) -> bool:
    return sum("connected to" in event for event in line.events) >= count


def lost(line: Recorder, words: str) -> bool:
    return any(event.startswith("lost") and words in event for event in line.events)


async def set_state(server: NodeServer, line: Recorder, value: int) -> None:
    """The server's new value arrives."""
    await asyncio.to_thread(server.order, "set", name="State", value=value)
    await line.until(lambda: line.newest(STATE) == value)


class TestRow1ConnectedButSilentlyDead:
    def test_a_subscription_without_a_word_is_made_anew(
        self, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario() -> None:
            monkeypatch.setattr(opcua_subscription, "LEAST_SILENCE_S", 1.0)
            plc = Plc(free_port())
            await plc.start()
            async with reading(tmp_path, plc.endpoint, TAGS) as line:
                await line.until(lambda: line.alive_count > 2)
                for subscription in plc.subscriptions:
                    monkeypatch.setattr(subscription, "publish_results", _nothing)
                await plc.write("State", 9)
                await line.until(lambda: lost(line, "has sent nothing"))  # what it says: unknown from here on
                await line.until(lambda: connected(line, 2) and line.newest(STATE) == 9)  # read again
            await plc.stop()

        asyncio.run(scenario())

    def test_a_tag_that_changes_without_a_word_is_found_by_reading(
        self, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Keep-alives come and the socket is good, but the server has dropped the monitored item."""

        async def scenario() -> None:
            monkeypatch.setattr(source, "AUDIT_S", 0.5)
            plc = Plc(free_port())
            await plc.start()
            async with reading(tmp_path, plc.endpoint, TAGS) as line:
                await line.until(lambda: line.newest(STATE) == 0)
                plc.forget_items()
                await plc.write("State", 9)
                await line.until(lambda: lost(line, "line/State changed and the server did not say so"))
                await line.until(lambda: line.newest(STATE) == 9)
                plc.forget_items()
                await plc.write("State", 10)
                await line.until(lambda: line.newest(STATE) == 10)
                # It does that always: from now on it is read, and no connection is given up for it.
                await line.until(lambda: connected(line, 3))
                plc.forget_items()
                await plc.write("State", 11)
                await line.until(lambda: line.newest(STATE) == 11)
                assert not connected(line, 4)
            await plc.stop()

        asyncio.run(scenario())

    def test_a_gap_in_the_notifications_is_a_gap_in_what_is_known(
        self, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario() -> None:
            plc = Plc(free_port())
            await plc.start()
            async with reading(tmp_path, plc.endpoint, TAGS) as line:
                await line.until(lambda: line.newest(STATE) == 0 and line.newest(TOTAL) == 0)
                for subscription in plc.subscriptions:
                    subscription._notification_seq += 3
                line.values.clear()
                await plc.write("Total", 5)
                await line.until(lambda: line.newest(TOTAL) == 5 and line.newest(STATE) == 0)
                # The state is not known from the gap until it was read again; a counter says later what it counted.
                assert [value for column, value, _ in line.values if column == STATE] == [None, 0]
                assert None not in [value for column, value, _ in line.values if column == TOTAL]
                assert line.reader.report(line)["gaps"] == 2
            await plc.stop()

        asyncio.run(scenario())

    @pytest.mark.needs("node")
    @pytest.mark.needs("npm")
    def test_an_overflow_of_the_servers_queue_is_said_and_a_gap(
        self, tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario(server: NodeServer) -> None:
            async with reading(tmp_path, server.endpoint, TAGS, queue_size=3, publishing_interval_ms=500) as line:
                await line.until(lambda: line.newest(STATE) == 0)
                line.values.clear()
                await asyncio.to_thread(server.order, "burst", name="State", until=40)
                await line.until(lambda: line.newest(STATE) == 40)
                told = [value for column, value, _ in line.values if column == STATE]
                assert told[-4:] == [None, 38, 39, 40]
                assert "its queue was full; raise queue_size" in caplog.text
                assert line.reader.report(line)["gaps"] == told.count(None)

        with node_server(tmp_path, free_port()) as server:
            asyncio.run(scenario(server))


class TestRow2OneBadNode:
    @pytest.mark.parametrize("poll", [False, True])
    def test_the_others_go_on_and_it_is_tried_again(
        self, tmp_path: Path, free_port: Callable[[], int], *, poll: bool
    ) -> None:
        async def scenario() -> None:
            plc = Plc(free_port())
            await plc.start("State", "Total")
            gone = OpcuaTag(SignalRole.MODE, (), "", f"nsu={URI};s=nowhere", 0)
            nameless = OpcuaTag(SignalRole.FAULT, (), "", "nsu=urn:no:such:namespace;s=x", 0)
            tags = (*TAGS, tag(PRODUCT, "Product"), gone, nameless)
            async with reading(tmp_path, plc.endpoint, tags, poll=poll, poll_interval_ms=100) as line:
                await line.until(lambda: any("2 of 5 tags" in event for event in line.events))
                await plc.write("State", 6)
                await line.until(lambda: line.newest(STATE) == 6)
                trouble = {one["role"]: one["trouble"] for one in line.reader.report(line)["tags"]}
                assert "nothing at this path" in trouble["product"] and "no such node" in trouble["mode"]
                assert "no namespace" in trouble["fault"] and not trouble["state"]
                await plc.add("Product", "Cola")
                await line.until(lambda: line.newest(PRODUCT) == 5)
                assert not lost(line, "")
            await plc.stop()

        asyncio.run(scenario())


class TestRow3NodesThatMove:
    pytestmark = node

    def test_a_server_comes_back_with_its_namespaces_in_another_order(
        self, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        async def scenario(port: int) -> None:
            with node_server(tmp_path, port) as server:
                by_id = OpcuaTag(TOTAL, (), "", f"nsu={URI};s=line/Total", 0)
                async with reading(tmp_path, server.endpoint, (TAGS[0], by_id)) as line:
                    await line.until(lambda: connected(line))
                    await asyncio.to_thread(server.kill)
                    await line.until(lambda: lost(line, ""))
                    again = await asyncio.to_thread(stack_server, tmp_path, port, {"before": ["urn:one", "urn:two"]})
                    try:
                        await line.until(lambda: connected(line, 2), 30)
                        await set_state(again, line, 11)
                        await asyncio.to_thread(again.order, "set", name="Total", value=12)
                        await line.until(lambda: line.newest(TOTAL) == 12)
                    finally:
                        again.kill()
                        again.require_only_reads()

        asyncio.run(scenario(free_port()))

    def test_a_download_to_the_plc_takes_nodes_away_and_brings_them_back(
        self, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        async def scenario() -> None:
            with node_server(tmp_path, free_port()) as server:
                async with reading(tmp_path, server.endpoint, TAGS) as line:
                    await line.until(lambda: line.newest(STATE) == 0)
                    await asyncio.to_thread(server.order, "remove", name="State")
                    await line.until(lambda: line.newest(STATE) is None)
                    await asyncio.to_thread(server.order, "add", name="State", value=7)
                    await line.until(lambda: line.newest(STATE) == 7)
                    await set_state(server, line, 8)
                    await asyncio.to_thread(server.order, "remove", name="State")
                    await line.until(lambda: line.newest(STATE) is None)
                    await asyncio.to_thread(server.order, "add", name="State", value=9, idPrefix="s=another/")
                    await line.until(lambda: line.newest(STATE) == 9)
                    await set_state(server, line, 10)

        asyncio.run(scenario())

    def test_namespaces_that_change_in_a_running_server(self, tmp_path: Path, free_port: Callable[[], int]) -> None:
        async def scenario() -> None:
            plc = Plc(free_port())
            await plc.start()
            async with reading(tmp_path, plc.endpoint, TAGS) as line:
                await line.until(lambda: line.newest(STATE) == 0)
                await plc.register_namespace("urn:another")
                await line.until(lambda: lost(line, "namespaces have changed") and connected(line, 2))
            await plc.stop()

        asyncio.run(scenario())


@pytest.mark.alone
class TestRow4TheSecureChannelEnds:
    pytestmark = node

    def test_a_channel_is_renewed_again_and_again(self, tmp_path: Path, free_port: Callable[[], int]) -> None:
        """Tokens of 2 s stand for those of an hour; LINETALLY_SOAK_S makes it longer."""

        async def scenario(server: NodeServer) -> None:
            trust_server(tmp_path / "state", server.certificate)
            async with reading(tmp_path, server.endpoint, TAGS, **SECURE) as line:
                await line.until(lambda: connected(line))
                for value in range(1, math.ceil(float(os.environ.get("LINETALLY_SOAK_S", "10"))) + 1):
                    await set_state(server, line, value)
                    await asyncio.sleep(1)
                assert len(line.events) == 1, line.events  # it was never lost

        with node_server(tmp_path, free_port(), tokenLifetime=2000) as server:
            asyncio.run(scenario(server))


class TestRow5AClientThatHangs:
    pytestmark = node

    def test_a_frozen_server_is_noticed_and_found_again(
        self, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario(server: NodeServer) -> None:
            monkeypatch.setattr(opcua_subscription, "LEAST_SILENCE_S", 1.0)
            trust_server(tmp_path / "state", server.certificate)
            async with reading(tmp_path, server.endpoint, TAGS, **SECURE, timeout_ms=1000) as line:
                await line.until(lambda: connected(line))
                server.freeze()
                await line.until(lambda: lost(line, ""))
                await line.until(lambda: lost(line, "no answer in time"))  # new attempts do not hang either
                server.thaw()
                await line.until(lambda: connected(line, 2), 30)
                await set_state(server, line, 5)

        with node_server(tmp_path, free_port()) as server:
            asyncio.run(scenario(server))

    def test_a_killed_server_is_found_again_and_nothing_is_left_behind(
        self, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        async def scenario(port: int) -> None:
            with node_server(tmp_path, port) as first:
                async with reading(tmp_path, first.endpoint, TAGS) as line:
                    await line.until(lambda: connected(line))
                    tasks = len(asyncio.all_tasks())
                    for _ in range(2):
                        await asyncio.to_thread(first.kill)
                        await line.until(lambda: lost(line, ""))
                        first = await asyncio.to_thread(stack_server, tmp_path, port, {})
                        before = len(line.events)
                        await line.until(lambda: connected(line, 1) and "connected" in line.events[-1], 30)
                        assert len(line.events) >= before
                        await set_state(first, line, (line.newest(STATE) or 0) + 1)
                    gc.collect()
                    assert len(asyncio.all_tasks()) <= tasks
                    first.kill()
                    first.require_only_reads()

        asyncio.run(scenario(free_port()))

    def test_a_half_open_link_is_given_up(
        self, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario() -> None:
            monkeypatch.setattr(opcua_subscription, "LEAST_SILENCE_S", 1.0)
            plc = Plc(free_port())
            await plc.start()
            cable = Cable(free_port(), plc.port)
            async with cable, reading(tmp_path, cable.endpoint, TAGS, timeout_ms=1000) as line:
                await line.until(lambda: line.newest(STATE) == 0)
                cable.swallow = True  # nothing arrives any more, and nobody says so
                await line.until(lambda: lost(line, ""))
                cable.swallow = False
                await line.until(lambda: connected(line, 2))
            await plc.stop()

        asyncio.run(scenario())


class TestRow6Backoff:
    def test_waits_are_between_one_second_and_thirty(self) -> None:
        backoff = Backoff()
        waits = [backoff.next_s() for _ in range(12)]
        assert 1 <= waits[0] <= 2
        assert all(15 <= wait <= 30 for wait in waits[6:])
        assert len(set(waits)) == len(waits)  # the gateways of a factory do not come back all at once


class TestRow7Certificates:
    pytestmark = node

    def test_a_changed_certificate_is_refused_until_it_is_accepted(
        self, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        async def scenario(port: int) -> None:
            with node_server(tmp_path, port) as server:
                trust_server(tmp_path / "state", server.certificate)
                async with reading(tmp_path, server.endpoint, TAGS, **SECURE) as line:
                    await line.until(lambda: connected(line))
                    await asyncio.to_thread(server.kill)
                    certificate, key = make_certificate(tmp_path, "swapped")
                    words = {"certificate": str(certificate), "key": str(key)}
                    again = await asyncio.to_thread(stack_server, tmp_path, port, words)
                    try:
                        await line.until(lambda: lost(line, '"swapped", is not trusted yet'), 30)
                        await asyncio.sleep(1)
                        assert set(await again.asked()) == {"GetEndpointsRequest"}  # no session, and none less secure
                        digits = next(e for e in line.events if "swapped" in e).rpartition("--accept ")[2]
                        TrustStore(tmp_path / "state").accept(digits)
                        await line.until(lambda: connected(line, 2), 30)
                    finally:
                        again.kill()
                        again.require_only_reads()

        asyncio.run(scenario(free_port()))

    @pytest.mark.parametrize(
        ("made", "words"),
        [({"days": -1, "began_days": 9}, "expired"), ({"uri": "urn:somebody:else"}, "calls itself")],
    )
    def test_what_is_wrong_with_a_certificate_is_said(
        self, tmp_path: Path, free_port: Callable[[], int], made: dict[str, Any], words: str
    ) -> None:
        async def scenario(server: NodeServer) -> None:
            trust_server(tmp_path / "state", server.certificate)
            async with reading(tmp_path, server.endpoint, TAGS, **SECURE) as line:
                await line.until(lambda: lost(line, words))
                assert set(await server.asked()) == {"GetEndpointsRequest"}

        certificate, key = make_certificate(tmp_path, **made)
        with node_server(tmp_path, free_port(), certificate=str(certificate), key=str(key)) as server:
            asyncio.run(scenario(server))

    def test_a_server_that_does_not_know_this_gateway_is_said_with_the_mend(
        self, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        async def scenario(server: NodeServer) -> None:
            trust_server(tmp_path / "state", server.certificate)
            async with reading(tmp_path, server.endpoint, TAGS, **SECURE) as line:
                await line.until(lambda: lost(line, "accept this gateway's certificate on the server"))

        with node_server(tmp_path, free_port(), acceptUnknown=False) as server:
            asyncio.run(scenario(server))


class TestRow8ManyTagsEncrypted:
    pytestmark = node

    def test_5000_tags_signed_and_encrypted(self, tmp_path: Path, free_port: Callable[[], int]) -> None:
        count = 5000
        tags = (*TAGS, *many(count - 2))

        async def scenario(server: NodeServer) -> None:
            trust_server(tmp_path / "state", server.certificate)
            async with reading(tmp_path, server.endpoint, tags, **SECURE) as line:
                await line.until(lambda: connected(line), 60)
                assert f"{count} of {count} tags" in line.events[-1]
                await line.until(lambda: len({column for column, _, _ in line.values}) == count, 30)
                await set_state(server, line, 3)
            # As many as the server states to take at once, and no more often.
            asked = await server.asked()
            assert asked["TranslateBrowsePathsToNodeIdsRequest"] == math.ceil((count / 10 + 2) / 60)
            assert asked["CreateMonitoredItemsRequest"] == math.ceil(count / 700) + 1  # and the namespaces

        limits = {"maxNodesPerRead": 300, "maxNodesPerTranslateBrowsePathsToNodeIds": 60}
        limits["maxMonitoredItemsPerCall"] = 700
        with node_server(tmp_path, free_port(), tags=count, limits=limits) as server:
            asyncio.run(scenario(server))


class TestRow15Timestamps:
    def test_source_server_and_receive_time_and_the_offset_are_kept(
        self, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        async def scenario() -> None:
            plc = Plc(free_port(), clock_ahead_ms=3_600_000)
            await plc.start()
            async with reading(tmp_path, plc.endpoint, TAGS) as line:
                await line.until(lambda: line.newest(STATE) == 0)
                await plc.write("State", 6, 1_790_000_000_123)
                await line.until(lambda: line.newest(STATE) == 6)
                report = line.reader.report(line)
                state = next(one for one in report["tags"] if one["role"] == "state")
                assert state["source_ms"] == 1_790_000_000_123
                assert state["server_ms"] and abs(state["received_ms"] - line.now_ms()) < 60_000
                assert abs(report["clock_offset_ms"] - 3_600_000) <= report["clock_uncertain_ms"] + 1_500
            await plc.stop()

        asyncio.run(scenario())


def many(count: int) -> Sequence[OpcuaTag]:
    """Tags of columns of their own: a tenth of them by path, the others by id."""
    paths = [() if i % 10 else ("line", f"Tag{i}") for i in range(count)]
    return [
        OpcuaTag(TOTAL, path, URI if path else "", "" if path else f"nsu={URI};s=line/Tag{i}", 0, lane_column=100 + i)
        for i, path in enumerate(paths)
    ]


def stack_server(folder: Path, port: int, options: dict[str, Any]) -> NodeServer:
    """A server that the test ends itself; it has the certificate of the one before unless it is told another."""
    defaults = {"certificate": str(folder / "peer.crt.pem"), "key": str(folder / "peer.key.pem")}
    return NodeServer(folder, port, {**defaults, **options})


class Cable:
    """A TCP proxy that can swallow everything without closing a connection."""

    def __init__(self, port: int, target: int) -> None:
        self.endpoint = f"opc.tcp://127.0.0.1:{port}"
        self.swallow = False
        self._port, self._target = port, target
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self.swallow:
                writer.write(data)
        writer.close()


async def _nothing(*_: object, **__: object) -> bool:
    return False
