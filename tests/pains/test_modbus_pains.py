"""What users of Modbus gateways suffer, and what they get here: one test for each of the pains 9 to 14."""

from __future__ import annotations

import ast
import asyncio
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent.backoff import Backoff
from agent.config_modbus import ModbusLink
from agent.sources.modbus_link import Link
from tests.agent.modbus.rig import reading, require_right, tag, tcp
from tests.support import modbus
from tests.support.proxy import Proxy, serving

ROOT = Path(__file__).parents[2]


@pytest.mark.needs("node")
def test_row_9_one_dead_unit_does_not_starve_the_rest(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Device 66 of this server never answers. The others share its link."""

    async def scenario(link: ModbusLink) -> tuple[int, int]:
        links: dict[ModbusLink, Link] = {}
        both = [tag(0, 5), tag(1, 6, device=66)]
        async with (
            reading(link, [tag(0, 9, device=66)], links, timeout_ms=100) as dead,
            reading(link, both, links, timeout_ms=100) as mixed,
            reading(link, [tag(0, 7)], links) as well,
        ):
            for line in (well, mixed):
                await line.polls(60)
        assert require_right(well, [tag(0, 7)]) >= 60
        assert require_right(mixed, both) >= 60
        assert mixed.of(1) == []
        assert dead.values == []
        assert "device 66" in dead.events[0]
        assert len([event for event in mixed.events + well.events if event.startswith("lost")]) == 0
        return well.alive_count, mixed.alive_count

    with modbus.modbus_serial(tmp_path, port := free_port()) as peer:
        polls = asyncio.run(scenario(tcp(port)))
        peer.end()
        assert peer.devices[66] * 8 <= min(polls), "the dead device was asked again and again"


@pytest.mark.needs("gcc")
def test_row_10_a_stale_reply_is_not_taken_for_a_new_one(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the replies are those of the request before, or have no transaction id, or come after the timeout."""
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.02)
    tags = [tag(0, 3), tag(1, 200), tag(2, 403)]

    async def scenario(proxy: Proxy) -> None:
        async with serving(proxy), reading(tcp(proxy.port), tags, every_ms=10, timeout_ms=50) as line:
            await line.until(lambda: proxy.done.total() >= 120, 30)
        assert min(proxy.done[fault] for fault in proxy.faults) >= 5
        assert require_right(line, tags) >= 20
        assert proxy.overlaps == 0

    with modbus.libmodbus(tmp_path, "tcp", target := free_port(), 1):
        asyncio.run(scenario(Proxy(free_port(), target, 10, 0.5, ("swap", "nameless", "delay"), late_s=0.08)))


@pytest.mark.needs("gcc")
def test_row_11_the_client_recovers(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PLC that is switched off and on, again and again, is read each time it is there."""
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.05)

    async def scenario(port: int) -> None:
        async with reading(tcp(port), [tag(0, 3)], timeout_ms=200) as line:
            for _ in range(4):
                with ExitStack() as on:
                    peer = await asyncio.to_thread(on.enter_context, modbus.libmodbus(tmp_path, "tcp", port, 1))
                    await line.polls(3)
                    await asyncio.to_thread(peer.end)
                await line.until(lambda: "is the PLC on?" in line.events[-1])
            assert len([event for event in line.events if event.startswith("connected")]) == 4

    asyncio.run(scenario(free_port()))


def test_row_12_pymodbus_is_behind_one_thin_adapter_and_pinned() -> None:
    """Its API has changed with each release: `unit`, `slave`, `device_id`. None of these names can reach us."""
    users = {}
    for path in [*ROOT.glob("agent/**/*.py"), *ROOT.glob("hub/**/*.py"), *ROOT.glob("protocols/**/*.py")]:
        text = path.read_text("utf-8")
        if "pymodbus" not in text:
            continue
        names = [
            name
            for node in ast.walk(ast.parse(text))
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            )
        ]  # fmt: skip
        if found := {name for name in names if name.split(".")[0] == "pymodbus"}:
            users[path.relative_to(ROOT).as_posix()] = found
    readers = {file: names for file, names in users.items() if file.startswith("agent/sources/")}
    assert set(readers) == {"agent/sources/modbus_frames.py", "agent/sources/modbus_wire.py"}
    assert not any("client" in name for names in readers.values() for name in names), "no client that could write"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = [need for need in project["optional-dependencies"]["agent"] if need.startswith("pymodbus")]
    assert pinned == ["pymodbus>=3.16,<3.17"]


@pytest.mark.needs("gcc")
def test_row_13_every_byte_and_word_order_can_be_read(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """One register pair, read in all four orders at once: the bytes A B C D come out as each order says."""
    tags = [
        replace(tag(column, 100, kind="uint32"), little_words=words, little_bytes=low)
        for column, (words, low) in enumerate([(False, False), (True, False), (False, True), (True, True)])
    ]

    async def scenario(port: int) -> None:
        async with reading(tcp(port), tags) as line:
            await line.polls(1)
        abcd, cdab, badc, dcba = (line.of(column)[0].to_bytes(4, "big") for column in range(4))
        a, b, c, d = abcd
        assert (modbus.place(a << 8 | b), modbus.place(c << 8 | d)) == (100, 101)
        assert (list(cdab), list(badc), list(dcba)) == ([c, d, a, b], [b, a, d, c], [d, c, b, a])

    with modbus.libmodbus(tmp_path, "tcp", port := free_port(), 1):
        asyncio.run(scenario(port))


@pytest.mark.needs("gcc")
def test_row_14_holes_are_found_once_and_remembered(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Registers 50 to 52 do not exist, and a device refuses each block that touches them; one tag is in the hole."""
    tags = [tag(0, 10), tag(1, 49), tag(2, 53), tag(3, 90)]
    polls = 12

    async def scenario(port: int) -> None:
        async with reading(tcp(port), [*tags, tag(4, 51)]) as line:
            await line.polls(polls)
        assert require_right(line, tags) >= polls * len(tags)
        assert line.of(4) == []

    with modbus.libmodbus(tmp_path, "tcp", port := free_port(), 1, 50, 3) as peer:
        asyncio.run(scenario(port))
        peer.end()
        # Two reads a poll, one for each side; and what it took to learn that, once.
        assert peer.functions[3] <= 2 * (polls + 2) + 14
