"""Against node-opcua, a server that we did not write: each policy, mode and login, and nothing less than configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.certificates import read_certificate
from agent.keys import write_private
from agent.trust import TrustStore
from tests.agent.opcua.support import STATE, TOTAL, reading, tag, trust_server
from tests.conftest import a_free_port
from tests.support.opcua import NodeServer, make_certificate, node_server

pytestmark = [pytest.mark.needs("node"), pytest.mark.needs("npm")]
TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"))
SECURED = [
    (policy, mode)
    for policy in ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
    for mode in ("Sign", "SignAndEncrypt")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeServer]:
    folder = tmp_path_factory.mktemp("node")
    with node_server(folder, a_free_port(), users={"agent": "only 4 reading"}) as found:
        yield found


def trusted(folder: Path, server: NodeServer) -> Path:
    trust_server(folder / "state", server.certificate)
    return folder


@pytest.mark.parametrize(("policy", "mode"), [("None", "None"), *SECURED])
def test_every_policy_and_mode_reads(tmp_path: Path, server: NodeServer, policy: str, mode: str) -> None:
    async def scenario() -> None:
        trusted(tmp_path, server)
        async with reading(tmp_path, server.endpoint, TAGS, policy=policy, mode=mode) as line:
            await line.until(lambda: any("2 of 2 tags" in event for event in line.events), 30)
            number = (line.newest(STATE) or 0) + 1
            await asyncio.to_thread(server.order, "set", name="State", value=number)
            await line.until(lambda: line.newest(STATE) == number)
            assert line.reader.report(line)["security"] == f"{policy} {mode}"

    asyncio.run(scenario())


def test_a_new_server_is_refused_until_somebody_accepts_it(tmp_path: Path, server: NodeServer) -> None:
    async def scenario() -> None:
        before = (await server.asked())["CreateSessionRequest"]
        async with reading(tmp_path, server.endpoint, TAGS, policy="Basic256Sha256", mode="Sign") as line:
            await line.until(lambda: any("is not trusted yet" in event for event in line.events))
            assert (await server.asked())["CreateSessionRequest"] == before  # not even a session was asked for
            trust = TrustStore(tmp_path / "state")
            ((path, certificate),) = trust.rejected()
            assert certificate == read_certificate(server.certificate)
            (words,) = [event for event in line.events if "not trusted" in event][:1]
            trust.accept(words.rpartition("--accept ")[2])
            await line.until(lambda: any("2 of 2 tags" in event for event in line.events))
            assert not path.exists()

    asyncio.run(scenario())


def test_a_user_with_a_password_and_a_wrong_one(tmp_path: Path, server: NodeServer) -> None:
    async def scenario() -> None:
        trusted(tmp_path, server)
        write_private(tmp_path / "word", b"wrong\n")
        login = {"policy": "Aes256Sha256RsaPss", "mode": "SignAndEncrypt", "username": "agent"}
        async with reading(tmp_path, server.endpoint, TAGS, **login, password_file=tmp_path / "word") as line:
            await line.until(lambda: any("password is wrong" in event for event in line.events))
            write_private(tmp_path / "word", b"only 4 reading\n")
            await line.until(lambda: any("2 of 2 tags" in event for event in line.events))

    asyncio.run(scenario())


def test_a_user_certificate(tmp_path: Path, server: NodeServer) -> None:
    async def scenario() -> None:
        trusted(tmp_path, server)
        certificate, key = make_certificate(tmp_path, "user", uri="urn:user")
        login = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
        async with reading(
            tmp_path, server.endpoint, TAGS, **login, user_certificate=certificate, user_key=key
        ) as line:
            await line.until(lambda: any("2 of 2 tags" in event for event in line.events))

    asyncio.run(scenario())


def test_nothing_less_than_configured_is_used(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario(weak: NodeServer) -> None:
        trusted(tmp_path, weak)
        async with reading(tmp_path, weak.endpoint, TAGS, policy="Aes256Sha256RsaPss", mode="SignAndEncrypt") as line:
            await line.until(lambda: any("does not offer Aes256Sha256RsaPss" in event for event in line.events))
        assert "only: Basic256Sha256 Sign, None" in line.events[0]
        assert set(await weak.asked()) == {"GetEndpointsRequest"}

    with node_server(tmp_path, free_port(), modes=["None", "Sign"], policies=["None", "Basic256Sha256"]) as server:
        asyncio.run(scenario(server))


def test_a_password_goes_to_no_server_that_nobody_trusts(tmp_path: Path, server: NodeServer) -> None:
    """Also where the channel is not secured: whoever answers there would be shown it."""

    async def scenario() -> None:
        write_private(tmp_path / "word", b"only 4 reading\n")
        before = (await server.asked())["ActivateSessionRequest"]
        login = {"username": "agent", "password_file": tmp_path / "word"}
        async with reading(tmp_path, server.endpoint, TAGS, **login) as line:
            await line.until(lambda: any("is not trusted yet" in event for event in line.events))
            assert (await server.asked())["ActivateSessionRequest"] == before
            trusted(tmp_path, server)
            await line.until(lambda: any("2 of 2 tags" in event for event in line.events))

    asyncio.run(scenario())
