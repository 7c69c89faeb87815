"""The agent under a service manager: says when it is up, is fed, reads its configuration again, answers for itself."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.spool import Spool
from protocols.evidence.bodies import Configurations, Gap
from protocols.evidence.record import SignedRecord
from tests.agent.test_run import EXAMPLES, command, prepare, until
from tests.simulators.receipt_hub import ReceiptHub


class Manager:
    """systemd's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.said: list[str] = []

    def count(self, word: str) -> int:
        while True:
            try:
                self.said += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.said.count(word)

    def close(self) -> None:
        self._socket.close()


@pytest.mark.alone
def test_up_fed_reloaded_and_stopped(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two lines one gets another tag: only its source begins again, and only its configuration is signed again."""
    opcua_port, modbus_port, health_port = free_port(), free_port(), free_port()
    log, plant_log, clock = tmp_path / "log", tmp_path / "plant", tmp_path / "clock.json"
    path = prepare(
        tmp_path, "agent.toml", free_port(), ReceiptHub(1).log_key,
        ("[statement]", f'[clock]\nsimulation = "{clock}"\n[statement]'),
        ("port = 0 ", f"port = {health_port} "),
        ("127.0.0.1:4840", f"127.0.0.1:{opcua_port}"), ("port = 5020", f"port = {modbus_port}"),
        ("poll_interval_ms = 1000", "poll_interval_ms = 100"),
    )  # fmt: skip
    good = path.read_text("utf-8")
    manager = Manager(tmp_path / "socket")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    simulate = ("simulate", "--plant", str(EXAMPLES / "plant.toml"), "--clock-file", str(clock), "--speed", "1")
    ports = ("--opcua-port", str(opcua_port), "--modbus-port", str(modbus_port))

    def said(words: str) -> int:
        return log.read_text("utf-8").count(words)

    def get(what: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{health_port}/{what}", timeout=5) as answer:
            return str(answer.read().decode())

    with command(*simulate, *ports, log=plant_log), command("run", "--config", str(path), log=log) as agent:
        until(lambda: manager.count("READY=1") == 1 and said("connected to") >= 2, 20, log)
        until(lambda: manager.count("WATCHDOG=1") >= 3, 10, log)
        assert json.loads(get("healthz"))["ok"]
        assert 'linetally_line_reading{line="packing"} 1' in get("metrics")

        path.write_text(good + "\nnonsense = 1\n", "utf-8")
        agent.send_signal(signal.SIGHUP)
        until(lambda: said("is not taken up, the old one goes on") == 1, 10, log)
        path.write_text(good.replace('site = "Tai Po plant"', 'site = "Elsewhere"'), "utf-8")
        agent.send_signal(signal.SIGHUP)
        until(lambda: said("gateway.site cannot change while it runs") == 1, 10, log)

        path.write_text(good.replace("max_pieces_per_hour = 8000", "max_pieces_per_hour = 8001"), "utf-8")
        agent.send_signal(signal.SIGHUP)
        until(lambda: said("configuration read again: line packing changed") == 1, 10, log)
        until(lambda: said("packing    connected") == 2, 10, log)
        assert said("filling    connected") == 1, "the other line's PLC noticed nothing"
        until(lambda: 'linetally_line_reading{line="packing"} 1' in get("metrics"), 10, log)

        timeout = ("poll_interval_ms = 100", "poll_interval_ms = 100\ntimeout_ms = 700")
        path.write_text(path.read_text("utf-8").replace(*timeout), "utf-8")
        agent.send_signal(signal.SIGHUP)
        until(lambda: said("packing    connected") == 3, 10, log)
        assert said("filling    connected") == 1

        agent.send_signal(signal.SIGTERM)
        assert agent.wait(15) == 0, log.read_text("utf-8")
    assert manager.count("STOPPING=1") == 1 and manager.count("RELOADING=1") == 4
    manager.close()
    with Spool.open(path.parent / "state") as spool:
        records = [SignedRecord(each.raw).record for each in spool.open_records(0, 100)]
    configured = [
        [line["line_id"] for line in record.body.configurations]
        for record in records
        if isinstance(record.body, Configurations)
    ]
    assert configured == [["filling", "packing"], ["packing"]]
    gaps = [record.body for record in records if isinstance(record.body, Gap)]
    assert [(gap.line_id, gap.reason) for gap in gaps] == [("packing", "the line's configuration was changed")]
    assert 0 < gaps[0].to_ms - gaps[0].from_ms < 10_000
