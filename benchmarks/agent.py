"""The agent's footprint: 500 Modbus registers and 500 OPC UA nodes, each read once a second, measured and signed.

Decides the goals (docs/performance.md) and the shapes: as few lines as hold so many tags, which the goals are for;
fifty lines; and four, to tell what a line costs from what the agent does. First telemetry counts from the start of the
process to the first live message that knows a line's state. With the JIT on the kernels are compiled before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from benchmarks.agent_rig import Rig, look, rig
from benchmarks.agent_servers import FEWEST, FIFTY, FOUR, Shape
from benchmarks.measures import Figure, Sizes

MEMORY_MB: Final = {False: 60.0, True: 125.0}
PEER_CPU_PERCENT: Final = 5.2
"""ThingsBoard gateway's least, as it was found on another machine when the goal was set; a tenth of it is the goal."""
_MEASURED_S: Final = 60.0
"""A whole window of each line: what closing, keeping and signing it costs is in it once."""
_DAY_S: Final = 86_400
_PATIENCE_S: Final = 90.0


def agent(sizes: Sizes) -> list[Figure]:
    """Each shape, the first with the JIT off and on; in the small form only four lines."""
    if sizes.rounds <= 2:
        return _shape(FOUR, (False,), 3.0)
    return [
        *_shape(FEWEST, (False, True), _MEASURED_S),
        *_shape(FIFTY, (False,), _MEASURED_S),
        *_shape(FOUR, (False,), _MEASURED_S),
    ]


def _shape(shape: Shape, jits: tuple[bool, ...], measured_s: float) -> list[Figure]:
    figures: list[Figure] = []
    with rig(shape) as around:
        if True in jits:
            with around.agent(jit=True) as process:  # compiles, so that the next start need not
                _until(lambda: bool(around.hub.live_s) or process.poll() is not None)
        for jit in jits:
            figures += _measure(around, measured_s, jit=jit)
    return figures


def _measure(around: Rig, measured_s: float, *, jit: bool) -> list[Figure]:
    around.hub.live_s.clear()
    began_s = time.monotonic()
    words = f"{around.shape.words}, jit {'on' if jit else 'off'}"
    with around.agent(jit=jit) as process:
        _until(lambda: len(around.hub.live_s) == around.lines)
        first_s = min(around.hub.live_s.values()) - began_s
        start_s = look(process.pid).cpu_s
        time.sleep(2.0 if measured_s > 5 else 0.2)  # what a start costs is over
        before = look(process.pid)
        time.sleep(measured_s)
        after = look(process.pid)
    cpu = 100 * (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)
    written = _DAY_S * (after.written - before.written) / (after.at_s - before.at_s) / 1e6
    is_goal = around.shape is FEWEST
    return [
        Figure(f"{words}: CPU", cpu, "% of a core", PEER_CPU_PERCENT / 10 if is_goal else None, at_most=True),
        Figure(f"{words}: memory", after.memory / 1e6, "MB", MEMORY_MB[jit] if is_goal else None, at_most=True),
        Figure(f"{words}: threads", float(after.threads), ""),
        *([Figure(f"{words}: written to the disk", written, "MB a day")] if measured_s >= _MEASURED_S else []),
        Figure(f"{words}: first telemetry", first_s, "s", 0.5 if is_goal else None, at_most=True),
        Figure(f"{words}: all lines known", max(around.hub.live_s.values()) - began_s, "s"),
        Figure(f"{words}: CPU until then", start_s, "s"),
    ]


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the agent does not read its lines")
        time.sleep(0.02)
