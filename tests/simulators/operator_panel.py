"""An operator's panel: says reasons and late rejects by MQTT, and hears the answers."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from protocols.wire.topics import operator_answer_topic, operator_topic


class Panel:
    """Of GW-01. Use as a context manager; `answers` in the order in which they came."""

    def __init__(self, port: int) -> None:
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="panel", protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe(operator_answer_topic("GW-01"), 1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = lambda _c, _d, message: self.answers.put(json.loads(message.payload))
        self.client.connect("127.0.0.1", port)

    def __enter__(self) -> Panel:
        self.client.loop_start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def say(self, message: dict[str, Any]) -> None:
        self.client.publish(operator_topic("GW-01"), json.dumps(message), 1)

    async def heard(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.answers.get, True, 10)
