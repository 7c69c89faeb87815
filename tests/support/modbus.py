"""Modbus peers that we did not write, and what stands between: pseudo-terminals and a gateway from TCP to serial.

Every register of a peer holds `address % 512 * 128 + requests % 128`, so that a value from another place or an earlier
time shows itself. When a peer ends it says how many requests it had of each function code; one that was not a read
fails the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pytest

PEERS = Path(__file__).parents[1] / "peers"
HEADER = Path("/usr/include/modbus/modbus.h")
Fault = Callable[[bytes, Callable[[bytes], None]], None]
"""What becomes of a device's bytes: given them, and a function that passes bytes on."""


def place(value: int) -> int:
    """The address (below 512) that a register's value names."""
    return value // 128


def moment(value: int) -> int:
    """The number of the request (modulo 128) at which a register's value was read."""
    return value % 128


@dataclass
class Peer:
    """A server process. `functions` and `devices`: how many requests each had; filled when it ends."""

    process: subprocess.Popen[str]
    functions: dict[int, int] = field(default_factory=dict)
    devices: dict[int, int] = field(default_factory=dict)

    def end(self) -> None:
        """Lets it report. Asserts that it got only reads."""
        if self.process.poll() is None:
            out, _ = self.process.communicate(timeout=10)
            said = json.loads(out.strip().splitlines()[-1])
            self.functions = {int(code): count for code, count in said.get("functions", said).items()}
            self.devices = {int(device): count for device, count in said.get("devices", {}).items()}
            assert set(self.functions) <= {1, 2, 3, 4}, f"this is no read: {self.functions}"


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[Peer]:
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        peer = Peer(process)
        try:
            assert isinstance(process.stdout, TextIO) or process.stdout is not None
            assert process.stdout.readline() == "ready\n", log.read_text()
            yield peer
            peer.end()
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()


@contextmanager
def libmodbus(folder: Path, *words: object) -> Iterator[Peer]:
    """The C server; `words`: its arguments (see its source)."""
    if not HEADER.exists():
        pytest.skip("libmodbus-dev is not on this machine")
    program = folder / "libmodbus-server"
    if not program.exists():
        command = ["gcc", "-O1", "-Wall", "-Werror", "-o", str(program), str(PEERS / "libmodbus" / "server.c")]
        subprocess.run([*command, "-I/usr/include/modbus", "-lmodbus"], check=True)
    with _process([str(program), *map(str, words)], folder / "libmodbus.log") as peer:
        yield peer


@contextmanager
def modbus_serial(folder: Path, port: int) -> Iterator[Peer]:
    """The npm server; its packages are fetched once."""
    home = PEERS / "modbus_serial"
    if not (home / "node_modules" / "modbus-serial").exists():
        command = ["npm", "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=home, check=True, capture_output=True, timeout=100)
    with _process(["node", str(home / "server.js"), str(port)], folder / "modbus-serial.log") as peer:
        yield peer


class Line:
    """A serial line between two pseudo-terminals. `fault`: what becomes of the bytes that come from `device`.

    `echo`: the reader hears what it sends, as with some adapters.
    """

    def __init__(self, fault: Fault | None = None, *, echo: bool = False) -> None:
        self.fault = fault
        self.echo = echo
        self._masters: list[int] = []
        self._slaves: list[int] = []
        self._closed = False
        for _ in range(2):
            master, slave = pty.openpty()
            tty.setraw(slave)
            os.set_blocking(master, False)
            self._masters.append(master)
            self._slaves.append(slave)  # held open: a terminal that nobody holds hangs up
        self.reader, self.device = (os.ttyname(slave) for slave in self._slaves)

    def __enter__(self) -> Line:
        loop = asyncio.get_running_loop()
        near, far = self._masters
        loop.add_reader(near, self._pass, near, far, None)
        loop.add_reader(far, self._pass, far, near, self)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Both ends hang up, as when an adapter is pulled out. Closing twice does nothing more."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        for master in self._masters:
            loop.remove_reader(master)
        for number in (*self._masters, *self._slaves):
            os.close(number)

    def _pass(self, source: int, target: int, faulty: Line | None) -> None:
        data = os.read(source, 4096)
        if faulty is None or faulty.fault is None:
            if faulty is None and self.echo:
                os.write(source, data)
            os.write(target, data)
        else:
            faulty.fault(data, lambda part: None if self._closed else _write(target, part))


def _write(number: int, data: bytes) -> None:
    os.write(number, data)


@asynccontextmanager
async def serial_gateway(port: int, device: str) -> AsyncIterator[None]:
    """What a transparent gateway does: a TCP connection is the serial line `device`, byte by byte, one at a time."""
    terminal = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(terminal)
    loop = asyncio.get_running_loop()
    clients: list[asyncio.StreamWriter] = []

    def from_device() -> None:
        data = os.read(terminal, 4096)
        for client in clients[-1:]:
            client.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)
        try:
            while data := await reader.read(4096):
                os.write(terminal, data)
        except ConnectionError:
            pass
        finally:
            clients.remove(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    loop.add_reader(terminal, from_device)
    try:
        yield
    finally:
        server.close()
        for client in clients:
            client.close()
        await asyncio.sleep(0.02)
        loop.remove_reader(terminal)
        os.close(terminal)
