"""A TCP proxy that does to replies what networks do: delay, cut, double, swap, truncate, split, change.

Decides what happens to each reply from a plan that is drawn from a seed, so that a failing run can be run again. It
also watches the client: `overlaps` counts requests that came while an answer was still due.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

FAULTS = ("delay", "cut", "double", "swap", "truncate", "split", "lose", "nameless")


@dataclass
class Proxy:
    """`faults`: which may come, each drawn with `share` of the replies. `late_s`: how long a delay lasts.
    `rtu`: replies have no transaction id."""

    port: int
    target: int
    seed: int = 0
    share: float = 0.3
    faults: Sequence[str] = FAULTS
    late_s: float = 0.15
    rtu: bool = False
    done: Counter[str] = field(default_factory=Counter)
    overlaps: int = 0
    connections: int = 0
    open_now: int = 0
    most_open: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._earlier = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        due = [0]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            back = asyncio.create_task(self._replies(far_reader, writer, due))
            try:
                while data := await reader.read(4096):
                    self.overlaps += due[0] > 0
                    due[0] += 1
                    far_writer.write(data)
            finally:
                back.cancel()
                far_writer.close()
        except OSError:
            pass
        finally:
            self.open_now -= 1
            writer.close()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: list[int]) -> None:
        with suppress(OSError):
            while data := await reader.read(4096):
                await self._reply(data, writer, due)
        writer.close()

    async def _reply(self, data: bytes, writer: asyncio.StreamWriter, due: list[int]) -> None:
        """Passes a reply on, or what is made of it; `due` is none from when the whole of it is on its way."""
        fault = self._random.choice(self.faults) if self._random.random() < self.share else "none"
        earlier, self._earlier = self._earlier or data, data
        self.done[fault] += 1
        if fault == "cut":
            writer.write(data[: self._random.randrange(len(data))])
            writer.close()
        elif fault == "swap":
            if self.rtu and earlier[:3] == data[:3]:
                due[0] = 0  # to the same request, asked again: an answer like any other
            writer.write(earlier)
        elif fault == "truncate":
            writer.write(data[: -self._random.randrange(1, len(data))])
        elif fault == "nameless":
            writer.write(b"\0\0" + data[2:])
        elif fault != "lose":
            if fault == "delay":
                await asyncio.sleep(self.late_s)
            elif fault == "split":
                at = self._random.randrange(1, len(data))
                writer.write(data[:at])
                data = data[at:]
                await asyncio.sleep(0.002)
            due[0] = 0
            writer.write(data)
            if fault == "double":
                await asyncio.sleep(self._random.choice((0, 0.001)))
                writer.write(data)


@asynccontextmanager
async def serving(found: Proxy) -> AsyncIterator[None]:
    """The proxy at work."""
    server = await asyncio.start_server(found.serve, "127.0.0.1", found.port)
    try:
        yield
    finally:
        server.close()
        await asyncio.sleep(0.05)
