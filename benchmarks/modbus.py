"""Modbus: what reading together gains over one request a tag, and what a gateway's share of a core is.

Decides the comparison: the agent's own link and reader against a server in a process of its own, by libmodbus where it
can be built, else a plain one of ours. One request a tag is what others send.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.config_modbus import ModbusLink, ModbusSource, ModbusTag
from agent.line import Fresh
from agent.sources.modbus import ModbusReader
from agent.sources.modbus_link import Link
from agent.sources.modbus_plan import MAX_REGISTERS, Read, plan
from benchmarks.measures import Disagreement, Figure, Sizes
from protocols.plc.roles import SignalRole

TAGS: Final = 500
_SOURCE: Final = Path(__file__).parents[1] / "tests" / "peers" / "libmodbus" / "server.c"


def modbus(sizes: Sizes) -> list[Figure]:
    """A block of 125 registers in one request and in 125; 500 registers, each second."""
    with _server() as (port, name):
        gain, rate = asyncio.run(_gain(port, 3 * sizes.rounds))
        cpu_s = asyncio.run(_poll_cost(port, 10 * sizes.rounds))
    wanted = [(count, len(plan(_tags(count)))) for count in (125, 126, TAGS, 1000)]
    excess = max(requests / math.ceil(count / MAX_REGISTERS) for count, requests in wanted)
    return [
        Figure(f"registers in blocks of 125, from {name}", rate, "registers/s"),
        Figure("125 registers in one request over one request each", gain, "x", 40.0),
        Figure("requests over the fewest that can be, without holes", excess, "x", 1.0, at_most=True),
        Figure(f"{TAGS} registers at 1 s, read and understood", cpu_s * 100, "% of a core", 0.6, at_most=True),
    ]


def _tags(count: int) -> list[ModbusTag]:
    return [ModbusTag(SignalRole.TOTAL, at, lane_column=at) for at in range(count)]


async def _gain(port: int, rounds: int) -> tuple[float, float]:
    tags = _tags(MAX_REGISTERS)
    together = plan(tags)
    apart = [Read(1, tag.table, tag.register, 1, (tag,)) for tag in tags]
    with Link(ModbusLink("tcp", "127.0.0.1", port)) as link:

        async def seconds(reads: Sequence[Read], times: int) -> float:
            start = time.perf_counter()
            for _ in range(times):
                found = [number for read in reads for number in await link.read(read, 5.0)]
            if [number // 128 for number in found] != list(range(MAX_REGISTERS)):
                raise Disagreement("the registers are not those that were asked for")
            return (time.perf_counter() - start) / times

        await seconds(apart, 1)
        both = [(await seconds(together, MAX_REGISTERS), await seconds(apart, 1)) for _ in range(rounds)]
    one = statistics.median(pair[0] for pair in both)
    return statistics.median(pair[1] for pair in both) / one, MAX_REGISTERS / one


class _Line:
    """A line's input that only counts."""

    def __init__(self, polls: int) -> None:
        self.log = logging.LoggerAdapter(logging.getLogger("linetally.benchmark"), {"line": "benchmark"})
        self.values = 0
        self.done = asyncio.Event()
        self._left = polls

    def put(self, column: int, value: int | None, source_ms: int | None) -> None:
        if value is None or value // 128 != column:
            raise Disagreement(f"register {column} gave {value}")
        self.values += 1

    def put_all(self, values: Iterable[Fresh]) -> None:
        for each in values:
            self.put(*each)

    def alive(self, age_ms: float = 0.0) -> None:
        self._left -= 1
        if not self._left:
            self.done.set()

    def now_ms(self) -> int:
        return 0

    def begin(self, since_ms: int | None = None) -> None: ...

    def tried(self) -> None: ...

    def lost(self, words: str) -> None:
        raise Disagreement(words)

    def connected(self, words: str) -> None: ...


async def _poll_cost(port: int, polls: int) -> float:
    """CPU seconds of this process a poll of 500 registers."""
    line = _Line(polls)
    source = ModbusSource(ModbusLink("tcp", "127.0.0.1", port), 1, 25, 5000)
    reader = asyncio.create_task(ModbusReader(source, _tags(TAGS), None, line).run())
    start = time.process_time()
    await line.done.wait()
    spent = time.process_time() - start
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    return spent / polls


@contextmanager
def _server() -> Iterator[tuple[int, str]]:
    """The server's port and name."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "server"
        command, name = [sys.executable, "-m", "benchmarks.modbus"], "a server in Python"
        if shutil.which("gcc") and _SOURCE.exists():
            build = ["gcc", "-O2", "-o", str(program), str(_SOURCE), "-I/usr/include/modbus", "-lmodbus"]
            if subprocess.run(build, capture_output=True, check=False).returncode == 0:
                command, name = [str(program), "tcp"], "libmodbus"
        port = _free_port()
        process = subprocess.Popen([*command, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield port, name
        finally:
            process.kill()
            process.communicate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _serve(port: int) -> None:
    """The plain server: each register holds its address times 128."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(12):
            start, count = struct.unpack(">HH", request[8:12])
            data = struct.pack(f">{count}H", *(128 * (at % 512) for at in range(start, start + count)))
            header = request[:4] + struct.pack(">H", 3 + 2 * count) + request[6:8]
            writer.write(header + bytes([2 * count]) + data)

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
