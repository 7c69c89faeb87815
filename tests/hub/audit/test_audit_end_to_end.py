"""From the committee's challenge to its verdict: the real hub, broker, agent and plant, as processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from protocols.wire.challenge import MAX_SPANS
from tests.conftest import a_free_port
from tests.end_to_end.test_straight_line import HERE, SPEED, configure, enter
from tests.support.commands import BIN, Cast, answers, command, json_of

START = "2026-03-02T23:24:00+08:00"  # a shift begins at 23:25
AT = ("2026-03-02T23:26:30+08:00", "2026-03-02T23:28:00+08:00")


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_minutes_that_are_asked_for_come_from_the_agent_and_give_the_signed_integers(tmp_path: Path) -> None:
    page, broker, opcua, modbus = (a_free_port() for _ in range(4))
    config, agent = tmp_path / "hub.toml", tmp_path / "agent.toml"
    configure(tmp_path, broker, opcua, modbus)
    command(
        "linetally-hub", "init", "--config", config, "--port", page, "--broker-port", broker, "--access", "loopback"
    )
    enter(config)
    with Cast(tmp_path) as cast:
        cast.start("hub", "linetally-hub", "serve", "--config", config)
        cast.until(lambda: answers(f"http://127.0.0.1:{page}/"), "the hub")
        token = json_of("linetally-hub", "gateway", "token", "P-1", "--config", config)["token"]
        command("linetally-agent", "enrol", "--config", agent, "--hub", f"http://127.0.0.1:{page}", "--token", token)
        command("linetally-hub", "gateway", "approve", "GW-01", "--config", config)
        cast.start("agent", "linetally-agent", "run", "--config", agent)
        cast.until(lambda: "waiting for the simulator" in cast.log("agent"), "the agent", 120)
        cast.start(
            "plant", "linetally-agent", "simulate", "--plant", HERE / "plant.toml", "--clock-file",
            tmp_path / "clock.json", "--start", START, "--speed", SPEED, "--opcua-port", opcua, "--modbus-port", modbus,
        )  # fmt: skip
        cast.until(lambda: (tmp_path / "clock.json").exists() and "ready" in cast.log("plant"), "the plant")

        def replayed(*words: object) -> dict[str, Any]:
            argv = [
                str(BIN / "linetally-hub"),
                "audit",
                "replay",
                "P-1",
                "--jobs",
                "1",
                "--json",
                "--config",
                str(config),
            ]
            done = subprocess.run([*argv, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
            found: dict[str, Any] = json.loads(done.stdout or done.stderr)
            return found

        # The minutes, and the time after them in which a stop may turn out to be a minor one, are in signed records.
        until = ("--from", "2026-03-02T23:35:00+08:00", "--to", "2026-03-02T23:37:00+08:00")
        # More than two windows where a line is first seen in these minutes: its product is a cut.
        cast.until(lambda: min(line["asked"] for line in replayed(*until)["lines"]) >= 2, "thirteen minutes", 120)
        told = json_of(
            "linetally-hub", "audit", "challenge", "P-1", "--config", config, *(w for at in AT for w in ("--at", at))
        )
        assert {line: len(spans) for line, spans in told["minutes"].items()} == {"filling": len(AT), "packing": len(AT)}

        def status() -> list[dict[str, object]]:
            return list(json_of("linetally-hub", "audit", "status", "P-1", "--config", config))

        cast.until(lambda: all(row["state"] == "answered" for row in status()), "the answers", 60)
        assert all(row["refused"] is None and 3 <= int(str(row["pieces"])) <= MAX_SPANS for row in status())
        verdict = replayed()
        assert verdict["difference"] is None and verdict["refused_count"] == 0, verdict
        lines = verdict["lines"]
        assert [line["equal"] for line in lines] == [len(AT)] * 2, (verdict, status(), told)
        assert verdict["verdict"] == "EQUAL"
        assert all(line["memory_checked"] > 0 and line["memory_faults"] == 0 for line in lines)
