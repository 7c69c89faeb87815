"""The publisher against a real broker: only a receipt that verifies lets a record go."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from agent import publisher as module
from agent.clock import ManualClock
from agent.flow import OUTSTANDING
from agent.publisher import Publisher
from agent.seal import ClockLog, Sealer
from agent.spool import Spool
from protocols.evidence.bodies import Heartbeat
from protocols.evidence.cose import key_id
from protocols.evidence.raw import decode_piece, verify_piece
from protocols.evidence.record import CheckpointSeen, SignedRecord
from protocols.wire.challenge import Answer, Challenge, decode_answer, encode_challenge
from protocols.wire.topics import Channel, all_gateways, challenge_topic
from tests.agent import factory
from tests.agent.test_raw_chain import MINUTE, START, Life
from tests.simulators.broker import running_broker
from tests.simulators.receipt_hub import ReceiptHub

KEY = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
KID = key_id(KEY.public_key().public_bytes_raw())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.flow.RESEND_S", 0.5)
    monkeypatch.setattr(module, "_LOOK_S", 0.2)
    monkeypatch.setattr(module, "REFUSED_RETRY_S", 0.5)
    monkeypatch.setattr(module.Backoff, "next_s", lambda self: 0.1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path) as opened:
        yield opened


class Auditor:
    """The hub's other half of a challenge: asks, and keeps what comes."""

    def __init__(self, port: int) -> None:
        self.answers: list[Answer] = []
        self._ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="auditor", protocol=paho.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe(all_gateways(Channel.RAW), 1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = lambda _c, _d, message: self.answers.append(decode_answer(message.payload))
        self.client.connect("127.0.0.1", port)

    def __enter__(self) -> Auditor:
        self.client.loop_start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def ask(self, payload: bytes) -> None:
        self.client.publish(challenge_topic("GW-01"), payload, 1)


@asynccontextmanager
async def valve(target: int) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A network with little room of its own: (port, event). What is sent there stays on its way until it is set."""
    opened = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)

        async def back() -> None:
            while data := await far_reader.read(4096):
                writer.write(data)

        answers = asyncio.create_task(back())
        try:
            while data := await reader.read(4096):
                await opened.wait()
                far_writer.write(data)
        finally:
            answers.cancel()
            far_writer.close()
            writer.close()

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(serve, sock=listener, limit=4096)
        try:
            yield int(listener.getsockname()[1]), opened
        finally:
            server.close()


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
                assert len(hub.copies) <= OUTSTANDING
                assert hub.copies[5] == 1, "only the oldest is sent again"
                assert spool.depth() == 50
                hub.mute = False
                await until(lambda: spool.depth() == 0)

    asyncio.run(scenario())


def test_a_slow_network_is_given_no_more_than_it_takes(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int]
) -> None:
    """Otherwise live data would be hours old, and fill the memory: a socket alone takes megabytes."""

    async def scenario() -> None:
        port = free_port()
        with running_broker(tmp_path, port), ReceiptHub(port) as hub:
            async with valve(port) as (slow, opened), publishing(tmp_path, spool, slow, hub) as publisher:
                opened.set()
                await until(lambda: publisher.has_room)
                opened.clear()
                told = 0
                for _ in range(100):
                    if publisher.has_room:
                        publisher.publish_live(b"%d" % told + bytes(20_000))
                        told += 1
                    await asyncio.sleep(0.005)
                assert 1 <= told < 10 and not publisher.has_room
                fill(spool, 40)
                await asyncio.sleep(0.5)  # what must not happen is waited for
                assert not any(map(publisher._flow.is_awaited, range(40))), (
                    "records wait in the spool, not in the machine's buffers"
                )
                opened.set()
                await until(lambda: len(hub.live) == told and publisher.has_room)
                await until(lambda: spool.depth() == 0)
                assert max(hub.copies.values()) == 1

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
            await until(lambda: "nothing answers there" in caplog.text)
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


def test_each_loss_that_is_said_is_followed_by_the_word_that_it_is_over(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        port = free_port()
        async with publishing(tmp_path, spool, port, ReceiptHub(port)) as publisher:
            for _ in range(3):
                with running_broker(tmp_path, port):
                    await until(lambda: publisher.connected)
                await until(lambda: not publisher.connected)

    with caplog.at_level("INFO", "linetally"):
        asyncio.run(scenario())
    words = [record.getMessage() for record in caplog.records]
    assert sum(each.startswith("connected to the broker") for each in words) == 2, "the third was not said to be lost"
    assert sum(each.endswith("the connection ended. Records are kept here until it is back") for each in words) == 1


def test_two_agents_of_one_name_come_more_and_more_slowly(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    resets: list[object] = []
    monkeypatch.setattr(module.Backoff, "reset", resets.append)

    async def scenario() -> None:
        port = free_port()
        with running_broker(tmp_path, port), Spool.open(tmp_path / "copy") as copy:
            async with publishing(tmp_path, spool, port, ReceiptHub(port)) as one:
                await until(lambda: one.connected)
                async with publishing(tmp_path, copy, port, ReceiptHub(port)):
                    await until(lambda: caplog.text.count("the connection ended") >= 2)
        assert not resets, "a connection that was cut at once is no success"

    (tmp_path / "copy").mkdir()
    with caplog.at_level("INFO", "linetally"):
        asyncio.run(scenario())


def test_a_challenge_is_answered_with_pieces_that_prove_themselves(
    tmp_path: Path, spool: Spool, free_port: Callable[[], int]
) -> None:
    Life(tmp_path, spool, random.Random(0)).live(47)
    by_sequence = {record.sequence: SignedRecord(record.raw) for record in spool.open_records(0, 100)}

    async def run(auditor: Auditor, hub: ReceiptHub, port: int) -> None:
        async with publishing(tmp_path, spool, port, hub) as publisher:
            await until(lambda: spool.depth() == 0 and publisher.connected)
            auditor.ask(b"noise")
            spans = ((START, START + 30 * MINUTE), (START + 31 * MINUTE, START + 32 * MINUTE))
            auditor.ask(encode_challenge(Challenge(b"a" * 16, "filling", spans)))
            auditor.ask(encode_challenge(Challenge(b"b" * 16, "packing", ((START, START + MINUTE),))))
            auditor.ask(
                encode_challenge(Challenge(b"c" * 16, "filling", ((START + 46 * MINUTE, START + 50 * MINUTE),)))
            )
            await until(lambda: sum(answer.piece is None for answer in auditor.answers) == 3)

    port = free_port()
    with running_broker(tmp_path, port), ReceiptHub(port) as hub, Auditor(port) as auditor:
        asyncio.run(run(auditor, hub, port))
    of = {key: [each for each in auditor.answers if each.id == key * 16] for key in (b"a", b"b", b"c")}
    pieces = [each for each in of[b"a"] if each.piece is not None]
    assert sorted(each.number for each in pieces) == list(range(31)) and of[b"a"][-1].of == 31
    chunks = []
    for each in sorted(pieces, key=lambda each: each.number):
        assert each.piece is not None
        piece = decode_piece(each.piece)
        chunks.append(verify_piece(piece, by_sequence[piece.sequence]))
    assert [(c.start_ms - START) // MINUTE for c in chunks] == [*range(30), 31]
    assert of[b"b"] == [Answer(b"b" * 16, 0, 0, None, "60 s of it are not held (see the raw-gap records)")]
    (late,) = of[b"c"]
    assert "not held" in late.words
