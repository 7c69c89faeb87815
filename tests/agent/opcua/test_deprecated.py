"""The two policies that are deprecated: old PLCs speak nothing else, so they can be had, and are warned of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from asyncua import ua

from tests.agent.opcua.support import STATE, TOTAL, Plc, reading, tag, trust_server
from tests.support.opcua import make_certificate, server_key

TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"))


def test_deprecated_policies_read_and_are_warned_of(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        certificate, key = make_certificate(tmp_path, uri="urn:freeopcua:python:server", key=server_key())
        plc = Plc(free_port())
        await plc.secure(certificate, key, "Basic256", "Basic128Rsa15")
        await plc.start("State", "Total")
        trust_server(tmp_path / "state", certificate)
        for number, (policy, mode) in enumerate(
            [(policy, mode) for policy in ("Basic256", "Basic128Rsa15") for mode in ("Sign", "SignAndEncrypt")], 1
        ):
            async with reading(tmp_path, plc.endpoint, TAGS, policy=policy, mode=mode) as line:
                await plc.write("State", number)
                await line.until(lambda number=number: line.newest(STATE) == number)
            assert f"{policy} is deprecated" in caplog.text
        await plc.stop()

    asyncio.run(scenario())


def test_a_strong_policy_is_never_answered_by_a_weak_one(tmp_path: Path, free_port: Callable[[], int]) -> None:
    async def scenario() -> None:
        certificate, key = make_certificate(tmp_path, uri="urn:freeopcua:python:server", key=server_key())
        plc = Plc(free_port())
        await plc.secure(certificate, key, "Basic128Rsa15")
        await plc.start("State", "Total")
        trust_server(tmp_path / "state", certificate)
        async with reading(tmp_path, plc.endpoint, TAGS, policy="Basic256Sha256", mode="Sign") as line:
            await line.until(lambda: any("does not offer Basic256Sha256 Sign" in event for event in line.events))
            assert not line.values
        await plc.stop()

    asyncio.run(scenario())


def test_the_policies_are_all_that_asyncua_offers() -> None:
    from agent.config_opcua import POLICIES

    offered = {name.partition("_")[0] for name in dir(ua.SecurityPolicyType) if not name.startswith("_")}
    assert "Basic256Sha256" in offered and len(offered) >= 6
    known = {"NoSecurity" if name == "None" else name for name in POLICIES}
    assert known >= {name for name in offered if name == "NoSecurity" or name.startswith(("Basic", "Aes"))}
