"""Lines that are polled together: few requests, and each line for itself in all that goes wrong."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from agent.backoff import Backoff
from agent.config_modbus import ModbusSource, ModbusTag
from agent.sources.modbus import ModbusReader
from agent.sources.modbus_blocks import Blocks
from agent.sources.modbus_frames import NotReading
from agent.sources.modbus_link import Link, LinkFailed
from agent.sources.modbus_plan import plan
from agent.sources.modbus_shared import ModbusDevices
from tests.agent.modbus.rig import tag, tcp
from tests.agent.modbus.test_link import device
from tests.agent.modbus.test_reader import until
from tests.support.line_input import LineRecorder

ILLEGAL_ADDRESS = 2


class Plc:
    """Devices behind one address: each register holds its own address. `missing` ones are refused, to `mute` ones
    nothing is said; `silent` devices say nothing, and so do all to the next `lost` requests. `asked`: (device, address,
    count) of each request."""

    def __init__(self) -> None:
        self.missing: set[int] = set()
        self.mute: set[int] = set()
        self.lost = 0
        self.takes_s = 0.0
        self.silent: set[int] = set()
        self.asked: list[tuple[int, int, int]] = []

    def answer(self, request: bytes) -> bytes | None:
        number, (address, count) = request[6], struct.unpack(">HH", request[8:12])
        self.asked.append((number, address, count))
        asked = set(range(address, address + count))
        time.sleep(self.takes_s)
        if self.lost:
            self.lost -= 1
            return None
        if number in self.silent or self.mute & asked:
            return None
        if self.missing & asked:
            pdu = bytes([0x83, ILLEGAL_ADDRESS])
        else:
            pdu = bytes([3, 2 * count]) + struct.pack(f">{count}H", *range(address, address + count))
        return request[:4] + struct.pack(">H", len(pdu) + 1) + request[6:7] + pdu


def tags_of(first: int, count: int, number: int = 1) -> list[ModbusTag]:
    return [tag(column, first + column, device=number) for column in range(count)]


class Lines:
    """Lines as an agent reads them, all by the same source."""

    def __init__(self, port: int) -> None:
        self.source = ModbusSource(tcp(port), 1, 20, 100)
        self.devices = ModbusDevices()
        self._tasks: dict[LineRecorder, asyncio.Task[None]] = {}

    def begin(
        self, tags: Sequence[ModbusTag], source: ModbusSource | None = None, time_tag: ModbusTag | None = None
    ) -> LineRecorder:
        line = LineRecorder()
        reading = self.devices.read(source or self.source, tags, time_tag, line)
        self._tasks[line] = asyncio.create_task(reading)
        return line

    async def end(self, line: LineRecorder) -> None:
        task = self._tasks.pop(line)
        task.cancel()
        await asyncio.wait([task])

    async def end_all(self) -> None:
        for line in list(self._tasks):
            await self.end(line)


@asynccontextmanager
async def plc(port: int) -> AsyncIterator[tuple[Plc, Lines]]:
    made, lines = Plc(), Lines(port)
    async with device(port, made.answer):
        try:
            yield made, lines
        finally:
            await lines.end_all()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.05)


def test_lines_share_requests_and_each_gets_its_own(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with plc(port := free_port()) as (made, lines):
            # 20 lines of 25 registers, the last with its tags of another device.
            read = [lines.begin(tags_of(25 * at, 25)) for at in range(19)] + [lines.begin(tags_of(475, 25, 2))]
            for line in read:
                await line.polls(2)
            for at, line in enumerate(read):
                for column in range(25):
                    assert set(line.of(column)) == {25 * at + column}
            assert made.asked[:5] == [(1, 0, 125), (1, 125, 125), (1, 250, 125), (1, 375, 100), (2, 475, 25)]
            assert set(made.asked) == set(made.asked[:5])
            assert read[0].events == [f"connected to 127.0.0.1:{port} device 1, 25 of 25 tags in 1 reads"]
            assert read[19].events == [f"connected to 127.0.0.1:{port} device 2, 25 of 25 tags in 1 reads"]

    asyncio.run(scenario())


def test_who_polls_in_another_way_or_has_a_clock_polls_alone(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            others = [
                replace(lines.source, poll_interval_ms=30), replace(lines.source, hole_limit=30),
                replace(lines.source, max_registers=30),
            ]  # fmt: skip
            read = [lines.begin(tags_of(10 * at, 3), source) for at, source in enumerate([lines.source, *others])]
            read += [lines.begin(tags_of(100, 3), None, tag(9, 103)), lines.begin(tags_of(104, 3), None, tag(9, 107))]
            # Their tags name their device, so that of the source parts them from nobody.
            read += [lines.begin(tags_of(200 + 3 * at, 3), replace(lines.source, device_id=at)) for at in (0, 1)]
            for line in read:
                await line.polls(2)
            assert {(address, count) for _, address, count in made.asked if address < 100} == {
                (0, 3), (10, 3), (20, 3), (30, 3)
            }  # fmt: skip
            assert {each for each in made.asked if each[1] >= 100} == {(1, 100, 4), (1, 104, 4), (1, 200, 6)}
            assert {at for _, _, at in read[4].values} == {103}

    asyncio.run(scenario())


def test_a_register_that_does_not_exist_is_only_its_own_lines(
    free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            made.missing = {14}
            first, second = lines.begin(tags_of(0, 10)), lines.begin(tags_of(10, 10))
            await first.polls(12)
            await second.polls(1)
            assert [len(first.of(column)) for column in range(10)] == [first.alive_count] * 10
            assert [column for column in range(10) if not second.of(column)] == [4]
            assert "9 of 10 tags" in second.events[0] and "10 of 10 tags" in first.events[0]
            made.asked.clear()
            await first.polls(3)
            assert (1, 14, 1) not in made.asked  # it is set aside

    asyncio.run(scenario())
    assert "holding 14" in caplog.text and "holding 3" not in caplog.text


def test_a_type_that_reaches_too_far_is_only_its_own_lines(free_port: Callable[[], int]) -> None:
    """Two lines read one register, the second as half of a number whose other half does not exist."""

    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            made.missing = {3}
            first = lines.begin(tags_of(0, 3))
            second = lines.begin([tag(0, 0), tag(1, 2, kind="uint32")])
            await first.polls(3)
            await second.polls(3)
            assert "3 of 3 tags" in first.events[0] and "1 of 2 tags" in second.events[0]
            assert len(first.of(2)) == first.alive_count
            third = lines.begin([tag(0, 2)])
            await third.polls(2)
            assert set(third.of(0)) == {2}

    asyncio.run(scenario())


@pytest.mark.parametrize("mute", [0, 1000])
def test_registers_that_are_never_answered_are_only_their_own_lines(
    free_port: Callable[[], int], caplog: pytest.LogCaptureFixture, mute: int
) -> None:
    """Some devices say nothing instead of refusing. Whether they are asked for that first or last: the device lives."""

    async def scenario() -> None:
        async with plc(port := free_port()) as (made, lines):
            made.mute = {mute, mute + 1, mute + 200}
            well = lines.begin(tags_of(500, 5))
            ill = lines.begin([*tags_of(mute, 3), tag(3, 600), tag(4, mute + 200)])
            other = lines.begin(tags_of(0, 3, 2)) if mute else well
            await ill.until(
                lambda: ill.newest(2) == mute + 2 and ill.newest(3) == 600 and caplog.text.count("tried") == 3
            )
            said = len(well.events), len(ill.events)
            for line in (well, other, ill):
                await line.polls(5)
            assert (len(well.events), len(ill.events)) == said
            assert well.events[-1] == f"connected to 127.0.0.1:{port} device 1, 5 of 5 tags in 1 reads"
            assert ill.of(0) == ill.of(1) == ill.of(4) == []
            made.asked.clear()
            await well.polls(5)
            assert not any(made.mute & set(range(address, address + count)) for _, address, count in made.asked)

    asyncio.run(scenario())
    assert (
        f"holding {mute} uint16 at device 1 cannot be read: no answer in time; tried again now and then" in caplog.text
    )


def test_a_mistake_of_ours_ends_each_line_and_the_next_one_begins_anew(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (_, lines):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Link, "read", write)
                reads = [lines.devices.read(lines.source, tags_of(0, 3), None, LineRecorder()) for _ in range(2)]
                ended = await asyncio.gather(*reads, return_exceptions=True)
            assert [type(each) for each in ended] == [NotReading, NotReading]
            await lines.begin(tags_of(0, 3)).polls(1)

    asyncio.run(scenario())


async def write(*_: object) -> list[int]:
    raise NotReading("06")


def test_polls_that_are_always_late_are_said(free_port: Callable[[], int], caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            made.takes_s = 0.03
            await lines.begin(tags_of(0, 3), replace(lines.source, poll_interval_ms=10)).polls(12)

    asyncio.run(scenario())
    assert caplog.text.count("a poll takes longer than poll_interval_ms") == 1


def test_a_lost_answer_is_asked_for_again_at_once(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            line = lines.begin(tags_of(0, 5))
            await line.polls(2)
            made.lost = 1
            await line.polls(3)
            assert made.lost == 0 and len(line.events) == 1
            assert not any(value is None for _, value, _ in line.values)

    asyncio.run(scenario())


def test_what_has_no_value_any_more_is_told_so_and_why_once(
    free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            line = lines.begin([tag(0, 5), tag(1, 7), tag(2, 10, kind="bcd16")])
            await line.polls(3)
            assert (line.of(0)[-1], line.of(1)[-1], line.of(2)) == (5, 7, [])
            made.missing = {7}
            await line.until(lambda: (1, None, None) in line.values[-3:])
            await line.polls(2)
            assert sorted(line.values[-3:]) == [(0, 5, None), (1, None, None), (2, None, None)]

    asyncio.run(scenario())
    assert caplog.text.count("holds 0x000a, which is no BCD") == 1


def test_a_silent_device_takes_only_its_own_lines(
    free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with plc(port := free_port()) as (made, lines):
            first, second = lines.begin(tags_of(0, 5)), lines.begin(tags_of(0, 5, 2))
            both = lines.begin(
                [*tags_of(10, 3), *(replace(each, lane_column=each.column + 3) for each in tags_of(10, 2, 2))]
            )
            for line in (first, second, both):
                await line.polls(2)
            made.silent = {2}
            await second.until(lambda: len(second.events) == 2)
            assert second.events[1] == f"lost: device 2 at 127.0.0.1:{port}: no answer in time"
            await first.polls(3)
            await both.polls(3)
            assert (len(first.events), len(both.events)) == (1, 1)
            newest = dict(each[:2] for each in both.values[-5:])
            assert [newest[column] for column in range(5)] == [10, 11, 12, None, None]
            made.silent.clear()
            await second.until(lambda: len(second.events) == 3)
            await both.until(lambda: both.newest(4) == 11)
            assert len(first.events) == 1
            where = f"device 2 at 127.0.0.1:{port}"
            assert [caplog.text.count(f"{where}{words}") for words in (": no answer in time", " answers again")] == [
                1,
                1,
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize("has_clock", [False, True])
def test_what_a_device_gave_before_it_failed_counts_for_nothing(free_port: Callable[[], int], has_clock: bool) -> None:
    """Of two blocks of device 2 the second is not answered. Values and clock of the first are older than that."""

    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            made.mute = {1000}
            tags = [tag(0, 5), tag(1, 0, device=2), tag(2, 1000, device=2)]
            line = lines.begin(tags, None, tag(9, 3, device=2) if has_clock else None)
            await line.polls(1)
            assert sorted(line.values[:3]) == [(0, 5, None), (1, None, None), (2, None, None)]
            await line.until(lambda: line.newest(1) == 0)
            assert not has_clock or line.values[-1][2] == 3

    asyncio.run(scenario())


class Counting(LineRecorder):
    """A line whose clock counts how often it was looked at. `tries`: how often it was said that it is being read."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = self.tries = 0
        self.begun: list[int | None] = []

    def now_ms(self) -> int:
        self.looks += 1
        return self.looks

    def begin(self, since_ms: int | None = None) -> None:
        self.begun.append(since_ms)

    def tried(self) -> None:
        self.tries += 1


def test_a_line_begins_when_it_was_asked_for_and_not_when_the_answer_came(free_port: Callable[[], int]) -> None:
    """Or the pieces made meanwhile would be counted with the first value."""

    async def scenario() -> None:
        async with plc(free_port()) as (_, lines):
            line = Counting()
            task = asyncio.create_task(ModbusReader(lines.source, tags_of(0, 3), None, line).run())
            await line.polls(2)
            task.cancel()
            await asyncio.wait([task])
            assert line.begun == [1]

    asyncio.run(scenario())


def test_a_device_that_is_off_is_no_reader_that_stands_still(free_port: Callable[[], int]) -> None:
    """Or the watchdog would start the agent again and again."""

    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            made.silent = {1}
            line = Counting()
            task = asyncio.create_task(ModbusReader(lines.source, tags_of(0, 3), None, line).run())
            await until(lambda: line.tries >= 5)
            task.cancel()
            await asyncio.wait([task])
            assert len(line.events) == 1 and not line.values

    asyncio.run(scenario())


def test_a_lost_connection_is_told_to_each(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with plc(port := free_port()) as (_, lines):
            read = [lines.begin(tags_of(10 * at, 5)) for at in range(3)]
            for line in read:
                await line.polls(1)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Link, "read", fail)
                for line in read:
                    await line.until(lambda line=line: len(line.events) == 2)  # type: ignore[misc]
                    assert line.events[1] == f"lost: no connection to 127.0.0.1:{port}: the cable is out"
            for line in read:
                await line.until(lambda line=line: len(line.events) == 3)  # type: ignore[misc]

    asyncio.run(scenario())


def test_a_line_comes_and_goes_while_the_others_go_on(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            made.missing = {4}
            first, second = lines.begin(tags_of(0, 10)), lines.begin(tags_of(10, 10))
            await first.polls(12)  # what of the device cannot be read is known
            third = lines.begin(tags_of(20, 10))
            polled, had = first.alive_count, len(first.values)
            made.asked.clear()
            await third.polls(2)
            assert {column for column in range(10) if third.of(column)} == set(range(10))
            assert (1, 4, 1) not in made.asked, "what was learned is kept"
            assert not any(address <= 4 < address + count for _, address, count in made.asked)
            since = first.values[had:]
            assert first.alive_count > polled and {column for column, value, _ in since if value is None} == {4}

            await lines.end(second)
            made.asked.clear()
            heard = len(second.values)
            await first.polls(3)
            assert len(second.values) == heard
            assert len(first.events) == 1
            await lines.end(first)
            await third.polls(2)
            made.asked.clear()
            await third.polls(2)
            assert set(made.asked) == {(1, 20, 10)}  # nobody reads the others
            await lines.end(third)
            asked = len(made.asked)
            await asyncio.sleep(0.1)
            assert len(made.asked) == asked
            again = lines.begin(tags_of(0, 3))
            await again.polls(1)

    asyncio.run(scenario())


def test_a_line_that_comes_does_not_wait_for_the_next_poll(free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            rarely = replace(lines.source, poll_interval_ms=600_000)
            first = lines.begin(tags_of(0, 5), rarely)
            await first.polls(1)
            second = lines.begin(tags_of(5, 5), rarely)
            await second.polls(1)
            assert made.asked == [(1, 0, 5), (1, 0, 10)]

    asyncio.run(scenario())


async def fail(*_: object) -> list[int]:
    raise LinkFailed("the cable is out")


async def answers_again(made: Plc, line: LineRecorder) -> None:
    made.silent.clear()
    await line.polls(3)


async def loses_its_link(made: Plc, line: LineRecorder) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "read", fail)
        await line.until(lambda: line.events[-1].endswith("the cable is out"))


@pytest.mark.parametrize("go_on", [answers_again, loses_its_link])
def test_a_line_that_leaves_in_the_midst_of_a_poll_is_told_nothing_more(
    free_port: Callable[[], int], go_on: Callable[[Plc, LineRecorder], Awaitable[None]]
) -> None:
    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            first, second = lines.begin(tags_of(0, 5)), lines.begin(tags_of(300, 5))
            await first.polls(1)
            made.silent = {1}
            asked = len(made.asked)
            await until(lambda: len(made.asked) > asked)
            told = len(second.values), list(second.events)
            await lines.end(second)
            await go_on(made, first)
            assert (len(second.values), second.events) == told

    asyncio.run(scenario())


def test_a_line_is_told_before_the_others_are_read(free_port: Callable[[], int]) -> None:
    """Its values hold from when they came, and not from when a slow device, which it does not have, has answered."""

    async def scenario() -> None:
        async with plc(free_port()) as (made, lines):
            first, second = lines.begin(tags_of(0, 5)), lines.begin(tags_of(0, 5, 2))
            await second.polls(1)
            made.silent = {2}
            asked = len(made.asked)
            await until(lambda: any(each[0] == 2 for each in made.asked[asked:]))
            told = first.alive_count
            assert told > second.alive_count, "device 1 was read before"

    asyncio.run(scenario())


def test_what_was_learned_of_a_device_holds_for_other_tags() -> None:
    tags = [tag(at, at) for at in range(8)]
    blocks = Blocks(plan(tags))
    waiting, gone = blocks.due(0.0), 5
    while waiting:
        read = waiting.pop(0)
        if read.address <= gone < read.address + read.count:
            waiting = blocks.refused(read, ILLEGAL_ADDRESS, 0.0) + waiting
        else:
            blocks.answered(read)
    again = Blocks(plan([*tags, *(tag(at, at) for at in range(8, 12))]), blocks)
    due = again.due(1.0)
    assert not any(read.address <= gone < read.address + read.count for read in due)
    assert sorted(each.register for read in due for each in read.tags) == [*range(5), *range(6, 12)]
    assert any(read.address == gone for read in again.due(31.0))  # asked for again later
    without = Blocks(plan([each for each in tags if each.register != gone], hole_limit=0), again)
    assert sorted(each.register for read in without.due(1.0) for each in read.tags) == [*range(5), 6, 7]
