"""The simulated plant's real servers, in a thread of their own, for commands that run an event loop themselves."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import SimulatedClock
from agent.simulator.modbus_server import ModbusServer
from agent.simulator.opcua_server import OpcUaServer
from agent.simulator.plant import Plant
from agent.simulator.request_log import RequestLog
from agent.simulator.spec import load_plant
from protocols.errors import LinetallyError

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "deploy" / "examples"
START_MS = round(datetime(2026, 3, 2, 6, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True)
class Served:
    """`endpoint`: of OPC UA (line filling); `modbus_port`: of Modbus (line packing, device 1)."""

    endpoint: str
    modbus_port: int
    log: RequestLog
    stop: Callable[[], object]  # the servers end before their time


@contextmanager
def serving(speed: float = 1.0, start_ms: int = START_MS) -> Iterator[Served]:
    """Both servers. At the end, no write may have been seen."""
    ready: list[Served] = []
    failed: list[Exception] = []
    begun = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        clock = SimulatedClock.starting_at(start_ms, speed)
        spec = load_plant(EXAMPLES / "plant.toml")
        filling, packing = (Plant(spec.line(name), start_ms - 3_600_000) for name in ("filling", "packing"))
        log = RequestLog()
        opcua = OpcUaServer([filling], clock, log, port=0)
        modbus = ModbusServer([packing], clock, log, port=0)
        stop = asyncio.Event()
        await opcua.start()
        try:
            await modbus.start()
            try:
                loop = asyncio.get_running_loop()
                loops.append((loop, stop))
                ready.append(Served(opcua.url, modbus.port, log, lambda: loop.call_soon_threadsafe(stop.set)))
                begun.set()
                await stop.wait()
            finally:
                await modbus.stop()
        finally:
            await opcua.stop()

    def run() -> None:
        try:
            asyncio.run(serve())
        except (OSError, LinetallyError) as error:
            failed.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=run, name="simulated plant")
    thread.start()
    begun.wait(30)
    try:
        if failed:
            raise failed[0]
        yield ready[0]
        assert ready[0].log.writes_seen == 0, "commissioning only reads"
    finally:
        for loop, stop in loops:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(stop.set)
        thread.join(30)


class Terminal:
    """A command on a pseudo-terminal of 100 columns: what a person sees and types."""

    def __init__(self, *words: str, folder: Path) -> None:
        self.screen = ""
        self._at = 0
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            # Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that.
            ["env", "--default-signal=INT", sys.executable, "-m", "agent", *words],
            cwd=folder, stdin=slave, stdout=slave, stderr=slave,
            env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._master = master

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    def see(self, words: str, timeout_s: float = 40) -> None:
        """Waits until the words stand behind what was seen last."""
        deadline = time.monotonic() + timeout_s
        while (found := self.screen.find(words, self._at)) < 0:
            assert time.monotonic() < deadline, f"{words!r} never came:\n{self.screen[-2000:]}"
            if not self._read(0.2) and self._process.poll() is not None:
                raise AssertionError(f"it ended before {words!r}:\n{self.screen[-2000:]}")
        self._at = found + len(words)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def answer(self, question: str, text: str = "") -> None:
        self.see(question)
        self.type(text + "\n")

    def interrupt(self) -> None:
        """Ctrl-C, until it is heard: one that falls between a prompt and the reading after it, Python hears only when
        something is typed."""
        deadline = time.monotonic() + 40
        while self._process.poll() is None and time.monotonic() < deadline:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)

    def end(self, timeout_s: float = 40) -> int:
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self.screen[-2000:]
            self._read(0.1)
        while self._read(0.1):
            pass
        return self._process.returncode

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        try:
            data = os.read(self._master, 65_536) if ready else b""
        except OSError:  # the other end is closed
            return False
        self.screen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode("utf-8", "replace")).replace("\r", "")
        return bool(data)
