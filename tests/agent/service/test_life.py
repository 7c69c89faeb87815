"""The agent under a service manager: says when it is up, is fed, reads its configuration again, answers for itself."""

from __future__ import annotations

import json
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from agent.spool import Spool
from protocols.evidence.bodies import Configurations, Gap
from protocols.evidence.record import SignedRecord
from tests.agent.service.test_health import samples
from tests.agent.test_run import EXAMPLES, command, prepare, until
from tests.simulators.receipt_hub import ReceiptHub

PARTS = ("read filling", "read packing", "store", "sign")


class Manager:
    """systemd's end of the notification socket: it always listens."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.said: list[str] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while (message := self._socket.recv(4096)) != b"close":
            self.said += message.decode().split("\n")

    def count(self, word: str) -> int:
        return self.said.count(word)

    def close(self) -> None:
        """When this returns, all that was said before is counted."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"close", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def progress(metrics: str) -> dict[str, float]:
    """Seconds since each part moved on."""
    found = samples(metrics)
    return {part: found[f'linetally_progress_age_seconds{{part="{part}"}}'] for part in PARTS}


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
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    simulate = ("simulate", "--plant", str(EXAMPLES / "plant.toml"), "--clock-file", str(clock), "--speed", "1")
    ports = ("--opcua-port", str(opcua_port), "--modbus-port", str(modbus_port))

    def said(words: str) -> int:
        return log.read_text("utf-8").count(words)

    def get(what: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{health_port}/{what}", timeout=5) as answer:
            return str(answer.read().decode())

    with (
        closing(Manager(tmp_path / "socket")) as manager,
        command(*simulate, *ports, log=plant_log),
        command("run", "--config", str(path), log=log) as agent,
    ):
        until(lambda: manager.count("READY=1") == 1 and said("connected to") >= 2, 20, log)
        until(lambda: manager.count("WATCHDOG=1") >= 3, 10, log)
        assert json.loads(get("healthz"))["ok"]
        assert 'linetally_line_reading{line="packing"} 1' in get("metrics")
        ages = [progress(get("metrics"))]

        def all_moved_on() -> bool:
            ages.append(progress(get("metrics")))
            return all(any(later[part] < age[part] for age, later in pairwise(ages)) for part in PARTS)

        until(all_moved_on, 10, log)

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
