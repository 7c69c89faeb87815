"""OPC UA: what reading together gains over one node a request, and what a change costs the agent's reader.

Decides the comparison: the agent's own client and reader against asyncua's server in a process of its own. What counts
is the CPU time of the client's process; a wall time is mostly the server's, which is in Python as well.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.server.server import Server

from agent.config_opcua import OpcuaSource, OpcuaTag
from agent.line import Fresh
from agent.sources.opcua import OpcuaReader
from agent.sources.opcua_nodes import Batches, read_limits, read_values
from agent.sources.opcua_security import secured_client
from agent.trust import TrustStore
from benchmarks.agent_rig import free_port
from benchmarks.measures import Disagreement, Figure, Sizes
from protocols.plc.roles import SignalRole

NODES: Final = 1_000
_NAMESPACE: Final = "urn:linetally:bench"
_INDEX: Final = 2
_EACH_S: Final = 0.25
"""How often all nodes change. A server in Python can do no more beside what is measured."""


def opcua(sizes: Sizes) -> list[Figure]:
    """1,000 nodes in one request and one by one; 1,000 nodes that change four times a second, subscribed."""
    changes = (4 if sizes.rounds <= 2 else 20) * NODES
    with _server() as port, tempfile.TemporaryDirectory() as folder:
        source = OpcuaSource(f"opc.tcp://127.0.0.1:{port}/bench", 100, 100, 10, None, None)
        wall_s, cpu_s, apart_s = asyncio.run(_reads(source, Path(folder), sizes.rounds))
        change_s = statistics.median(
            asyncio.run(_subscribed(source, Path(folder), changes)) for _ in range(1 + sizes.rounds // 3)
        )
    return [
        Figure(f"{NODES:,} nodes in one request, the client's CPU", 1 / cpu_s, "values/s", 60_000.0),
        Figure(f"{NODES:,} nodes in one request, with the server's time", 1 / wall_s, "values/s"),
        Figure("nodes one by one, with the server's time", 1 / apart_s, "values/s"),
        Figure("one request over one each", apart_s / wall_s, "x"),
        Figure("a change of a subscribed node, the client's CPU", change_s * 1e6, "µs", 12.0, at_most=True),
    ]


def _node(at: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(at + 1), ua.Int16(_INDEX))


async def _reads(source: OpcuaSource, folder: Path, rounds: int) -> tuple[float, float, float]:
    """Seconds a value: wall and CPU in one request, wall in one request each."""
    nodes = [_node(at) for at in range(NODES)]
    client = await secured_client(source, None, TrustStore(folder))
    await client.connect()
    try:
        session, limits = client.uaclient.session, await read_limits(client)

        async def seconds(batches: Batches, wanted: Sequence[ua.NodeId], times: int) -> tuple[float, float]:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            for _ in range(times):
                found = await read_values(session, batches, wanted)
            spent = time.perf_counter() - wall_s, time.process_time() - cpu_s
            if [told.value % NODES for told in found] != list(range(len(wanted))):
                raise Disagreement("the values are not those that were asked for")
            return spent[0] / len(wanted) / times, spent[1] / len(wanted) / times

        await seconds(limits.read, nodes, 1)
        if limits.read.at_most < NODES:
            raise Disagreement("the server does not take all nodes in one request")
        together = [await seconds(limits.read, nodes, 5) for _ in range(2 * rounds)]
        apart = [await seconds(Batches(1), nodes[:200], 1) for _ in range(rounds)]
    finally:
        await client.end()
    wall_s, cpu_s = (statistics.median(column) for column in zip(*together, strict=True))
    return wall_s, cpu_s, statistics.median(wall for wall, _ in apart)


class _Line:
    """A line's input that only counts, and sees to it that each node's values come in their order."""

    def __init__(self, warm: int, changes: int) -> None:
        self.log = logging.LoggerAdapter(logging.getLogger("linetally.benchmark"), {"line": "benchmark"})
        self.warm, self.done = asyncio.Event(), asyncio.Event()
        self.count = 0
        self._until = {warm: self.warm, warm + changes: self.done}
        self._last = [-1] * NODES

    def put(self, column: int, value: int | None, source_ms: int | None) -> None:
        if value is None or value % NODES != column or (source_ms is None and self.count >= NODES):
            raise Disagreement(f"node {column} gave {value} at {source_ms}")
        before, self._last[column] = self._last[column], value
        if before >= 0 and value != before + NODES:
            raise Disagreement(f"node {column} gave {value} after {before}")
        self.count += 1
        if self.count in self._until:
            self._until[self.count].set()

    def put_all(self, values: Iterable[Fresh]) -> None:
        for each in values:
            self.put(*each)

    def alive(self, age_ms: float = 0.0) -> None: ...

    def now_ms(self) -> int:
        return 0

    def begin(self, since_ms: int | None = None) -> None: ...

    def tried(self) -> None: ...

    def lost(self, words: str) -> None:
        raise Disagreement(words)

    def connected(self, words: str) -> None: ...


async def _subscribed(source: OpcuaSource, folder: Path, changes: int) -> float:
    """CPU seconds of this process a change, with all that the reader does meanwhile."""
    line = _Line(3 * NODES, changes)
    tags = [
        OpcuaTag(SignalRole.TOTAL, (), "", f"nsu={_NAMESPACE};i={at + 1}", 2**32, lane_column=at)
        for at in range(NODES)
    ]  # fmt: skip
    reader = asyncio.create_task(OpcuaReader(source, tags, {}, line, 1.0, folder, "GW-01").run())
    await _or_ends(line.warm, reader)
    start = time.process_time()
    await _or_ends(line.done, reader)
    spent = time.process_time() - start
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    return spent / changes


async def _or_ends(event: asyncio.Event, reader: asyncio.Task[None]) -> None:
    """Waits for the event, or for what ends the reader."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, reader}, return_when=asyncio.FIRST_COMPLETED, timeout=120)
    if reader.done():
        reader.result()
    if not waiting.done():
        waiting.cancel()
        raise TimeoutError("the values do not come")


@contextmanager
def _server() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.opcua", str(port)],
        cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the benchmark's OPC UA server did not start")
        yield port
    finally:
        process.kill()
        process.communicate()


async def _serve(port: int) -> None:
    """For ever. A node holds its place, and 1,000 more with each change."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/bench")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    assert await server.register_namespace(_NAMESPACE) == _INDEX
    nodes = [
        await server.nodes.objects.add_variable(_node(at), f"{_INDEX}:N{at}", at, ua.VariantType.UInt32)
        for at in range(NODES)
    ]
    async with server:
        print("ready", flush=True)
        turn, due_s = 0, time.monotonic()
        while True:
            turn, due_s = turn + 1, due_s + _EACH_S
            moment: Any = datetime.now(UTC)  # asyncua calls its alias a class
            for at, node in enumerate(nodes):
                variant = ua.Variant(turn * NODES + at, ua.VariantType.UInt32)
                value = ua.DataValue(variant, ua.StatusCode(), moment, moment)
                await server.write_attribute_value(node.nodeid, value)
            await asyncio.sleep(max(0.01, due_s - time.monotonic()))


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
