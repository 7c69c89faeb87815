"""Lines that are read over one connection: those with the same server, read in the same way.

Decides which lines share, and how long a connection is kept: while one of them is read. A PLC's server has few sessions
to give, and each takes its share of the gateway's time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config_opcua import OpcuaSource, OpcuaTag
from agent.line import Line
from agent.sources.opcua import OpcuaReader

_AGAIN_S: Final = 0.5


@dataclass(slots=True)
class _Shared:
    reader: OpcuaReader
    task: asyncio.Task[None]
    lines: int = 0


class OpcuaServers:
    """The connections of one gateway. `state_folder` and `gateway_id`: as of `OpcuaReader`."""

    def __init__(self, state_folder: Path, gateway_id: str) -> None:
        self._state_folder = state_folder
        self._gateway_id = gateway_id
        self._shared: dict[tuple[OpcuaSource, float], _Shared] = {}

    async def read(
        self, source: OpcuaSource, tags: Sequence[OpcuaTag], product_codes: dict[str, int], line: Line,
        keep_alive_s: float,
    ) -> None:  # fmt: skip
        """Reads one line until it is cancelled; raises what ends its reader."""
        key = (source, keep_alive_s)
        shared = self._shared.get(key)
        if shared is None or shared.task.done():
            reader = OpcuaReader(
                source, tags, product_codes, line, keep_alive_s, self._state_folder, self._gateway_id
            )  # fmt: skip
            task = asyncio.create_task(reader.run(), name=f"opcua {source.endpoint}")
            self._shared[key] = shared = _Shared(reader, task)
        else:
            shared.reader.join(tags, product_codes, line)
        shared.lines += 1
        line.report = lambda: shared.reader.report(line)
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
