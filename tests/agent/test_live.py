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
from protocols.measurement.live import Live
from protocols.measurement.meter import LineMeter
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
    parts = [(text, text.write(live, 0, whole=True)) for text in texts]
    receipt = LastReceipt(7, NOW_MS)
    return list(messages(parts, time_ms=NOW_MS, interval_s=5, simulated=False, receipt=receipt, spool_depth=2))


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
    assert (gateway.time_ms, gateway.interval_s, gateway.spool_depth, gateway.simulated) == (NOW_MS, 5, 2, False)
    assert gateway.receipt is not None and gateway.receipt.sequence == 7
    assert (line.line, line.name, line.product, line.shift) == ("filling", odd, odd, odd)
    assert (line.state, line.category) == ("EXECUTE", "FAILURE")
    assert line.ribbon == list(runs) and tuple(line.shift_account) == live.shift_account.as_ints()
    assert [(stop.start_ms, stop.end_ms, stop.reason) for stop in line.stops or ()] == [(1, 2, "#5"), (3, None, "")]
    assert told.definition == configuration.definition and told.words == configuration.definition.words


def test_a_history_is_told_when_it_has_changed_and_where_it_is_asked_for(
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
    told = []
    for each in seen:
        first = text.write(each, 1, whole=False)
        complete = LineText(configuration).write(each, 1, whole=False)
        assert text.write(each, 1, whole=True) == complete
        again = json.loads(text.write(each, 1, whole=False))
        assert again == {name: value for name, value in json.loads(complete).items() if name not in ("ribbon", "stops")}
        told.append(first == complete)
    assert told == [True, False, True, True, True, True], "the second differs in its product alone"
    assert json.loads(text.write(seen[3], 1, whole=True))["stops"][0]["end_ms"] is None
    assert json.loads(text.write(seen[2], 1, whole=True))["stops"][0]["end_ms"] == 2


def test_as_few_messages_as_needed_each_complete_and_none_too_long(
    configuration: LineConfiguration, live: Live
) -> None:
    runs = tuple((NOW_MS + at, Category.PRODUCING) for at in range(400))
    definitions = [replace(ISO, preset=f"of-{number}") for number in range(40)]
    texts = [named(configuration, f"line-{at}", definitions[at % 40]) for at in range(100)]
    payloads = sent(*texts, live=replace(live, ribbon=runs))
    assert all(len(payload) <= MAX_BYTES for payload in payloads)
    room = max(len(text.write(replace(live, ribbon=runs), 0, whole=True)) + len(text.definition) for text in texts) + 2
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


@pytest.mark.parametrize(("interval_s", "whole_each"), [(1, 10), (2, 10), (10, 6), (60, 1)])
def test_lines_are_told_in_their_interval_and_each_history_again_now_and_then(
    tmp_path: Path, interval_s: int, whole_each: int
) -> None:
    clock = ManualClock(NOW_MS, b"\1" * 16)
    lines = [Line(each, RawMeter(each.configuration, NOW_MS), clock) for each in factory.configuration(tmp_path).lines]
    heard = Heard()
    teller = Teller(cast("Publisher", heard), clock, None, interval_s)
    seconds = []
    whole: dict[str, list[int]] = {"filling": [], "packing": []}
    for second in range(1, 20 * interval_s + 1):
        teller.tell(lines)
        for message in heard.take():
            assert message["interval_s"] == interval_s
            seconds.append(second)
            for line in message["lines"]:
                if "ribbon" in line:
                    whole[line["line"]].append(len(seconds))
    assert seconds == [1 + interval_s * at for at in range(20)]
    for at in whole.values():
        assert at[0] == 1 and all(b - a <= whole_each for a, b in zip(at, [*at[1:], 21], strict=True))
        assert len(at) <= 2 + 20 // whole_each
    if whole_each > 1:
        assert set(whole["filling"][1:]).isdisjoint(whole["packing"][1:]), "not all at once"


def test_a_slow_network_that_takes_each_second_message_gets_every_lines_history(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS, b"\1" * 16)
    lines = [Line(each, RawMeter(each.configuration, NOW_MS), clock) for each in factory.configuration(tmp_path).lines]
    heard = Heard()
    teller = Teller(cast("Publisher", heard), clock, None)
    for turn in range(40):
        heard.has_room = turn % 2 == 0
        teller.tell(lines)
    told = [{line["line"] for line in message["lines"] if "ribbon" in line} for message in heard.take()]
    assert len(told) == 20
    for line in ("filling", "packing"):
        assert sum(line in each for each in told[10:]) == 1, "the first message has all; then each in ten"
