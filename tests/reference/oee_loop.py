"""An obviously right, slow measurement: one cell for each tick of time, loops, and nothing shared with the kernels.

Written from the rules in docs/measurement.md. Times are whole ticks; a tick is as long as the caller likes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

STOP = {"FAILURE", "HELD", "UNASSIGNED"}
TRANSIENT = {3, 16, 15, 12, 14}


@dataclass
class Row:
    """A line's image at `at`: PackML state or None when it is not known, order active, product, counters or None."""

    at: int
    state: int | None
    order: bool
    product: str
    total: int | None
    reject: int | None


@dataclass
class Expected:
    """One window as it should come out."""

    start: int
    end: int
    product: str
    time: dict[str, int] = field(default_factory=dict)
    total: int = 0
    reject: int = 0
    breaks: int = 0
    estimated: int = 0
    minor: int = 0
    long: int = 0


def category(state: int | None, order: bool, changeover: bool) -> str:
    """The design's table, line by line."""
    if state is None or state == 0:
        return "UNKNOWN"
    if state == 6:
        return "PRODUCING"
    if state in (8, 9, 1):
        return "FAILURE"
    if not order:
        return "NO_ORDER"
    if state in TRANSIENT:
        return "SETUP" if changeover else "HELD"
    if state in (10, 11):
        return "HELD"
    if state in (5, 13):
        return "RESTRAINT"
    return "UNASSIGNED"


def count(
    values: Sequence[tuple[int, int]], modulus: int, per_tick: Callable[[int], int], late: int
) -> list[tuple[int, int, int, int]]:
    """(at, pieces, breaks, since) for each reading after the first; `per_tick(dt)` is the most the line can make."""
    out = []
    last_at, last = values[0]
    for at, raw in values[1:]:
        most = per_tick(at - last_at)
        pieces, broke = 0, 0
        if raw >= last and raw - last <= most:
            pieces, last = raw - last, raw
            broke = 1 if 0 < modulus <= most else 0
        elif raw < last and modulus and raw + modulus - last <= most:
            pieces, last = raw + modulus - last, raw
        elif raw < last and raw <= most:
            pieces, broke, last = raw, 1, raw
        elif raw < last and last - raw <= late:
            pass
        else:
            broke, last = 1, raw
        out.append((at, pieces, broke, last_at))
        last_at = at
    return out


def measure(
    rows: Sequence[Row],
    start: int,
    end: int,
    window: int,
    staleness: int,
    minor: int,
    modulus: int,
    per_tick: Callable[[int], int],
    late: int,
) -> list[Expected]:
    """Every window that tiles [start, end)."""
    cells = ["UNKNOWN"] * (end - start)
    made: str | None = None
    for i, row in enumerate(rows):
        what = category(row.state, row.order, made is not None and row.product != made)
        if what == "PRODUCING":
            made = row.product
        until = rows[i + 1].at if i + 1 < len(rows) else end
        for at in range(row.at, min(until, row.at + staleness, end)):
            cells[at - start] = what
    stops = []
    at = 0
    while at < len(cells):
        first = at
        while at < len(cells) and cells[at] in STOP:
            at += 1
        if at == first:
            at += 1
            continue
        seen = first > 0 and cells[first - 1] != "UNKNOWN" and at < len(cells) and cells[at] != "UNKNOWN"
        is_minor = seen and at - first < minor
        stops.append((first + start, is_minor, at - first >= minor))
        if is_minor:
            cells[first:at] = ["MINOR_STOP"] * (at - first)

    changes = {}
    product = ""
    for row in rows:
        if row.product != product:
            changes[row.at] = row.product
            product = row.product
    edges = sorted(
        {start, end, *range(start - start % window + window, end, window), *(c for c in changes if start < c < end)}
    )
    out = []
    product = ""
    for a, b in itertools.pairwise(edges):
        product = changes.get(a, product)
        got = Expected(a, b, product)
        for cell in cells[a - start : b - start]:
            got.time[cell] = got.time.get(cell, 0) + 1
        got.minor = sum(a <= s < b and m for s, m, _ in stops)
        got.long = sum(a <= s < b and is_long for s, _, is_long in stops)
        out.append(got)
    for name in ("total", "reject"):
        values = [(row.at, getattr(row, name)) for row in rows if getattr(row, name) is not None]
        if not values:
            continue
        for at, pieces, broke, since in count(values, modulus, per_tick, late):
            home = next((w for w in out if w.start < at <= w.end), None)
            if home is None:
                continue
            setattr(home, name, getattr(home, name) + pieces)
            home.breaks += broke
            if name == "total" and at - since > staleness:
                home.estimated += pieces
    return out
