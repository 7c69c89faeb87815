"""What operators' panels say by MQTT: into the chain with a name, once, or refused in plain words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import amend_mqtt
from agent.amend_mqtt import BURST, EACH_S, MOST_BYTES, OperatorInput
from agent.clock import ManualClock
from agent.config import AgentConfiguration, load
from agent.publisher import Publisher
from agent.raw_meter import RawMeter
from agent.recorder import Recorder
from agent.spool import LineBatch, Spool
from protocols.errors import ConfigurationError
from protocols.evidence.record import SignedRecord
from protocols.measurement.account import Category
from protocols.measurement.amendment import Amendment, AmendmentKind, ReasonChange
from protocols.measurement.timeline import Stop
from tests.agent import factory
from tests.agent.test_publisher import KEY, KID, until
from tests.simulators.broker import running_broker
from tests.simulators.operator_panel import Panel
from tests.simulators.receipt_hub import ReceiptHub

MINUTE = 60_000
START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000
STOP = Stop(START + 120_500, START + 320_500, Category.FAILURE, 7, False, False)
REASON = {
    "id": "panel-3:1", "line": "filling", "kind": "reason", "stop": "last", "reason": "film torn", "who": "陳大文",
    "why": "seen at the line",
}  # fmt: skip
REJECT = {
    "id": "lab:4711", "line": "filling", "kind": "reject", "from": str(START), "to": str(START + 2 * MINUTE),
    "count": 7, "who": "QC lab", "why": "sample 4711",
}  # fmt: skip


class Gateway:
    """Fifteen signed minutes of fifty pieces, a stop in them, and its recorder at work."""

    def __init__(self, folder: Path, broker_port: int = 1) -> None:
        path = factory.write(folder, factory.opcua(), broker_port=broker_port)
        path.write_text(path.read_text() + "\n[operator]\nmqtt = true\n")
        self.configuration: AgentConfiguration = load(path)
        state = self.configuration.state_folder
        state.mkdir()
        self.spool = Spool.open(state)
        clock = ManualClock(START, b"\1" * 16)
        self._recorder = Recorder(self.configuration, self.spool, KEY, clock)
        self._recorder.start({"filling": START})
        windows = tuple(factory.window(START + minute * MINUTE) for minute in range(15))
        line = self.configuration.lines[0].configuration
        meter = RawMeter(line, START + 15 * MINUTE)
        self.spool.commit([LineBatch("filling", line.hash, windows, meter.carry(), (STOP,))])
        clock.advance_to(START + 15 * MINUTE)
        self._recorder.seal_due(START + 15 * MINUTE)
        self.now_s = 0.0
        self.input = OperatorInput(state, [line], lambda: self.now_s)

    def sign(self) -> list[Amendment]:
        """A tick of the recorder; the amendments in the chain after it."""
        self._recorder.seal_due(START + 15 * MINUTE)
        bodies = (SignedRecord(record.raw).record.body for record in self.spool.open_records(0, 99))
        return [body for body in bodies if isinstance(body, Amendment)]

    def say(self, message: dict[str, Any] | bytes) -> dict[str, Any]:
        answer = self.input.take(message if isinstance(message, bytes) else json.dumps(message).encode())
        assert answer is not None
        found: dict[str, Any] = json.loads(answer)
        assert found.keys() == {"id", "state", "amendment", "words"}
        return found


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    with made.spool:
        yield made


def test_a_reason_and_rejects_are_signed_with_the_name(gateway: Gateway) -> None:
    said = gateway.say(REASON)
    assert said["words"].startswith("amendment 1 is queued: filling, stop at ")
    assert (said["id"], said["state"], said["amendment"]) == ("panel-3:1", "waiting", 1)
    assert gateway.say(REJECT)["words"].endswith(
        "good_count 50 becomes 46, reject_count 0 becomes 4 and 1 more windows"
    )
    reason, reject = gateway.sign()
    assert reason.change == ReasonChange(STOP.start_ms, "#7", "film torn") and reason.who == "陳大文"
    assert (reject.kind, reject.who, reject.why) == (AmendmentKind.REJECT, "QC lab", "sample 4711")
    code = gateway.say({**REASON, "id": "x", "reason": 12, "stop": "2026-09-21T22:17"})
    assert code["state"] == "waiting", code["words"]
    assert gateway.sign()[2].change == ReasonChange(STOP.start_ms, "film torn", "#12"), "on the clock of the line"


def test_the_same_message_twice_is_one_amendment(gateway: Gateway) -> None:
    """QoS 1 delivers twice, and a panel that heard no answer sends again: then it is told what has become of it."""
    first = gateway.say(REJECT)
    again = gateway.say(dict(reversed(REJECT.items())))
    assert (again["state"], again["amendment"]) == ("waiting", first["amendment"])
    assert len(gateway.sign()) == 1
    signed = gateway.say(REJECT)
    assert (signed["state"], signed["amendment"]) == ("signed", 1)
    assert "is signed, in record" in signed["words"]
    other = gateway.say({**REJECT, "count": 8})
    assert (other["state"], other["amendment"]) == ("refused", None) and "its own" in other["words"]
    assert len(gateway.sign()) == 1


def test_what_is_refused_when_it_is_signed_is_told_when_asked_again(gateway: Gateway) -> None:
    assert gateway.say(REJECT)["state"] == "waiting"
    gateway.spool.refuse_amendment(1, "it contradicts the chain")
    said = gateway.say(REJECT)
    assert (said["state"], said["words"]) == ("refused", "it was refused: it contradicts the chain")


def without(message: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != key}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (without(REASON, "who"), 'who: is missing; write: who: "M. Chan"'),
        ({**REASON, "who": " "}, "who: is empty"),
        ({**REASON, "who": "a\nb"}, "without control characters"),
        ({**REASON, "who": "x" * 201}, "1 to 200 letters"),
        ({**REASON, "why": 5}, "why: 5 is not a text"),
        ({**REASON, "kind": "window"}, "one of: reason, reject"),
        ({**REASON, "colour": "red"}, "colour: unknown key"),
        ({**REASON, "line": "packing"}, "there is no line packing; this gateway has: filling"),
        ({**REASON, "stop": "noon"}, '"noon" is not a time; write it like 2026-11-21T14:03:20'),
        ({**REASON, "stop": "0001-01-01"}, "is not a time"),
        ({**REASON, "stop": "9" * 30}, "is not a time"),
        ({**REASON, "stop": "9999-12-31T23:59:59-12:00"}, "is not a time"),
        ({**REASON, "stop": str(START - 10**9)}, "no window of this gateway"),
        ({**REASON, "reason": ""}, "reason: is empty"),
        ({**REASON, "reason": None}, "reason: None is not a text"),
        ({**REASON, "reason": True}, "reason: True is not a text"),
        ({**REJECT, "count": 0}, "changes nothing"),
        ({**REJECT, "count": 1.0}, "count: 1.0 is not a whole number"),
        ({**REJECT, "count": 10**9}, "out of range"),
        ({**REJECT, "count": 101}, "only 100 good pieces of the lot"),
        ({**REJECT, "to": str(START)}, "the end is not after the beginning"),
        ({**REJECT, "from": "2020-01-01", "to": "2020-01-02"}, "no signed window of filling"),
        ({**REJECT, "counted_from": "2026-09-21"}, "counted_to: is missing"),
        ({**REJECT, "product": "Fanta"}, "only 0 good pieces"),
        (b"\xff", "no JSON in UTF-8"),
        (b"[" * 4000, "no JSON"),
        (b"7", "must be a JSON object"),
        (b"{" + b" " * MOST_BYTES + b"}", f"at most {MOST_BYTES} are taken"),
        (without(REASON, "id"), "id: each message needs one of its own"),
        ({**REASON, "id": "a b"}, "id: each message needs one of its own"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_mend(
    gateway: Gateway, message: dict[str, Any] | bytes, words: str
) -> None:
    said = gateway.say(message)
    assert words in said["words"]
    known = isinstance(message, dict) and " " not in message.get("id", " ")
    assert (said["id"], said["state"], said["amendment"]) == (message["id"] if known else None, "refused", None)
    assert gateway.spool.amendments() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner),
    max_leaves=3,
)


@given(
    st.sampled_from([REASON, REJECT]),
    st.dictionaries(st.sampled_from([*REASON, *REJECT, "product", "counted_from", "other"]), JSON, max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_no_message_ends_the_agent(gateway: Gateway, message: dict[str, Any], changes: dict[str, Any]) -> None:
    gateway.now_s += 1000
    said = gateway.say(json.dumps({**message, **changes}).encode())
    assert said["state"] in ("waiting", "refused")
    assert len(said["words"]) < 1200


def test_a_flood_is_cut_off(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    payload = json.dumps(REJECT).encode()
    answers = [gateway.input.take(payload) for _ in range(BURST + 50)]
    assert None not in answers[: BURST + 1] and not any(answers[BURST + 1 :])
    told = json.loads(answers[BURST] or b"")
    assert (told["id"], told["state"]) == ("lab:4711", "refused") and "send it again" in told["words"]
    assert caplog.text.count("at once") == 1
    gateway.now_s += EACH_S
    assert gateway.say(REJECT)["state"] == "waiting"
    assert json.loads(gateway.input.take(b"{") or b"")["id"] is None


def test_not_more_wait_than_can_be_signed(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amend_mqtt, "MOST_WAITING", 1)
    assert gateway.say(REJECT)["state"] == "waiting"
    assert "send it again later" in gateway.say(REASON)["words"]
    gateway.sign()
    assert gateway.say(REASON)["state"] == "waiting"


def test_over_a_real_broker(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Said, answered, signed and receipted by the hub; after a reload that switches it off nobody is heard."""

    async def scenario() -> None:
        port = free_port()
        gateway = Gateway(tmp_path, port)
        with gateway.spool, running_broker(tmp_path, port), ReceiptHub(port) as hub, Panel(port) as panel:
            publisher = Publisher(
                gateway.configuration, gateway.spool, KID, hub.signer.verifier, lambda: 5, lambda _: None
            )
            task = asyncio.create_task(publisher.run())
            try:
                await until(lambda: publisher.connected and not gateway.spool.depth())
                for _ in range(2):
                    panel.say(REASON)
                    assert (await panel.heard())["amendment"] == 1
                gateway.sign()
                await until(lambda: not gateway.spool.depth())
                late = [s.record.body for s in hub.records.values() if isinstance(s.record.body, Amendment)]
                assert [amendment.who for amendment in late] == ["陳大文"]
                gateway.configuration.file.write_text(
                    gateway.configuration.file.read_text().replace("mqtt = true", "mqtt = false")
                )
                before = publisher._link
                publisher.use(load(gateway.configuration.file))
                await until(lambda: publisher._link not in (None, before))
                panel.say({**REASON, "id": "second"})
                await asyncio.sleep(0.3)  # what must not come is waited for
                assert panel.answers.empty() and len(gateway.spool.amendments()) == 1
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    path = factory.write(tmp_path, factory.opcua())
    assert not load(path).operator.mqtt
    path.write_text(path.read_text() + '\n[operator]\nmqtt = "yes"\n')
    with pytest.raises(ConfigurationError, match="true or false"):
        load(path)
    path.write_text(path.read_text().replace('mqtt = "yes"', "mqt = true"))
    with pytest.raises(ConfigurationError, match="did you mean mqtt"):
        load(path)
