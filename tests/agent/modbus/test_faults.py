"""What networks and serial lines do to answers: no wrong value is ever taken, and reading goes on by itself.

Each run is drawn from a seed, which stands in the test's name. LINETALLY_FAULT_REPLIES=20000 makes the runs long.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent.backoff import Backoff
from agent.config_modbus import ModbusLink
from agent.sources import modbus_wire
from agent.sources.modbus_link import Link
from tests.agent.modbus.rig import reading, require_right, serial, tag, tcp
from tests.support import modbus
from tests.support.proxy import FAULTS, Proxy, serving

pytestmark = pytest.mark.needs("gcc")
REPLIES = int(os.environ.get("LINETALLY_FAULT_REPLIES", "100"))
TIMEOUT_MS = 60
LATE_S = 0.09
"""After the timeout, and before the end of the silence that follows one."""

ALIKE = tuple(tag(column, 100 * column) for column in range(5))
"""Blocks of one length each: only the silences tell one answer from another."""
# Blocks of different lengths: without transaction ids nothing else tells one answer from another.
TAGS = tuple(
    tag(column, register, table)
    for column, (register, table) in enumerate(
        [(0, "holding"), (200, "holding"), (201, "holding"), (400, "holding"), (403, "holding"), (7, "input"),
         (12, "input"), (300, "input"), (307, "input")]
    )
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.02)


async def _through(proxy: Proxy, link: ModbusLink, least: int) -> None:
    async with serving(proxy), reading(link, TAGS, every_ms=10, timeout_ms=TIMEOUT_MS, hole_limit=10) as line:
        await line.until(
            lambda: proxy.done.total() >= REPLIES and set(proxy.faults) <= set(proxy.done), 20 + REPLIES / 5
        )
    taken = require_right(line, TAGS)
    assert proxy.overlaps == 0, "a request was sent while an answer was due"
    assert taken >= least, (taken, proxy.done)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_network(tmp_path: Path, free_port: Callable[[], int], seed: int) -> None:
    with modbus.libmodbus(tmp_path, "tcp", target := free_port(), 1):
        proxy = Proxy(free_port(), target, seed, faults=FAULTS, late_s=LATE_S)
        asyncio.run(_through(proxy, tcp(proxy.port), REPLIES // 3))


@pytest.mark.parametrize("seed", [4])
def test_a_bad_network_before_a_serial_gateway(tmp_path: Path, free_port: Callable[[], int], seed: int) -> None:
    async def scenario() -> None:
        target = free_port()
        faults = [fault for fault in FAULTS if fault != "nameless"]
        proxy = Proxy(free_port(), target, seed, faults=faults, late_s=LATE_S, rtu=True)
        with modbus.Line() as line:
            async with modbus.serial_gateway(target, line.reader):
                peer = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "rtu", line.device, 1))
                await _through(proxy, tcp(proxy.port, "rtu-over-tcp"), REPLIES // 3)
                await asyncio.to_thread(peer.end)

    with ExitStack() as stack:
        asyncio.run(scenario())


class BadLine:
    """What happens on a long serial line without termination."""

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self.done: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._busy_until = 0.0

    def __call__(self, data: bytes, write: Callable[[bytes], None]) -> None:
        kind = self._random.choice(self.kinds) if self._random.random() < 0.25 else "none"
        self.done[kind] += 1
        if kind == "flip":
            at = self._random.randrange(8 * len(data))
            data = bytes(byte ^ (1 << at % 8 if i == at // 8 else 0) for i, byte in enumerate(data))
        elif kind == "noise before":
            data = b"\0" + data
        elif kind == "noise after":
            data += b"\xff"
        elif kind == "double":
            asyncio.get_running_loop().call_later(0.001, write, data)
        elif kind == "truncate":
            data = data[: self._random.randrange(1, len(data))]
        loop = asyncio.get_running_loop()
        if kind == "late":
            # In the silence that follows, or long after it. A device answers one request after the other.
            self._busy_until = loop.time() + self._random.uniform(TIMEOUT_MS / 1000, 3 * LATE_S)
        if kind != "lose":
            if loop.time() < self._busy_until:
                loop.call_at(self._busy_until, write, data)
                self._busy_until += 0.001
            else:
                write(data)


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [(6, ("flip", "noise before", "noise after", "lose", "truncate")), (7, ("late",)), (8, ("double",))],
)
def test_a_bad_serial_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, kinds: tuple[str, ...]) -> None:
    # A busy kernel hands a pseudo-terminal's bytes on late: the second of two answers would come after the silence.
    is_double = kinds == ("double",)
    monkeypatch.setattr(modbus_wire, "LEAST_SILENCE_S", 0.1 if is_double else modbus_wire.LEAST_SILENCE_S)
    replies, timeout_ms = (REPLIES // 3, 300) if is_double else (REPLIES, TIMEOUT_MS)

    async def scenario() -> None:
        fault = BadLine(seed, kinds)
        with modbus.Line(fault) as line:
            peer = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "rtu", line.device, 1))
            link = serial(line.reader)
            async with reading(link, ALIKE, every_ms=10, timeout_ms=timeout_ms, hole_limit=10) as found:
                await found.until(lambda: fault.done.total() >= replies and {*kinds} <= {*fault.done}, 20 + REPLIES / 5)
            assert require_right(found, ALIKE) >= replies // 20
            await asyncio.to_thread(peer.end)

    with ExitStack() as stack:
        asyncio.run(scenario())


def test_a_slow_line_has_the_time_that_its_bytes_take(tmp_path: Path) -> None:
    """At 300 baud one register is under way for half a second, which is not the device's fault."""

    def slowly(data: bytes, write: Callable[[bytes], None]) -> None:
        asyncio.get_running_loop().call_later(0.25, write, data)

    async def scenario() -> None:
        with modbus.Line(slowly) as line:
            peer = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "rtu", line.device, 1))
            link = replace(serial(line.reader), baud_rate=300)
            async with reading(link, ALIKE[:1], timeout_ms=50) as found:
                await found.polls(2)
            assert len(found.events) == 1
            await asyncio.to_thread(peer.end)

    with ExitStack() as stack:
        asyncio.run(scenario())


def test_an_adapter_that_is_pulled_out_is_said_and_one_that_is_not_there_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        with modbus.Line() as line:
            peer = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "rtu", line.device, 1))
            async with reading(serial(line.reader), ALIKE, timeout_ms=100) as found:
                await found.polls(2)
                async with reading(serial(line.reader), ALIKE) as second:
                    await second.said()
                assert "another program holds the port" in second.events[0]
                line.close()
                await found.until(lambda: "there is no such port" in found.events[-1])
            assert found.events[1].startswith("lost")
            peer.process.kill()
            await asyncio.to_thread(peer.process.communicate)

    with ExitStack() as stack:
        asyncio.run(scenario())


def test_lines_that_share_a_link_ask_one_after_the_other(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario(proxy: Proxy) -> None:
        links: dict[ModbusLink, Link] = {}
        link = tcp(proxy.port)
        async with serving(proxy), reading(link, TAGS[:3], links, every_ms=10) as first:
            async with reading(link, TAGS[3:6], links, every_ms=10) as second, reading(link, TAGS, links) as third:
                for line in (first, second, third):
                    await line.polls(10)
            # The others have gone; the connection that they shared is still there.
            await first.polls(5)
        assert (proxy.overlaps, proxy.connections) == (0, 1)
        assert all(require_right(line, TAGS) for line in (first, second, third))

    with modbus.libmodbus(tmp_path, "tcp", target := free_port(), 1):
        asyncio.run(scenario(Proxy(free_port(), target, share=0.0)))


def test_a_device_that_freezes_and_one_that_is_killed_come_back(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        with modbus.libmodbus(tmp_path, "tcp", port, 1) as peer:
            async with reading(tcp(port), TAGS, timeout_ms=100) as line:
                await line.polls(2)
                peer.process.send_signal(signal.SIGSTOP)
                await line.until(lambda: line.events[-1].startswith("lost"))
                assert "no answer in time" in line.events[-1]
                peer.process.send_signal(signal.SIGCONT)
                await line.polls(2)
                peer.process.kill()
                await line.until(lambda: "is the PLC on?" in line.events[-1])
                await asyncio.to_thread(peer.process.communicate)
                again = await asyncio.to_thread(stack.enter_context, modbus.libmodbus(tmp_path, "tcp", port, 1))
                await line.polls(2)
            await asyncio.to_thread(again.end)

    with ExitStack() as stack:
        asyncio.run(scenario())
