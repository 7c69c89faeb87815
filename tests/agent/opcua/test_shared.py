"""Lines of one server: one connection for all, each line for itself, and nobody notices who comes or goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.config_opcua import OpcuaSource
from agent.sources.opcua_shared import OpcuaServers
from tests.agent import factory
from tests.agent.opcua.support import PRODUCT, STATE, TOTAL, Plc, Recorder, tag

TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"))


def source_of(folder: Path, endpoint: str) -> OpcuaSource:
    found = factory.configuration(folder, factory.opcua(endpoint)).lines[0].source
    assert isinstance(found, OpcuaSource)
    return replace(found, publishing_interval_ms=100)


def monitored(plc: Plc) -> int:
    """Monitored items of all subscriptions; each watches the namespaces too."""
    return sum(len(each.monitored_item_srv._monitored_items) for each in plc.subscriptions)


def test_lines_of_one_server_share_a_connection_and_come_and_go(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        source, servers = source_of(tmp_path, plc.endpoint), OpcuaServers(tmp_path, "GW-01")
        first, second, third = Recorder(), Recorder(), Recorder()

        def read(line: Recorder, *tags: object) -> asyncio.Task[None]:
            return asyncio.create_task(servers.read(source, tags, {"Cola": 5}, line, 5.0))

        one, two = read(first, *TAGS), read(second, tag(TOTAL, "Total"), tag(PRODUCT, "Product"))
        await first.until(lambda: first.newest(TOTAL) == 0)
        await second.until(lambda: any("2 of 2 tags" in event for event in second.events))
        assert (len(plc.subscriptions), monitored(plc)) == (1, 5)

        three = read(third, tag(STATE, "State"))
        await third.until(lambda: third.newest(STATE) == 0)
        assert (len(plc.subscriptions), monitored(plc)) == (1, 6)
        assert third.report()["connects"] == 1
        assert [(line.begins, len(line.events)) for line in (first, second, third)] == [(1, 1)] * 3

        two.cancel()
        await asyncio.wait([two])
        await first.until(lambda: monitored(plc) == 4)
        heard, told = len(second.values), len(first.events)
        await plc.write("Total", 7)
        await plc.write("State", 6)
        await first.until(lambda: first.newest(TOTAL) == 7)
        await third.until(lambda: third.newest(STATE) == 6)
        assert len(second.values) == heard
        assert len(first.events) == told  # it noticed nothing
        assert {each["role"] for each in first.report()["tags"]} == {"state", "total"}

        for task in (one, three):
            task.cancel()
        await asyncio.wait([one, three])
        await first.until(lambda: len(plc.subscriptions) == 0)
        await plc.stop()

    asyncio.run(scenario())


def test_another_way_of_reading_is_another_connection(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        source, servers = source_of(tmp_path, plc.endpoint), OpcuaServers(tmp_path, "GW-01")
        lines = [Recorder(), Recorder()]
        tasks = [
            asyncio.create_task(servers.read(replace(source, queue_size=size), TAGS, {}, line, 5.0))
            for size, line in enumerate(lines, 5)
        ]
        for line in lines:
            await line.until(lambda line=line: line.newest(STATE) == 0)
        assert len(plc.subscriptions) == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await plc.stop()

    asyncio.run(scenario())


def test_a_server_that_goes_away_is_told_to_each_line(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        source, servers = source_of(tmp_path, plc.endpoint), OpcuaServers(tmp_path, "GW-01")
        lines = [Recorder(), Recorder()]
        tasks = [asyncio.create_task(servers.read(source, TAGS, {}, line, 0.5)) for line in lines]
        for line in lines:
            await line.until(lambda line=line: line.newest(STATE) == 0)
        await plc.stop()
        for line in lines:
            await line.until(lambda line=line: any(event.startswith("lost") for event in line.events))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(scenario())
