"""How the agent's tasks end: all of them, also one that loses a cancellation, also when one fails."""

from __future__ import annotations

import asyncio

import pytest

from agent.app import until_stopped
from protocols.errors import LinetallyError


async def deaf(cancelled: list[int]) -> None:
    """Loses its first cancellation, as a library may."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(1)
            if len(cancelled) > 1:
                raise


def test_a_lost_cancellation_is_repeated() -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        cancelled: list[int] = []
        asyncio.get_running_loop().call_later(0.05, stop.set)
        async with asyncio.timeout(5):
            await until_stopped(stop, ("deaf", deaf(cancelled)), ("good", asyncio.sleep(60)))
        assert len(cancelled) == 2

    asyncio.run(scenario())


def test_one_failure_ends_the_others_and_is_raised_alone() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise LinetallyError("the disk is gone")

    async def scenario() -> None:
        async with asyncio.timeout(5):
            await until_stopped(asyncio.Event(), ("deaf", deaf([])), ("fails", fail()))

    with pytest.raises(LinetallyError, match="the disk is gone"):
        asyncio.run(scenario())
