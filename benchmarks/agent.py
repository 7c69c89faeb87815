"""The agent's footprint: 500 Modbus registers and 500 OPC UA nodes, each read once a second, measured and signed.

Decides the goals: docs/performance.md. First telemetry counts from the start of the process to the first live message
that knows a line's state. With the JIT on the kernels are compiled before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from benchmarks.agent_rig import Rig, look, rig
from benchmarks.agent_servers import LINES
from benchmarks.measures import Figure, Sizes

MEMORY_MB: Final = {False: 60.0, True: 125.0}
PEER_CPU_PERCENT: Final = 5.2
"""ThingsBoard gateway's least, on the machine of docs/performance.md; a tenth of it is the goal."""
_MEASURED_S: Final = 30.0
_PATIENCE_S: Final = 90.0


def agent(sizes: Sizes) -> list[Figure]:
    """With the JIT off and on, one after the other; in the small form only off."""
    small = sizes.rounds <= 2
    measured_s = 3.0 if small else _MEASURED_S
    figures: list[Figure] = []
    with rig() as around:
        if not small:
            with around.agent(jit=True) as process:  # compiles, so that the next start need not
                _until(lambda: bool(around.hub.live_s) or process.poll() is not None)
        for jit in (False,) if small else (False, True):
            figures += _measure(around, measured_s, jit=jit)
    return figures


def _measure(around: Rig, measured_s: float, *, jit: bool) -> list[Figure]:
    around.hub.live_s.clear()
    began_s = time.monotonic()
    words = f"jit {'on' if jit else 'off'}"
    with around.agent(jit=jit) as process:
        _until(lambda: len(around.hub.live_s) == 2 * LINES)
        first_s = min(around.hub.live_s.values()) - began_s
        time.sleep(2.0 if measured_s > 5 else 0.2)  # what a start costs is over
        before = look(process.pid)
        time.sleep(measured_s)
        after = look(process.pid)
    cpu = 100 * (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)
    return [
        Figure(f"agent, {words}: CPU", cpu, "% of a core", PEER_CPU_PERCENT / 10, at_most=True),
        Figure(f"agent, {words}: memory", after.memory / 1e6, "MB", MEMORY_MB[jit], at_most=True),
        Figure(f"agent, {words}: threads", float(after.threads), ""),
        Figure(f"agent, {words}: first telemetry", first_s, "s", 0.5, at_most=True),
        Figure(f"agent, {words}: all lines known", max(around.hub.live_s.values()) - began_s, "s"),
    ]


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the agent does not read its lines")
        time.sleep(0.02)
