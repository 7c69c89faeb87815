"""The live bus: what lines say of themselves this second, for pages only.

Decides that the newest message of each line and source is kept, and that a slow reader loses what a newer message of
the same line replaces: never another line's, and never the memory of the hub. Nothing here is evidence: messages are
unsigned, and lost at a restart.

Threads: `publish` may be called from any thread; a subscription belongs to the event loop that opened it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from hub.live_wire import LiveLine
from protocols.wire.sparkplug_payload import Value

MAX_LINES: Final = 10_000
"""A gateway can name only its own registered lines (ingest checks), so this is a backstop."""


@dataclass(frozen=True, slots=True)
class LiveMessage:
    """What a gateway's live message says of one line. `received_ms`: the hub's wall clock."""

    gateway_id: str
    received_ms: int
    told: LiveLine

    @property
    def line_id(self) -> str:
        return self.told.line.line

    def after(self, before: LiveMessage) -> LiveMessage:
        """Made whole by the one before, if the same gateway told it."""
        return replace(self, told=self.told.after(before.told)) if before.gateway_id == self.gateway_id else self


@dataclass(frozen=True, slots=True)
class SparkplugMessage:
    """A line as Sparkplug shows it: all metrics that are known of it, by name; `time_ms` by the gateway's clock.

    `waiting`: records without a receipt at its gateway; None where it does not say.
    """

    line_id: str
    gateway_id: str
    received_ms: int
    time_ms: int
    metrics: Mapping[str, Value]
    waiting: int | None = None


class Loss(StrEnum):
    """Why a line is not heard any more."""

    GATEWAY = "gateway"  # it left the broker
    PLC = "plc"  # the gateway is there, and does not read the line
    BROKER = "broker"  # the hub itself was away from the broker, and does not know


@dataclass(frozen=True, slots=True)
class Departure:
    """A line is not heard any more, as its gateway or the broker said. `received_ms`: the hub's wall clock."""

    line_id: str
    gateway_id: str
    received_ms: int
    loss: Loss


News = LiveMessage | SparkplugMessage | Departure


Key = tuple[str, type[News]]
"""Of which a newer message replaces an older one: line and kind."""


@dataclass(eq=False)
class Subscription:
    """One reader's view. `dropped_count`: messages that it was too slow for."""

    loop: asyncio.AbstractEventLoop
    dropped_count: int = 0
    _waiting: dict[Key, News] = field(default_factory=dict)  # the newest last
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self) -> list[News]:
        """What came since the last time, at least one, in the order in which it came."""
        await self._came.wait()
        self._came.clear()
        taken, self._waiting = list(self._waiting.values()), {}
        return taken

    def _offer(self, messages: Sequence[News]) -> None:
        for message in messages:
            key = (message.line_id, type(message))
            self.dropped_count += self._waiting.pop(key, None) is not None
            self._waiting[key] = message
        self._came.set()


class LiveBus:
    """The newest message of each line, and what each reader has not taken yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[Key, News] = {}  # the newest last
        self._subscriptions: set[Subscription] = set()

    def publish(self, *messages: News) -> None:
        taken: list[News] = []
        with self._lock:
            for message in messages:
                key = (message.line_id, type(message))
                before = self._latest.pop(key, None)
                if before is None and len(self._latest) >= MAX_LINES * 3:
                    continue
                if isinstance(message, LiveMessage) and isinstance(before, LiveMessage):
                    message = message.after(before)
                self._latest[key] = message
                taken.append(message)
            subscriptions = tuple(self._subscriptions) if taken else ()
        for subscription in subscriptions:
            if not subscription.loop.is_closed():
                subscription.loop.call_soon_threadsafe(subscription._offer, taken)

    def gateway_lost(self, gateway_id: str, now_ms: int) -> None:
        """The gateway has left the broker: each line that it spoke for last is not heard any more."""
        speaker = {each.line_id: each.gateway_id for each in self.latest() if not isinstance(each, Departure)}
        for line_id in [line_id for line_id, of in speaker.items() if of == gateway_id]:
            self.publish(Departure(line_id, gateway_id, now_ms, Loss.GATEWAY))

    def sparkplug_lost(self, now_ms: int) -> None:
        """What Sparkplug told holds until a death, and deaths may have been missed."""
        for each in self.latest():
            if isinstance(each, SparkplugMessage):
                self.publish(Departure(each.line_id, each.gateway_id, now_ms, Loss.BROKER))

    def latest(self) -> list[News]:
        """The newest message of each line and kind, in the order in which they came."""
        with self._lock:
            return list(self._latest.values())

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """To be opened inside a running event loop. Begins with the next message: send `latest` first."""
        subscription = Subscription(asyncio.get_running_loop())
        with self._lock:
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)
