"""The lines at work: each with the task that reads its PLC.

Decides how reading a line begins and ends, while the others go on, and that all begin anew when the agent stood still:
lines share connections. What a line does with what is read is decided in `agent.line`; which lines there are in
`agent.reload`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeAlias

from agent.line import Line

Read: TypeAlias = Callable[[Line], Coroutine[Any, Any, None]]
_AGAIN_S: Final = 0.5
_LOOK_S: Final = 1.0


class Running:
    """`run` reads all lines until it is cancelled, or one of them fails, whose error it raises."""

    def __init__(self, lines: Sequence[Line], read: Read) -> None:
        self.lines = list(lines)
        self._read = read
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._one = asyncio.Lock()

    async def run(self) -> None:
        try:
            for line in self.lines:
                self._begin(line)
            while True:
                self._changed.clear()
                changed = asyncio.create_task(self._changed.wait())
                try:
                    waited_for = [changed, *self._tasks.values()]
                    done, _ = await asyncio.wait(waited_for, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                for line_id, task in list(self._tasks.items()):
                    if task in done:
                        del self._tasks[line_id]
                        task.result()
                if any(line.stood for line in self.lines):
                    await self._begin_anew()
        finally:
            await _end(self._tasks.values())

    async def stop(self, line_ids: Iterable[str]) -> list[Line]:
        """Ends reading these lines, and gives them: they are not among `lines` any more."""
        named = set(line_ids)
        async with self._one:
            await _end([self._tasks.pop(line_id) for line_id in named & self._tasks.keys()])
        self._changed.set()
        stopped = [line for line in self.lines if line.settings.line_id in named]
        self.lines[:] = [line for line in self.lines if line.settings.line_id not in named]
        return stopped

    def start(self, lines: Iterable[Line]) -> None:
        """Begins to read further lines."""
        for line in lines:
            self.lines.append(line)
            self._begin(line)
        self._changed.set()

    async def _begin_anew(self) -> None:
        """All readers end before one begins, so that none joins a connection of before."""
        async with self._one:
            await _end([self._tasks.pop(line_id) for line_id in list(self._tasks)])
            for line in self.lines:
                line.wake()
                self._begin(line)

    def _begin(self, line: Line) -> None:
        line_id = line.settings.line_id
        self._tasks[line_id] = asyncio.create_task(self._read(line), name=f"source {line_id}")


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels until they are over. More than once: in Python 3.11 asyncio.wait_for, which the protocols' libraries use,
    loses a cancellation that comes together with its result."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # ours comes again, and each task must be over first
            _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
