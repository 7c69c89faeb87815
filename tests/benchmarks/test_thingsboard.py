"""The benchmark against ThingsBoard gateway without the gateway: what it is told to read, and who hears it."""

from __future__ import annotations

import json
import subprocess
import threading
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import thingsboard_rig
from benchmarks.__main__ import main
from benchmarks.agent_servers import Shape
from benchmarks.measures import LeftOut
from benchmarks.thingsboard_rig import Platform, configuration, environment
from hub.broker import EmbeddedBroker


def test_it_reads_the_very_values_that_the_agent_reads() -> None:
    files = configuration(1, 2, 3, Shape(2, 3), subscribe=True)
    (slave,) = files["modbus.json"]["master"]["slaves"]
    registers = {tag["address"] for tag in slave["timeseries"]}
    assert registers == set(range(6))
    (device,) = files["opcua.json"]["mapping"]
    nodes = {tag["value"] for tag in device["timeseries"]}
    assert nodes == {rf"${{L{line}\.T{tag}}}" for line in range(2) for tag in range(3)}
    assert slave["pollPeriod"] == files["opcua.json"]["server"]["subCheckPeriodInMillis"] == 1000


def test_the_platform_answers_and_counts(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    broker = EmbeddedBroker(port, tmp_path)
    broker.start()
    platform = Platform(port)
    answers: list[tuple[str, Any]] = []
    heard = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)

    def connected(*_: object) -> None:
        client.subscribe("v1/devices/me/rpc/response/+", 1)

    def subscribed(*_: object) -> None:
        client.publish("v1/devices/me/rpc/request/1", json.dumps({"method": "getSessionLimits"}), 1)

    def answered(_client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        answers.append((message.topic, json.loads(message.payload)))
        row = {"ts": 1, "values": {"a": 1, "b": 2}}
        client.publish("v1/gateway/telemetry", json.dumps({"Modbus": [row, row]}), 1)

    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, answered
    client.on_publish = lambda *_: heard.set() if platform.values else None
    try:
        client.connect("127.0.0.1", port)
        client.loop_start()
        for _ in range(100):
            if platform.values == 4:
                break
            heard.wait(0.1)
        assert answers[0][0] == "v1/devices/me/rpc/response/1"
        assert "rateLimits" in answers[0][1]
        assert (platform.values, platform.names) == (4, {("Modbus", "a"), ("Modbus", "b")})
        assert platform.first_s > 0
    finally:
        client.disconnect()
        client.loop_stop()
        platform.end()
        broker.stop()


def test_an_index_that_cannot_be_reached_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="WARNING: once more\nERROR: No matching distribution\n")

    monkeypatch.setattr(thingsboard_rig.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(LeftOut, match="cannot be installed: ERROR: No matching distribution"):
        environment()
    monkeypatch.undo()
    assert main(["thingsboard", "--small", "--output", str(tmp_path / "figures.json")]) == 0
    assert "thingsboard is left out: the short form installs nothing" in capsys.readouterr().out
