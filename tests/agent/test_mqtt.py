"""The link to the broker: the event loop carries it alone, and whatever is given to it goes out, in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.config import TlsSettings
from agent.mqtt import BrokerLink, BrokerLost
from protocols.errors import ConfigurationError
from tests.agent import factory
from tests.simulators.broker import running_broker

TOPIC = "linetally/v1/GW-01/receipt"


def link(folder: Path, port: int) -> BrokerLink:
    return BrokerLink(factory.configuration(folder, broker_port=port).broker, "GW-01", TOPIC)


def test_more_than_the_socket_takes_at_once_arrives_in_order(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        with running_broker(tmp_path, port):
            threads = threading.active_count()
            async with link(tmp_path, port) as broker:
                before = [thread.name for thread in threading.enumerate()]
                assert not [name for name in before if "paho" in name]
                done = [broker.publish(TOPIC, at.to_bytes(4, "big") * 10_000, 1) for at in range(100)]
                found: list[int] = []
                async with asyncio.timeout(20):
                    while len(found) < 100:
                        for _, payload, acknowledge in await broker.receive(1.0):
                            found.append(int.from_bytes(payload[:4], "big"))
                            assert len(payload) == 40_000
                            acknowledge()
                assert found == list(range(100))
                async with asyncio.timeout(5):
                    while not all(each() for each in done):
                        await broker.receive(0.1)
            assert threading.active_count() <= threads + 1  # the name was looked up in one

    asyncio.run(scenario())


def test_what_is_said_last_goes_out_before_the_end(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        with running_broker(tmp_path, port):
            async with BrokerLink(factory.configuration(tmp_path, broker_port=port).broker, "GW-02", TOPIC) as listener:
                async with link(tmp_path, port) as broker:
                    broker.publish(TOPIC, b"goodbye", 1)
                async with asyncio.timeout(5):
                    found = [payload for _, payload, _ in await listener.receive(5)]
                assert found == [b"goodbye"]

    asyncio.run(scenario())


def test_a_broker_that_goes_away_ends_the_link(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        port = free_port()
        with running_broker(tmp_path, port) as broker:
            async with link(tmp_path, port) as made:
                await asyncio.to_thread(broker.stop)
                with pytest.raises(BrokerLost, match="ended"):
                    async with asyncio.timeout(10):
                        while True:
                            await made.receive(0.2)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Session taken over", "another client came with this gateway's id: does a second agent run with its name?"),
        ("Unspecified error", "the connection ended"),
        ("Keep alive timeout", "the connection ended (Keep alive timeout)"),
    ],
)
def test_why_it_ended_is_said_in_plain_words(
    tmp_path: Path, free_port: Callable[[], int], reason: str, words: str
) -> None:
    async def scenario() -> None:
        port = free_port()
        with running_broker(tmp_path, port):
            async with link(tmp_path, port) as made:
                made._client.on_disconnect(None, None, None, ReasonCode(PacketTypes.DISCONNECT, reason), None)  # type: ignore[arg-type, call-arg, misc]
                await asyncio.sleep(0)
                with pytest.raises(BrokerLost) as lost:
                    await made.receive(1)
                assert str(lost.value) == words

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["plc..local", "x" * 70, "nowhere.invalid"])
def test_a_name_that_nobody_knows_is_said(tmp_path: Path, host: str) -> None:
    async def scenario() -> None:
        settings = replace(factory.configuration(tmp_path).broker, host=host)
        with pytest.raises(BrokerLost, match="nobody here knows the name"):
            async with BrokerLink(settings, "GW-01", TOPIC):
                pass

    asyncio.run(scenario())


def test_a_key_with_a_password_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "GW-01")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate, locked = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    tls = TlsSettings(certificate, certificate, locked)

    async def scenario() -> None:
        settings = replace(factory.configuration(tmp_path).broker, tls=tls)
        with pytest.raises(ConfigurationError, match="the key have no password"):
            async with BrokerLink(settings, "GW-01", TOPIC):
                pass

    asyncio.run(scenario())
