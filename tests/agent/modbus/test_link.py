"""The link: a device's breaker, and that nothing but a read can leave by the wire."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import pty
import re
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from agent.config_modbus import ModbusLink
from agent.sources import modbus_wire
from agent.sources.modbus_frames import NotReading
from agent.sources.modbus_link import Breaker, DeviceFailed, Link, LinkFailed, Resting
from agent.sources.modbus_plan import Read
from agent.sources.modbus_wire import Wire
from tests.agent.modbus.test_reader import until


def read(device: int = 1, address: int = 0, count: int = 1) -> Read:
    return Read(device, "holding", address, count, ())


def test_a_breaker_opens_after_two_failures_and_waits_longer_each_time() -> None:
    breaker = Breaker()
    breaker.failed(0.0, "no answer")
    assert not breaker.is_open(0.0)  # one lost answer is nothing
    waits = []
    now = 0.0
    for _ in range(12):
        breaker.failed(now, "no answer")
        assert breaker.is_open(now)
        begin = now
        while breaker.is_open(now):
            now += 0.01
        waits.append(now - begin)
    assert 1 <= waits[0] <= 2.01
    assert waits[0] < waits[2] < waits[4]
    assert all(14.9 <= wait <= 30.01 for wait in waits[6:])
    breaker.good()
    breaker.failed(now, "no answer")
    assert not breaker.is_open(now)


@asynccontextmanager
async def device(port: int, replies: Callable[[bytes], bytes | None]) -> AsyncIterator[list[bytes]]:
    """A hand-made device; gives all requests that it got. A reply of None is silence."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readexactly(12):
                got.append(request)
                if (reply := replies(request)) is not None:
                    writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield got
    finally:
        server.close()
        await asyncio.sleep(0.02)


def good(request: bytes) -> bytes:
    transaction, device_id, count = request[:2], request[6:7], struct.unpack(">H", request[10:12])[0]
    pdu = bytes([3, 2 * count]) + b"\0\7" * count
    return transaction + b"\0\0" + struct.pack(">H", len(pdu) + 1) + device_id + pdu


def test_a_silent_device_rests_while_the_other_is_read(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        now = [100.0]
        async with device(port, lambda request: good(request) if request[6] == 1 else None) as got:
            with Link(ModbusLink("tcp", "127.0.0.1", port), lambda: now[0]) as link:
                for _ in range(2):
                    with pytest.raises(DeviceFailed, match="no answer in time"):
                        await link.read(read(2), 0.05)
                asked = len(got)
                with pytest.raises(Resting, match="no answer in time"):
                    await link.read(read(2), 0.05)
                assert await link.read(read(1), 1.0) == [7]
                assert len(got) == asked + 1
                now[0] += 2.1  # its rest is over
                with pytest.raises(DeviceFailed):
                    await link.read(read(2), 0.05)
                assert got[-1][6] == 2

    asyncio.run(scenario())


def test_a_device_that_is_busy_keeps_the_connection(free_port: Callable[[], int]) -> None:
    def busy(request: bytes) -> bytes:
        return request[:4] + b"\0\3" + request[6:7] + b"\x83\x06"

    async def scenario() -> None:
        port = free_port()
        async with device(port, busy) as got:
            with Link(ModbusLink("tcp", "127.0.0.1", port)) as link:
                for _ in range(2):
                    with pytest.raises(DeviceFailed, match="busy"):
                        await link.read(read(), 1.0)
                with pytest.raises(Resting, match="busy"):
                    await link.read(read(), 1.0)
        transactions = [struct.unpack(">H", request[:2])[0] for request in got]
        assert len(transactions) == 2
        assert (transactions[1] - transactions[0]) % 0xFFFF == 1

    asyncio.run(scenario())


def test_a_link_that_is_down_is_not_tried_at_each_read(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        now = [0.0]
        with Link(ModbusLink("tcp", "127.0.0.1", port), lambda: now[0]) as link:
            with pytest.raises(LinkFailed, match="is the PLC on"):
                await link.read(read(), 1.0)
            async with device(port, good) as got:
                with pytest.raises(LinkFailed):
                    await link.read(read(), 1.0)
                assert got == []
                now[0] += 2.1
                assert await link.read(read(), 1.0) == [7]

    asyncio.run(scenario())


def test_a_link_that_was_up_again_is_tried_soon_when_it_goes_down(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        now = [0.0]
        with Link(ModbusLink("tcp", "127.0.0.1", port), lambda: now[0]) as link:
            for _ in range(6):
                with pytest.raises(LinkFailed):
                    await link.read(read(), 1.0)
                now[0] += 31.0
            async with device(port, lambda request: good(request) if request[9] == 0 else None):
                assert await link.read(read(), 1.0) == [7]
                with pytest.raises(DeviceFailed):
                    await link.read(read(address=1), 0.05)
            with pytest.raises(LinkFailed):
                await link.read(read(), 1.0)
            now[0] += 2.1
            async with device(port, good):
                assert await link.read(read(), 1.0) == [7]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (ModbusLink("tcp", "plc..local", 502), "this name is not known here; write the address itself"),
        (ModbusLink("udp", "a" * 70, 502), "this name is not known here; write the address itself"),
        (ModbusLink("tcp", "plc.invalid", 502), "this name is not known here; write the address itself"),
        (ModbusLink("tcp", "a\0b", 502), "null character"),
        (ModbusLink("serial", device="/dev/null"), "this is no serial port"),
        (ModbusLink("serial", device="/dev/tty-of-nobody"), "there is no such port; is the adapter plugged in?"),
        (ModbusLink("tls", "127.0.0.1", 1, ca_file=Path("/nowhere")), "ca_file /nowhere: No such file or directory"),
    ],
)
def test_whatever_keeps_a_link_from_opening_is_said_and_ends_nothing(link: ModbusLink, words: str) -> None:
    """Any other error would end the agent, and with it all its lines."""

    async def scenario() -> None:
        with Link(link) as opened, pytest.raises(LinkFailed, match=re.escape(words)):
            await opened.read(read(), 0.1)

    asyncio.run(scenario())


def test_a_port_that_does_not_take_its_settings_is_said_and_not_held() -> None:
    """A pseudo-terminal has no parity; the serial library fails half-way, with an error that is no OSError."""
    terminals = pty.openpty()
    even = ModbusLink("serial", device=os.ttyname(terminals[1]))

    async def scenario() -> None:
        now = [0.0]
        with Link(even, lambda: now[0]) as link:
            for _ in range(2):
                with pytest.raises(LinkFailed, match="the port does not take this baud_rate, parity or stop_bits"):
                    await link.read(read(), 0.1)
                now[0] += 60.0
        with Link(replace(even, parity="none")) as link, pytest.raises(DeviceFailed, match="no answer in time"):
            await link.read(read(), 0.1)

    try:
        asyncio.run(scenario())
    finally:
        for terminal in terminals:
            os.close(terminal)


def test_what_arrives_unasked_closes_the_connection(free_port: Callable[[], int]) -> None:
    """The second answer to one request must not be there when the next is sent."""

    async def scenario() -> None:
        port = free_port()
        connections = []

        def twice(request: bytes) -> bytes:
            return good(request) * (1 if connections else 2)

        async with device(port, twice) as got:
            with Link(ModbusLink("tcp", "127.0.0.1", port)) as link:
                with pytest.raises(DeviceFailed, match="more than was asked for"):
                    await link.read(read(), 1.0)
                connections.append(1)
                assert await link.read(read(), 1.0) == [7]
                assert len(got) == 2

    asyncio.run(scenario())


class Slow:
    """RTU behind a gateway: while it is `stuck` the device answers nothing, and later all that it was asked, in order,
    to whoever is connected by then. Each register holds its own address; only some of them `exist`."""

    def __init__(self) -> None:
        self.stuck = True
        self.exist = set(range(0x10000))
        self.asked = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._kept: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while request := await reader.read(8):
            self.asked += 1
            address, count = struct.unpack(">HH", request[2:6])
            asked = range(address, address + count)
            pdu = (
                bytes([3, 2 * count]) + struct.pack(f">{count}H", *asked) if self.exist.issuperset(asked) else b"\x83\2"
            )
            body = request[:1] + pdu
            self._kept.append(body + FramerRTU.compute_CRC(body).to_bytes(2, "big"))
            if not self.stuck:
                self.free()
        writer.close()

    def answer_one(self) -> None:
        self._writers[-1].write(self._kept.pop(0))

    def answer_slowly(self) -> None:
        """One after the other, as on a slow line, until there is nothing left."""
        if self._kept:
            self.answer_one()
            asyncio.get_running_loop().call_later(0.03, self.answer_slowly)
        else:
            self.stuck = False

    def free(self) -> None:
        self.stuck = False
        while self._kept:
            self.answer_one()


@asynccontextmanager
async def slow_device(port: int) -> AsyncIterator[Slow]:
    made = Slow()
    server = await asyncio.start_server(made.serve, "127.0.0.1", port)
    try:
        yield made
    finally:
        server.close()
        await asyncio.sleep(0.02)


def test_an_answer_that_comes_very_late_is_told_by_its_length(free_port: Callable[[], int]) -> None:
    """All requests are for one register; only a request of another length can show what is old."""

    async def scenario() -> None:
        now = [0.0]
        async with slow_device(port := free_port()) as made:
            with Link(ModbusLink("rtu-over-tcp", "127.0.0.1", port), lambda: now[0]) as link:
                found: dict[int, list[int]] = {}
                for address in range(100, 112):
                    now[0] += 60.0
                    if address == 103:
                        # One answer in the middle of this request, after the silence that follows a timeout.
                        asyncio.get_running_loop().call_later(0.06, made.answer_one)
                    made.stuck = address < 105
                    try:
                        found[address] = await link.read(read(address=address), 0.05)
                    except DeviceFailed:
                        assert address < 110, "it does not recover"
        assert len(found) >= 2
        assert found == {address: [address] for address in found}

    asyncio.run(scenario())


def test_an_answer_that_comes_a_little_late_spoils_no_other(free_port: Callable[[], int]) -> None:
    """It comes in the silence that follows a timeout, and is thrown away."""

    async def scenario() -> None:
        async with slow_device(port := free_port()) as made:
            with Link(ModbusLink("rtu-over-tcp", "127.0.0.1", port)) as link:
                asyncio.get_running_loop().call_later(0.3, made.free)
                with pytest.raises(DeviceFailed, match="no answer in time"):
                    await link.read(read(address=100), 0.2)
                assert await link.read(read(address=101), 0.2) == [101]

    asyncio.run(scenario())


def test_what_a_line_that_left_was_waiting_for_spoils_no_other(free_port: Callable[[], int]) -> None:
    """A reload ends a line in the midst of a request; its answer comes while the next would be under way."""

    async def scenario() -> None:
        async with slow_device(port := free_port()) as made:
            with Link(ModbusLink("rtu-over-tcp", "127.0.0.1", port)) as link:
                leaving = asyncio.create_task(link.read(read(address=100), 5.0))
                await until(lambda: made.asked == 1)
                leaving.cancel()
                await asyncio.wait([leaving])
                asyncio.get_running_loop().call_later(0.1, made.free)
                assert await link.read(read(address=101), 0.2) == [101]

    asyncio.run(scenario())


def test_a_refusal_shows_nothing_of_what_is_still_to_come(free_port: Callable[[], int]) -> None:
    """The stuck device was asked for a register that it refuses, then for one that it has. A request of another length
    is refused as well, since its one register has no neighbour: the refusal that comes may be the first one's."""

    async def scenario() -> None:
        now = [0.0]
        async with slow_device(port := free_port()) as made:
            made.exist = {100, 102, 104, 106, 108, 110}
            with Link(ModbusLink("rtu-over-tcp", "127.0.0.1", port), lambda: now[0]) as link:
                for address in (555, 100):
                    with pytest.raises(DeviceFailed, match="no answer in time"):
                        await link.read(read(address=address), 0.1)
                found: dict[int, list[int]] = {}
                asyncio.get_running_loop().call_later(0.12, made.answer_slowly)  # the next request is under way
                for address in (102, 104, 106, 108, 110):
                    now[0] += 60.0
                    with contextlib.suppress(DeviceFailed):
                        found[address] = await link.read(read(address=address), 0.1)
        assert 110 in found, "it does not recover"
        assert found == {address: [address] for address in found}

    asyncio.run(scenario())


def test_transaction_ids_are_never_0_and_never_again_soon(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        async with device(port, good) as got:
            wire = Wire(ModbusLink("tcp", "127.0.0.1", port), 2.0)
            await wire.open()
            wire._transaction = 0xFFFD
            for _ in range(4):
                assert await wire.ask(1, "holding", 0, 1, 1.0) == [7]
            wire.close()
        assert [struct.unpack(">H", request[:2])[0] for request in got] == [0xFFFE, 0xFFFF, 1, 2]

    asyncio.run(scenario())


REQUESTS = sorted(
    {request for request, _ in DecodePDU.pdu_table.values()}
    | {request for table in DecodePDU.pdu_sub_table.values() for request, _ in table.values()},
    key=lambda request: (request.function_code, request.__name__),
)


@pytest.mark.parametrize("transport", ["tcp", "rtu-over-tcp"])
def test_no_request_that_the_library_knows_passes_but_reads(free_port: Callable[[], int], transport: str) -> None:
    """At the lowest function before the transport: every request class of pymodbus, framed by its own framer."""

    async def scenario() -> None:
        port = free_port()
        got = bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(4096):
                got.extend(data)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        link = ModbusLink(transport, "127.0.0.1", port)
        framer = (FramerRTU if link.is_rtu else FramerSocket)(DecodePDU(False))
        wire = Wire(link, 2.0)
        await wire.open()
        passed = set()
        for request in REQUESTS:
            sample = request()
            sample.dev_id, sample.transaction_id, sample.count = 1, 7, 1
            sample.registers, sample.bits = [1], [True]
            try:
                frame = framer.buildFrame(sample)
            except Exception:  # noqa: BLE001 - some need more than this to be built; the raw frame below is theirs
                frame = framer.encode(bytes([request.function_code, 0, 0, 0, 1]), 1, 7)
            try:
                wire.send(frame)
                passed.add(request.function_code)
            except NotReading as refused:
                assert "this agent only reads" in str(refused)
        await asyncio.sleep(0.05)
        wire.close()
        await asyncio.sleep(0.05)
        server.close()
        assert passed == {1, 2, 3, 4}
        assert len(got) == len(passed) * (8 if link.is_rtu else 12)

    assert {5, 6, 15, 16, 22, 23} <= {request.function_code for request in REQUESTS}
    asyncio.run(scenario())


def test_the_wire_has_no_function_that_writes() -> None:
    """pymodbus' own clients have them; the wire is not one of these."""
    assert not issubclass(Wire, ModbusClientMixin)
    assert [name for name in dir(Wire) if name.startswith(("write_", "mask_", "readwrite_"))] == []


def test_send_is_the_only_way_to_the_transport() -> None:
    """No reader's module takes hold of a transport, and only `Wire.send`, which looks at each frame, gives to it."""
    names = {"transport", "write", "writelines", "send", "sendto", "sendall", "sync_serial"}
    ways = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sorted((Path(__file__).parents[3] / "agent" / "sources").glob("modbus*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and node.attr in names
        and ast.unparse(node) != "link.transport"  # a word of the configuration
    ]
    assert sorted(ways) == ["modbus_wire.py: self.send", "modbus_wire.py: super().send"]


@pytest.mark.parametrize("asleep", [True, False], ids=["the machine slept", "the loop was held up"])
def test_an_answer_that_lay_there_is_refused_and_the_next_is_of_now(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, asleep: bool
) -> None:
    """Its bytes are in time for the socket, but it says what was before."""

    async def scenario() -> None:
        port = free_port()
        slept_s = [0.0]
        boottime_s = modbus_wire._boottime_s
        monkeypatch.setattr(modbus_wire, "_boottime_s", lambda: boottime_s() + slept_s[0])
        looked: list[str] = []

        def late(request: bytes) -> bytes:
            if not looked:
                looked.append("late")
                if asleep:
                    slept_s[0] = 60.0
                else:  # what is written now is there when the loop looks at its sockets and its timers again
                    asyncio.get_running_loop().call_soon(time.sleep, 0.6)
            return good(request)

        async with device(port, late) as got:
            with Link(ModbusLink("tcp", "127.0.0.1", port)) as link:
                with pytest.raises(DeviceFailed, match="no answer in time"):
                    await link.read(read(), 0.5)
                assert await link.read(read(), 0.5) == [7]
                assert len(got) == 2

    asyncio.run(scenario())
