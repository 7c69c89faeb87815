"""The publisher against a real broker: only a receipt that verifies lets a record go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import publisher as module
from agent.clock import ManualClock
from agent.publisher import Publisher
from agent.seal import ClockLog, Sealer
from agent.spool import Spool
from protocols.evidence.bodies import Heartbeat
from protocols.evidence.cose import key_id
from protocols.evidence.record import CheckpointSeen
from tests.agent import factory
from tests.simulators.broker import running_broker
from tests.simulators.receipt_hub import ReceiptHub

KEY = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
KID = key_id(KEY.public_key().public_bytes_raw())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESEND_S", 0.5)
    monkeypatch.setattr(module, "REFUSED_RETRY_S", 0.5)
    monkeypatch.setattr(module.Backoff, "next_s", lambda self: 0.1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path) as opened:
        yield opened


def fill(spool: Spool, count: int) -> None:
    sequence, previous = spool.head()
    sealer = Sealer(KEY, "GW-01", "Tai Po plant", ClockLog(ManualClock(10**12), 60_000), sequence, previous)
    for _ in range(count):
        sealer, records = sealer.seal(Heartbeat(), 10**12, 10**12)
        spool.append(records)


@asynccontextmanager
async def publishing(folder: Path, spool: Spool, port: int, hub: ReceiptHub) -> AsyncIterator[Publisher]:
    seen: list[CheckpointSeen] = []
    configuration = factory.configuration(folder, broker_port=port)
    publisher = Publisher(configuration, spool, KID, hub.signer.verifier, lambda: 5, seen.append)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is another process's
            await asyncio.sleep(0.02)


def test_records_go_in_order_and_are_done_with_their_receipts(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int]
) -> None:
    async def scenario() -> None:
        port = free_port()
        fill(spool, 100)
        with running_broker(tmp_path, port), ReceiptHub(port) as hub:
            async with publishing(tmp_path, spool, port, hub) as publisher:
                await until(lambda: spool.depth() == 0)
                publisher.publish_live(b"{}")
                await until(lambda: hub.live == [b"{}"])
                assert list(hub.records) == list(range(100))
                assert max(hub.copies.values()) == 1
                assert spool.meta("checkpoint_size") == b"100"
                assert publisher.last_receipt is not None and publisher.last_receipt.sequence == 99

    asyncio.run(scenario())


def test_a_silent_hub_gets_no_flood_and_everything_when_it_speaks(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int]
) -> None:
    async def scenario() -> None:
        port = free_port()
        fill(spool, 50)
        with running_broker(tmp_path, port), ReceiptHub(port) as hub:
            hub.mute = True
            async with publishing(tmp_path, spool, port, hub):
                await until(lambda: hub.copies.get(0, 0) >= 3)
                assert len(hub.copies) <= module.OUTSTANDING
                assert hub.copies[5] == 1, "only the oldest is sent again"
                assert spool.depth() == 50
                hub.mute = False
                await until(lambda: spool.depth() == 0)

    asyncio.run(scenario())


def test_a_refusal_is_said_and_the_record_kept(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        port = free_port()
        fill(spool, 3)
        with running_broker(tmp_path, port), ReceiptHub(port) as hub:
            hub.refuse = ("not-approved", "compare the fingerprint, then approve this gateway")
            async with publishing(tmp_path, spool, port, hub):
                await until(lambda: b"not-approved" in (spool.meta("refused") or b""))
                assert spool.depth() == 3
                hub.refuse = None
                await until(lambda: spool.depth() == 0)
                assert spool.meta("refused") == b""

    with caplog.at_level("WARNING", "linetally"):
        asyncio.run(scenario())
    assert "compare the fingerprint" in caplog.text


def test_a_forged_receipt_lets_nothing_go(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        port = free_port()
        fill(spool, 2)
        with running_broker(tmp_path, port), ReceiptHub(port) as hub:
            hub.forge = True
            async with publishing(tmp_path, spool, port, hub):
                await until(lambda: "does not hold" in caplog.text)
                assert spool.depth() == 2

    with caplog.at_level("WARNING", "linetally"):
        asyncio.run(scenario())


def test_a_broker_that_is_off_is_waited_for(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        port = free_port()
        fill(spool, 5)
        async with publishing(tmp_path, spool, port, ReceiptHub(port)) as publisher:
            await until(lambda: "is it running?" in caplog.text)
            with running_broker(tmp_path, port) as broker:
                with ReceiptHub(port) as first:
                    await until(lambda: spool.depth() == 0)
                broker.stop()
                await until(lambda: not publisher.connected)
                fill(spool, 5)
            with running_broker(tmp_path, port), ReceiptHub(port, leaves=first.leaves) as hub:
                await until(lambda: spool.depth() == 0)
                assert list(hub.records) == [5, 6, 7, 8, 9]

    with caplog.at_level("WARNING", "linetally"):
        asyncio.run(scenario())
