"""The broker's rights, with the configuration, ACL and certificates that deploy/ gives: each gateway its own topics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.config import load
from agent.publisher import Publisher
from agent.spool import Spool
from protocols.evidence.cose import Kid
from protocols.evidence.note import Algorithm, SignerKey
from protocols.wire.sparkplug import Kind, Topic, listening
from protocols.wire.topics import (
    Channel,
    all_gateways,
    challenge_topic,
    live_topic,
    operator_answer_topic,
    operator_topic,
    raw_topic,
    receipt_topic,
    statement_topic,
)
from tests.agent import factory

DEPLOY = Path(__file__).parents[2] / "deploy" / "mosquitto"
# CONNECT of MQTT 5: clean start, 60 s keep-alive, no properties, client id "x".
CONNECT = bytes.fromhex("100e00044d5154540502003c00000178")
NOT_AUTHORIZED = 135  # MQTT 5, 2.4
QUIET_S = 0.7  # how long a message that must not come is waited for

AGENT = """\
[gateway]
id = "gw-a"
site = "Tai Po"
[broker]
host = "localhost"
port = {port}
[broker.tls]
ca_file = "{folder}/ca.crt"
certificate_file = "{folder}/gateway-gw-a.crt"
key_file = "{folder}/gateway-gw-a.key"
[operator]
mqtt = true
"""

pytestmark = pytest.mark.needs("mosquitto")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of the container: /mosquitto/{config,certificates,data}, with three gateways' certificates."""
    root = tmp_path_factory.mktemp("mosquitto")
    (root / "data").mkdir()
    (root / "config").mkdir()
    acl = (DEPLOY / "acl").read_text()
    assert "\n#user panel-GW-01\n#topic" in acl
    acl = acl.replace("\n#user ", "\nuser ").replace("\n#topic", "\ntopic").replace("GW-01", "gw-a")  # a panel's block
    (root / "config" / "acl").write_text(acl)
    command = [DEPLOY / "make-certificates", root / "certificates", "localhost", "gw-a", "gw-b", "panel-gw-a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "to gateway gw-a:  ca.crt gateway-gw-a.crt gateway-gw-a.key" in done.stdout
    return root


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    text = (DEPLOY / "mosquitto.conf").read_text()
    assert "\nlistener 8883\n" in text
    text = text.replace(" /mosquitto/", f" {folder}/")
    # The machine's own user, so that the certificates of this test stay private to it.
    text = text.replace("\nlistener 8883\n", f"\nlistener {port} 127.0.0.1\n").replace("user mosquitto", "user root")
    (folder / "mosquitto.conf").write_text(text)
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    command = [program, "-c", str(folder / "mosquitto.conf")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_for(port, process, folder / "log")
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"mosquitto did not start: {log.read_text()}")


def tls(folder: Path, name: str | None) -> ssl.SSLContext:
    """What a client checks, and the certificate that it shows, if any."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if name is not None:
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


@dataclass
class Peer:
    """One MQTT 5 client with a certificate; `got` holds what came, `told` the reason codes of its publishes."""

    port: int
    folder: Path
    name: str
    client_id: str
    got: queue.Queue[tuple[str, bytes]] = field(default_factory=queue.Queue)
    told: queue.Queue[int] = field(default_factory=queue.Queue)
    connected: queue.Queue[int] = field(default_factory=queue.Queue)
    subscribed: queue.Queue[None] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, self.client_id, protocol=mqtt.MQTTv5)
        self.client.tls_set_context(tls(self.folder, self.name))
        self.client.on_connect = lambda c, u, flags, reason, p: self.connected.put(reason.value)
        self.client.on_publish = lambda c, u, mid, reason, p: self.told.put(reason.value)
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.subscribed.put(None)
        self.client.on_message = lambda c, u, m: self.got.put((m.topic, m.payload))

    def __enter__(self) -> Self:
        # A new session each time: what one test left undelivered must not reach the next.
        self.client.connect("localhost", self.port, clean_start=True)
        self.client.loop_start()
        assert self.connected.get(timeout=5) == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        # paho closes its own pair of sockets when nothing holds it; the callbacks above make a circle.
        del self.client

    def subscribe(self, *topics: str) -> None:
        self.client.subscribe([(topic, mqtt.SubscribeOptions(qos=1)) for topic in topics])
        self.subscribed.get(timeout=5)

    def publish(self, topic: str, payload: bytes) -> int:
        """The broker's reason code."""
        self.client.publish(topic, payload, qos=1)
        return self.told.get(timeout=5)

    def next(self) -> tuple[str, bytes]:
        return self.got.get(timeout=5)

    def hears_nothing(self) -> bool:
        try:
            self.got.get(timeout=QUIET_S)
        except queue.Empty:
            return True
        return False


@pytest.fixture
def peer(broker: int, folder: Path) -> Iterator[Callable[..., Peer]]:
    opened: list[Peer] = []

    def make(name: str, client_id: str | None = None) -> Peer:
        one = Peer(broker, folder / "certificates", name, client_id or name)
        opened.append(one.__enter__())
        return one

    yield make
    for one in opened:
        one.__exit__(None, None, None)


def test_statements_go_up_and_receipts_come_down(peer: Callable[..., Peer]) -> None:
    hub, a = peer("linetally-hub"), peer("gateway-gw-a")
    hub.subscribe(*(all_gateways(channel) for channel in (Channel.STATEMENT, Channel.LIVE, Channel.RAW)))
    a.subscribe(receipt_topic("gw-a"), challenge_topic("gw-a"))
    assert a.publish(statement_topic("gw-a"), b"record") == 0
    assert hub.next() == (statement_topic("gw-a"), b"record")
    assert a.publish(live_topic("gw-a"), b"{}") == 0
    assert hub.next() == (live_topic("gw-a"), b"{}")
    assert hub.publish(receipt_topic("gw-a"), b"receipt") == 0
    assert a.next() == (receipt_topic("gw-a"), b"receipt")
    assert hub.publish(challenge_topic("gw-a"), b"challenge") == 0
    assert a.next() == (challenge_topic("gw-a"), b"challenge")
    assert a.publish(raw_topic("gw-a"), b"piece") == 0
    assert hub.next() == (raw_topic("gw-a"), b"piece")


def test_sparkplug_goes_up_under_the_gateways_own_name_and_only_a_gateways_command_comes_down(
    peer: Callable[..., Peer],
) -> None:
    hub, a = peer("linetally-hub"), peer("gateway-gw-a")
    hub.subscribe(*listening("Tai Po"))
    command = str(Topic("Tai Po", Kind.NCMD, "gw-a"))
    a.subscribe(command)
    own = [
        Topic("Tai Po", kind, "gw-a", line)
        for kind, line in ((Kind.NBIRTH, ""), (Kind.DBIRTH, "filling"), (Kind.DDATA, "filling"), (Kind.NDEATH, ""))
    ]
    for topic in own:
        assert a.publish(str(topic), b"metrics") == 0
        assert hub.next() == (str(topic), b"metrics")
    assert hub.publish(command, b"rebirth") == 0
    assert a.next() == (command, b"rebirth")
    # Last, since this broker ends the connection of whoever is refused.
    for topic in own:
        assert a.publish(str(replace(topic, node="gw-b")), b"forged") == NOT_AUTHORIZED
        assert hub.publish(str(topic), b"forged") == NOT_AUTHORIZED
    assert hub.publish("spBv1.0/Tai Po/DCMD/gw-a/filling", b"an order to a machine") == NOT_AUTHORIZED
    assert a.publish(str(Topic("Tai Po", Kind.NCMD, "gw-b")), b"rebirth") == NOT_AUTHORIZED


@pytest.mark.parametrize(
    "topic",
    [statement_topic("gw-b"), live_topic("gw-b"), receipt_topic("gw-b"), receipt_topic("gw-a"), raw_topic("gw-b"),
     challenge_topic("gw-b"), challenge_topic("gw-a"), operator_topic("gw-a"), operator_topic("gw-b"),
     operator_answer_topic("gw-b"),
     "linetally/v1/gw-a/other", "linetally/v1/statement", "anything", "linetally/v1/gateway-gw-a/statement"],
)  # fmt: skip
def test_a_gateway_publishes_on_its_own_topics_only(topic: str, peer: Callable[..., Peer]) -> None:
    hub, a = peer("linetally-hub"), peer("gateway-gw-a")
    hub.subscribe(all_gateways(Channel.STATEMENT), all_gateways(Channel.LIVE))
    assert a.publish(topic, b"forged") == NOT_AUTHORIZED
    assert a.publish(statement_topic("gw-a"), b"still welcome") == 0
    assert hub.next() == (statement_topic("gw-a"), b"still welcome")


def test_a_gateway_reads_its_own_receipts_only(peer: Callable[..., Peer]) -> None:
    """A refused subscription is still granted in SUBACK; what counts is that nothing comes."""
    hub, a, b = peer("linetally-hub"), peer("gateway-gw-a"), peer("gateway-gw-b")
    a.subscribe("#", receipt_topic("gw-b"), all_gateways(Channel.STATEMENT), all_gateways(Channel.RECEIPT), "$SYS/#")
    a.subscribe(challenge_topic("gw-b"), all_gateways(Channel.CHALLENGE), all_gateways(Channel.RAW))
    assert hub.publish(receipt_topic("gw-b"), b"for b") == 0
    assert hub.publish(challenge_topic("gw-b"), b"for b") == 0
    assert b.publish(statement_topic("gw-b"), b"of b") == 0
    assert a.hears_nothing()
    assert hub.publish(receipt_topic("gw-a"), b"for a") == 0
    assert a.next() == (receipt_topic("gw-a"), b"for a")


def test_the_hub_cannot_pretend_to_be_a_gateway(peer: Callable[..., Peer]) -> None:
    assert peer("linetally-hub").publish(statement_topic("gw-a"), b"forged") == NOT_AUTHORIZED


def test_an_operators_panel_is_heard_by_its_own_gateway(broker: int, folder: Path, peer: Callable[..., Peer]) -> None:
    """By the agent itself; neither the hub nor another gateway can speak for the panel."""
    panel, hub, b = peer("gateway-panel-gw-a"), peer("linetally-hub"), peer("gateway-gw-b")
    panel.subscribe(operator_answer_topic("gw-a"))
    b.subscribe("#", operator_topic("gw-a"), operator_answer_topic("gw-a"))
    (folder / "agent.toml").write_text(AGENT.format(port=broker, folder=folder / "certificates") + factory.opcua())
    configuration = load(folder / "agent.toml")
    message = {"id": "1", "line": "filling", "kind": "reason", "stop": "last", "reason": "jam", "why": "seen"}

    async def scenario() -> None:
        configuration.state_folder.mkdir()
        with Spool.open(configuration.state_folder) as spool:
            log_key = SignerKey("log.example", Algorithm.ED25519, bytes(32)).verifier
            publisher = Publisher(configuration, spool, Kid(bytes(8)), log_key, lambda: 0, lambda _: None)
            task = asyncio.create_task(publisher.run())
            try:
                async with asyncio.timeout(10):
                    while not publisher.connected:  # noqa: ASYNC110 - the broker is another process
                        await asyncio.sleep(0.02)
                    for stranger in (hub, b):
                        told = await asyncio.to_thread(stranger.publish, operator_topic("gw-a"), b"{}")
                        assert told == NOT_AUTHORIZED
                    assert panel.client.is_connected()
                    assert (
                        await asyncio.to_thread(panel.publish, operator_topic("gw-a"), json.dumps(message).encode())
                        == 0
                    )
                    topic, answer = await asyncio.to_thread(panel.next)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert topic == operator_answer_topic("gw-a")
        assert json.loads(answer) == {
            "id": "1", "state": "refused", "amendment": None, "words": 'who: is missing; write: who: "M. Chan"'
        }  # fmt: skip

    asyncio.run(scenario())
    assert panel.publish(operator_topic("gw-b"), b"{}") == NOT_AUTHORIZED
    assert panel.publish(statement_topic("gw-a"), b"{}") == NOT_AUTHORIZED
    assert b.hears_nothing()


def test_nobody_takes_over_another_session_by_its_client_id(peer: Callable[..., Peer]) -> None:
    hub = peer("linetally-hub")
    hub.subscribe(all_gateways(Channel.STATEMENT))
    a = peer("gateway-gw-a", client_id="linetally-hub")
    b = peer("gateway-gw-b")
    assert b.publish(statement_topic("gw-b"), b"of b") == 0
    assert hub.next() == (statement_topic("gw-b"), b"of b")
    assert hub.client.is_connected()
    assert a.hears_nothing()


def _knock(port: int, context: ssl.SSLContext) -> bytes:
    """What the broker answers to one CONNECT; b"" when it closes. TLS 1.3 tells a refusal only at the first read."""
    with (
        socket.create_connection(("localhost", port), 5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as link,
    ):
        link.sendall(CONNECT)
        return link.recv(16)


def test_a_certificate_of_the_authority_is_let_in(broker: int, folder: Path) -> None:
    assert _knock(broker, tls(folder / "certificates", "gateway-gw-a")).startswith(b"\x20")


def test_without_a_certificate_nobody_comes_in(broker: int, folder: Path) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _knock(broker, tls(folder / "certificates", None))


def test_a_certificate_of_another_authority_is_refused(broker: int, folder: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    command = [DEPLOY / "make-certificates", theirs, "localhost", "gw-a"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    shutil.copy(folder / "certificates" / "ca.crt", theirs / "ca.crt")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _knock(broker, tls(theirs, "gateway-gw-a"))


def test_plain_text_is_refused(broker: int) -> None:
    with socket.create_connection(("127.0.0.1", broker), 5) as link:
        link.sendall(CONNECT)
        link.settimeout(5)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = link.recv(64)
    assert not answer.startswith(b"\x20")  # no CONNACK


def test_the_script_keeps_what_is_there_and_refuses_odd_names(folder: Path) -> None:
    certificates = folder / "certificates"
    before = {path.name: path.read_bytes() for path in certificates.glob("*.key")}
    assert all(path.stat().st_mode & 0o077 == 0 for path in certificates.glob("*.key"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(DEPLOY / "make-certificates"), str(certificates), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert run("localhost", "gw-c").returncode == 0
    assert (certificates / "gateway-gw-c.crt").is_file()
    for name in ("gw/+", "#", "linetally-hub", "", "a" * 65):
        assert run("localhost", name).returncode == 2
    moved = run("other.example", "gw-a")
    assert moved.returncode == 2
    assert "delete server.crt" in moved.stderr
    assert before == {name: (certificates / name).read_bytes() for name in before}
