"""How the agent's tasks end: all of them, also one that loses a cancellation, also when one fails. How it starts:
small, also where kernels must be compiled first."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.app import until_stopped
from protocols.errors import LinetallyError
from tests.agent import factory


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


_START = """
import asyncio, sys
from pathlib import Path
from agent.app import warm_up
from agent.config import load
from protocols.measurement.kernels import jit, scan
asyncio.run(warm_up(load(Path(sys.argv[1]))))
print(jit.enabled(), len(scan.scan._entries), len(scan.settle._entries))
print(*("numba" in sys.modules, "llvmlite" in sys.modules))
"""


def test_no_start_leaves_the_compiler_in_memory(tmp_path: Path) -> None:
    path = factory.write(tmp_path, factory.modbus())
    env = {**os.environ, "LINETALLY_CACHE": str(tmp_path / "kernels"), "LINETALLY_JIT": "on"}
    command = [sys.executable, "-c", _START, str(path)]
    for _ in ("compiles", "finds what was compiled"):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110, check=True)
        assert done.stdout.split() == ["True", "1", "1", "False", "False"], done.stderr


_LOADED = """
import contextlib, sys
from agent.__main__ import main
if sys.argv[1] == "run":
    from agent import app
else:
    with contextlib.suppress(SystemExit):
        main(sys.argv[1:])
print("loaded:", *{name.partition(".")[0] for name in sys.modules} & set("%s".split()))
"""
_LARGE = "apsw asyncua cbor2 cryptography llvmlite numba numpy paho pymodbus rich zstandard"


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [(["--help"], ""), (["doctor", "--help"], ""), (["run"], "apsw cbor2 cryptography numpy paho zstandard")],
)
def test_only_what_is_used_is_loaded(arguments: list[str], loaded: str) -> None:
    command = [sys.executable, "-c", _LOADED % _LARGE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()[-1].split()[1:]) == loaded.split()
