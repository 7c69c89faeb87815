"""A gateway's live message on its way from the broker to the bus."""

from __future__ import annotations

import logging
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from hub.config import BrokerConfig
from hub.link import MAX_SAID, REFUSED_EACH_MS, Link
from hub.live import LiveBus, LiveMessage
from hub.live_wire import LinePart
from protocols.wire.topics import live_topic
from tests.hub.web.plant import live_message, spoken, wire


def test_lines_reach_the_bus_and_what_is_refused_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now_ms = 10_000
    bus = LiveBus()
    link = Link(
        BrokerConfig(), 10, bus, lambda gateway_id, line_id: (gateway_id, line_id) != ("gw", "rival"), lambda: now_ms
    )

    def hear(payload: bytes, gateway_id: str = "gw") -> None:
        message = mqtt.MQTTMessage(topic=live_topic(gateway_id).encode())
        message.payload = payload
        link._on_message(link._client, None, message)

    bad = wire(
        live_message("filling"), live_message("mixing", state="?"), live_message("rival"), live_message("packing")
    )
    with caplog.at_level(logging.WARNING, "hub.link"):
        hear(bad)
        hear(b"{")
        assert [each.line_id for each in bus.latest()] == ["filling", "packing"], "and not its neighbour's"
        assert len(caplog.messages) == 1 and "'mixing': state" in caplog.messages[0]
        now_ms += REFUSED_EACH_MS
        hear(b"{")
        assert len(caplog.messages) == 2
        for number in range(2 * MAX_SAID):
            hear(b"{", f"gw-{number}")
    assert len(link._said_ms) <= MAX_SAID, "ids come from the network"
    assert [each.received_ms for each in bus.latest()] == [10_000, 10_000]


def test_a_history_that_is_left_out_is_the_one_that_the_same_gateway_told_before() -> None:
    bus = LiveBus()

    def heard(told: dict[str, Any], gateway_id: str = "gw") -> LinePart:
        bus.publish(spoken(told, gateway_id, 1))
        (latest,) = bus.latest()
        assert isinstance(latest, LiveMessage)
        return latest.told.line

    whole = live_message("filling")
    later = live_message("filling", tick=1)
    without = {name: value for name, value in later.items() if name not in ("ribbon", "stops")}
    assert heard(without).ribbon is None, "nothing is known of it yet"
    before = heard(whole)
    assert before.ribbon and before.stops
    now = heard(without)
    assert (now.ribbon, now.stops) == (before.ribbon, before.stops)
    assert now.shift_account != before.shift_account
    assert heard(without | {"ribbon": [[5, 1]]}).ribbon == [(5, 1)]
    assert heard(without | {"stops": []}).ribbon == [(5, 1)]
    assert heard(without).stops == [], "none is a history too"
    assert heard(without, "other").ribbon is None, "another gateway's is not taken for it"
