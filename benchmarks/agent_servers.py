"""Two PLCs for the agent's footprint and soak, in a process of their own: Modbus TCP and OPC UA, new each second.

Decides what they hold: `LINES` lines on each, with `TAGS` tags a line. They are as small as can be, for they share the
machine with what is measured. `python -m benchmarks.agent_servers MODBUS_PORT OPCUA_PORT` says "ready".
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from asyncua import ua
from asyncua.server.server import Server

LINES: Final = 25
TAGS: Final = 20
NAMESPACE: Final = "urn:linetally:bench"
_READ_HOLDING: Final = 3


def value(tag: int, second: int) -> int:
    """Of a line's tag: the state says Execute, the others are counters that grow by one a second."""
    return 6 if tag == 0 else second % 65_536


class _Modbus(asyncio.Protocol):
    """Answers function 3. Register 100 * line + tag."""

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
            words = b"".join(value((first + at) % 100, second).to_bytes(2, "big") for at in range(count))
            length = (3 + len(words)).to_bytes(2, "big")
            self._transport.write(request[:4] + length + request[6:8] + bytes([len(words)]) + words)


async def serve(modbus_port: int, opcua_port: int) -> None:
    """For ever."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{opcua_port}/bench")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(NAMESPACE)
    nodes = []
    for line in range(LINES):
        folder = await server.nodes.objects.add_object(index, f"L{line}")
        nodes.append([
            await folder.add_variable(index, f"T{tag}", value(tag, 0), ua.VariantType.UInt32) for tag in range(TAGS)
        ])  # fmt: skip
    await asyncio.get_running_loop().create_server(_Modbus, "127.0.0.1", modbus_port)
    async with server:
        print("ready", flush=True)
        while True:
            second = int(time.time())
            for tags in nodes:
                for tag, node in enumerate(tags[1:], 1):
                    variant = ua.Variant(value(tag, second), ua.VariantType.UInt32)
                    await server.write_attribute_value(node.nodeid, ua.DataValue(variant))
            await asyncio.sleep(1 - time.time() % 1)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
