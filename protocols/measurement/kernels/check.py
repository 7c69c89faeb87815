"""The self-check at start: compiled kernels must give the integers of their Python form on a small fixed stream.

Decides whether machine code is trusted. A file that was kept by another build, a miscompilation or a CPU that is not
what it says shows here, in some milliseconds, before a number is signed; the agent then measures uncompiled and says
so. It is no test of the rules: both forms come from one source.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from protocols.measurement.account import Category
from protocols.measurement.kernels import jit, kept, scan
from protocols.plc.packml import State
from protocols.plc.roles import ROLES, SignalRole

_STEP_MS: Final = 1_000
_STALENESS_MS: Final = 5_000
_MODULUS: Final = 100

# (ms since the row before in steps, state, total, reject, product, order, reason, roles that are not valid): a start,
# a roll-over, a restart, a value set by hand, a gap, bad quality, a changeover, the end of an order.
_STREAM: Final = (
    (1, 6, 95, 0, 1, 1, 0, ()),
    (1, 6, 98, 0, 1, 1, 0, ()),
    (1, 6, 1, 1, 1, 1, 0, ()),
    (1, 11, 1, 1, 1, 1, 7, ()),
    (1, 11, 1, 1, 1, 1, 7, (SignalRole.TOTAL,)),
    (2, 6, 3, 1, 1, 1, 0, ()),
    (9, 6, 22, 1, 1, 1, 0, ()),
    (1, 6, 20, 1, 1, 1, 0, ()),
    (1, 3, 20, 1, 2, 1, 0, ()),
    (1, 6, 1, 2, 2, 1, 0, ()),
    (1, 6, 77, 2, 2, 1, 0, ()),
    (1, 9, 77, 2, 2, 1, 3, ()),
    (1, 9, 77, 2, 2, 1, 3, (SignalRole.STATE,)),
    (1, 4, 77, 2, 2, 0, 0, ()),
    (7, 4, 77, 2, 2, 0, 0, ()),
)


def holds() -> bool:
    """Whether compiled kernels give what their source says; from a False on they run uncompiled.

    Compiles the kernels that the agent uses, where no machine code is kept. True without a check where kernels run
    uncompiled anyway.
    """
    if not jit.enabled():
        return True
    compiled = sums()
    if not jit.enabled():
        return True  # it could not be compiled, which is said already
    with jit.uncompiled():
        expected = sums()
    if compiled == expected:
        return True
    jit.switch_off("machine code and source do not agree; remove the folder of kept kernels and start again")
    return False


def is_missing() -> bool:
    """Whether machine code can be kept and is not there yet. Let a process of its own make it, where this one is to
    last: what the compiler takes, 150 MB, stays with the process that has loaded it."""
    folder = kept.usable_folder()
    return folder is not None and not any(folder.glob("*.bin"))


def sums() -> list[list[int]]:
    """All that `scan` gives for the stream, in two blocks, and `settle` for the time after it."""
    rows = len(_STREAM)
    values = np.zeros((rows, ROLES), np.int64)
    columns = (
        SignalRole.STATE,
        SignalRole.TOTAL,
        SignalRole.REJECT,
        SignalRole.PRODUCT,
        SignalRole.ORDER,
        SignalRole.REASON,
    )
    values[:, columns] = [row[1:7] for row in _STREAM]
    valid = np.array([sum(1 << c for c in columns if c not in row[7]) for row in _STREAM], np.uint32)
    time_ms = np.cumsum([row[0] * _STEP_MS for row in _STREAM], dtype=np.int64)
    limits = np.zeros(scan.LIMITS, np.int64)
    limits[scan.STALENESS_MS] = _STALENESS_MS
    limits[scan.MAX_PER_HOUR] = 7_200
    limits[scan.HAS_PRODUCT] = 1
    limits[scan.KIND] = scan.BY_STATE
    limits[scan.PIECE_ROLE] = SignalRole.TOTAL
    counters = np.array([[c, c, _MODULUS, 0, 4_000] for c in (SignalRole.TOTAL, SignalRole.REJECT)], np.int64)
    codes = np.array([int(state) for state in State], np.int64)
    # Not the real table: one in which every state has its own category is stricter.
    table = np.array([[s % len(Category), (s + 5) % len(Category), (s + 2) % len(Category)] for s in codes], np.uint8)
    legal = np.array([[(a + b) % 2 for a in codes] for b in codes], np.uint8)
    carry = scan.fresh_carry(len(counters))
    out: list[list[int]] = []
    for part in (slice(0, 4), slice(4, rows)):
        size = len(time_ms[part])
        runs = np.zeros((scan.RUNS_A_ROW * size + 2, 2), np.int64)
        deltas = np.zeros((2 * size, 4), np.int64)
        events = np.zeros((scan.EVENTS_A_ROW * size + 2, 3), np.int64)
        counted = scan.scan(
            time_ms[part], values[part], valid[part], codes, codes.astype(np.uint8), table, legal,
            np.zeros(0, np.int64), np.zeros((0, 2), np.int64), limits, counters, carry, runs, deltas, events,
        )  # fmt: skip
        out += [list(counted), carry.tolist(), runs.ravel().tolist(), deltas.ravel().tolist(), events.ravel().tolist()]
    runs, events = np.zeros((2, 2), np.int64), np.zeros((2, 3), np.int64)
    settled = scan.settle(int(time_ms[-1]) + 2 * _STALENESS_MS, legal, limits, carry, runs, 0, events, 0)
    return [*out, list(settled), carry.tolist(), runs.ravel().tolist(), events.ravel().tolist()]
