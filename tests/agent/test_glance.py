"""What the agent sees now, as `status` shows it beside the running agent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent import glance
from agent.keys import make_state_folder
from agent.spool import Spool
from agent.status import read_status, status_words
from protocols.plc.roles import SignalRole
from tests.agent import factory
from tests.agent.test_line import EXECUTE, START, Running


def test_status_shows_each_tag_the_link_and_the_plcs_clock(tmp_path: Path) -> None:
    running = Running(tmp_path)
    line = running.line
    line.connected("connected to the filler, 2 of 3 tags")
    line.put(SignalRole.STATE, EXECUTE, START)
    line.put(SignalRole.TOTAL, 12_345, START + 7)
    line.put(SignalRole.REJECT, None, None)
    trouble = {"role": "reject", "trouble": "the server has no such node"}
    line.report = lambda: {"clock_offset_ms": -3_250, "clock_uncertain_ms": 4, "gaps": 2, "tags": [trouble]}
    configuration = factory.configuration(tmp_path, factory.opcua())
    make_state_folder(configuration.state_folder)
    Spool.open(configuration.state_folder).close()
    assert read_status(configuration)["now"] is None
    glance._write(configuration.state_folder / glance.FILE, json.dumps(glance.glance([line], True)).encode())
    words = status_words(read_status(configuration))
    assert "the broker is connected" in words
    assert "connected to the filler" in words
    assert "state      6, by its clock" in words
    assert "total      12,345, by its clock" in words
    assert "reject     no good value: the server has no such node" in words
    assert "the PLC's clock is 3.250 s behind this gateway's (to 0.004 s)" in words
    assert "2 times values were lost on the way" in words


def test_a_file_that_is_torn_is_as_good_as_none(tmp_path: Path) -> None:
    assert glance.read_glance(tmp_path) is None
    (tmp_path / glance.FILE).write_text('{"time_ms": 1, "li')
    assert glance.read_glance(tmp_path) is None
    (tmp_path / glance.FILE).write_text("[]")
    assert glance.read_glance(tmp_path) is None


def test_what_no_file_takes_and_a_time_of_no_calendar_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent writes it each ten seconds, and would end by it."""
    running = Running(tmp_path)
    line = running.line
    line.link = "it said K\udce4se"  # not by `lost`: its log line could not be told from process to process
    for source_ms in (2**63 // 10_000, -(2**60)):
        line.put(SignalRole.STATE, EXECUTE, source_ms)
    monkeypatch.setattr(glance, "EACH_S", 0.01)

    async def scenario() -> None:
        writing = asyncio.create_task(glance.write_glances(tmp_path, [line], lambda: True))
        done, _ = await asyncio.wait([writing], timeout=0.5)
        assert not done
        writing.cancel()
        found = glance.read_glance(tmp_path)
        assert found is not None
        words = glance.glance_words(found["lines"][0])
        assert words[0] == "it said K?se"
        assert "state      6, by its clock no year that a calendar has" in words

    asyncio.run(scenario())
