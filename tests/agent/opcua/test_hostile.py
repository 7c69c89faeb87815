"""Peers that speak nonsense: the reader says so in one kind of words, and tries again for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sources import opcua as source
from tests.agent.opcua.support import STATE, TOTAL, Plc, reading, tag

TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"))
ACKNOWLEDGE = b"ACKF" + b"".join(n.to_bytes(4, "little") for n in (28, 0, 65_536, 65_536, 0, 0))


def nonsense(seed: int) -> bytes:
    """What a peer says after the acknowledgement, or instead of it."""
    draw = random.Random(seed)
    noise = draw.randbytes(draw.randrange(1, 400))
    claimed = draw.choice([8, 24, len(noise), 2**31])
    kind = draw.choice([b"OPNF", b"MSGF", b"ERRF", b"ACKF", b"HELF", b"XXXX"])
    framed = kind + claimed.to_bytes(4, "little") + noise
    return draw.choice([noise, framed, ACKNOWLEDGE + framed, ACKNOWLEDGE + noise, ACKNOWLEDGE, b""])


@pytest.mark.parametrize("secured", [False, True])
def test_nonsense_is_survived(tmp_path: Path, free_port: Callable[[], int], *, secured: bool) -> None:
    async def scenario() -> None:
        port = free_port()
        seeds = iter(range(1000))
        spoken = 0

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal spoken
            await reader.read(4096)
            writer.write(nonsense(next(seeds)))
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.close()
            spoken += 1

        hostile = await asyncio.start_server(speak, "127.0.0.1", port)
        policy = {"policy": "Basic256Sha256", "mode": "Sign"} if secured else {}
        async with reading(tmp_path, f"opc.tcp://127.0.0.1:{port}", TAGS, timeout_ms=300, **policy) as line:
            await line.until(lambda: spoken >= 16, 60)
            assert len(line.events) >= 12
            assert all(event.startswith("lost: no connection to") for event in line.events), line.events
            assert not [value for _, value, _ in line.values if value is not None]
            hostile.close()
            await hostile.wait_closed()
            if not secured:
                plc = Plc(port)
                await plc.start()
                await line.until(lambda: line.newest(STATE) == 0)  # as good as new
                await plc.stop()

    asyncio.run(scenario())


def test_flipped_bits_in_answers_are_survived(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Without a policy a flipped value may pass for one; the reader must outlive every other."""

    async def scenario() -> None:
        draw = random.Random(7)
        port = free_port()
        plc = Plc(free_port())
        await plc.start()
        flipped = 0
        flip = True
        writers: list[asyncio.StreamWriter] = []

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
            nonlocal flipped
            while data := bytearray(await reader.read(65_536)):
                if back and flip and draw.random() < 0.3:
                    data[draw.randrange(8, len(data))] ^= 1 << draw.randrange(8)
                    flipped += 1
                writer.write(bytes(data))
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", plc.port)
            writers.extend((writer, far_writer))
            ways = forward(reader, far_writer, back=False), forward(far_reader, writer, back=True)
            await asyncio.gather(*ways, return_exceptions=True)

        proxy = await asyncio.start_server(serve, "127.0.0.1", port)
        endpoint = f"opc.tcp://127.0.0.1:{port}"
        async with reading(tmp_path, endpoint, TAGS, timeout_ms=300, poll=True, poll_interval_ms=50) as line:
            await line.until(lambda: flipped >= 40, 60)
            flip = False
            connects = line.reader.report(line)["connects"]
            line.values.clear()
            await plc.write("State", 41)
            await line.until(lambda: line.newest(STATE) == 41, 30)
            assert line.reader.report(line)["connects"] >= connects
        proxy.close()
        for writer in writers:
            writer.transport.abort()
        await proxy.wait_closed()
        await plc.stop()

    asyncio.run(scenario())


def test_an_attempt_that_leads_nowhere_ends(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer may be in time, and the whole never done: there is one deadline around it."""
    monkeypatch.setattr(source, "CONNECT_S", 0.5)

    async def scenario() -> None:
        calls = 0

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            await reader.read()
            writer.close()

        silent = await asyncio.start_server(listen, "127.0.0.1", port := free_port())
        async with reading(tmp_path, f"opc.tcp://127.0.0.1:{port}", TAGS, timeout_ms=60_000) as line:
            await line.until(lambda: calls >= 2)
            assert "no answer in time" in line.events[-1]
        silent.close()
        await silent.wait_closed()

    asyncio.run(scenario())


CLAIMS = b"MSGF" + (2**32 - 1).to_bytes(4, "little")
EMPTY = b"MSGC" + (24).to_bytes(4, "little") + bytes(8)


def chunks(first: int) -> bytes:
    """A megabyte of parts of an answer, of which each is allowed and empty, and none is the last."""
    return b"".join(EMPTY + number.to_bytes(4, "little") + bytes(4) for number in range(first, first + 40_000))


@pytest.mark.parametrize("endless", ["one chunk", "chunks"])
def test_an_answer_without_an_end_does_not_fill_the_memory(
    tmp_path: Path, free_port: Callable[[], int], endless: str
) -> None:
    async def scenario() -> None:
        cut_off: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            writer.write(ACKNOWLEDGE + (CLAIMS if endless == "one chunk" else b""))
            said = 0
            try:
                while said < 64:
                    writer.write(bytes(1_000_000) if endless == "one chunk" else chunks(40_000 * said))
                    await writer.drain()
                    said += 1
            except ConnectionError:
                pass
            writer.transport.abort()
            if not cut_off.done():
                cut_off.set_result(said)

        hostile = await asyncio.start_server(speak, "127.0.0.1", port := free_port())
        async with reading(tmp_path, f"opc.tcp://127.0.0.1:{port}", TAGS, timeout_ms=60_000):
            assert await asyncio.wait_for(cut_off, 60) < 64
        hostile.close()
        await hostile.wait_closed()

    asyncio.run(scenario())
