"""The watchdog: fed while everything moves on, and by nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import cast

import pytest

from agent import app
from agent.clock import ManualClock
from agent.line import Line
from agent.raw_meter import RawMeter
from agent.recorder import Recorder
from agent.watchdog import READ_LIMIT_S, TICK_LIMIT_S, Notifier, Part, Progress, watch
from tests.agent import factory


def listening(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.bind(str(path))
    found.setblocking(False)
    return found


def heard(peer: socket.socket) -> list[str]:
    out = []
    while True:
        try:
            out += peer.recv(4096).decode().split("\n")
        except BlockingIOError:
            return out


@pytest.mark.parametrize("still", ["read filling", "store", "sign"])
def test_each_part_alone_stops_the_feeding(tmp_path: Path, still: str, caplog: pytest.LogCaptureFixture) -> None:
    parts = {name: Part(name, 1.0, 30.0) for name in ("read filling", "read packing", "store", "sign")}

    async def scenario() -> None:
        with listening(tmp_path / "socket") as peer:
            environment = {"NOTIFY_SOCKET": str(tmp_path / "socket"), "WATCHDOG_USEC": "60000"}
            task = asyncio.create_task(watch(Notifier(environment), lambda: list(parts.values()), lambda: "well"))
            await asyncio.sleep(0.05)
            assert "WATCHDOG=1" in (said := heard(peer)) and "STATUS=well" in said
            parts[still] = Part(still, 31.0, 30.0)
            await asyncio.sleep(0.05)
            heard(peer)
            await asyncio.sleep(0.1)
            assert set(heard(peer)) == {f"STATUS=standing still: {still}"}
            parts[still] = Part(still, 0.0, 30.0)
            await asyncio.sleep(0.1)
            assert "WATCHDOG=1" in heard(peer)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level("INFO", "linetally"):
        asyncio.run(scenario())
    assert caplog.text.count("has stood still for 31 s") == 1
    assert f"{still} moves on again" in caplog.text


def test_what_moved_on_when() -> None:
    now_s = 1000.0
    progress = Progress(lambda: now_s)
    now_s += TICK_LIMIT_S + 1
    progress.stored()
    parts = {part.name: part for part in progress.parts({"filling": (900.0, READ_LIMIT_S)})}
    assert not parts["store"].stands and parts["sign"].stands
    assert parts["read filling"].age_s == 131.0 and not parts["read filling"].stands
    progress.signed()
    now_s += 60
    assert all(part.stands for part in progress.parts({"filling": (900.0, READ_LIMIT_S)}))


def test_what_counts_as_moving_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line's source, by what it says itself, and not that somebody measures; storing and signing, once done."""
    now_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    clock = ManualClock(1_790_000_100_000, b"\1" * 16)
    settings = factory.configuration(tmp_path, factory.modbus()).lines[0]
    line = Line(settings, RawMeter(settings.configuration, clock.now_ms()), clock)
    progress = Progress(lambda: now_s)

    def ages() -> list[float]:
        return [part.age_s for part in progress.parts({"packing": (line.tried_s, line.try_limit_s)})]

    for say in (line.begin, line.tried, line.alive, lambda: line.connected("there"), lambda: line.lost("cut")):
        now_s += 7
        assert ages()[0] == 7
        say()
        assert ages()[0] == 0, say
    progress.stored()
    progress.signed()
    done: list[str] = []

    class Slow:
        """A recorder that takes a second for each."""

        def keep(self, closed: object) -> None:
            nonlocal now_s
            now_s += 1
            done.append("kept")

        def seal_due(self, until_ms: int) -> int:
            nonlocal now_s
            assert done == ["kept"] and ages()[1:] == [0, 8]
            now_s += 1
            return 0

    now_s += 7
    app.measure([line], cast(Recorder, Slow()), clock.now_ms() + 1000, progress)
    assert ages() == [9, 1, 0]


def test_systemd_is_only_spoken_to_where_it_listens(tmp_path: Path) -> None:
    Notifier({}).tell("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")
    with listening(tmp_path / "socket") as peer:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "socket")}).tell("READY=1", "STATUS=well")
        assert heard(peer) == ["READY=1", "STATUS=well"]
    assert Notifier({}).period_s is None
    assert Notifier({"WATCHDOG_USEC": "0"}).period_s is None
    assert Notifier({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}).period_s is None
    assert Notifier({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid())}).period_s == 5.0


def test_nothing_waits_for_a_manager_that_does_not_listen(tmp_path: Path) -> None:
    """Its queue is short (net.unix.max_dgram_qlen). What was said to a full one comes later, if it must be known."""
    path = tmp_path / "socket"
    notifier = Notifier({"NOTIFY_SOCKET": str(path)})
    with listening(path) as peer, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        other.connect(str(path))
        with contextlib.suppress(BlockingIOError):
            for _ in range(100_000):
                other.send(b"x")
        teller = threading.Thread(target=notifier.tell, args=("READY=1",), daemon=True)
        teller.start()
        teller.join(10)
        assert not teller.is_alive(), "measuring would stand still"
        assert set(heard(peer)) == {"x"}
        notifier.tell("WATCHDOG=1")
        notifier.tell("WATCHDOG=1")
        assert heard(peer) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
