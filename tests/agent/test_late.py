"""Values that came too late: counted on over restarts, written seldom, told by `status`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.late import WRITE_EACH_MS, Late, LateCounts, read_late
from agent.live_message import LineText
from agent.spool import Spool
from protocols.measurement.meter import LineMeter
from tests.agent import factory

NOW_MS = 1_790_000_000_000


def test_they_are_counted_on_after_a_restart(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        assert read_late(spool, "filling") is None
        first = LateCounts(spool, ["filling", "packing"])
        first.keep({"filling": 0, "packing": 0}, NOW_MS)
        assert read_late(spool, "filling") is None
        first.keep({"filling": 3, "packing": 0}, NOW_MS)
        first.keep({"filling": 4, "packing": 1}, NOW_MS + WRITE_EACH_MS - 1)  # too soon after the last time
        assert read_late(spool, "filling") == Late(3, NOW_MS) and read_late(spool, "packing") is None
        first.keep({"filling": 4, "packing": 1}, NOW_MS + WRITE_EACH_MS)
        again = LateCounts(spool, ["filling", "packing"])
        again.keep({"filling": 2, "packing": 0}, NOW_MS + 60_000, at_once=True)
        assert read_late(spool, "filling") == Late(6, NOW_MS + 60_000)
        assert read_late(spool, "packing") == Late(1, NOW_MS + WRITE_EACH_MS)


def test_status_and_the_live_message_tell_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.opcua())
    configuration = factory.configuration(tmp_path, factory.opcua())
    configuration.state_folder.mkdir(exist_ok=True)
    with Spool.open(configuration.state_folder) as spool:
        LateCounts(spool, ["filling"]).keep({"filling": 1_234}, NOW_MS)
    assert main(["status", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"][0]["late"] == {"count": 1234, "last_ms": NOW_MS}
    main(["status", "--config", str(config)])
    assert "1,234 values came too late so far, the last at 2026-09-2" in capsys.readouterr().out
    line = configuration.lines[0].configuration
    part = LineText(line).write(LineMeter(line, NOW_MS).live(NOW_MS), 7, whole=True)
    assert json.loads(part)["late_count"] == 7
