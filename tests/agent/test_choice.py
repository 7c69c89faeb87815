"""What is said of a line's settings when its reading begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.config_opcua import OpcuaSource
from agent.line import Line
from agent.sources.choice import Sources
from tests.agent import factory
from tests.agent.test_line import Running


@pytest.mark.parametrize(("poll_interval_ms", "words"), [(1000, ""), (2000, ""), (2500, "staleness_s = 8")])
def test_polls_that_are_too_rare_are_said_with_the_mend(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture, poll_interval_ms: int, words: str
) -> None:
    configuration = factory.configuration(tmp_path, factory.opcua(f"opc.tcp://127.0.0.1:{free_port()}"))
    (settings,) = configuration.lines
    assert isinstance(settings.source, OpcuaSource)
    polled = replace(settings.source, poll=True, poll_interval_ms=poll_interval_ms)
    line = Line(replace(settings, source=polled), Running(tmp_path).line.meter, SystemClock())

    async def scenario() -> None:
        reading = asyncio.create_task(Sources(configuration, SystemClock(), asyncio.Event()).read(line))
        while line.link == "not connected yet":  # noqa: ASYNC110 - nobody tells it otherwise
            await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.wait([reading])

    asyncio.run(scenario())
    assert ("three polls" in caplog.text) == bool(words)
    assert words in caplog.text
