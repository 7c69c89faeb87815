"""OPC UA: one subscription per line, made anew after every loss.

Decides how a line's tags are found, subscribed and watched. A new client for each attempt, under one outer deadline;
node ids are resolved from namespace URI and browse path at each connect; the flow of publish responses is watched,
not the socket; a bad node is set aside and tried again while the rest goes on. Only browse, read and subscribe are
ever called.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.common.subscription import Subscription
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from agent.backoff import Backoff
from agent.config_line import OpcuaSource
from agent.config_opcua import OpcuaTag
from agent.line import LineInput
from protocols.errors import ConfigurationError
from protocols.plc.roles import SPEED_SCALE, SignalRole

CONNECT_S: Final = 20.0
"""The outer deadline of one attempt, from the socket to the first subscription."""
REQUEST_S: Final = 5.0
QUARANTINE_S: Final = 30.0
LOOK_S: Final = 0.2
LEAST_SILENCE_S: Final = 5.0
"""A flow is never called dead sooner."""
_OVERFLOW: Final = 0x480  # Part 4, 7.39.1: InfoType DataValue with the Overflow bit
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What asyncua raises when a peer misbehaves; anything else is our mistake and must be seen.
LINK_ERRORS: Final = (OSError, TimeoutError, asyncio.TimeoutError, UaError)


class FlowLost(Exception):
    """The connection ended, or the server has gone silent."""


class OpcuaReader:
    """Reads one line until it is cancelled. `keep_alive_s`: how often (real s) the server must say that it lives."""

    def __init__(
        self,
        source: OpcuaSource,
        tags: Sequence[OpcuaTag],
        product_codes: dict[str, int],
        line: LineInput,
        keep_alive_s: float,
    ) -> None:
        self._source = source
        self._tags = tags
        self._product_codes = product_codes
        self._line = line
        interval_s = source.publishing_interval_ms / 1000
        self._keep_alive_count = max(1, int(keep_alive_s / interval_s))
        self._silence_s = max(LEAST_SILENCE_S, 4 * self._keep_alive_count * interval_s)
        self._said: set[tuple[SignalRole, str]] = set()
        self._nodes: dict[ua.NodeId, OpcuaTag] = {}
        self._ended: str | None = None

    async def run(self) -> None:
        """Connects, reads, and begins again; never gives up."""
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # its errors are said by us, once and in plain words
        backoff = Backoff()
        while True:
            try:
                await self._session(backoff)
            except LINK_ERRORS as error:
                self._line.lost(f"no connection to {self._source.endpoint}: {link_words(error)}")
            except FlowLost as error:
                self._line.lost(f"{error}; connecting again")
            await asyncio.sleep(backoff.next_s())

    async def _session(self, backoff: Backoff) -> None:
        client = Client(self._source.endpoint, timeout=REQUEST_S, watchdog_intervall=2.0)
        client.session_timeout = 60_000
        if self._source.username is not None:
            client.set_user(self._source.username)
            client.set_password(read_password(self._source.password_file))
        self._nodes.clear()
        self._ended = None
        try:
            async with asyncio.timeout(CONNECT_S):
                await client.connect()
                self._line.begin()
                subscription = await self._subscribe(client)
                waiting = await self._add(client, subscription, self._tags)
                found = len(self._tags) - len(waiting)
                self._line.connected(f"connected to {self._source.endpoint}, {found} of {len(self._tags)} tags")
            await self._watch(client, subscription, waiting, backoff)
        finally:
            await _close(client)

    async def _subscribe(self, client: Client) -> Subscription:
        # Not client.create_subscription: when a server revises the interval it asks for a keep-alive of its own
        # choosing, some 45 s, and a dead flow would go unseen.
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = self._source.publishing_interval_ms
        parameters.RequestedMaxKeepAliveCount = self._keep_alive_count
        parameters.RequestedLifetimeCount = max(3 * self._keep_alive_count, 100)
        parameters.MaxNotificationsPerPublish = 10_000
        parameters.PublishingEnabled = True
        subscription = Subscription(client.uaclient.session, parameters, self)
        result = await subscription.init()
        interval_s = result.RevisedPublishingInterval / 1000
        self._silence_s = max(LEAST_SILENCE_S, 4 * result.RevisedMaxKeepAliveCount * interval_s)
        return subscription

    async def _add(self, client: Client, subscription: Subscription, tags: Sequence[OpcuaTag]) -> list[OpcuaTag]:
        """Subscribes tags; gives those that the server does not have, or refuses."""
        bad: list[OpcuaTag] = []
        for tag in tags:
            try:
                node = await resolve(client, tag)
                self._nodes[node.nodeid] = tag
                outcome = await subscription.subscribe_data_change(
                    [node],
                    queuesize=self._source.queue_size,
                    sampling_interval=ua.Duration(self._source.sampling_interval_ms),
                )
                if isinstance(outcome[0], ua.StatusCode):
                    raise LookupError(outcome[0].name)  # noqa: TRY004 - the server's answer, not a type
            except (UaStatusCodeError, LookupError) as error:
                bad.append(tag)
                self._line.put(tag.column, None, None)
                self._say(tag.role, f"the tag {tag.words} cannot be read ({link_words(error)}); trying again later")
        return bad

    async def _watch(
        self, client: Client, subscription: Subscription, waiting: list[OpcuaTag], backoff: Backoff
    ) -> None:
        began = time.monotonic()
        heard = subscription.last_publish_at or began
        again = began + QUARANTINE_S
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            if self._ended is not None:
                raise FlowLost(self._ended)
            if client.state.name not in ("CONNECTED", "RECONNECTING"):
                raise FlowLost("the connection was lost")
            newest = subscription.last_publish_at
            if newest is not None and newest != heard:
                heard = newest
                self._line.alive((now - newest) * 1000)
                if now - began > 10:
                    backoff.reset()
            if now - heard > self._silence_s:
                raise FlowLost(f"connected, but the server has sent nothing for {now - heard:.0f} s")
            if waiting and now >= again:
                again = now + QUARANTINE_S
                async with asyncio.timeout(CONNECT_S):
                    waiting = await self._add(client, subscription, waiting)

    # asyncua calls these

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        """One value of a monitored item, in the order of its queue."""
        tag = self._nodes.get(node.nodeid)
        if tag is None:
            return
        role = tag.role
        found: ua.DataValue = data.monitored_item.Value
        status = found.StatusCode.value if found.StatusCode is not None else 0
        if status & _OVERFLOW == _OVERFLOW:
            self._say(role, f"{role.name.lower()}: the server lost values, its queue was full; raise queue_size")
        # Severity, the two top bits, must be Good (Part 4, 7.39); Uncertain is not good enough to pay by.
        number = self._number(role, value) if status >> 30 == 0 else None
        self._line.put(tag.column, number, _unix_ms(found.SourceTimestamp or found.ServerTimestamp))

    def status_change_notification(self, status: ua.StatusChangeNotification) -> None:
        """The server ends the subscription, or the client has lost the connection."""
        self._ended = f"the subscription ended ({status.Status.name})"

    def _number(self, role: SignalRole, value: Any) -> int | None:
        if role is SignalRole.PRODUCT and isinstance(value, str):
            code = self._product_codes.get(value)
            if code is None and value:
                self._say(role, f'the product "{value}" is not in the configuration; add it with its ideal cycle')
            return code
        if role is SignalRole.ORDER:
            return int(bool(value))
        if role is SignalRole.SPEED and isinstance(value, int | float) and math.isfinite(value):
            return math.floor(value * SPEED_SCALE)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, int):
            return int(value)
        kind = type(value).__name__
        self._say(role, f"{role.name.lower()}: {value!r} is a {kind}, a whole number is needed; check the tag")
        return None

    def _say(self, role: SignalRole, words: str) -> None:
        """Once for each thing to say: a bad tag must not fill the log."""
        if (role, words) not in self._said and len(self._said) < 1000:
            self._said.add((role, words))
            self._line.log.warning("%s", words)


async def resolve(client: Client, tag: OpcuaTag) -> Node:
    """The node of a tag on this server now. Raises UaStatusCodeError, or LookupError for an unknown namespace."""
    if tag.node:
        text = tag.node
        if text.startswith("nsu="):
            uri, _, rest = text[4:].partition(";")
            text = f"ns={await _namespace(client, uri)};{rest}"
        node = client.get_node(ua.NodeId.from_string(text))
        await node.read_browse_name()  # an id alone says nothing of whether it exists
        return node
    index = await _namespace(client, tag.namespace)
    return await client.nodes.objects.get_child([ua.QualifiedName(part, index) for part in tag.path])


async def _namespace(client: Client, uri: str) -> int:
    namespaces = await client.get_namespace_array()
    if uri not in namespaces:
        raise LookupError(f"the server has no namespace {uri}")
    return int(namespaces.index(uri))


def read_password(path: Path | None) -> str:
    """The first line of a password file. Raises ConfigurationError."""
    if path is None:
        return ""
    try:
        return path.read_text("utf-8").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the password cannot be read: {error}", file=str(path), mend="one line, UTF-8"
        ) from error


def link_words(error: BaseException) -> str:
    """What went wrong, for a person."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing answers there; is the PLC on?"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, UaStatusCodeError):
        return str(ua.status_codes.get_name_and_doc(error.code)[0])
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _unix_ms(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)


async def _close(client: Client) -> None:
    # Saying goodbye to a dead peer must not hold the next attempt back.
    with contextlib.suppress(*LINK_ERRORS):
        async with asyncio.timeout(2):
            await client.disconnect()
    client.disconnect_socket()
