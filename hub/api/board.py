"""The board: the newest view of every line, and the pages that wait for the next one.

Decides how live values fan out. A page that reads slowly loses intermediate values, never the hub's memory: its
mailbox holds at most one view a line, the newest. Everything here belongs to the server's event loop, but `views`,
which any thread may call. Nothing is durable: after a restart the next second fills it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from hub.api.live_message import LineView, Source, present
from hub.api.sparkplug_view import SparkplugLine, pieces_per_hour
from hub.database import DATABASE_ERRORS
from hub.live import Departure, LiveBus, LiveMessage, Loss, News, SparkplugMessage

Reasons = Mapping[str, Mapping[int, str]]
TREND_EVERY_MS: Final = 5_000
TREND_POINTS: Final = 121  # ten minutes
MAX_READERS: Final = 500
ZONES_EVERY_S: Final = 30.0
LIVE_FRESH_MS: Final = 5_000
"""So long after an agent's live message (one comes each second) Sparkplug's account of the same line is not shown."""


class Reader:
    """One open page's mailbox."""

    def __init__(self, sees: Callable[[str], bool]) -> None:
        self._sees = sees
        self._waiting: dict[str, str] = {}
        self._news = asyncio.Event()
        self._closed = False

    def offer(self, line_id: str, text: str) -> None:
        """Puts a line's newest view in; the older one that was not taken yet is dropped."""
        if self._sees(line_id):
            self._waiting[line_id] = text
            self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    async def take(self, wait_s: float) -> list[str] | None:
        """The new views as JSON; [] when nothing came within `wait_s`; None when the board has closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        if self._closed:
            return None
        self._news.clear()
        taken, self._waiting = list(self._waiting.values()), {}
        return taken


class Board:
    """`zones` gives the time zone of each registered line, `reasons` what people said afterwards of its stops, by when
    each began; both read the database and are called in a thread."""

    def __init__(self, zones: Callable[[], Mapping[str, str]], reasons: Callable[[], Reasons] = dict) -> None:
        self._read_zones = zones
        self._read_reasons = reasons
        self._zones: Mapping[str, str] = {}
        self._reasons: Reasons = {}
        self._views: dict[str, LineView] = {}
        self._sparkplug_lines: dict[str, SparkplugLine] = {}
        self._trends: dict[str, deque[tuple[int, float]]] = {}
        self._readers: set[Reader] = set()
        self._closed = False

    async def run(self, bus: LiveBus) -> None:
        """Follows the bus until cancelled."""
        refresh = asyncio.create_task(self._refresh_zones(), name="board-zones")
        try:
            await self._read()
            with bus.subscribe() as subscription:
                for message in bus.latest():
                    self.publish(message)
                while True:
                    for message in await subscription.get():
                        self.publish(message)
                        await asyncio.sleep(0)  # a gateway tells all its lines at once, and requests must not wait
        finally:
            refresh.cancel()

    async def _refresh_zones(self) -> None:
        while True:
            await asyncio.sleep(ZONES_EVERY_S)
            await self._read()

    async def _read(self) -> None:
        # What was known stays while the database is away: live values do not need it.
        with suppress(*DATABASE_ERRORS):
            self._zones = await asyncio.to_thread(self._read_zones)
            self._reasons = await asyncio.to_thread(self._read_reasons)

    def publish(self, message: News) -> None:
        """Computes the line's view once and hands it to every reader that may see the line."""
        view: LineView | None
        match message:
            case LiveMessage():
                view = self._live(message)
            case SparkplugMessage():
                view = self._sparkplug(message)
            case Departure():
                view = self._gone(message)
        if view is None:
            return
        self._views[view.line] = view
        if self._readers:
            text = view.model_dump_json()
            for reader in self._readers:
                reader.offer(view.line, text)

    def _live(self, message: LiveMessage) -> LineView:
        line_id, told = message.line_id, message.told
        return present(
            message,
            timezone=self._zones.get(line_id, "UTC"),
            trend=self._trend(line_id, told.gateway.time_ms, told.line.pieces_per_hour),
            amended=self._reasons.get(line_id, {}),
        )

    def _sparkplug(self, message: SparkplugMessage) -> LineView | None:
        """None while the line's agent itself is heard, which says more."""
        known = self._views.get(message.line_id)
        if known is not None and known.source is Source.LIVE:
            if message.received_ms - known.received_ms < LIVE_FRESH_MS:
                return None
            self._trends.pop(message.line_id, None)  # what it said before has another clock and another span
        line = self._sparkplug_lines.setdefault(message.line_id, SparkplugLine())
        trend = self._trend(message.line_id, message.time_ms, pieces_per_hour(message))
        return line.view(message, self._zones.get(message.line_id, "UTC"), trend)

    def _gone(self, message: Departure) -> LineView | None:
        """The last view with why it is the last. A line whose agent is heard is only gone with its gateway."""
        known = self._views.get(message.line_id)
        if known is None or known.gateway != message.gateway_id:
            return None
        if known.source is Source.LIVE and message.loss is not Loss.GATEWAY:
            return None
        return known.model_copy(update={"gone": message.loss, "gone_ms": message.received_ms})

    def _trend(self, line_id: str, time_ms: int, pieces_per_hour: float | None) -> list[tuple[int, float]]:
        trend = self._trends.setdefault(line_id, deque(maxlen=TREND_POINTS))
        if pieces_per_hour is not None:
            if trend and time_ms < trend[-1][0]:
                trend.clear()  # the line's clock went back: a curve across that would be a fiction
            if not trend or time_ms - trend[-1][0] >= TREND_EVERY_MS:
                trend.append((time_ms, pieces_per_hour))
        return list(trend)

    def views(self) -> dict[str, LineView]:
        """The newest view of each line that has spoken since the hub started."""
        return self._views.copy()

    def open(self, sees: Callable[[str], bool]) -> Reader | None:
        """A reader with every current view already in its mailbox; None when too many pages are open."""
        if self._closed or len(self._readers) >= MAX_READERS:
            return None
        reader = Reader(sees)
        self._readers.add(reader)
        for view in self._views.values():
            reader.offer(view.line, view.model_dump_json())
        return reader

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)

    @property
    def reader_count(self) -> int:
        return len(self._readers)

    def close(self) -> None:
        """Ends every stream, so that the server can stop. Called on the loop."""
        self._closed = True
        for reader in self._readers:
            reader.close()
