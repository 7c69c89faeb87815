"""The real command as a process: killed with -9 in a stream of statements, nothing is lost and nothing doubled."""

from __future__ import annotations

import io
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hub.__main__ import main
from hub.log.sequencer import Log
from hub.root import load_key
from protocols.evidence.merkle import leaf_hash
from protocols.evidence.note import VerifierKey
from protocols.evidence.proof import parse, verify
from protocols.wire.receipt import Receipt, decode_receipt
from protocols.wire.topics import live_topic, receipt_topic, statement_topic
from tests.support.evidence import GATEWAY
from tests.support.hub import enrolment_request, measurements

COMMAND = [sys.executable, "-m", "hub"]


class Plant:
    """A folder with a hub in it, driven only by its commands and its network."""

    def __init__(self, folder: Path, port: int, broker_port: int) -> None:
        self.folder = folder
        self.port = port
        self.broker_port = broker_port
        self.config = folder / "hub.toml"

    def run(self, *words: str, code: int = 0) -> dict[str, object]:
        """A command's JSON answer. In this process, for speed; `serve` is always a process of its own."""
        arguments = [*words, "--config", str(self.config), "--json"]
        out, err = io.StringIO(), io.StringIO()
        if words[0] == "serve":
            done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
            found, answer = done.returncode, done.stdout or done.stderr
        else:
            with redirect_stdout(out), redirect_stderr(err):
                found = main(arguments)
            answer = out.getvalue() or err.getvalue()
        assert found == code, answer
        return json.loads(answer)  # type: ignore[no-any-return]

    @contextmanager
    def serving(self, end: signal.Signals = signal.SIGTERM) -> Iterator[subprocess.Popen[str]]:
        errors = (self.folder / "serve.err").open("a")
        process = subprocess.Popen(
            [*COMMAND, "serve", "--config", str(self.config)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("The hub is at"), (self.folder / "serve.err").read_text()
            yield process
        finally:
            process.send_signal(end)
            code = process.wait(20)
            assert process.stdout is not None
            process.stdout.close()
            errors.close()
        assert code == (0 if end is not signal.SIGKILL else -signal.SIGKILL)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read()  # type: ignore[no-any-return]

    def post(self, path: str, data: object) -> dict[str, object]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]


@pytest.fixture
def plant(tmp_path: Path, free_port: Callable[[], int]) -> Plant:
    made = Plant(tmp_path, free_port(), free_port())
    words = ["--port", str(made.port), "--broker-port", str(made.broker_port), "--access", "loopback"]
    made.run("init", "--origin", "log.test/hub", *words)
    made.run("enterprise", "add", "acme", "--name", "Acme Foods")
    made.run("project", "add", "P-7", "--scheme", "manufacturing-plus", "--enterprise", "acme", "--title", "Upgrade")
    for line_id in ("filling", "packing"):
        made.run("line", "add", line_id, "--enterprise", "acme", "--project", "P-7", "--name", line_id)
    return made


class Sender:
    """A gateway's network side: sends what has no receipt, again and again, in order."""

    def __init__(self, port: int, raws: list[bytes]) -> None:
        self.raws = raws
        self.receipts: dict[int, Receipt] = {}
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set() and len(self.receipts) < len(self.raws):
            client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=GATEWAY, protocol=mqtt.MQTTv5)
            client.on_message = self._on_message
            try:
                client.connect("127.0.0.1", self._port)
            except OSError:
                self._stop.wait(0.1)
                continue
            client.subscribe(receipt_topic(GATEWAY), 1)
            client.loop_start()
            try:
                while not self._stop.is_set() and len(self.receipts) < len(self.raws):
                    waiting = [i for i in range(len(self.raws)) if i not in self.receipts][:20]
                    for i in waiting:
                        client.publish(statement_topic(GATEWAY), self.raws[i], 1)
                    self._stop.wait(0.25)
                    if not client.is_connected():
                        break
            finally:
                client.disconnect()
                client.loop_stop()

    def _on_message(self, _client: object, _userdata: object, message: mqtt.MQTTMessage) -> None:
        answer = decode_receipt(bytes(message.payload))
        if isinstance(answer, Receipt):
            self.receipts[answer.sequence] = answer


def _wait(until: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def test_killed_in_a_stream_each_statement_is_logged_once_and_receipted(plant: Plant) -> None:
    records = measurements(120, windows=1)
    with plant.serving():
        token = plant.run("gateway", "token", "P-7")["token"]
        assert isinstance(token, str)
        pending = plant.post("/api/v1/enrolments", enrolment_request(token))
        # The serving hub takes the root-signed record from the database and logs it.
        approved = plant.run("gateway", "approve", GATEWAY, "--fingerprint", str(pending["fingerprint"]))
        assert approved["leaf_index"] == 0
    choice = random.Random(20261121)
    with Sender(plant.broker_port, [record.raw for record in records]) as sender:
        for _ in range(3):
            with plant.serving(signal.SIGKILL):
                before = len(sender.receipts)
                _wait(lambda before=before: len(sender.receipts) > before + choice.randrange(5, 25))  # type: ignore[misc]
        with plant.serving():
            _wait(lambda: len(sender.receipts) == len(records))
            policy = plant.run("policy")["policy"]
            assert isinstance(policy, str)
    vkey = next(line.removeprefix("log ") for line in policy.splitlines() if line.startswith("log "))
    key = VerifierKey.parse(vkey)
    log_key = load_key(plant.folder / "data" / "log.key", "the log's key", "")
    with Log.open(plant.folder / "data" / "log", log_key) as log:
        assert list(log.entries(1, log.size)) == [record.raw for record in records]
    for sequence, receipt in sender.receipts.items():
        found = parse(receipt.proof.encode())
        verify(found, leaf_hash(records[sequence].raw), key)
        assert found.index == sequence + 1
    assert plant.run("fsck") == {"sound": True, "checked": 121}
    assert plant.run("rebuild") == {"entries": 121}


def test_live_messages_reach_the_page_and_a_port_in_use_is_said(plant: Plant) -> None:
    with plant.serving():
        token = str(plant.run("gateway", "token", "P-7")["token"])
        plant.post("/api/v1/enrolments", enrolment_request(token))
        plant.run("gateway", "approve", GATEWAY)
        # A second hub on the same data is refused by the log's lock.
        assert "another process" in str(plant.run("serve", code=1)["words"])
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=GATEWAY, protocol=mqtt.MQTTv5)
        client.connect("127.0.0.1", plant.broker_port)
        client.loop_start()
        try:
            for payload in (b"\xff", b"[]", b"{}", b"[" * 5_000, json.dumps({"line": "mixing"}).encode()):
                client.publish(live_topic(GATEWAY), payload, 0)
            client.publish(statement_topic(GATEWAY), b"junk", 1).wait_for_publish(5)
            _wait(lambda: json.loads(plant.get("/api/v1/status"))["refused_count"] == 1)
        finally:
            client.disconnect()
            client.loop_stop()
        assert json.loads(plant.get("/api/v1/status"))["alarms"] == []
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", plant.port))
        holder.listen()
        words = str(plant.run("serve", code=2)["words"])
        assert f"127.0.0.1:{plant.port}" in words and "--port" in words
