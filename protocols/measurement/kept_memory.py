"""A meter's memory as it was kept beside raw rows: what it must look like, and what of it says the same.

Decides what a memory may hold before a kernel may work with it (it comes from outside, and the kernels check no
bounds), and what of it must be the same however its rows were split.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from protocols.errors import Malformed
from protocols.measurement.account import CATEGORIES, Category
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.kernels import scan as k
from protocols.measurement.parameters import lanes
from protocols.plc.packml import State
from protocols.plc.roles import COUNTER_ROLES

_KEYS: Final = frozenset(
    {"armed", "changes", "closed_ms", "deltas", "memory", "moves", "product", "reasons", "runs", "started_ms"}
)
_ONLY_FOR_OTHERS: Final = frozenset({"ended", "handed_ms", "live"})  # display, and stops that were handed out
_MAX_OPEN_WINDOWS: Final = 1_000_000  # ours: nearly two years of minutes; bounds what a forged memory can cost
_MAX_ITEMS: Final = 1_000_000
_MAX_TEXT: Final = 200
_INT64: Final = 2**63
_COUNTS: Final = 2**61  # as kernels.scan: a difference of two numbers below it cannot overflow


def normal_form(configuration: LineConfiguration, carry: Mapping[str, Any]) -> dict[str, Any]:
    """A memory in a form that two meters of the same rows share, however these were split: pieces are added up as far
    as a window could, for how they lie in delta rows depends on the split."""
    memory = list(carry["memory"])
    for base in range(k.CARRY, len(memory), k.LANE):
        memory[base + k.LANE_ROW], memory[base + k.LANE_UNTIL] = -1, 0  # of one call only
    cell_ms = {int(lane[k.ROLE]): int(lane[k.CELL_MS]) for lane in lanes(configuration)}
    changes = [at_ms for at_ms, _ in carry["changes"]]
    pieces: dict[tuple[int, int, int], int] = {}
    flagged: list[list[int]] = []
    for time_ms, role, count, flags in carry["deltas"]:
        if flags:
            flagged.append([time_ms, role, count, flags])
            continue
        cell = cell_ms[role]
        end_ms = time_ms + -time_ms % cell if cell else time_ms
        key = (end_ms, bisect_left(changes, time_ms), role)
        pieces[key] = pieces.get(key, 0) + count
    runs = [list(run) for run in carry["runs"]]
    while len(runs) > 1 and runs[0][0] == runs[1][0]:  # a run of no length before the first
        del runs[0]
    if runs[0][1] == Category.UNKNOWN:  # since when it was unknown decides nothing
        runs[0][0] = min([carry["closed_ms"], *(start_ms for start_ms, _ in runs[1:2])])
    kept = {name: carry[name] for name in _KEYS - {"deltas", "memory", "runs"}}
    return kept | {"memory": memory, "pieces": sorted(pieces.items()), "flagged": sorted(flagged), "runs": runs}


def checked_carry(configuration: LineConfiguration, carry: Mapping[str, Any], at_ms: int) -> dict[str, Any]:
    """A memory kept at `at_ms` that a meter of this configuration can go on from. Raises Malformed for any other."""
    if not _KEYS <= carry.keys() <= _KEYS | _ONLY_FOR_OTHERS:
        raise Malformed("the meter's memory does not have the parts that it has")
    # No window is closed before the rows up to its end are there, and a line is not left alone for years.
    closed_ms = _int(carry["closed_ms"], "closed_ms", at_ms - _MAX_OPEN_WINDOWS * configuration.window_ms, at_ms)
    runs = _rows(carry["runs"], "runs", 2)
    for start_ms, category in runs:
        _int(start_ms, "a run's start", high=at_ms)
        _int(category, "a run's category", 0, CATEGORIES - 1)
    if not runs or runs[0][0] > closed_ms:
        raise Malformed("the meter's memory: its runs do not reach back to the last closed window")
    deltas = _rows(carry["deltas"], "deltas", 4)
    roles = {int(counter.role) for counter in configuration.counters}
    for time_ms, role, count, flags in deltas:
        _int(time_ms, "a count's time", closed_ms + 1, at_ms)
        _int(count, "a count", -_COUNTS, _COUNTS)
        _int(flags, "a count's flags", 0, k.ESTIMATED | k.BREAK)
        if _int(role, "a count's role", 0, max(COUNTER_ROLES)) not in roles:
            raise Malformed("the meter's memory: pieces of a counter that the line does not have")
    moves, reasons = _rows(carry["moves"], "moves", 2), _rows(carry["reasons"], "reasons", 2)
    for move in moves:
        _int(move[0], "a move's time", high=at_ms)
        _int(move[1], "a move's kind", 0, 1)
    for reason in reasons:
        _int(reason[0], "a reason's time", high=at_ms)
        _int(reason[1], "a reason")
    changes = _rows(carry["changes"], "changes", 2)
    for change in changes:
        _int(change[0], "a product change", high=at_ms)
        _text(change[1])
    started_ms = [_int(each, "a start", high=at_ms) for each in _list(carry["started_ms"], "started_ms")]
    for name, times in (
        ("runs", [run[0] for run in runs]),
        ("moves", [move[0] for move in moves]),
        ("reasons", [reason[0] for reason in reasons]),
        ("changes", [change[0] for change in changes]),
        ("started_ms", started_ms),
    ):
        if any(one > other for one, other in pairwise(times)):
            raise Malformed(f"the meter's memory: {name} are not in order of time")
    return {
        "armed": _int(carry["armed"], "armed", 0, 1),
        "changes": changes,
        "closed_ms": closed_ms,
        "deltas": deltas,
        "ended": [],
        "handed_ms": closed_ms,
        "memory": _memory(configuration, carry["memory"], at_ms),
        "moves": moves,
        "product": _text(carry["product"]),
        "reasons": reasons,
        "runs": runs,
        "started_ms": started_ms,
    }


def _memory(configuration: LineConfiguration, value: object, at_ms: int) -> list[int]:
    """The kernel's own memory. Two of its places are used as indices there."""
    memory = [_int(each, "memory") for each in _list(value, "memory")]
    if len(memory) != k.CARRY + k.LANE * len(configuration.counters):
        raise Malformed("the meter's memory is of another line's form")
    _int(memory[k.SEEN], "seen", 0, 1)
    for place in (k.STATE, k.LATER_STATE):
        _int(memory[place], "state", 0, len(State) - 1)
    for place in (k.CATEGORY, k.LATER_CATEGORY):
        _int(memory[place], "category", 0, CATEGORIES - 1)
    for place in (k.LAST_MS, k.STATE_MS, k.HEART_MS, k.PIECE_MS, k.PRODUCT_MS):
        _int(memory[place], "a time", -k.NEVER, at_ms)
    _int(memory[k.DEADLINE_MS], "a deadline", -k.NEVER, k.NEVER)
    for base in range(k.CARRY, len(memory), k.LANE):
        _int(memory[base + k.LANE_LAST], "a counter", -_COUNTS, _COUNTS)
        _int(memory[base + k.LANE_SINCE], "a counter's time", -k.NEVER, at_ms)
        memory[base + k.LANE_ROW], memory[base + k.LANE_UNTIL] = -1, 0
    return memory


def _int(value: object, name: str, low: int = -_INT64, high: int = _INT64 - 1) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Malformed(f"the meter's memory: {name} cannot be {str(value)[:40]}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise Malformed("the meter's memory: a product's name is no short text")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > _MAX_ITEMS:
        raise Malformed(f"the meter's memory: {name} is no list, or too long")
    return list(value)


def _rows(value: object, name: str, width: int) -> list[list[Any]]:
    rows = [_list(row, name) for row in _list(value, name)]
    if any(len(row) != width for row in rows):
        raise Malformed(f"the meter's memory: {name} are rows of {width}")
    return rows
