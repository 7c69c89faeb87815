"""Which lines are read, and by whom: beginning anew when the agent stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import running as module
from agent.clock import ManualClock
from agent.line import Line
from agent.raw_meter import RawMeter
from agent.running import Running
from agent.sources.shared import SharedReaders
from tests.agent import factory


class Connection:
    """What lines share; it takes its time to end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.lines = 1

    async def run(self) -> None:
        self._say("open")
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.sleep(0.05)
            finally:
                self._say(f"closed for {self.lines}")

    def leave(self, line: Any) -> None:
        pass


class Agent:
    def __init__(self, folder: Path) -> None:
        self.events: list[str] = []
        self._said = asyncio.Event()
        clock = ManualClock(0)
        self.lines = [
            Line(each, RawMeter(each.configuration, 0), clock) for each in factory.configuration(folder).lines
        ]
        self.running = Running(self.lines, self._read)
        self._shared = SharedReaders[Connection]()

    async def _read(self, line: Line) -> None:
        def join(connection: Connection) -> None:
            connection.lines += 1

        await self._shared.read("a PLC", line, lambda: Connection(self._say), join)

    def _say(self, words: str) -> None:
        self.events.append(words)
        self._said.set()

    async def happened(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.events) < count:
                self._said.clear()
                await self._said.wait()


async def _stop(task: asyncio.Task[None]) -> None:
    """As `agent.app` does: more than once, for ending the readers hears only the next one."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.01)


def test_no_line_is_read_by_a_connection_from_before_the_standstill(tmp_path: Path) -> None:
    """Also where only one of those that share it has noticed."""

    async def scenario() -> None:
        agent = Agent(tmp_path)
        task = asyncio.create_task(agent.running.run())
        await agent.happened(1)
        agent.lines[0].stood = True
        await agent.happened(3)
        assert agent.events == ["open", "closed for 2", "open"]
        assert not any(line.stood for line in agent.lines)
        await asyncio.sleep(0.1)
        assert len(agent.events) == 3, "once"
        await _stop(task)
        assert agent.events[3:] == ["closed for 2"]

    asyncio.run(scenario())


def test_a_line_that_a_reload_takes_away_meanwhile_is_not_read_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = Agent(tmp_path)
        task = asyncio.create_task(agent.running.run())
        await agent.happened(1)
        gone, kept = agent.lines
        gone.stood = True
        await asyncio.sleep(0.03)
        assert agent.events == ["open"], "the connection is about to end"
        assert await agent.running.stop([gone.settings.line_id]) == [gone]
        await agent.happened(3)
        await _stop(task)
        assert agent.running.lines == [kept]
        assert agent.events == ["open", "closed for 2", "open", "closed for 2"]

    asyncio.run(scenario())


def test_an_agent_that_ends_meanwhile_leaves_no_reader(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = Agent(tmp_path)
        task = asyncio.create_task(agent.running.run())
        await agent.happened(1)
        agent.lines[0].stood = True
        await asyncio.sleep(0.03)
        await _stop(task)
        assert {each for each in asyncio.all_tasks() if each is not asyncio.current_task()} == set()
        assert agent.events == ["open", "closed for 2"] * (len(agent.events) // 2)

    asyncio.run(scenario())
