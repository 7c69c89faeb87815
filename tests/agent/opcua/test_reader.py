"""OPC UA against a real server: what breaks on a shop floor becomes unknown time, and comes back by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from asyncua import ua

from agent.backoff import Backoff
from agent.sources import opcua as source
from agent.sources.opcua_flow import LOOK_S
from tests.agent.opcua.support import PRODUCT, STATE, TOTAL, Plc, reading


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


def test_a_name_that_nobody_knows_is_said_with_the_mend(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with reading(tmp_path, "opc.tcp://plc.invalid:4840") as line:
            await line.until(lambda: any("write the PLC's address itself" in event for event in line.events))

    asyncio.run(scenario())


@pytest.mark.parametrize("lived", [False, True])
def test_only_a_connection_that_lived_is_waited_for_shortly_again(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, *, lived: bool
) -> None:
    """A server that takes each connection and drops it at once would be asked each second for ever."""
    waits: list[float] = []

    class Kept(Backoff):
        def next_s(self) -> float:
            waits.append(super().next_s())
            return 0.05

    monkeypatch.setattr(source, "Backoff", Kept)
    monkeypatch.setattr(source, "_LIVED_S", 0.0 if lived else 3600.0)

    async def scenario() -> None:
        port = free_port()
        async with reading(tmp_path, f"opc.tcp://127.0.0.1:{port}") as line:
            await line.until(lambda: len(waits) >= 5)
            plc = Plc(port)
            await plc.start()
            await line.until(lambda: line.alive_count > 2)
            await asyncio.sleep(2 * LOOK_S)
            before = len(waits)
            await plc.stop()
            await line.until(lambda: len(waits) > before)
            assert (waits[before] <= 2.0) == lived

    asyncio.run(scenario())


def test_a_server_whose_state_may_not_be_read_is_read_all_the_same(
    tmp_path: Path, free_port: Callable[[], int], services: Counter[str]
) -> None:
    """asyncua's own watch reads it once in a timeout, and would give the connection up."""

    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        await plc.deny(ua.ObjectIds.Server_ServerStatus_State)
        async with reading(tmp_path, plc.endpoint, timeout_ms=300) as line:
            await line.until(lambda: line.newest(STATE) == 0)
            before = services["ReadRequest"]
            await line.until(lambda: services["ReadRequest"] >= before + 3 or len(line.events) > 1)
            assert len(line.events) == 1
        await plc.stop()

    asyncio.run(scenario())
