"""A line's input that keeps what a source gives it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from agent.line import Fresh


class LineRecorder:
    """`values`: (column, value or None, source time) in order; `events`: what was said of the connection."""

    def __init__(self) -> None:
        self.log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "test"})
        self.values: list[tuple[int, int | None, int | None]] = []
        self.events: list[str] = []
        self.alive_count = 0
        self._changed = asyncio.Event()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def begin(self, since_ms: int | None = None) -> None:
        pass

    def put(self, column: int, value: int | None, source_ms: int | None) -> None:
        self.values.append((column, value, source_ms))

    def put_all(self, values: Iterable[Fresh]) -> None:
        self.values += values

    def alive(self, age_ms: float = 0.0) -> None:
        self.alive_count += 1
        self._changed.set()

    def tried(self) -> None:
        pass

    def lost(self, words: str) -> None:
        self.events.append(f"lost: {words}")
        self._changed.set()

    def connected(self, words: str) -> None:
        self.events.append(words)
        self._changed.set()

    def newest(self, column: int) -> int | None:
        return next((value for found, value, _ in reversed(self.values) if found == column), None)

    def of(self, column: int) -> list[int]:
        """The good values of a column."""
        return [value for found, value, _ in self.values if found == column and value is not None]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 8.0) -> None:
        """Waits until a poll or an event makes it true."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def said(self) -> None:
        """Waits for the first event."""
        await self.until(lambda: bool(self.events))

    async def polls(self, count: int, timeout_s: float = 20.0) -> None:
        """Waits for so many more polls that gave something."""
        wanted = self.alive_count + count
        await self.until(lambda: self.alive_count >= wanted, timeout_s)
