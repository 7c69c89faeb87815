"""What a gateway tells once a second: read by the hub's own reader, complete in each message, never too long."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.clock import ManualClock
from agent.line import Line
from agent.live import Teller
from agent.live_message import LineText, messages
from agent.publisher import LastReceipt, Publisher
from agent.raw_meter import RawMeter
from hub.live_wire import parse_live
from protocols.measurement.account import Category
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.definition import ISO, Definition
from protocols.measurement.meter import LineMeter, Live
from protocols.measurement.timeline import Stop
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from protocols.wire.live import MAX_BYTES
from tests.agent import factory

NOW_MS = 1_767_225_600_000


class Heard:
    """Stands where the publisher stands."""

    def __init__(self) -> None:
        self.has_room = True
        self.last_receipt: LastReceipt | None = None
        self.depth = 3
        self.payloads: list[bytes] = []

    def publish_live(self, payload: bytes) -> None:
        self.payloads.append(payload)

    def take(self) -> list[dict[str, Any]]:
        taken, self.payloads = self.payloads, []
        return [json.loads(payload) for payload in taken]


@pytest.fixture
def configuration(tmp_path: Path) -> LineConfiguration:
    return factory.configuration(tmp_path).lines[0].configuration


@pytest.fixture
def live(configuration: LineConfiguration) -> Live:
    return LineMeter(configuration, NOW_MS).live(NOW_MS)


def sent(*texts: LineText, live: Live) -> list[bytes]:
    parts = [(text, text.write(live, 0)) for text in texts]
    return list(messages(parts, time_ms=NOW_MS, simulated=False, receipt=LastReceipt(7, NOW_MS), spool_depth=2))


def named(configuration: LineConfiguration, line_id: str, definition: Definition | None = None) -> LineText:
    return LineText(replace(configuration, line_id=line_id, definition=definition or configuration.definition))


def test_the_hub_reads_what_is_written(configuration: LineConfiguration, live: Live) -> None:
    odd = 'Füll"ing\\ 灌裝 </script>'
    runs = tuple((NOW_MS + at, Category.PRODUCING if at % 2 else Category.FAILURE) for at in range(400))
    stops = (Stop(1, 2, Category.HELD, 5, False, True), Stop(3, 4, Category.FAILURE, 0, False, True))
    live = replace(
        live, state=State.EXECUTE, category=Category.FAILURE, product=odd, shift=odd, ribbon=runs, stops=stops
    )
    (payload,) = sent(LineText(replace(configuration, name=odd)), live=live)
    parts = parse_live(payload, lambda _: True)
    (told,) = parts.lines
    gateway, line = told.gateway, told.line
    assert not parts.refused
    assert (gateway.time_ms, gateway.spool_depth, gateway.simulated) == (NOW_MS, 2, False)
    assert gateway.receipt is not None and gateway.receipt.sequence == 7
    assert (line.line, line.name, line.product, line.shift) == ("filling", odd, odd, odd)
    assert (line.state, line.category) == ("EXECUTE", "FAILURE")
    assert line.ribbon == list(runs) and tuple(line.shift_account) == live.shift_account.as_ints()
    assert [(stop.start_ms, stop.end_ms, stop.reason) for stop in line.stops] == [(1, 2, "#5"), (3, None, "")]
    assert told.definition == configuration.definition and told.words == configuration.definition.words


def test_what_is_kept_as_it_was_written_is_written_anew_when_it_changes(
    configuration: LineConfiguration, live: Live
) -> None:
    text = LineText(configuration)
    stop = Stop(1, 2, Category.FAILURE, 0, False, True)
    seen = [
        replace(live, ribbon=((1, Category.PRODUCING),)),
        replace(live, ribbon=((1, Category.PRODUCING),), product="Cola 500 ml"),
        replace(live, ribbon=((1, Category.PRODUCING), (2, Category.FAILURE)), stops=(stop,)),
        replace(live, ribbon=((1, Category.PRODUCING), (2, Category.FAILURE)), stops=(stop,), category=stop.category),
        replace(live, ribbon=((1, Category.PRODUCING), (2, Category.FAILURE)), stops=(replace(stop, reason=4),)),
        replace(live, ribbon=()),
    ]
    for each in seen:
        assert text.write(each, 1) == LineText(configuration).write(each, 1)
    assert json.loads(text.write(seen[3], 1))["stops"][0]["end_ms"] is None
    assert json.loads(text.write(seen[2], 1))["stops"][0]["end_ms"] == 2


def test_as_few_messages_as_needed_each_complete_and_none_too_long(
    configuration: LineConfiguration, live: Live
) -> None:
    runs = tuple((NOW_MS + at, Category.PRODUCING) for at in range(400))
    definitions = [replace(ISO, preset=f"of-{number}") for number in range(40)]
    texts = [named(configuration, f"line-{at}", definitions[at % 40]) for at in range(100)]
    payloads = sent(*texts, live=replace(live, ribbon=runs))
    assert all(len(payload) <= MAX_BYTES for payload in payloads)
    room = max(len(text.write(replace(live, ribbon=runs), 0)) + len(text.definition) for text in texts) + 2
    assert len(payloads) > 2 and all(len(payload) > MAX_BYTES - room for payload in payloads[:-1])
    found = [parse_live(payload, lambda _: True) for payload in payloads]
    assert not any(parts.refused for parts in found)
    assert [told.line.line for parts in found for told in parts.lines] == [f"line-{at}" for at in range(100)]
    assert sent(live=live) == []


def test_definitions_are_told_once_a_message(configuration: LineConfiguration, live: Live) -> None:
    (payload,) = sent(named(configuration, "a"), named(configuration, "b"), named(configuration, "c", ISO), live=live)
    assert len(json.loads(payload)["definitions"]) == len({configuration.definition, ISO})


def test_all_lines_go_together_news_at_once_and_a_new_configuration_is_told(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS, b"\1" * 16)
    lines = [Line(each, RawMeter(each.configuration, NOW_MS), clock) for each in factory.configuration(tmp_path).lines]
    heard = Heard()
    teller = Teller(cast("Publisher", heard), clock, None)
    teller.tell(lines)
    (message,) = heard.take()
    assert [line["line"] for line in message["lines"]] == ["filling", "packing"]
    assert (message["time_ms"], message["spool_depth"], message["receipt"]) == (NOW_MS, 3, None)

    lines[0].connected("there")
    teller.tell_news(lines)
    assert heard.take() == [] and teller.news(lines) == [lines[0]], "its state is not known yet"
    lines[0].put(SignalRole.STATE, 6, None)
    lines[0].alive()
    clock.advance_to(NOW_MS + 1_000)
    lines[0].close_windows(clock.now_ms())
    teller.tell_news(lines)
    (message,) = heard.take()
    assert [(line["line"], line["state"]) for line in message["lines"]] == [("filling", "EXECUTE")]
    assert teller.news(lines) == []

    settings = replace(lines[1].settings, configuration=replace(lines[1].settings.configuration, name="Other"))
    renamed = Line(settings, RawMeter(settings.configuration, NOW_MS), clock)
    heard.last_receipt = LastReceipt(4, NOW_MS)
    teller.tell([renamed])
    (message,) = heard.take()
    assert [line["name"] for line in message["lines"]] == ["Other"] and message["receipt"]["sequence"] == 4
    assert teller._texts.keys() == {"packing"}, "of lines that are gone nothing is kept"

    heard.has_room = False
    teller.tell(lines)
    assert heard.take() == [] and teller.news(lines) == []
