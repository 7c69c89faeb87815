"""The publisher: records from the spool to the broker, receipts from the broker to the spool.

Decides what is done, and what an answer means. A record is done only when the hub's receipt for it verifies with the
log's key, and the log grew from what was verified before (`log_watch`); an MQTT acknowledgement means nothing here.
How many are under way, and when they are sent again, is `flow`'s. A slow network is given no more than it takes, so
that what is live does not wait behind what is old. Raw samples that the hub asked for go when no record waits for its
turn (`challenges`). Where the configuration says so, operators' panels are heard (`amend_mqtt`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.amend_mqtt import OperatorInput
from agent.backoff import Backoff
from agent.challenges import Challenges
from agent.config import AgentConfiguration, BrokerSettings
from agent.flow import Flow
from agent.log_watch import Belief, LogWatch
from agent.mqtt import BrokerLink, BrokerLost
from agent.spool import Spool, SpoolFull
from protocols.errors import ConfigurationError, Malformed, Refused, Unverified
from protocols.evidence.cose import Kid
from protocols.evidence.note import VerifierKey
from protocols.evidence.record import CheckpointSeen
from protocols.wire.receipt import CHECKPOINT_PROPERTY, Receipt, Refusal, decode_receipt
from protocols.wire.topics import (
    challenge_topic,
    live_topic,
    operator_answer_topic,
    operator_topic,
    raw_topic,
    receipt_topic,
    statement_topic,
)

if TYPE_CHECKING:
    from agent.sparkplug import Sparkplug

REFUSED_RETRY_S: Final = 30.0
DISBELIEVED_RETRY_S: Final = 30.0
STEADY_S: Final = 10.0
"""A connection that held for so long is soon tried again; one that is cut at once, more and more slowly."""
AGAIN_S: Final = 0.2
ELSEWHERE_S: Final = 1.0
_LOOK_S: Final = 1.0  # answers are heard at once; this is how long a new record may wait
_SLOW_LOOK_S: Final = 0.1  # the same while a slow network has not taken what it was given
_SAY_AGAIN_S: Final = 600.0
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "hub"})


@dataclass(frozen=True, slots=True)
class LastReceipt:
    """The newest verified receipt: of which record, and when it came (the gateway's clock)."""

    sequence: int
    time_ms: int


class Publisher:
    """Sends one gateway's records until it is cancelled. `on_checkpoint` hears of each newer verified checkpoint."""

    def __init__(
        self,
        configuration: AgentConfiguration,
        spool: Spool,
        kid: Kid,
        log_key: VerifierKey,
        now_ms: Callable[[], int],
        on_checkpoint: Callable[[CheckpointSeen], None],
        sparkplug: Sparkplug | None = None,
    ) -> None:
        self._spool = spool
        self._kid = kid
        self._watch = LogWatch(spool, log_key)
        self._challenges = Challenges(spool)
        self._now_ms = now_ms
        self._on_checkpoint = on_checkpoint
        self._sparkplug = sparkplug
        self._broker = configuration.broker
        self._hears_operators = configuration.operator.mqtt
        self._operator = OperatorInput(configuration.state_folder, [line.configuration for line in configuration.lines])
        self._gateway_id = configuration.gateway_id
        self._link: BrokerLink | None = None
        self._flow = Flow()
        self._said: dict[str, float] = {}
        self._leaves = False
        self._lost_is_said = True
        self.progress = asyncio.Event()
        """Set whenever receipts were noted; whoever waits clears it."""
        self.last_receipt = _last_receipt(spool)
        self.depth = spool.depth()

    @property
    def log_alarm(self) -> str | None:
        """What is wrong with the hub's log, in words."""
        return self._watch.alarm

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def has_room(self) -> bool:
        """Whether there is a connection, and what is told now goes out soon (`BrokerLink.has_room`)."""
        return self._link is not None and self._link.has_room

    async def run(self) -> None:
        """Connects, sends, and begins again; never gives up."""
        backoff = Backoff()
        sparkplug = self._sparkplug
        while True:
            topics = [receipt_topic(self._gateway_id), challenge_topic(self._gateway_id)]
            if sparkplug is not None:
                topics.append(sparkplug.command_topic)
            if self._hears_operators:
                topics.append(operator_topic(self._gateway_id))
            where = f"{self._broker.host}:{self._broker.port}"
            wanted = (self._broker, self._hears_operators)
            connected_s = None
            self._leaves = False
            try:
                will = None if sparkplug is None else sparkplug.next_will()
                async with BrokerLink(self._broker, self._gateway_id, *topics, will=will) as link:
                    self._say_connected(where)
                    self._link = link
                    connected_s = time.monotonic()
                    self._begin()
                    if sparkplug is not None:
                        sparkplug.connected(link)
                    self._leave_if_not(wanted)  # it may have changed while it was connected
                    try:
                        await self._serve(link)
                    except asyncio.CancelledError:
                        if sparkplug is not None:
                            sparkplug.leave()
                        raise
            except BrokerLost as error:
                if connected_s is not None and time.monotonic() - connected_s >= STEADY_S:
                    backoff.reset()
                if not self._leaves:
                    words = f"no connection to the broker at {where}: {error}. Records are kept here until it is back"
                    self._lost_is_said |= self._say(f"lost: {error}", words, logging.WARNING)
            except ConfigurationError as error:  # a password or certificate is gone: that ends no measuring
                words = f"no connection to the broker at {where}, and records are kept here: {error}"
                self._lost_is_said |= self._say(f"lost: {error.what}", words, logging.ERROR)
            finally:
                self._link = None
                if sparkplug is not None:
                    sparkplug.lost()
            if not self._leaves:
                await asyncio.sleep(backoff.next_s())

    def use(self, configuration: AgentConfiguration) -> None:
        """Goes over to what may change while it runs: another broker or login, whether operators are heard, lines."""
        self._operator.lines = tuple(line.configuration for line in configuration.lines)
        before = (self._broker, self._hears_operators)
        self._broker, self._hears_operators = configuration.broker, configuration.operator.mqtt
        self._leave_if_not(before)

    def _leave_if_not(self, used: tuple[BrokerSettings, bool]) -> None:
        if self._link is not None and used != (self._broker, self._hears_operators):
            self._leaves = self._lost_is_said = True
            if self._sparkplug is not None:
                self._sparkplug.leave()  # to a goodbye the broker adds no will
            self._link.leave("the configuration has changed")

    def refresh(self) -> None:
        """Reads again how many records wait, after some were added."""
        self.depth = self._spool.depth()

    def publish_live(self, payload: bytes) -> None:
        """A live message at QoS 0; dropped when there is no connection."""
        if self._link is not None:
            self._link.publish(live_topic(self._gateway_id), payload, qos=0)

    def _begin(self) -> None:
        self._flow.begin(time.monotonic())
        self._challenges.begin()

    async def _serve(self, link: BrokerLink) -> None:
        while True:
            self._send(link)
            if not self._flow.is_full:
                self._challenges.send(link, raw_topic(self._gateway_id))
            messages = await link.receive(_LOOK_S if link.has_room else _SLOW_LOOK_S)
            receipts = receipt_topic(self._gateway_id)
            if messages:
                self._take([payload for topic, payload, _ in messages if topic == receipts])
                for topic, payload, acknowledge in messages:
                    if self._sparkplug is not None and topic == self._sparkplug.command_topic:
                        self._sparkplug.take(payload)
                    elif topic == operator_topic(self._gateway_id):
                        answer = await asyncio.to_thread(self._operator.take, payload)
                        if answer is not None:
                            link.publish(operator_answer_topic(self._gateway_id), answer, qos=1)
                    elif topic != receipts:
                        self._challenges.take(payload)
                    acknowledge()  # only now: the receipts are durable
            self._watch_silence(link)

    def _send(self, link: BrokerLink) -> None:
        seen = self._watch.seen
        properties = {CHECKPOINT_PROPERTY: str(0 if seen is None else seen.size)}
        while self._flow.may_send(time.monotonic()) and link.has_room:
            record = next(iter(self._spool.open_records(self._flow.next, 1)), None)
            if record is None:
                return
            link.publish(statement_topic(self._gateway_id), record.raw, qos=1, properties=properties)
            self._flow.sent(record.sequence, time.monotonic())

    def _watch_silence(self, link: BrokerLink) -> None:
        silence_s = self._flow.silence_s(time.monotonic(), goes_out=link.has_room)
        if silence_s is not None:
            self._say("silence", f"no receipt from the hub for {silence_s:.0f} s; sending again", logging.WARNING)

    def _take(self, payloads: list[bytes]) -> None:
        """Verifies answers and notes receipts, all of a batch in one transaction."""
        done: list[int] = []
        meta: dict[str, bytes] = {}
        before = self._watch.seen
        for payload in payloads:
            try:
                answer = decode_receipt(payload)
            except Malformed as error:
                self._say("malformed", f"an answer of the hub cannot be read: {error}", logging.WARNING)
                continue
            if answer.kid != self._kid:
                continue  # for a key that this gateway had before
            if isinstance(answer, Refusal):
                self._refused(answer)
            elif (kept := self._judged(answer)) is not None:
                done.append(answer.sequence)
                meta |= kept
        if not done:
            return
        last = LastReceipt(max(done), self._now_ms())
        meta |= {"last_receipt": f"{last.sequence} {last.time_ms}".encode(), "refused": b""}
        try:
            self._spool.receipted(done, meta)
        except SpoolFull as error:
            self._watch = self._watch.again()
            self._say("full", f"{error}; receipts are noted again when there is room", logging.ERROR)
            return
        self._noted(done, last, before)

    def _noted(self, done: list[int], last: LastReceipt, before: CheckpointSeen | None) -> None:
        if self._flow.receipted(done, time.monotonic()):
            self._say("again", "receipts come again", logging.INFO)
        self._said.clear()
        self.last_receipt = last
        self.depth = self._spool.depth()
        seen = self._watch.seen
        if seen is not None and seen != before:
            self._on_checkpoint(seen)
        self.progress.set()

    def _judged(self, receipt: Receipt) -> dict[str, bytes] | None:
        """What to store together with the receipt; None where the record must be kept."""
        record = self._spool.record(receipt.sequence)
        if record is None:
            return None  # receipted before and forgotten since
        try:
            awaited = self._flow.is_awaited(receipt.sequence)
            belief, meta, words = self._watch.judge(receipt, record.raw, awaited=awaited)
        except (Malformed, Unverified, Refused) as error:
            words = f"the receipt for record {receipt.sequence} does not hold: {error}. The record is kept"
            self._say("false receipt", words, logging.ERROR)
            return None
        if belief is Belief.BELIEVED:
            if words is not None:
                _log.warning("%s", words)
            return meta
        if words is not None:
            _log.error("%s", words)
            with contextlib.suppress(SpoolFull):  # the log line has said it
                self._spool.set_meta(meta)
        # Sent again it states the newest checkpoint, and an honest hub proves its log from there on.
        self._flow.again(time.monotonic(), DISBELIEVED_RETRY_S if belief is Belief.DISBELIEVED else AGAIN_S)
        return None

    def _refused(self, refusal: Refusal) -> None:
        """Kept and tried again, slowly; at once from where the hub waits, if it says where."""
        expected, now_s = refusal.expected_sequence, time.monotonic()
        if expected is not None and expected != refusal.sequence and self._spool.record(expected) is not None:
            # The hub lost its newest records, or these overtook others: it says where it goes on.
            goes_back = expected < refusal.sequence
            self._flow.again(now_s, ELSEWHERE_S, expected if goes_back else 0)
            if goes_back:
                self._say("elsewhere", f"the hub goes on at record {expected}; sending from there", logging.INFO)
                self._reopen(expected, refusal.sequence)
            return
        self._flow.again(now_s, REFUSED_RETRY_S)
        words = (
            f"the hub refuses record {refusal.sequence} ({refusal.code}): {refusal.words}. It is kept and tried again"
        )
        self._say(f"refused: {refusal.code}", words, logging.WARNING)
        with contextlib.suppress(SpoolFull):  # the log line has said it
            self._spool.set_meta({"refused": f"{refusal.sequence} {refusal.code}: {refusal.words}".encode()})

    def _reopen(self, first: int, last: int) -> None:
        try:
            self._spool.reopen(first, last)
        except SpoolFull as error:
            self._say("full", str(error), logging.ERROR)

    def _say(self, about: str, words: str, level: int) -> bool:
        """A line in the log, not more often than every ten minutes about the same; whether it was written."""
        now = time.monotonic()
        if now - self._said.get(about, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
            return False
        self._said[about] = now
        _log.log(level, "%s", words)
        return True

    def _say_connected(self, where: str) -> None:
        """Always after it was said that there is no connection: nobody must take it for off still."""
        if self._lost_is_said:
            self._lost_is_said = False
            self.refresh()
            _log.info("connected to the broker at %s; records that wait: %d", where, self.depth)


def _last_receipt(spool: Spool) -> LastReceipt | None:
    kept = spool.meta("last_receipt")
    if kept is None:
        return None
    sequence, time_ms = kept.decode().split()
    return LastReceipt(int(sequence), int(time_ms))
