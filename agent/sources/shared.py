"""One reader for several lines: a device or a server is asked once for all that is read from it in the same way.

Decides how long a reader works: while a line uses it. What sharing means is each protocol's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from agent.line import LineInput

_AGAIN_S: Final = 0.5


class Reader(Protocol):
    """Reads for ever, for one line or several."""

    async def run(self) -> None: ...

    def leave(self, line: LineInput) -> None: ...


R = TypeVar("R", bound=Reader)


@dataclass(slots=True)
class _Shared(Generic[R]):
    reader: R
    task: asyncio.Task[None]
    lines: int = 0


class SharedReaders(Generic[R]):
    """By a key of what must be equal to be read together. Event loop's thread only."""

    def __init__(self) -> None:
        self._shared: dict[Hashable, _Shared[R]] = {}

    async def read(self, key: Hashable, line: LineInput, begin: Callable[[], R], join: Callable[[R], None]) -> None:
        """Reads one line until it is cancelled; raises what ends its reader. `begin` makes the reader with the line,
        `join` takes the line to one that is there."""
        shared = self._shared.get(key)
        if shared is None or shared.task.done():
            reader = begin()
            task = asyncio.create_task(reader.run(), name=f"reader of {key}"[:200])
            self._shared[key] = shared = _Shared(reader, task)
        else:
            join(shared.reader)
        shared.lines += 1
        try:
            await asyncio.wait([shared.task])
            shared.task.result()
        finally:
            shared.lines -= 1
            if shared.lines:
                shared.reader.leave(line)
            else:
                if self._shared.get(key) is shared:
                    del self._shared[key]
                await _end(shared.task)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancels until it is over, as `agent.running` does, also where whoever waits is cancelled again."""
    while not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=_AGAIN_S)
