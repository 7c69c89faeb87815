"""The live bus: what lines say of themselves this second, for pages only.

Decides that the newest message of each line is kept and that a slow reader loses the oldest messages, never the
memory of the hub. Nothing here is evidence: messages are unsigned, and lost at a restart.

Threads: `publish` may be called from any thread; a subscription belongs to the event loop that opened it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

QUEUE_MESSAGES: Final = 64
"""A minute of one line at 1/s. A page that has read nothing for so long is shown what is newest."""
MAX_LINES: Final = 10_000
"""A gateway can name only its own registered lines (ingest checks), so this is a backstop."""


@dataclass(frozen=True, slots=True)
class LiveMessage:
    """One message of one line. `data` is the agent's JSON (docs/formats.md), `received_ms` the hub's wall clock."""

    line_id: str
    gateway_id: str
    received_ms: int
    data: Mapping[str, Any]


@dataclass(eq=False)
class Subscription:
    """One reader's view. `dropped_count`: messages that it was too slow for."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[LiveMessage] = field(default_factory=lambda: asyncio.Queue(QUEUE_MESSAGES))
    dropped_count: int = 0

    async def get(self) -> LiveMessage:
        return await self.queue.get()

    def _offer(self, message: LiveMessage) -> None:
        if self.queue.full():
            self.queue.get_nowait()
            self.dropped_count += 1
        self.queue.put_nowait(message)


class LiveBus:
    """The newest message of each line, and a bounded queue for each open page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, LiveMessage] = {}
        self._subscriptions: set[Subscription] = set()

    def publish(self, message: LiveMessage) -> None:
        with self._lock:
            if message.line_id not in self._latest and len(self._latest) >= MAX_LINES:
                return
            self._latest[message.line_id] = message
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            if not subscription.loop.is_closed():
                subscription.loop.call_soon_threadsafe(subscription._offer, message)

    def latest(self) -> Mapping[str, LiveMessage]:
        """By line id, as of now."""
        with self._lock:
            return MappingProxyType(dict(self._latest))

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
