"""One reader for several lines: when it begins, when it ends, and who hears of its failure."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.sources.shared import SharedReaders


class Reader:
    """Reads until it is cancelled, and takes its time to end, as one that says goodbye to a PLC."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.lines: list[str] = []
        self.ended = asyncio.Event()
        self._failure = failure

    async def run(self) -> None:
        try:
            await asyncio.sleep(0.01 if self._failure else 3600)
            raise self._failure or AssertionError
        finally:
            await asyncio.sleep(0.05)
            self.ended.set()

    def leave(self, line: Any) -> None:
        self.lines.remove(line)


class Lines:
    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.failure: Exception | None = None
        self._shared = SharedReaders[Reader]()

    def read(self, line: str) -> asyncio.Task[None]:
        def begin() -> Reader:
            self.readers.append(Reader(self.failure))
            join(self.readers[-1])
            return self.readers[-1]

        def join(reader: Reader) -> None:
            reader.lines.append(line)

        return asyncio.create_task(self._shared.read("a PLC", line, begin, join))  # type: ignore[arg-type]


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_a_reader_works_while_a_line_uses_it() -> None:
    async def scenario() -> None:
        lines = Lines()
        one, two = lines.read("one"), lines.read("two")
        await asyncio.sleep(0)
        (reader,) = lines.readers
        assert reader.lines == ["one", "two"]
        await _end(one)
        assert reader.lines == ["two"] and not reader.ended.is_set()
        await _end(two)
        assert reader.ended.is_set()

    asyncio.run(scenario())


def test_a_line_that_comes_while_the_last_one_goes_has_a_reader_of_its_own() -> None:
    async def scenario() -> None:
        lines = Lines()
        one = lines.read("one")
        await asyncio.sleep(0.01)
        one.cancel()
        await asyncio.sleep(0.01)
        assert not lines.readers[0].ended.is_set()
        two = lines.read("two")
        await asyncio.wait([one])
        assert [reader.lines for reader in lines.readers] == [["one"], ["two"]]
        assert not two.done() and not lines.readers[1].ended.is_set()
        await _end(two)

    asyncio.run(scenario())


def test_a_readers_failure_is_each_lines_and_the_next_one_begins_anew() -> None:
    async def scenario() -> None:
        lines = Lines()
        lines.failure = RuntimeError("a mistake of ours")
        tasks = [lines.read("one"), lines.read("two")]
        await asyncio.wait(tasks)
        for task in tasks:
            with pytest.raises(RuntimeError, match="a mistake of ours"):
                task.result()
        lines.failure = None
        three = lines.read("three")
        await asyncio.sleep(0)
        assert lines.readers[-1].lines == ["three"] and len(lines.readers) == 2
        await _end(three)

    asyncio.run(scenario())
