"""An agent as a process with everything around it: two PLCs, a broker, and a hub's receipts.

Decides its configuration and how the process is looked at (/proc). What is measured is `agent`'s and `soak`'s.
"""

from __future__ import annotations

import compileall
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.keys import load_or_make_key
from benchmarks.agent_servers import FIFTY, NAMESPACE, Shape
from hub.broker import EmbeddedBroker
from protocols.evidence import checkpoint, merkle, proof
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.record import SignedRecord
from protocols.evidence.succession import Consistency
from protocols.wire.receipt import CHECKPOINT_PROPERTY, Receipt, encode_receipt
from protocols.wire.topics import Channel, all_gateways, parse_topic, receipt_topic

ROOT: Final = Path(__file__).parents[1]
SIGNER: Final = SignerKey("log.bench/agent", Algorithm.ED25519, bytes(32))
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Look:
    """A process at an instant: seconds since the start of looking, CPU seconds, counts, bytes (`written`: to disks)."""

    at_s: float
    cpu_s: float
    memory: int
    threads: int
    files: int
    written: int


def look(pid: int) -> Look:
    """Raises FileNotFoundError when the process is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    counts = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    return Look(time.monotonic(), cpu_s, int(fields[21]) * _PAGE, int(fields[17]), files, int(counts["write_bytes"]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Hub:
    """Takes records and gives real receipts, as a hub does; hears live messages."""

    def __init__(self, port: int) -> None:
        self.records = 0
        self.live_s: dict[str, float] = {}
        """By line: the monotonic second of its first live message that knows the line's state."""
        self._leaves: list[merkle.LeafHash] = []
        self._index: dict[bytes, int] = {}
        self._told = 0
        self._lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="hub", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, *_: object) -> None:
        client.subscribe([(all_gateways(Channel.STATEMENT), 1), (all_gateways(Channel.LIVE), 0)])

    def _message(self, client: Any, _data: object, message: Any) -> None:
        gateway, channel = parse_topic(message.topic)
        if channel is Channel.LIVE:
            now_s = time.monotonic()
            for line in json.loads(message.payload)["lines"]:
                if line["state"] == "EXECUTE":
                    self.live_s.setdefault(line["line"], now_s)
            return
        signed = SignedRecord(message.payload)
        known = int(dict(message.properties.UserProperty)[CHECKPOINT_PROPERTY])
        client.publish(receipt_topic(gateway), encode_receipt(self._receipt(signed, known)), 1)

    def _receipt(self, signed: SignedRecord, known: int) -> Receipt:
        if signed.hash not in self._index:
            self._index[signed.hash] = len(self._leaves)
            self._leaves.append(merkle.leaf_hash(signed.raw))
        self.records = size = len(self._leaves)
        index = self._index[signed.hash]
        grown = tuple(
            Consistency(old, tuple(merkle.consistency_proof(self._leaves, old, size)))
            for old in sorted({known, self._told})
            if 0 < old < size
        )
        self._told = size
        note = checkpoint.sign(Checkpoint(SIGNER.name, size, merkle.root(self._leaves)), SIGNER)
        path = tuple(merkle.inclusion_proof(self._leaves, index, size))
        text = proof.format(proof.TlogProof(index, path, note))
        return Receipt(signed.kid, signed.record.sequence, signed.hash, text.decode(), grown)


def configuration(
    folder: Path,
    broker_port: int,
    modbus_port: int,
    opcua_port: int,
    *,
    jit: bool,
    shape: Shape = FIFTY,
    window_s: int = 60,
) -> Path:
    """A second a poll; a signed statement of each window. A line's tags: its state, lanes of its total, and of what it
    has only one."""
    parts = [
        f'[gateway]\nid = "GW-01"\nsite = "Bench"\n[hub]\nlog_key = "{SIGNER.verifier}"\n'
        f"[broker]\nport = {broker_port}\n"
        f'[statement]\nwindow_s = {window_s}\ninterval_s = {window_s}\n[kernel]\njit = "{"on" if jit else "off"}"\n'
    ]
    single = ["reject", "good", "rework", "heartbeat"][: 1 if shape.tags <= 22 else 4]
    lanes = range(1, shape.tags - len(single))
    for protocol in ("modbus", "opcua"):
        for line in range(shape.lines):
            if protocol == "modbus":
                source = f'host = "127.0.0.1"\nport = {modbus_port}\npoll_interval_ms = 1000'
                tags = [f"register = {line * shape.tags + tag}" for tag in range(shape.tags)]
            else:
                source = f'endpoint = "opc.tcp://127.0.0.1:{opcua_port}/bench"\npublishing_interval_ms = 1000'
                tags = [f'path = "L{line}/T{tag}"\nnamespace = "{NAMESPACE}"' for tag in range(shape.tags)]
            counter = "\nmodulus = 65536\n"
            parts.append(
                f'\n[[line]]\nid = "{protocol}-{line}"\ntimezone = "UTC"\nmax_pieces_per_hour = 1000000\n'
                f'[line.source]\nprotocol = "{protocol}"\n{source}\n[line.tags.state]\n{tags[0]}\n'
                + "".join(f"[[line.tags.total]]\n{tags[lane]}{counter}" for lane in lanes)
                + "".join(
                    f"[line.tags.{name}]\n{tag}{counter if name != 'heartbeat' else chr(10)}"
                    for name, tag in zip(single, tags[-len(single) :], strict=True)
                )
                + '[[line.product]]\ncode = 1\nname = "P"\nideal_cycle_s = "0.01"\n'
            )
    path = folder / "agent.toml"
    path.write_text("".join(parts), "utf-8")
    load_or_make_key(folder / "state")
    return path


@dataclass
class Rig:
    """What stands around the agent; the soak takes parts of it away and puts them back."""

    folder: Path
    broker: EmbeddedBroker
    hub: Hub
    ports: tuple[int, int, int]
    servers: subprocess.Popen[str]
    shape: Shape
    window_s: int

    @property
    def lines(self) -> int:
        return 2 * self.shape.lines

    def start_servers(self) -> None:
        self.servers = _servers(self.ports[1], self.ports[2], self.shape)

    @contextmanager
    def agent(self, *, jit: bool) -> Iterator[subprocess.Popen[bytes]]:
        path = configuration(self.folder, *self.ports, jit=jit, shape=self.shape, window_s=self.window_s)
        environment = {**os.environ, "LINETALLY_JIT": "on" if jit else "off"}
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(path)],
                cwd=ROOT, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(20)
                finally:
                    process.kill()


@contextmanager
def rig(shape: Shape = FIFTY, window_s: int = 60) -> Iterator[Rig]:
    """PLCs, broker and receipts, on free ports of this machine, in a folder that is gone afterwards. The agent is
    compiled to bytecode, as `deploy/install-agent` leaves it."""
    for package in ("agent", "protocols"):
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory(prefix="linetally-bench-") as name:
        folder = Path(name)
        ports = (free_port(), free_port(), free_port())
        broker = EmbeddedBroker(ports[0], folder)
        broker.start()
        hub = Hub(ports[0])
        made = Rig(folder, broker, hub, ports, _servers(ports[1], ports[2], shape), shape, window_s)
        try:
            yield made
        finally:
            made.servers.kill()
            made.servers.communicate()
            hub.end()
            broker.stop()


def _servers(modbus_port: int, opcua_port: int, shape: Shape) -> subprocess.Popen[str]:
    numbers = (modbus_port, opcua_port, shape.lines, shape.tags)
    command = [sys.executable, "-m", "benchmarks.agent_servers", *map(str, numbers)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the benchmark's PLCs did not start")
    return process
