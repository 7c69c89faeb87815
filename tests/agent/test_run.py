"""The agent as a process: plant, broker and receipts are real, and it is killed on the way."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.config import load
from agent.keys import LOG_KEY_FILE, load_or_make_key
from agent.spool import Spool
from protocols.evidence.bodies import Configurations, Gap, Measurement
from protocols.evidence.record import NO_PREVIOUS, SignedRecord
from protocols.measurement.account import Window
from protocols.measurement.amendment import Amendment
from tests.simulators.broker import running_broker
from tests.simulators.operator_panel import Panel
from tests.simulators.receipt_hub import ReceiptHub
from tests.support.commands import require_no_write

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
ROOT = Path(__file__).parents[2]


@contextmanager
def command(*words: str, log: Path, jit: str = "off") -> Iterator[subprocess.Popen[bytes]]:
    """A command of the agent as a process, its log in a file; killed at the end if it still runs."""
    with log.open("ab") as file:
        environment = {**os.environ, "LINETALLY_JIT": jit}  # a few rows do not pay for compiling
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", *words], cwd=ROOT, stdout=file, stderr=file, env=environment
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        require_no_write(log)


def until(condition: Callable[[], bool], timeout_s: float, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, log.read_text("utf-8")
        time.sleep(0.05)


def check_chain(records: list[SignedRecord]) -> None:
    assert [signed.record.sequence for signed in records] == list(range(len(records)))
    previous = NO_PREVIOUS
    for signed in records:
        assert signed.record.previous == previous
        previous = signed.hash


def windows_of(records: list[SignedRecord]) -> dict[str, list[Window]]:
    """Each line's windows; every millisecond from the first on exactly once."""
    out: dict[str, list[Window]] = {}
    for signed in records:
        if isinstance(signed.record.body, Measurement):
            for line in signed.record.body.lines:
                out.setdefault(line.line_id, []).extend(line.windows)
    for windows in out.values():
        for before, after in itertools.pairwise(windows):
            assert after.start_ms == before.end_ms
    return out


def prepare(folder: Path, example: str, broker_port: int, log_key: str, *changes: tuple[str, str]) -> Path:
    text = (EXAMPLES / example).read_text("utf-8")
    plant = str(EXAMPLES / "plant.toml")
    for before, after in (("port = 1883", f"port = {broker_port}"), ('"plant.toml"', f'"{plant}"'), *changes):
        if '"plant.toml"' not in before or example == "history.toml":
            assert before in text, before
        text = text.replace(before, after)
    path = folder / example
    path.write_text(text, "utf-8")
    state = load(path).state_folder
    load_or_make_key(state)
    (state / LOG_KEY_FILE).write_text(log_key, "utf-8")
    return path


def made(hub: ReceiptHub, line: str) -> Iterator[Window]:
    """The signed windows with good pieces."""
    return (window for window in windows_of(hub.payloads()).get(line, []) if window.account.good_count > 0)


def least_known_ms(windows: Mapping[str, Sequence[Window]]) -> int:
    """Of the two lines, the shorter observed time."""
    known = [sum(w.account.length_ms - w.account.unknown_ms for w in found) for found in windows.values()]
    return min(known) if len(known) == 2 else 0


@pytest.mark.alone
def test_a_plant_is_measured_through_a_kill(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A plant at 120 times real time; the agent is killed with -9 and started again; nothing is lost or doubled.

    In between an operator's panel says by MQTT what was found late.
    """
    broker_port, opcua_port, modbus_port = free_port(), free_port(), free_port()
    clock = tmp_path / "clock.json"
    log = tmp_path / "log"
    simulate = ("simulate", "--plant", str(EXAMPLES / "plant.toml"), "--speed", "120", "--clock-file", str(clock))
    ports = ("--opcua-port", str(opcua_port), "--modbus-port", str(modbus_port), "--start", "2026-03-02T07:00+08:00")
    with running_broker(tmp_path, broker_port), ReceiptHub(broker_port) as hub:
        path = prepare(
            tmp_path, "agent.toml", broker_port, hub.log_key,
            ("[statement]", f'[operator]\nmqtt = true\n[clock]\nsimulation = "{clock}"\n[statement]'),
            ("interval_s = 900", "interval_s = 120"), ("127.0.0.1:4840", f"127.0.0.1:{opcua_port}"),
            ("port = 5020", f"port = {modbus_port}"), ("poll_interval_ms = 1000", "poll_interval_ms = 100"),
            ("publishing_interval_ms = 500", "publishing_interval_ms = 100"),
            ("sampling_interval_ms = 250", "sampling_interval_ms = 0"),
            ("staleness_s = 10", "staleness_s = 600"),
            ("max_pieces_per_hour = 8000", "max_pieces_per_hour = 8000\nstaleness_s = 600\nminor_stop_s = 60"),
            ('definition = "iso-22400-2"', 'definition = "iso-22400-2"\nminor_stop_s = 60'),
        )  # fmt: skip
        run = ("run", "--config", str(path))
        with command(*simulate, *ports, log=log):
            with command(*run, log=log):
                until(lambda: len(hub.records) >= 6, 40, log)
                until(lambda: bool(hub.live), 10, log)
            before = len(hub.records)
            with command(*run, log=log) as agent, Panel(broker_port) as panel:
                until(lambda: len(hub.records) >= before + 6, 40, log)
                until(lambda: any(made(hub, "filling")), 40, log)
                lot = next(made(hub, "filling"))
                panel.say({
                    "id": "lab:1", "line": "filling", "kind": "reject", "count": 1,
                    "from": str(lot.start_ms), "to": str(lot.end_ms), "who": "QC lab", "why": "sample 4711",
                })  # fmt: skip
                assert panel.answers.get(timeout=20)["state"] == "waiting"
                until(lambda: any(isinstance(each.record.body, Amendment) for each in hub.payloads()), 20, log)
                until(lambda: least_known_ms(windows_of(hub.payloads())) > 4 * 60_000, 60, log)
                agent.send_signal(signal.SIGTERM)
                assert agent.wait(10) == 0, log.read_text("utf-8")
        records = hub.payloads()
    check_chain(records)
    assert isinstance(records[0].record.body, Configurations)
    windows = windows_of(records)
    assert set(windows) == {"filling", "packing"}
    for line, found in windows.items():
        assert sum(w.account.total_count for w in found) > 50, line
    assert [s.record.body.who for s in records if isinstance(s.record.body, Amendment)] == ["QC lab"]
    gaps = [signed.record.body for signed in records if isinstance(signed.record.body, Gap)]
    assert {gap.line_id for gap in gaps} <= {"filling", "packing"}
    status = subprocess.run([sys.executable, "-m", "agent", "status", "--config", path], cwd=ROOT, capture_output=True)
    assert status.returncode == 0 and b"last receipt: record" in status.stdout


def test_a_replay_that_was_killed_measures_the_same(tmp_path: Path, free_port: Callable[[], int]) -> None:
    found = []
    for kills in (0, 2):
        folder = tmp_path / str(kills)
        folder.mkdir()
        log = folder / "log"
        broker_port = free_port()
        with running_broker(folder, broker_port), ReceiptHub(broker_port) as hub:
            path = prepare(
                folder, "history.toml", broker_port, hub.log_key,
                ("2026-06-29T00:00", "2026-07-06T00:00"), ("2026-11-09T00:00", "2026-07-12T00:00"),
            )  # fmt: skip
            for kill in range(kills):
                with command("run", "--config", str(path), log=log):
                    until(lambda: len(hub.records) > 30 * kill + 10, 40, log)  # noqa: B023
            with command("run", "--config", str(path), log=log) as agent:
                assert agent.wait(60) == 0, log.read_text("utf-8")
            records = hub.payloads()
        check_chain(records)
        with Spool.open_read_only(load(path).state_folder) as spool:
            assert spool.depth() == 0
        found.append(windows_of(records)["moulding"])
    assert found[0] == found[1]
    assert found[0][-1].end_ms - found[0][0].start_ms >= 6 * 86_400_000 - 600_000
    assert sum(w.account.unknown_ms for w in found[0]) < 120_000


def test_without_a_key_it_says_how_to_enrol(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text((EXAMPLES / "agent.toml").read_text("utf-8"), "utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", tmp_path / "agent.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "enrol this gateway first" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = prepare(tmp_path, "agent.toml", 1883, "x")
    key = load(path).state_folder / "gateway.key"
    key.chmod(0o644)
    found = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", path], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert f"chmod 600 {key}" in found.stderr


def test_a_key_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = prepare(tmp_path, "agent.toml", 1883, "x")
    key = load(path).state_folder / "gateway.key"
    key.unlink()
    key.mkdir(mode=0o700)  # not chmod 0: root reads everything
    found = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", path], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert "cannot be read" in found.stderr
