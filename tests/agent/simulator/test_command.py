"""`simulate` as a user starts it: what it prints, its clock file, how it ends."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.clock import SimulatedClock
from agent.simulator import command

PLANT = Path(__file__).parents[3] / "deploy" / "examples" / "plant.toml"
PROGRAM = """
import argparse, sys
from agent.simulator import command
parser = argparse.ArgumentParser()
command.add_parser(parser.add_subparsers(required=True))
args = parser.parse_args()
sys.exit(args.run(args))
"""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "simulate", "--plant", str(PLANT), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ, cwd=PLANT.parents[2],
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def until_ready(process: subprocess.Popen[str]) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == "ready":
            return lines
    raise AssertionError(f"ended before it was ready: {lines}, {process.communicate()[1]}")


def test_it_serves_until_a_signal_and_goes_on_with_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    log = tmp_path / "requests.jsonl"
    options = ["--clock-file", str(path), "--opcua-port", "0", "--modbus-port", "0", "--request-log", str(log)]
    with started("--speed", "60", "--start", "2026-03-02T06:00+08:00", *options) as process:
        lines = until_ready(process)
        assert [line.split(":")[0] for line in lines] == ["filling", "packing", "moulding", "clock", "ready"]
        assert "127.0.0.1:0" not in " ".join(lines)
        first = SimulatedClock.read(path)
        assert first.speed == 60
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert log.read_text() == '{"requests": 0, "writes_seen": 0}\n'
    with started(*options) as process:
        until_ready(process)
        assert SimulatedClock.read(path) == first
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.mark.parametrize("option", ["--opcua-port", "--modbus-port"])
def test_a_port_in_use_is_said_with_its_option(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = "--modbus-port" if option == "--opcua-port" else "--opcua-port"
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers(required=True))
        args = parser.parse_args(["simulate", "--plant", str(PLANT), option, port, other, "0"])
        assert args.run(args) == 2
    said = capsys.readouterr().err
    assert f"port {port} on 127.0.0.1 is in use" in said
    assert option in said


def test_a_wrong_plant_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plant.toml"
    path.write_text('[[line]]\nid = "one"\nprotocol = "opc"\n')
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["simulate", "--plant", str(path)])
    assert args.run(args) == 2
    said = capsys.readouterr().err
    assert "plant.toml, line 3" in said
    assert '"opcua"' in said


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    with pytest.raises(SystemExit):
        parser.parse_args(["simulate", "--help"])
    said = capsys.readouterr().out
    assert "linetally-agent simulate --plant" in said
    assert "--clock-file" in said


def test_no_new_import_before_it_runs() -> None:
    program = (
        "import sys; from agent.simulator import command; print('asyncua' in sys.modules, 'pymodbus' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
