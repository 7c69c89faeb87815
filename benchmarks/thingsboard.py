"""ThingsBoard gateway and the agent, one after the other, on the same Modbus and OPC UA servers.

Decides what is compared: CPU, memory and threads of the processes over a minute in which every value of every second
came, and the time from the start to the first telemetry. The gateway keeps nothing and signs nothing; the agent does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.agent_rig import Rig, look, rig
from benchmarks.agent_servers import FEWEST
from benchmarks.measures import Figure, LeftOut, Sizes
from benchmarks.thingsboard_rig import Platform, environment, gateway

_MEASURED_S: Final = 60.0
_PATIENCE_S: Final = 180.0
_VALUES: Final = 2 * FEWEST.lines * FEWEST.tags
_LEAST_SHARE: Final = 0.9
"""Of the values of each second; less would be another task."""


def thingsboard(sizes: Sizes) -> list[Figure]:
    """Raises LeftOut where ThingsBoard gateway cannot be had or does not run."""
    if sizes.rounds <= 2:
        raise LeftOut("the short form installs nothing from a package index")
    python = environment()
    with rig(FEWEST) as around:
        figures = [*_theirs(around, python, subscribe=True), *_theirs(around, python, subscribe=False)]
        figures += _ours(around)
    of = {figure.name: figure.value for figure in figures}
    least = min(of[f"ThingsBoard gateway, {how}: CPU"] for how in ("subscribed", "polling"))
    return [*figures, Figure("ThingsBoard gateway's least CPU over the agent's", least / of["agent: CPU"], "x", 10.0)]


def _theirs(around: Rig, python: Path, *, subscribe: bool) -> list[Figure]:
    name = f"ThingsBoard gateway, {'subscribed' if subscribe else 'polling'}"
    platform = Platform(around.ports[0])
    try:
        began_s = time.monotonic()
        with gateway(python, around.folder, around.ports, around.shape, subscribe=subscribe) as process:
            _until(lambda: len(platform.names) == _VALUES, lambda: process.poll() is None, name)
            platform.begin()
            figures, seconds = _measured(name, process.pid, platform.first_s - began_s)
            rate = platform.values / seconds
    finally:
        platform.end()
    if rate < _LEAST_SHARE * _VALUES:
        raise LeftOut(f"{name} told {rate:.0f} values a second, and there are {_VALUES}")
    return [*figures, Figure(f"{name}: values", rate, "1/s")]


def _ours(around: Rig) -> list[Figure]:
    around.hub.live_s.clear()
    began_s = time.monotonic()
    with around.agent(jit=False) as process:
        _until(lambda: len(around.hub.live_s) == around.lines, lambda: process.poll() is None, "the agent")
        time.sleep(2.0)  # what a start costs is over
        figures, _ = _measured("agent", process.pid, min(around.hub.live_s.values()) - began_s)
    return figures


def _measured(name: str, pid: int, first_s: float) -> tuple[list[Figure], float]:
    """The figures, and over how many seconds."""
    before = look(pid)
    time.sleep(_MEASURED_S)
    after = look(pid)
    seconds = after.at_s - before.at_s
    return [
        Figure(f"{name}: CPU", 100 * (after.cpu_s - before.cpu_s) / seconds, "% of a core"),
        Figure(f"{name}: memory", after.memory / 1e6, "MB"),
        Figure(f"{name}: threads", float(after.threads), ""),
        Figure(f"{name}: first telemetry", first_s, "s"),
    ], seconds


def _until(condition: Callable[[], bool], lives: Callable[[], bool], name: str) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if not lives() or time.monotonic() > deadline_s:
            raise LeftOut(f"{name} {'does not tell all values' if lives() else 'has ended by itself'}")
        time.sleep(0.1)
