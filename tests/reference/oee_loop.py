"""An obviously right, slow measurement: one cell for each tick of time, loops, and nothing shared with the kernels.

Written from the rules in docs/measurement.md. Times are whole ticks; a tick is as long as the caller likes. A row
names what it shows: a signal that is left out, or None, is of bad quality.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

STOP = {"FAILURE", "HELD", "UNASSIGNED"}
HALT = STOP | {"RESTRAINT"}
TRANSIENT = {3, 16, 15, 12, 14}
EXECUTE, STOPPED, ABORTED = 6, 2, 9

# ISA-TR88.00.02, figure 2: each state's own way on; stopping and aborting are added below.
_WAYS = {
    1: {2}, 2: {15}, 3: {6}, 4: {3}, 5: {14}, 6: {16, 10, 13}, 7: {2}, 8: {9}, 9: {1}, 10: {11}, 11: {12}, 12: {6},
    13: {5}, 14: {6}, 15: {4}, 16: {17}, 17: {15},
}  # fmt: skip


@dataclass
class Row:
    """A line's image at `at`: signal -> raw value, or None for bad quality."""

    at: int
    shows: dict[str, int | None]


@dataclass
class Rules:
    """What the measurement depends on, in ticks. `per_tick(dt)`: the most that the line can make in dt ticks.
    `transit`: how long a value may have been under way when it came; the next one may have come at once.

    `machine`: packml, values, running, speed or pieces. `counters`: signal -> (role, modulus, BCD). `allowed`: product
    -> ticks from one piece to the next. `planned(tick)`: (SCHEDULED, PLANNED_DOWN or NOT_SCHEDULED, shift).
    """

    window: int
    staleness: int
    minor: int
    per_tick: Callable[[int], int]
    transit: int
    late: int
    counters: Mapping[str, tuple[str, int, bool]]
    planned: Callable[[int], tuple[str, str]]
    machine: str = "packml"
    values: Mapping[int, int] = field(default_factory=dict)
    speed_above: int = 0
    fault_mask: int = 0
    allowed: Mapping[int, int] = field(default_factory=dict)
    modes: tuple[int, ...] = ()
    heartbeat: bool = False
    min_run: int = 0
    min_stop: int = 0
    startup: int = 0
    setup_when_stopped: bool = False


@dataclass
class Expected:
    """One window as it should come out."""

    start: int
    end: int
    product: int | None
    kind: str
    shift: str
    time: dict[str, int] = field(default_factory=dict)
    pieces: dict[str, int] = field(default_factory=dict)
    startup: dict[str, int] = field(default_factory=dict)
    breaks: int = 0
    estimated: dict[str, int] = field(default_factory=dict)
    minor: int = 0
    long: int = 0
    failures: int = 0
    moves: int = 0
    illegal: int = 0


@dataclass
class Point:
    """What holds from `at` on, for as long as nobody knows better, but not from `until` on."""

    at: int
    until: int
    state: int | None
    order: bool | None
    changeover: bool
    mode: str  # production, other, unknown
    row: bool = True


def category(state: int | None, order: bool, changeover: bool, stopped_is_setup: bool = False) -> str:
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
    if state == STOPPED and changeover and stopped_is_setup:
        return "SETUP"
    return "UNASSIGNED"


def of_point(point: Point, rules: Rules) -> str:
    """The category of a point, when order or mode may not be known."""
    setup = rules.setup_when_stopped
    if point.order is None:
        with_order, without = (category(point.state, order, point.changeover, setup) for order in (True, False))
        what = with_order if with_order == without else "UNKNOWN"
    else:
        what = category(point.state, point.order, point.changeover, setup)
    if what == "UNKNOWN" or point.mode == "unknown":
        return "UNKNOWN"
    return "UNASSIGNED" if point.mode == "other" else what


def is_legal(before: int, after: int) -> bool:
    """PackML's moves: a machine's own way, Stop unless it stops or aborts already, Abort unless it aborts."""
    if after == 7 and before not in (7, 2, 8, 9, 1):
        return True
    if after == 8 and before not in (8, 9):
        return True
    return after in _WAYS[before]


def from_bcd(raw: int) -> int | None:
    """Each hexadecimal digit is a decimal one, or there is no number."""
    text = f"{raw:x}"
    return int(text) if raw >= 0 and text.isdecimal() else None


def step(raw: int, last: int, modulus: int, most: int, late: int) -> tuple[int, int, int]:
    """(pieces, breaks, the number to go on from) for a reading, when at most `most` pieces were possible."""
    if raw >= last and raw - last <= most:
        return raw - last, 1 if 0 < modulus <= most else 0, raw
    if raw < last and modulus and 0 <= raw + modulus - last <= most:
        return raw + modulus - last, 0, raw
    if raw < last and 0 <= raw <= most:
        return raw, 1, raw
    if raw < last and last - raw <= late:
        return 0, 0, last
    return 0, 1, raw


@dataclass
class Reading:
    """What a counter was found to have counted at `at`."""

    at: int
    signal: str
    pieces: int
    breaks: int
    gap: bool


def heartbeats(rows: Sequence[Row]) -> list[int | None]:
    """At each row, when the heartbeat was last seen to change."""
    out: list[int | None] = []
    last = at = None
    for row in rows:
        value = row.shows.get("heartbeat")
        if value is not None and value != last:
            last, at = value, row.at
        out.append(at)
    return out


def readings(rows: Sequence[Row], rules: Rules) -> list[Reading]:
    """All counters, each followed by itself."""
    beats = heartbeats(rows)
    out = []
    for signal, (_, modulus, is_bcd) in rules.counters.items():
        last = since = None
        for row, beat in zip(rows, beats, strict=True):
            if rules.heartbeat and (beat is None or beat + rules.staleness <= row.at):
                continue
            raw = row.shows.get(signal)
            if raw is not None and is_bcd:
                raw = from_bcd(raw)
            if raw is None:
                continue
            if last is None or since is None:
                last, since = raw, row.at
                continue
            pieces, broke, last = step(raw, last, modulus, rules.per_tick(row.at - since + rules.transit), rules.late)
            out.append(Reading(row.at, signal, pieces, broke, row.at - since > rules.staleness))
            if rules.heartbeat and not pieces and not broke:
                assert beat is not None
                since = max(since, beat)
            else:
                since = row.at
    return out


def points(rows: Sequence[Row], rules: Rules, read: Sequence[Reading]) -> list[Point]:
    """Rows as points, and between rows the moments at which a piece is overdue."""
    beats = heartbeats(rows)
    main = "total" if any(role == "total" for role, _, _ in rules.counters.values()) else "good"
    lanes = [signal for signal, (role, _, _) in rules.counters.items() if role == main]
    came = {id(row): False for row in rows}
    left = list(read)
    for signal in lanes:
        mine = [reading for reading in left if reading.signal == signal]
        begun = False
        for row, beat in zip(rows, beats, strict=True):
            if not is_read(row, signal, beat, rules):
                continue
            if begun:
                came[id(row)] |= mine.pop(0).pieces > 0
            begun = True
    out: list[Point] = []
    product = made = first_read = piece = None
    for i, row in enumerate(rows):
        shows = row.shows
        if shows.get("product") is not None:
            product = shows["product"]
        halted: int | None = STOPPED
        if rules.fault_mask:
            fault = shows.get("fault")
            halted = None if fault is None else ABORTED if fault & rules.fault_mask else STOPPED
        state: int | None = None
        overdue = None
        if rules.machine == "packml":
            state = shows.get("state")
            state = state if state is not None and 0 < state < 18 else None
        elif rules.machine == "values":
            state = rules.values.get(shows["state"]) if shows.get("state") is not None else None  # type: ignore[arg-type]
        elif rules.machine == "running":
            bit = shows.get("running")
            state = None if bit is None else EXECUTE if bit else halted
        elif rules.machine == "speed":
            speed = shows.get("speed")
            state = None if speed is None else EXECUTE if speed > rules.speed_above else halted
        elif all(is_read(row, signal, beats[i], rules) for signal in lanes):
            if came[id(row)]:
                piece = row.at
            if first_read is None:
                first_read = row.at
            allowed = rules.allowed.get(product) if product is not None else None
            if allowed is not None:
                overdue = (piece if piece is not None else first_read) + allowed
                if row.at < overdue:
                    state = EXECUTE if piece is not None else None
                else:
                    state, overdue = halted, None
        until = row.at + rules.staleness
        if rules.heartbeat:
            beat = beats[i]
            until = row.at if beat is None else min(until, beat + rules.staleness)
            if until <= row.at:
                state = overdue = None
        mode = shows.get("mode")
        order = shows.get("order")
        point = Point(
            row.at,
            until,
            state or None,
            None if order is None else order != 0,
            made is not None and product != made,
            "production" if not rules.modes or mode in rules.modes else "unknown" if mode is None else "other",
        )
        out.append(point)
        if of_point(point, rules) == "PRODUCING":
            made = product
        following = rows[i + 1].at if i + 1 < len(rows) else until
        if overdue is not None and overdue < min(following, until):
            out.append(Point(overdue, until, halted, point.order, point.changeover, point.mode, row=False))
    return out


def is_read(row: Row, signal: str, beat: int | None, rules: Rules) -> bool:
    raw = row.shows.get(signal)
    if raw is None or (rules.heartbeat and (beat is None or beat + rules.staleness <= row.at)):
        return False
    return not rules.counters[signal][2] or from_bcd(raw) is not None


def stretches(cells: Sequence[str], members: set[str]) -> list[tuple[int, int]]:
    """(first, past the last) of each longest stretch of cells that are members."""
    out = []
    at = 0
    while at < len(cells):
        first = at
        while at < len(cells) and cells[at] in members:
            at += 1
        if at > first:
            out.append((first, at))
        at += 1
    return out


def smooth(cells: list[str], rules: Rules) -> list[str]:
    """Short stops between runs are running; then short runs between stops of one kind are part of the stop."""
    out = list(cells)
    for first, last in stretches(cells, HALT):
        between = first > 0 and last < len(cells) and cells[first - 1] == cells[last] == "PRODUCING"
        if between and last - first < rules.min_stop:
            out[first:last] = ["PRODUCING"] * (last - first)
    cells, out = out, list(out)
    for first, last in stretches(cells, {"PRODUCING"}):
        if first == 0 or last == len(cells) or last - first >= rules.min_run:
            continue
        before, after = cells[first - 1], cells[last]
        if (before in STOP and after in STOP) or (before == after == "RESTRAINT"):
            out[first:last] = [before] * (last - first)
    return out


@dataclass
class ExpectedStop:
    start: int
    end: int
    category: str
    reason: int
    minor: bool
    long: bool


def stops_of(cells: Sequence[str], start: int, rows: Sequence[Row], rules: Rules) -> list[ExpectedStop]:
    out = []
    for first, last in stretches(cells, STOP):
        seen = first > 0 and cells[first - 1] != "UNKNOWN" and last < len(cells) and cells[last] != "UNKNOWN"
        reason = 0
        for row in rows:
            code = row.shows.get("reason")
            if code is not None and (row.at <= start + first or (row.at < start + last and code)):
                reason = code
        is_long = last - first >= rules.minor
        out.append(ExpectedStop(start + first, start + last, cells[first], reason, seen and not is_long, is_long))
    return out


def measure(rows: Sequence[Row], start: int, end: int, rules: Rules) -> tuple[list[Expected], list[ExpectedStop]]:
    """Every window that tiles [start, end), and every stop in it."""
    read = readings(rows, rules)
    held = points(rows, rules, read)
    cells = ["UNKNOWN"] * (end - start)
    for i, point in enumerate(held):
        following = held[i + 1].at if i + 1 < len(held) else end
        for at in range(point.at, min(following, point.until, end)):
            cells[at - start] = of_point(point, rules)
    cells = smooth(cells, rules)
    stops = stops_of(cells, start, rows, rules)
    for stop in stops:
        if stop.minor:
            cells[stop.start - start : stop.end - start] = ["MINOR_STOP"] * (stop.end - stop.start)

    plan = [rules.planned(at) for at in range(start, end)]
    begun = []
    armed = False
    for at, what in enumerate(cells):
        if what == "PRODUCING":
            if armed:
                begun.append(at + start)
            armed = False
        elif what in ("SETUP", "FAILURE") or plan[at][0] != "SCHEDULED":
            armed = True

    changes: dict[int, int] = {}
    product = None
    for row in rows:
        shown = row.shows.get("product")
        if shown is not None and shown != product:
            changes[row.at] = product = shown
    turns = (at for at in range(start + 1, end) if plan[at - start] != plan[at - start - 1])
    grid = range(start - start % rules.window + rules.window, end, rules.window)
    edges = sorted({start, end, *grid, *turns, *(c for c in changes if start < c < end)})
    out = []
    product = None
    for a, b in itertools.pairwise(edges):
        product = changes.get(a, product)
        kind, shift = plan[a - start]
        got = Expected(a, b, product, kind, shift)
        for cell in cells[a - start : b - start]:
            name = cell if kind == "SCHEDULED" or cell == "PRODUCING" else kind
            got.time[name] = got.time.get(name, 0) + 1
        if kind == "SCHEDULED":
            here = [stop for stop in stops if a <= stop.start < b]
            got.minor = sum(stop.minor for stop in here)
            got.long = sum(stop.long for stop in here)
            got.failures = sum(stop.long and stop.category == "FAILURE" for stop in here)
        out.append(got)

    for reading in read:
        home = next((w for w in out if w.start < reading.at <= w.end), None)
        if home is None:
            continue
        role = rules.counters[reading.signal][0]
        home.pieces[role] = home.pieces.get(role, 0) + reading.pieces
        home.breaks += reading.breaks
        if reading.gap:
            home.estimated[role] = home.estimated.get(role, 0) + reading.pieces
        if any(first < reading.at <= first + rules.startup for first in begun):
            home.startup[role] = home.startup.get(role, 0) + reading.pieces

    before: Point | None = None
    for point in held:
        if before is not None and before.state and point.state and point.at <= before.until:
            home = next((w for w in out if w.start <= point.at < w.end), None)
            if home is not None and before.state != point.state:
                home.moves += 1
                home.illegal += rules.machine == "packml" and not is_legal(before.state, point.state)
        before = point
    return out, stops
