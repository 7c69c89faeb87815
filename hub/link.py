"""The link to the broker: one paho client (MQTT 5) whose session outlives the hub.

Decides subscriptions, acknowledgement by hand and what becomes of live messages (Sparkplug's: `sparkplug`). A PUBACK
only tells the broker; it is sent after the commit, so that a broker that keeps sessions repeats what a killed hub had
not finished. Losing the broker's state costs nothing: agents repeat what has no receipt.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from hub.config import BrokerConfig
from hub.ingest import Arrival
from hub.live import LiveBus, LiveMessage
from hub.live_wire import parse_live
from hub.sparkplug import SparkplugEar
from protocols.errors import ConfigurationError, Malformed
from protocols.wire import topics
from protocols.wire.receipt import CHECKPOINT_PROPERTY
from protocols.wire.sparkplug import NAMESPACE
from protocols.wire.topics import Channel

logger = logging.getLogger("hub.link")

SESSION_EXPIRY_S: Final = 7 * 24 * 3600
KEEPALIVE_S: Final = 20
RECONNECT_MAX_S: Final = 30
REFUSED_EACH_MS: Final = 60_000
"""How often it is said of a gateway that its live messages, or parts of them, are refused."""
MAX_SAID: Final = 1_000
SPARKPLUG: Final = f"{NAMESPACE}/"
_DISCONNECTED_WORDS: Final = "No connection to the broker {host}:{port}. Agents keep their records until it is back."


OfferRaw = Callable[[str, bytes, Callable[[], None]], None]
"""Takes one message of a gateway's raw samples: its id, the payload, and what acknowledges it."""


class Link:
    """Runs in paho's own thread. `publish` may be called from any thread and never blocks."""

    def __init__(
        self,
        config: BrokerConfig,
        receive_maximum: int,
        bus: LiveBus,
        may_speak_for: Callable[[str, str], bool],
        now_ms: Callable[[], int],
        sparkplug: SparkplugEar | None = None,
    ) -> None:
        self._config = config
        self._sparkplug = sparkplug
        self._bus = bus
        self._may_speak_for = may_speak_for
        self._now_ms = now_ms
        self._offer: Callable[[Arrival], None] | None = None
        self._offer_raw: OfferRaw | None = None
        self._said_ms: dict[str, int] = {}  # by gateway: when it was said that something was refused
        self._connected = threading.Event()
        # Message ids belong to one connection: acknowledging an old one would acknowledge somebody else's message.
        self._connection = 0
        self._connect_properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        self._connect_properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self._connect_properties.ReceiveMaximum = min(receive_maximum, 65_535)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=config.client_id, protocol=mqtt.MQTTv5, manual_ack=True
        )
        self._client.reconnect_delay_set(1, RECONNECT_MAX_S)
        self._client.max_inflight_messages_set(1_000)
        if config.username is not None:
            self._client.username_pw_set(config.username, _secret(config))
        if config.ca_file is not None:
            _set_tls(self._client, config)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    @property
    def alarm(self) -> str | None:
        if self.is_connected:
            return None
        return _DISCONNECTED_WORDS.format(host=self._config.host, port=self._config.port)

    def start(self, offer: Callable[[Arrival], None], offer_raw: OfferRaw | None = None) -> None:
        """Connects, now or when the broker is there, and keeps at it."""
        self._offer, self._offer_raw = offer, offer_raw
        self._client.connect_async(
            self._config.host, self._config.port, keepalive=KEEPALIVE_S, clean_start=False,
            properties=self._connect_properties,
        )  # fmt: skip
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, gateway_id: str, payload: bytes, channel: Channel = Channel.RECEIPT) -> None:
        """A receipt or refusal; or a challenge. Without a connection it is dropped: the gateway asks again with its
        record, and a challenge is sent again until it is answered."""
        if self.is_connected:
            self._client.publish(topics.topic(gateway_id, channel), payload, qos=topics.QOS[channel])

    # ------------------------------------------------------------ paho's thread

    def _on_connect(
        self, client: mqtt.Client, _userdata: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            logger.error("the broker %s:%d refuses the hub: %s", self._config.host, self._config.port, reason)
            return
        self._connection += 1
        wanted = [
            (topics.all_gateways(each), topics.QOS[each]) for each in (Channel.STATEMENT, Channel.LIVE, Channel.RAW)
        ]
        if self._sparkplug is not None:
            self._sparkplug.connected()
            wanted += [(name, 1) for name in self._sparkplug.filters]
        client.subscribe([(name, SubscribeOptions(qos=qos)) for name, qos in wanted])
        self._connected.set()
        logger.info("connected to the broker %s:%d", self._config.host, self._config.port)

    def _on_disconnect(
        self, _client: mqtt.Client, _userdata: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._connected.clear()
        if reason.is_failure:
            logger.warning("lost the broker %s:%d: %s", self._config.host, self._config.port, reason)

    def _on_message(self, client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        connection = self._connection

        def acknowledge() -> None:
            if message.qos and connection == self._connection and self.is_connected:
                client.ack(message.mid, message.qos)

        if self._sparkplug is not None and message.topic.startswith(SPARKPLUG):
            # A retained birth is of another time: Sparkplug retains none.
            if not message.retain:
                self._sparkplug.take(message.topic, bytes(message.payload), self._send)
            acknowledge()
            return
        try:
            gateway_id, channel = topics.parse_topic(message.topic)
        except Malformed:
            acknowledge()
            return
        if channel is Channel.STATEMENT:
            assert self._offer is not None, "messages come after start"
            arrival = Arrival(bytes(message.payload), gateway_id, acknowledge, seen_size=_seen_size(message.properties))
            self._offer(arrival)
            return
        if channel is Channel.RAW and self._offer_raw is not None:
            self._offer_raw(gateway_id, bytes(message.payload), acknowledge)
            return
        if channel is Channel.LIVE:
            self._take_live(gateway_id, message.payload)
        acknowledge()

    def _take_live(self, gateway_id: str, payload: bytes | bytearray) -> None:
        """Its lines go to the bus together. What of it is refused is said, not at each message."""
        try:
            parts = parse_live(payload, lambda line_id: self._may_speak_for(gateway_id, line_id))
        except Malformed as error:
            self._say_refused(gateway_id, error.what)
            return
        now_ms = self._now_ms()
        self._bus.publish(*(LiveMessage(gateway_id, now_ms, line) for line in parts.lines))
        if parts.refused:
            more = f"; and {len(parts.refused) - 1} more" if len(parts.refused) > 1 else ""
            self._say_refused(gateway_id, parts.refused[0] + more)

    def _say_refused(self, gateway_id: str, words: str) -> None:
        now_ms = self._now_ms()
        if 0 <= now_ms - self._said_ms.get(gateway_id, -REFUSED_EACH_MS) < REFUSED_EACH_MS:
            return
        if len(self._said_ms) >= MAX_SAID:  # ids come from the network
            self._said_ms.clear()
        self._said_ms[gateway_id] = now_ms
        logger.warning("live message of gateway %s: refused: %s", gateway_id, words)

    def _send(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=0)


def _seen_size(properties: Properties | None) -> int:
    """The size in the sender's checkpoint property; 0 where there is none that parses."""
    for name, value in getattr(properties, "UserProperty", ()):
        if name == CHECKPOINT_PROPERTY and value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
    return 0


def _secret(config: BrokerConfig) -> str | None:
    if config.password_file is None:
        return None
    try:
        return config.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"broker.password_file cannot be read: {error}", mend="it must be readable by the hub's user, mode 0600"
        ) from error


def _set_tls(client: mqtt.Client, config: BrokerConfig) -> None:
    """The server's certificate is always checked, against `ca_file` only."""
    try:
        client.tls_set(
            ca_certs=str(config.ca_file),
            certfile=None if config.certificate_file is None else str(config.certificate_file),
            keyfile=None if config.key_file is None else str(config.key_file),
        )
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the broker's TLS files cannot be used: {error}",
            mend="check broker.ca_file, broker.certificate_file and broker.key_file",
        ) from error
