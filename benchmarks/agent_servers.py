"""Two PLCs for the agent's footprint and soak, in a process of their own: Modbus TCP and OPC UA, new each second.

Decides what they hold: a `Shape` of lines on each. They are as small as can be, for they share the machine with what is
measured. `python -m benchmarks.agent_servers MODBUS_PORT OPCUA_PORT LINES TAGS` says "ready".
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Final

from asyncua import ua
from asyncua.server.server import Server

LINES: Final = 25
TAGS: Final = 20
NAMESPACE: Final = "urn:linetally:bench"
_READ_HOLDING: Final = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """`lines` on each of the two PLCs, with `tags` each."""

    lines: int
    tags: int

    @property
    def words(self) -> str:
        return f"{2 * self.lines} lines, {2 * self.lines * self.tags} tags"


FIFTY: Final = Shape(LINES, TAGS)
"""As many lines as a large plant has on one gateway."""
FEWEST: Final = Shape(20, 25)
"""As few lines as hold a thousand tags: a line has at most 19 lanes of counters beyond its roles."""
FOUR: Final = Shape(2, TAGS)
"""A common gateway."""


def value(tag: int, second: int) -> int:
    """Of a line's tag: the state says Execute, the others are counters that grow by one a second."""
    return 6 if tag == 0 else second % 65_536


class _Modbus(asyncio.Protocol):
    """Answers function 3. Register tags * line + tag: without a hole."""

    def __init__(self, tags: int) -> None:
        self._tags = tags

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= 12:
            request, self._data = self._data[:12], self._data[12:]
            first, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
            assert request[7] == _READ_HOLDING
            second = int(time.time())
            words = b"".join(value((first + at) % self._tags, second).to_bytes(2, "big") for at in range(count))
            length = (3 + len(words)).to_bytes(2, "big")
            self._transport.write(request[:4] + length + request[6:8] + bytes([len(words)]) + words)


async def serve(modbus_port: int, opcua_port: int, shape: Shape) -> None:
    """For ever."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{opcua_port}/bench")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(NAMESPACE)
    nodes = []
    for line in range(shape.lines):
        folder = await server.nodes.objects.add_object(index, f"L{line}")
        kind = ua.VariantType.UInt32
        tags = range(shape.tags)
        nodes.append([await folder.add_variable(index, f"T{tag}", value(tag, 0), kind) for tag in tags])
    await asyncio.get_running_loop().create_server(lambda: _Modbus(shape.tags), "127.0.0.1", modbus_port)
    async with server:
        print("ready", flush=True)
        while True:
            second = int(time.time())
            for variables in nodes:
                for tag, node in enumerate(variables[1:], 1):
                    variant = ua.Variant(value(tag, second), ua.VariantType.UInt32)
                    await server.write_attribute_value(node.nodeid, ua.DataValue(variant))
            await asyncio.sleep(1 - time.time() % 1)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), Shape(int(sys.argv[3]), int(sys.argv[4]))))
