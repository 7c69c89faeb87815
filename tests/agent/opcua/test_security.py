"""What is made of a server's offers: the best of them, and an odd one never ends the reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client

from agent.certificates import load_or_make_identity
from agent.sources.opcua_client import PeerFault, ReadOnlyClient
from agent.sources.opcua_security import _MODES, POLICY_CLASSES, NotSecure, SecuredClient, secured_client
from agent.trust import TrustStore
from tests.agent.opcua.support import Plc
from tests.agent.opcua.test_shared import source_of

URIS = {name: policy.URI for name, policy in POLICY_CLASSES.items()}


def client_of(folder: Path, policy: str = "None", mode: str = "None") -> SecuredClient:
    client = SecuredClient(source_of(folder, "opc.tcp://127.0.0.1:1"), TrustStore(folder))
    client.security_policy.URI = URIS[policy]
    client.security_policy.Mode = _MODES[mode]
    return client


@pytest.mark.parametrize(
    ("policy", "mode", "offered", "best"),
    [
        # Old servers list their deprecated ways first.
        ("None", "None", ["Basic128Rsa15", "Basic256", "Basic256Sha256"], "Basic256Sha256"),
        ("None", "None", ["None", "Aes256Sha256RsaPss"], "Aes256Sha256RsaPss"),
        ("Basic256Sha256", "SignAndEncrypt", ["None", ""], "Basic256Sha256"),
        ("Basic256Sha256", "Sign", ["None", "Basic128Rsa15", ""], "Basic256Sha256"),
        ("Basic256", "SignAndEncrypt", ["None", "Basic256"], "Basic256"),
        ("Basic256Sha256", "SignAndEncrypt", ["Basic256", "None"], "None"),  # the channel encrypts it
    ],
)  # fmt: skip
def test_a_login_goes_the_best_way_that_is_offered_whichever_comes_first(
    tmp_path: Path, policy: str, mode: str, offered: list[str], best: str
) -> None:
    client = client_of(tmp_path, policy, mode)
    user = ua.UserTokenType.UserName
    for order in permutations(offered):
        ways = [ua.UserTokenPolicy(name, user, SecurityPolicyUri=URIS.get(name)) for name in order]
        client._policy_ids = [ua.UserTokenPolicy("anybody", ua.UserTokenType.Anonymous), *ways]
        assert client.server_policy(user).SecurityPolicyUri == URIS[best]


@pytest.mark.parametrize(
    ("policy", "mode", "offered", "words"),
    [
        ("None", "None", "Basic256", "too weak"), ("None", "None", "None", "unprotected"),
        ("Basic256Sha256", "Sign", "None", "unprotected"), ("Basic256Sha256", "Sign", "Basic128Rsa15", "too weak"),
        ("Basic256Sha256", "SignAndEncrypt", "Basic128Rsa15", "too weak"),
        ("Basic256Sha256", "SignAndEncrypt", "urn:\udce4", "too weak"),
    ],
)  # fmt: skip
def test_a_password_is_not_sent_in_a_weak_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, mode: str, offered: str, words: str
) -> None:
    async def sent(*_: Any) -> None:
        pytest.fail("it was sent")

    monkeypatch.setattr(Client, "activate_session", sent)
    client = client_of(tmp_path, policy, mode)
    client._policy_ids = [
        ua.UserTokenPolicy("login", ua.UserTokenType.UserName, SecurityPolicyUri=URIS.get(offered, offered))
    ]
    with pytest.raises(NotSecure, match=words):
        asyncio.run(client.activate_session("agent", "secret"))


@pytest.mark.parametrize("odd", [None, [ua.EndpointDescription()], [ua.EndpointDescription(SecurityMode=7)]])
def test_a_list_of_endpoints_that_is_none_is_said_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Any
) -> None:
    """The list comes unprotected, from whoever answers there."""

    async def told(_: Any) -> Any:
        return odd

    monkeypatch.setattr(ReadOnlyClient, "connect_and_get_server_endpoints", told)
    source = replace(source_of(tmp_path, "opc.tcp://127.0.0.1:1"), policy="Basic256Sha256", mode="Sign")
    identity = load_or_make_identity(tmp_path, "GW-01")
    with pytest.raises((PeerFault, NotSecure)):
        asyncio.run(secured_client(source, identity, TrustStore(tmp_path)))


def test_a_channel_that_ends_at_once_is_not_renewed_without_a_pause(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        client = SecuredClient(source_of(tmp_path, plc.endpoint), TrustStore(tmp_path))
        client.secure_channel_timeout = 0  # asyncua's server gives what is asked for
        await client.connect()
        try:
            assert client.secure_channel_timeout >= 1000
        finally:
            await client.end()
            await plc.stop()

    asyncio.run(scenario())
