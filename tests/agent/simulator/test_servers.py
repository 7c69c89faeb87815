"""The simulated PLCs as their clients see them: real clients, real sockets."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient

from agent.clock import SimulatedClock
from agent.simulator.modbus_server import ModbusServer, registers_at
from agent.simulator.opcua_server import NAMESPACE, OpcUaServer
from agent.simulator.plant import Plant
from agent.simulator.request_log import RequestLog
from agent.simulator.spec import load_plant
from protocols.plc.packml import State

PLANT = Path(__file__).parents[3] / "deploy" / "examples" / "plant.toml"
START_MS = round(datetime(2026, 3, 2, 6, tzinfo=UTC).timestamp() * 1000)


def plant(name: str, clock: SimulatedClock) -> Plant:
    return Plant(load_plant(PLANT).line(name), clock.start_ms - 3_600_000)


def milliseconds(moment: datetime | None) -> int:
    assert moment is not None
    since = moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)
    assert since.microseconds % 1000 == 0
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


class Seen:
    """A subscription's handler that keeps (name, value, SourceTimestamp in ms)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Any, int]] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        name = node.nodeid.Identifier
        stamped = data.monitored_item.Value
        assert milliseconds(stamped.SourceTimestamp) == milliseconds(stamped.ServerTimestamp)
        self.rows.append((name, value, milliseconds(stamped.SourceTimestamp)))


async def watch_opcua(real_seconds: float) -> tuple[list[tuple[str, Any, int]], Plant, int, RequestLog]:
    clock = SimulatedClock.starting_at(START_MS, 60.0)
    line = plant("filling", clock)
    log = RequestLog(keep=True)
    server = OpcUaServer([line], clock, log, port=0)
    await server.start()
    try:
        async with Client(server.url, timeout=10) as client:
            index = await client.get_namespace_index(NAMESPACE)
            paths = ["Status/StateCurrent", "Admin/ProdProcessedCount/AccCount",
                     "Admin/ProdDefectiveCount/AccCount", "Admin/ProductCode", "Admin/OrderActive"]  # fmt: skip
            nodes = [client.get_node(f"ns={index};s=filling/{path}") for path in paths]
            browsed = await client.nodes.objects.get_child(
                [f"{index}:{part}" for part in ("filling", "Admin", "ProdProcessedCount", "AccCount")]
            )
            assert browsed == nodes[1]
            name = await client.get_node(f"ns={index};s=filling/Admin/ProductName").read_value()
            assert name == line.spec.product_name(await nodes[3].read_value())
            seen = Seen()
            subscription = await client.create_subscription(50, seen)
            await subscription.subscribe_data_change(nodes, queuesize=1000)
            with pytest.raises(ua.UaStatusCodeError):
                await nodes[1].write_value(ua.Variant(0, ua.VariantType.Int32))
            await asyncio.sleep(real_seconds)
            until_ms = clock.now_ms() - 60_000  # what is later may still be on its way
            await subscription.delete()
    finally:
        await server.stop()
    return seen.rows, line, until_ms, log


def test_opcua_events_carry_the_exact_time() -> None:
    rows, line, until_ms, log = asyncio.run(watch_opcua(5.0))
    states = [(at, value) for name, value, at in rows if name.endswith("StateCurrent") and at < until_ms]
    first_ms = states[0][0]
    truth = [
        (each.start_ms, int(each.state))
        for each in line.truth(START_MS, until_ms)
        if each.start_ms > first_ms and each.start_ms < until_ms
    ]
    assert states[1:] == truth
    assert len(truth) >= 4
    for name, value, at in rows:
        if name.endswith("ProdProcessedCount/AccCount"):
            assert value == line.spec.counter_start + line.counts(at)[0]
        elif name.endswith("ProdDefectiveCount/AccCount"):
            assert value == line.counts(at)[2]
    # Counts are exact at each change of state: the last one at or before it is the truth's.
    counted = [(at, value) for name, value, at in rows if name.endswith("ProdProcessedCount/AccCount")]
    for at, _ in truth:
        known = [value for time_ms, value in counted if time_ms <= at]
        assert known[-1] == line.spec.counter_start + line.counts(at)[0]
    assert log.writes_seen == 1
    assert log.requests > 2


def clock_of(registers: list[int]) -> int:
    return int.from_bytes(b"".join(word.to_bytes(2, "big") for word in registers[6:10]), "big")


async def read_modbus(log: RequestLog, rounds: int) -> tuple[list[list[int]], Plant]:
    # The counter begins at 64,000: it rolls over about 25 minutes after the plant's start.
    clock = SimulatedClock.starting_at(START_MS, 3600.0)
    line = plant("packing", clock)
    server = ModbusServer([line], clock, log, port=0)
    await server.start()
    client = AsyncModbusTcpClient("127.0.0.1", port=server.port, timeout=5)
    read: list[list[int]] = []
    try:
        assert await client.connect()
        for _ in range(rounds):
            answer = await client.read_holding_registers(0, count=10, device_id=1)
            assert not answer.isError()
            assert len(answer.registers) == 10
            read.append(answer.registers)
            await asyncio.sleep(0.01)
        part = await client.read_input_registers(1, count=2, device_id=1)
        assert len(part.registers) == 2
        assert (await client.read_holding_registers(8, count=5, device_id=1)).isError()
        assert (await client.write_register(1, 7, device_id=1)).isError()
        assert (await client.write_registers(0, [1, 2, 3], device_id=1)).isError()
        assert (await client.write_coil(0, True, device_id=1)).isError()
        await client.diag_clear_counters(device_id=1)  # writes no register, and is no read
    finally:
        client.close()
        await server.stop()
    return read, line


def test_modbus_blocks_are_of_one_instant() -> None:
    log = RequestLog(keep=True)
    read, line = asyncio.run(read_modbus(log, 150))
    for registers in read:
        assert tuple(registers) == registers_at(line, clock_of(registers))
    assert [tuple(registers) for registers in read] == [served.registers for served in log.served[:-1]]
    assert log.writes_seen == 4
    assert log.requests == 150 + 6
    steps = [after[1] - before[1] for before, after in pairwise(read)]
    assert any(step > 0 for step in steps)


def test_modbus_counter_rolls_over_on_the_wire() -> None:
    async def run() -> list[int]:
        clock = SimulatedClock.starting_at(START_MS, 3600.0)
        line = Plant(load_plant(PLANT).line("packing"), START_MS)
        server = ModbusServer([line], clock, RequestLog(), port=0)
        await server.start()
        client = AsyncModbusTcpClient("127.0.0.1", port=server.port, timeout=5)
        totals: list[int] = []
        try:
            assert await client.connect()
            while clock.now_ms() < START_MS + 90 * 60_000:
                totals.append((await client.read_holding_registers(1, count=1, device_id=1)).registers[0])
                await asyncio.sleep(0.02)
        finally:
            client.close()
            await server.stop()
        return totals

    totals = asyncio.run(run())
    assert totals[0] >= 64_000
    assert [after < before for before, after in pairwise(totals)].count(True) == 1


def test_the_request_log_is_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with RequestLog(path) as log:
        asyncio.run(read_modbus(log, 3))
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert lines[0]["line"] == "packing"
    assert len(lines[0]["registers"]) == 10
    assert lines[-1] == {"requests": 9, "writes_seen": 4}


def test_vendor_codes_show_every_state() -> None:
    clock = SimulatedClock.starting_at(START_MS, 1.0)
    line = plant("packing", clock)
    segments = line.truth(line.start_ms, line.start_ms + 3 * 86_400_000)
    assert {each.raw_state for each in segments} == {1, 2, 3, 4, 5, 6, 7}
    assert all((each.raw_state == 2) == (each.state is State.EXECUTE) for each in segments)
