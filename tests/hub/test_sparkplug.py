"""The agent's own Sparkplug over the embedded broker to the state of the live page; its process is killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hub.api.board import LIVE_FRESH_MS, Board
from hub.api.live_message import Source
from hub.clock import now_ms
from hub.config import BrokerConfig, LiveConfig
from hub.link import Link
from hub.live import LiveBus, Loss, SparkplugMessage
from hub.sparkplug import SparkplugEar
from protocols.wire import sparkplug as names
from protocols.wire.sparkplug import Kind, Topic
from tests.hub.web.plant import live_message, spoken
from tests.simulators.broker import running_broker
from tests.simulators.sparkplug_gateway import GROUP

GATEWAY = "GW-01"


@contextmanager
def gateway_process(folder: Path, port: int, how: str) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.simulators.sparkplug_gateway", str(folder), str(port), how]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited twenty seconds"
        await asyncio.sleep(0.02)


@contextmanager
def hub_link(port: int, config: LiveConfig, bus: LiveBus) -> Iterator[SparkplugEar]:
    def may_speak_for(gateway: str, line: str) -> bool:
        return (gateway, line) in {(GATEWAY, "filling"), (GATEWAY, "packing")}

    ear = SparkplugEar(config, bus, may_speak_for, now_ms)
    link = Link(BrokerConfig(port=port), 100, bus, may_speak_for, now_ms, ear)
    link.start(lambda arrival: arrival.acknowledge())
    try:
        yield ear
    finally:
        link.stop()


@pytest.mark.parametrize("how", ["quiet", "live"])
def test_a_killed_gateway_is_gone_at_once_and_comes_back(
    how: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, bus = free_port(), LiveBus()

    async def scenario() -> None:
        board = Board(lambda: {"filling": "Asia/Hong_Kong"})
        following = asyncio.create_task(board.run(bus))
        await asyncio.sleep(0)
        with gateway_process(tmp_path / "first", port, how) as process:
            await until(lambda: set(board.views()) == {"filling", "packing"})
            wanted = Source.LIVE if how == "live" else Source.SPARKPLUG
            await until(lambda: board.views()["filling"].source is wanted)
            view = board.views()["filling"]
            assert (view.state, view.gateway, view.gone) == ("EXECUTE", GATEWAY, None)
            assert (view.told is None) == (how == "live")
            if how == "quiet":
                assert view.told is not None and view.shift_figures is None and view.ribbon
                first = view.told.total_count or 0
                await until(lambda: (board.views()["filling"].told or view.told).total_count > first)  # type: ignore[union-attr,operator]
            process.send_signal(signal.SIGKILL)
            await until(lambda: all(each.gone is Loss.GATEWAY for each in board.views().values()))
            gone = board.views()["filling"]
            assert gone.gone_ms is not None and gone.gone_ms - gone.received_ms < LIVE_FRESH_MS, "not by its staleness"
        with gateway_process(tmp_path / "second", port, how):
            await until(lambda: all(each.gone is None for each in board.views().values()))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    config = LiveConfig(sparkplug=True, sparkplug_groups=(GROUP,))
    with running_broker(tmp_path, port), hub_link(port, config, bus):
        asyncio.run(scenario())


@pytest.mark.parametrize("allowed", [True, False])
def test_a_hub_that_came_later_asks_for_births_where_it_may(
    allowed: bool, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, bus = free_port(), LiveBus()
    heard: list[str] = []
    observer = paho.Client(CallbackAPIVersion.VERSION2, client_id="observer", protocol=paho.MQTTv5)
    observer.on_connect = lambda client, *_: client.subscribe("spBv1.0/#")
    observer.on_message = lambda _c, _d, message: heard.append(message.topic)

    def told() -> bool:
        return {each.line_id for each in bus.latest() if isinstance(each, SparkplugMessage)} == {"filling", "packing"}

    def commands() -> int:
        return heard.count(str(Topic(GROUP, Kind.NCMD, GATEWAY)))

    async def scenario() -> None:
        with gateway_process(tmp_path / "gateway", port, "quiet"):
            await until(lambda: len(heard) > 5)
            with hub_link(port, LiveConfig(sparkplug=True, sparkplug_rebirth=allowed), bus) as ear:
                before = len(heard)
                await until(lambda: told() if allowed else len(heard) > before + 20)
                assert told() is allowed
                assert commands() == ear.counts.rebirth_count == int(allowed)

    with running_broker(tmp_path, port):
        observer.connect("127.0.0.1", port)
        observer.loop_start()
        try:
            asyncio.run(scenario())
        finally:
            observer.disconnect()
            observer.loop_stop()


def told_message(now: int, **metrics: object) -> SparkplugMessage:
    return SparkplugMessage("filling", GATEWAY, now, now, metrics, 3)  # type: ignore[arg-type]


def test_the_agents_own_message_says_more_and_goes_first() -> None:
    board = Board(dict)
    board.publish(spoken(live_message("filling"), GATEWAY, 10_000))
    board.publish(told_message(10_000 + LIVE_FRESH_MS - 1, **{names.STATE: "HELD"}))
    assert board.views()["filling"].source is Source.LIVE
    board.publish(told_message(10_000 + LIVE_FRESH_MS, **{names.STATE: "HELD"}))
    assert (board.views()["filling"].source, board.views()["filling"].state) == (Source.SPARKPLUG, "HELD")
    board.publish(spoken(live_message("filling"), GATEWAY, 20_000))
    assert board.views()["filling"].source is Source.LIVE


def test_odd_metrics_are_as_if_they_were_not_known() -> None:
    board = Board(dict)
    odd = {
        names.STATE: "<b>", names.CATEGORY: 7, names.PRODUCT: "x" * 201, names.GOOD: 2**60, names.TOTAL: True,
        names.REJECT: "1", names.OEE: float("nan"), names.QUALITY: float("inf"), names.AVAILABILITY: 1,
        names.EFFECTIVENESS: 1e9, names.RATE: -1.0,
    }  # fmt: skip
    board.publish(told_message(10_000, **odd))
    view = board.views()["filling"]
    assert (view.state, view.category, view.product, view.pieces_per_hour) == ("UNDEFINED", "UNKNOWN", "", None)
    assert view.told is not None and set(view.told.model_dump().values()) == {None}
    assert view.spool_depth == 3
    board.publish(told_message(11_000, **{names.OEE: 0.81236, names.GOOD: -2, names.CATEGORY: "SETUP"}))
    view = board.views()["filling"]
    assert view.told is not None and (view.told.oee_percent, view.told.good_count) == (81.2, -2)
    assert view.ribbon == [(10_000, "UNKNOWN"), (11_000, "SETUP")] and view.since_ms == 11_000


def test_a_hub_that_was_away_does_not_trust_what_sparkplug_told_before() -> None:
    bus, board = LiveBus(), Board(dict)
    bus.publish(told_message(10_000, **{names.STATE: "EXECUTE"}))
    bus.publish(spoken(live_message("packing"), GATEWAY, 10_000))
    bus.sparkplug_lost(12_000)
    for news in bus.latest():
        board.publish(news)
    views = board.views()
    assert (views["filling"].gone, views["filling"].gone_ms) == (Loss.BROKER, 12_000)
    assert views["packing"].gone is None
    bus.gateway_lost("GW-02", 13_000)
    bus.gateway_lost(GATEWAY, 13_000)
    for news in bus.latest():
        board.publish(news)
    assert {each.gone for each in board.views().values()} == {Loss.GATEWAY}
