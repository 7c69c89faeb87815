"""Sparkplug B, read by protoc (an implementation that is not ours), and over a real broker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.clock import ManualClock
from agent.line import Line
from agent.publisher import Backoff, Publisher
from agent.raw_meter import RawMeter
from agent.sparkplug import Sparkplug
from agent.spool import Spool
from protocols.measurement.live import Live
from protocols.plc.roles import SignalRole
from protocols.wire.sparkplug import REBIRTH
from protocols.wire.sparkplug_payload import DataType, Metric, encode_payload
from tests.agent import factory
from tests.agent.test_publisher import KID, until
from tests.simulators.broker import running_broker
from tests.simulators.receipt_hub import ReceiptHub
from tests.support.sparkplug import decoded, encoded

NOW = 1_767_225_600_000


def read(folder: Path, payload: bytes) -> tuple[dict[str, str], str | None]:
    return decoded(folder, payload, NOW)


class Ether:
    """Keeps what is sent: (kind, device, payload)."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, bytes]] = []

    def publish(self, topic: str, payload: bytes, qos: int) -> Callable[[], bool]:
        assert topic.startswith("spBv1.0/Tai Po/") and qos == (topic.split("/")[2] == "NDEATH")
        _, _, kind, node, *device = topic.split("/")
        assert node == "GW-01"
        self.sent.append((kind, "".join(device), payload))
        return lambda: True

    def take(self) -> list[tuple[str, str]]:
        kinds = [(kind, device) for kind, device, _ in self.sent]
        self.sent.clear()
        return kinds


@pytest.fixture
def lines(tmp_path: Path) -> list[Line]:
    clock = ManualClock(NOW, b"\1" * 16)
    settings = factory.configuration(tmp_path).lines
    return [Line(each, RawMeter(each.configuration, NOW), clock) for each in settings]


def seen(lines: Sequence[Line], now_ms: int = NOW) -> list[tuple[Line, Live]]:
    return [(line, line.meter.live(now_ms)) for line in lines]


@pytest.mark.needs("protoc")
def test_only_a_true_rebirth_is_a_command(tmp_path: Path) -> None:
    def answers(name: str, value: str) -> int:
        ether, node = Ether(), Sparkplug("Tai Po", "GW-01", lambda: NOW)
        node.next_will()
        node.connected(ether)
        node.send([], 0)
        text = f'timestamp: 1 metrics {{ name: "{name}" timestamp: 1 datatype: 11 boolean_value: {value} }} uuid: "x"'
        node.take(encoded(tmp_path, text))
        node.send([], 0)
        return len(ether.take()) - 1

    assert [answers(REBIRTH, "true"), answers(REBIRTH, "false"), answers("Outputs/Motor", "true")] == [1, 0, 0]


@pytest.mark.parametrize(
    "data", [b"\x12", b"\x12\xff\x01", b"\x0f", b"\xff" * 11, b"\x12\x03\x0a\x01\xff", b"\x10\x01"]
)
def test_noise_changes_nothing(data: bytes) -> None:
    ether, node = Ether(), Sparkplug("Tai Po", "GW-01", lambda: NOW)
    node.next_will()
    node.connected(ether)
    node.send([], 0)
    ether.take()
    node.take(data)
    node.send([], 0)
    assert ether.take() == []


@pytest.mark.needs("protoc")
def test_births_data_deaths_and_their_numbers(tmp_path: Path, lines: list[Line]) -> None:
    ether, node = Ether(), Sparkplug("Tai Po", "GW-01", lambda: NOW)
    topic, will = node.next_will()
    assert topic == "spBv1.0/Tai Po/NDEATH/GW-01" and read(tmp_path, will) == ({"bdSeq": "0"}, None)
    node.send(seen(lines), 3)
    assert ether.sent == [], "nothing without a connection"
    node.connected(ether)
    lines[0].connected("there")
    node.send(seen(lines), 3)
    birth, device = ether.sent
    assert read(tmp_path, birth[2]) == ({"bdSeq": "0", REBIRTH: "false", "Records waiting": "3"}, "0")
    metrics, seq = read(tmp_path, device[2])
    assert (device[:2], seq) == (("DBIRTH", "filling"), "1")
    assert metrics["Shift/OEE"] == "null" and metrics["Shift/Total"] == "0" and metrics["State"] == '"UNDEFINED"'
    ether.take()

    node.send(seen(lines), 3)
    assert ether.take() == [], "what did not change is not said"
    lines[1].connected("there")
    node.send(seen(lines), 4)
    assert ether.take() == [("NDATA", ""), ("DBIRTH", "packing")]
    lines[0].lost("cut")
    node.send(seen(lines), 4)
    assert [read(tmp_path, payload)[1] for _, _, payload in ether.sent] == ["4"]
    assert ether.take() == [("DDEATH", "filling")]

    node.take(encode_payload(NOW, [Metric(REBIRTH, DataType.BOOLEAN, True)], None))
    node.take(encode_payload(NOW, [Metric(REBIRTH, DataType.BOOLEAN, True)], None))
    node.take(encode_payload(NOW, [Metric("Outputs/Motor", DataType.BOOLEAN, True)], None))
    node.send(seen(lines), 4)
    assert read(tmp_path, ether.sent[0][2])[0]["bdSeq"] == "0", "a rebirth is of the same life"
    assert [read(tmp_path, payload)[1] for _, _, payload in ether.sent] == ["0", "1"]
    assert ether.take() == [("NBIRTH", ""), ("DBIRTH", "packing")]

    for waiting in range(600):
        node.send(seen(lines), 5 + waiting)
    numbers = [int(read(tmp_path, ether.sent[at][2])[1] or "") for at in (0, 252, 253, 254, 255, 599)]
    assert numbers == [2, 254, 255, 0, 1, (2 + 599) % 256]
    ether.take()
    node.lost()
    for _ in range(256):
        _, will = node.next_will()
    assert read(tmp_path, will)[0] == {"bdSeq": "0"}
    node.connected(ether)
    node.leave()
    assert ether.take() == [("NDEATH", "")]


def test_only_what_changed_is_data(lines: list[Line], tmp_path: Path) -> None:
    ether, node = Ether(), Sparkplug("Tai Po", "GW-01", lambda: NOW + 4_000)
    node.next_will()
    node.connected(ether)
    line = lines[0]
    line.connected("there")
    node.send(seen([line], NOW + 4_000), 0)
    ether.take()
    line.put(SignalRole.STATE, 6, None)
    line.put(SignalRole.TOTAL, 1, None)
    line.alive()
    line.close_windows(NOW + 4_000)
    node.send(seen([line], NOW + 4_000), 0)
    ((kind, device, payload),) = ether.sent
    assert (kind, device) == ("DDATA", "filling")
    assert b"State" in payload and b"Shift/Reject" not in payload


@pytest.mark.needs("protoc")
def test_over_a_broker_a_lost_gateway_is_dead_and_born_again(
    tmp_path: Path, free_port: Callable[[], int], lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.05)
    port = free_port()
    heard: list[tuple[str, bytes]] = []

    async def scenario(spool: Spool, host: paho.Client) -> None:
        node = Sparkplug("Tai Po", "GW-01", lambda: NOW)
        configuration = factory.configuration(tmp_path, broker_port=port)
        key = ReceiptHub(port).signer.verifier
        publisher = Publisher(configuration, spool, KID, key, lambda: 5, lambda _: None, node)
        task = asyncio.create_task(publisher.run())

        def kinds() -> list[str]:
            node.send(seen(lines), 0)
            return [topic.split("/")[2] for topic, _ in heard]

        lines[0].connected("there")
        await until(lambda: kinds() == ["NBIRTH", "DBIRTH"])
        command = encode_payload(NOW, [Metric(REBIRTH, DataType.BOOLEAN, True)], None)
        host.publish("spBv1.0/Tai Po/NCMD/GW-01", command, 0)
        await until(lambda: kinds() == ["NBIRTH", "DBIRTH"] * 2)
        assert publisher._link is not None
        wire = publisher._link._client.socket()
        assert wire is not None
        wire.shutdown(socket.SHUT_RDWR)  # no farewell
        await until(lambda: kinds()[4:] == ["NDEATH", "NBIRTH", "DBIRTH"])
        other = replace(configuration, broker=replace(configuration.broker, username="somebody"))
        publisher.use(other)  # a goodbye, to which the broker adds no will
        await until(lambda: kinds()[7:] == ["NDEATH", "NBIRTH", "DBIRTH"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: kinds()[10:] == ["NDEATH"])

    host = paho.Client(CallbackAPIVersion.VERSION2, client_id="scada", protocol=paho.MQTTv5)
    host.on_connect = lambda client, *_: client.subscribe("spBv1.0/Tai Po/+/GW-01/#")

    def hear(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        # As a host does: where a gateway comes back at once, the embedded broker at times says the new will for the old
        # connection. A death counts that names a birth (it begins with the same bytes), and once.
        topic, payload = message.topic, bytes(message.payload)
        born = any("NBIRTH" in each and said.startswith(payload) for each, said in heard)
        if "NCMD" not in topic and ("NDEATH" not in topic or (born and (topic, payload) not in heard)):
            heard.append((topic, payload))

    host.on_message = hear
    with Spool.open(tmp_path) as spool, running_broker(tmp_path, port):
        host.connect("127.0.0.1", port)
        host.loop_start()
        try:
            asyncio.run(scenario(spool, host))
        finally:
            host.disconnect()
            host.loop_stop()
    certificates = [read(tmp_path, payload)[0]["bdSeq"] for topic, payload in heard if "/N" in topic]
    assert certificates == ["0", "0", "0", "1", "1", "2", "2"], "a death names the birth that it ends"
