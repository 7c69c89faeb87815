"""Sparkplug B as a second source of the live page: from the broker's topics to the live bus.

Decides what is subscribed to and what is sent: nothing, or (where the configuration allows it) the one command
"Node Control/Rebirth" to a gateway of the registry, which answers with births; no PLC ever hears of it. What the
messages mean is decided in `sparkplug_nodes`. Called in paho's thread only, but `counts`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from hub.config import LiveConfig
from hub.live import Departure, LiveBus, Loss, SparkplugMessage
from hub.sparkplug_nodes import GatewayDied, LineDied, LineTold, News, RebirthWanted, SparkplugCounts, SparkplugNodes
from protocols.errors import Malformed
from protocols.wire.sparkplug import REBIRTH, listening, parse_topic
from protocols.wire.sparkplug_payload import DataType, Metric, encode_payload

logger = logging.getLogger("hub.sparkplug")

MAX_BYTES: Final = 65_535


class SparkplugEar:
    """One host application, without a STATE of its own: gateways never wait for it."""

    def __init__(
        self,
        config: LiveConfig,
        bus: LiveBus,
        may_speak_for: Callable[[str, str], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._bus = bus
        self._now_ms = now_ms
        self._nodes = SparkplugNodes(may_speak_for)

    @property
    def filters(self) -> list[str]:
        """What to subscribe to."""
        return [each for group in self._config.sparkplug_groups or ("+",) for each in listening(group)]

    @property
    def counts(self) -> SparkplugCounts:
        return self._nodes.counts

    def connected(self) -> None:
        """A new connection to the broker: what died meanwhile was not heard."""
        self._nodes.forget()
        self._bus.sparkplug_lost(self._now_ms())

    def take(self, topic: str, payload: bytes, send: Callable[[str, bytes], None]) -> None:
        """One message; `send(topic, payload)` is called for a command to its gateway, at QoS 0."""
        try:
            parsed = parse_topic(topic)
        except Malformed as error:
            logger.debug("%s", error)
            return
        for news in self._nodes.take(parsed, payload if len(payload) <= MAX_BYTES else b"\xff", self._now_ms()):
            self._tell(news, send)

    def _tell(self, news: News, send: Callable[[str, bytes], None]) -> None:
        now_ms = self._now_ms()
        match news:
            case LineTold():
                self._bus.publish(
                    SparkplugMessage(
                        news.line_id, news.gateway_id, now_ms, news.time_ms or now_ms, news.metrics, news.waiting
                    )
                )
            case LineDied():
                self._bus.publish(Departure(news.line_id, news.gateway_id, now_ms, Loss.PLC))
            case GatewayDied():
                self._bus.gateway_lost(news.gateway_id, now_ms)
            case RebirthWanted() if self._config.sparkplug_rebirth:
                logger.info("gateway %s is asked for its births again: some of its messages were missed", news.command)
                self._nodes.rebirth_sent()
                send(str(news.command), encode_payload(now_ms, [Metric(REBIRTH, DataType.BOOLEAN, True)], None))
            case RebirthWanted():
                logger.debug("messages of %s were missed", news.command)
