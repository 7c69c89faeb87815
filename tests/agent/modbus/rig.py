"""A Modbus reader at work on a recorded line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

from agent.config_modbus import ModbusLink, ModbusSource, ModbusTag
from agent.sources.modbus import ModbusReader
from agent.sources.modbus_link import Link
from protocols.plc.roles import SignalRole
from tests.support import modbus
from tests.support.line_input import LineRecorder


def tcp(port: int, transport: str = "tcp") -> ModbusLink:
    return ModbusLink(transport, "127.0.0.1", port)


def serial(device: str) -> ModbusLink:
    return ModbusLink("serial", device=device, baud_rate=115_200, parity="none")


def tag(column: int, register: int, table: str = "holding", device: int = 1, kind: str = "") -> ModbusTag:
    """One register, as column `column`."""
    kind = kind or ("bit" if table in ("coil", "discrete") else "uint16")
    return ModbusTag(SignalRole.TOTAL, register, kind, table, device, lane_column=column)


@asynccontextmanager
async def reading(
    link: ModbusLink,
    tags: Sequence[ModbusTag],
    links: dict[ModbusLink, Link] | None = None,
    *,
    every_ms: int = 20,
    timeout_ms: int = 1000,
    hole_limit: int = 124,
) -> AsyncIterator[LineRecorder]:
    line = LineRecorder()
    source = ModbusSource(link, 1, every_ms, timeout_ms, hole_limit)
    task = asyncio.create_task(ModbusReader(source, tags, None, line, links=links).run())
    try:
        yield line
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def require_right(line: LineRecorder, tags: Sequence[ModbusTag]) -> int:
    """Asserts that each value is from its register and later than the one before; gives how many there are."""
    count = 0
    for one in tags:
        found = line.of(one.column)
        count += len(found)
        if one.table in ("coil", "discrete"):
            assert all(value == (one.register % 3 == 0) for value in found), (one, found)
            continue
        assert all(modbus.place(value) == one.register % 512 for value in found), (one, found)
        steps = [(modbus.moment(later) - modbus.moment(before)) % 128 for before, later in pairwise(found)]
        assert all(0 < step < 100 for step in steps), f"a value was taken again, or an older one: {one}, {found}"
    return count
