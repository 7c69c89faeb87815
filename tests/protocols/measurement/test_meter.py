"""The meter against the slow, obviously right loop: equal to the last integer, however the stream is cut up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.evidence import canonical
from protocols.measurement.account import Category, TimeAccount, Window, total
from protocols.measurement.calendar import Calendar, Shift
from protocols.measurement.configuration import Counter, Encoding, LineConfiguration, Product
from protocols.measurement.definition import Definition
from protocols.measurement.kernels import jit
from protocols.measurement.machine import MachineMapping, PackML, PiecesOnly, RunningBit, Speed, StateValues
from protocols.measurement.meter import LineMeter
from protocols.measurement.timeline import Stop
from protocols.plc.packml import State
from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import SampleBlock
from tests.reference.oee_loop import Expected, ExpectedStop, Row, Rules, measure

TICK = 500  # ms of one tick of the slow loop
PER_HOUR = 14_400
BERLIN = ZoneInfo("Europe/Berlin")
# Night shifts with breaks, over both changes of the clock of 2026. Nothing begins in the hour that comes twice.
SHIFTS = (Shift("N", (0, 1, 2, 3, 4, 5, 6), 22 * 60, 30 * 60, ((24 * 60 + 60, 24 * 60 + 63), (28 * 60, 28 * 60 + 2))),)
STARTS = tuple(
    int(datetime(*when, tzinfo=BERLIN).timestamp()) * 1000
    for when in (
        (2026, 3, 28, 21, 58), (2026, 3, 29, 0, 58), (2026, 3, 29, 1, 58), (2026, 3, 29, 3, 59), (2026, 3, 29, 5, 58),
        (2026, 10, 25, 0, 58), (2026, 10, 25, 2, 58), (2026, 10, 25, 3, 59), (2026, 10, 25, 5, 57),
    )
)  # fmt: skip
START = 1_772_400_000_000
CONFIGURATION = LineConfiguration(
    line_id="filling",
    name="Filling",
    calendar=Calendar("Asia/Hong_Kong"),
    products=(Product(1, "a", 250_000_000), Product(2, "b", None)),
    counters=(Counter(SignalRole.TOTAL, 100), Counter(SignalRole.REJECT, 100)),
    max_pieces_per_hour=PER_HOUR,
    window_ms=60_000,
    staleness_ms=5_000,
    definition=Definition(minor_stop_ms=40_000),
)
VALUES = ((1, State.STOPPED), (2, State.EXECUTE), (3, State.ABORTED), (4, State.SUSPENDED), (5, State.STARTING))
MACHINES: dict[str, MachineMapping] = {
    "packml": PackML(),
    "values": StateValues(VALUES),
    "running": RunningBit(0b101),
    "speed": Speed(1500, 0b101),
    "pieces": PiecesOnly(8, 0b101),
}
COUNTERS = (("total", "reject"), ("total", "good"), ("good", "reject"), ("total",), ("good",))
NAMES = {None: "", 1: "a", 2: "b"}


@dataclass(frozen=True)
class Case:
    """A line, its rows, and where its time begins."""

    configuration: LineConfiguration
    rules: Rules
    rows: list[Row]
    start_ms: int
    signals: tuple[str, ...]  # of the columns; "" where the line has none

    @property
    def end(self) -> int:
        return (self.rows[-1].at // 120 + 3) * 120

    def block(self, first: int, last: int) -> SampleBlock:
        out = []
        for row in self.rows[first:last]:
            shown = [row.shows.get(signal) for signal in self.signals]
            valid = sum(1 << column for column, value in enumerate(shown) if value is not None)
            out.append((self.start_ms + row.at * TICK, tuple(value or 0 for value in shown), valid))
        return SampleBlock.from_rows(out)


def planned(at_ms: int) -> tuple[str, str]:
    """The wall clock in Berlin, against SHIFTS."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(BERLIN)
    minute = local.hour * 60 + local.minute
    if 360 <= minute < 1320:
        return "NOT_SCHEDULED", ""
    day = local.date() - timedelta(days=1 if minute < 360 else 0)
    pause = 60 <= minute < 63 or 240 <= minute < 242
    return "PLANNED_DOWN" if pause else "SCHEDULED", f"{day}/N"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A line of any kind that mostly runs, and everything that can go wrong with it."""
    machine = draw(st.sampled_from(sorted(MACHINES)))
    mapping = MACHINES[machine]
    setup_when_stopped = draw(st.booleans()) and isinstance(mapping, RunningBit | Speed | PiecesOnly)
    if isinstance(mapping, RunningBit | Speed | PiecesOnly):
        mapping = replace(mapping, setup_when_stopped=setup_when_stopped)
    roles = draw(st.sampled_from(COUNTERS))
    bcd, lanes, rework, heartbeat = (draw(st.booleans()) for _ in range(4))
    modulus = draw(st.sampled_from((0, 100)))
    modulus = 100 if bcd else modulus
    start_ms = draw(st.sampled_from(STARTS))
    shifts = draw(st.booleans())
    modes = draw(st.sampled_from(((), (1,), (1, 4))))
    minor, min_run, min_stop = draw(st.sampled_from((0, 80))), *(draw(st.sampled_from((0, 4, 9))) for _ in range(2))
    startup = draw(st.sampled_from((0, 20)))
    window = draw(st.sampled_from((6, 120)))
    first = roles[0]
    counters = {first: (first, modulus, bcd)}
    listed = [Counter(SignalRole[first.upper()], modulus, Encoding.BCD if bcd else Encoding.BINARY)]
    if lanes:
        counters["lane"] = (first, 100, False)
        listed.append(Counter(SignalRole[first.upper()], 100))
    for role in (*roles[1:], *(("rework",) if rework else ())):
        counters[role] = (role, 100, False)
        listed.append(Counter(SignalRole[role.upper()], 100))
    configuration = replace(
        CONFIGURATION,
        calendar=Calendar("Europe/Berlin", SHIFTS if shifts else ()),
        counters=tuple(listed),
        window_ms=window * TICK,
        mapping=mapping,
        production_modes=modes,
        heartbeat=heartbeat,
        definition=Definition(
            minor_stop_ms=minor * TICK,
            startup_ms=startup * TICK,
            min_run_ms=min_run * TICK,
            min_stop_ms=min_stop * TICK,
        ),
    )

    def plan(at: int) -> tuple[str, str]:
        at_ms = start_ms + at * TICK
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(BERLIN)
        return planned(at_ms) if shifts else ("SCHEDULED", f"{local.date()}/day")

    rules = Rules(
        window=window,
        staleness=10,
        minor=minor,
        per_tick=lambda ticks: PER_HOUR * ticks * TICK * 3 // 7_200_000 + 2,
        transit=2_000 // TICK,
        late=PER_HOUR * 3 // 720 + 2,
        counters=counters,
        planned=plan,
        machine=machine,
        values={raw: int(state) for raw, state in VALUES},
        speed_above=1500,
        fault_mask=0b101 if machine in ("running", "speed", "pieces") else 0,
        allowed={1: 4},
        modes=modes,
        heartbeat=heartbeat,
        min_run=min_run,
        min_stop=min_stop,
        startup=startup,
        setup_when_stopped=setup_when_stopped,
    )
    rows = draw(streams(tuple(counters), first if bcd else ""))
    signals = tuple(role.name.lower() for role in SignalRole) + (("lane",) if lanes else ())
    return Case(configuration, rules, rows, start_ms, signals)


@st.composite
def streams(draw: st.DrawFn, counters: tuple[str, ...], bcd: str) -> list[Row]:
    rows: list[Row] = []
    at = draw(st.integers(0, 8))
    counts = {signal: draw(st.integers(0, 99)) for signal in counters}
    shows: dict[str, int | None] = {
        "state": 6, "mode": 1, "product": 1, "order": 1, "running": 1, "fault": 0, "speed": 2000, "heartbeat": 0,
        "reason": 0,
    }  # fmt: skip
    runs = beats = True
    for _ in range(draw(st.integers(1, 60))):
        event = draw(st.integers(0, 24))
        step = draw(st.integers(1, 4))
        bad: set[str] = set()
        if event == 0:
            step = draw(st.integers(9, 400))
        elif event in (1, 2, 3):
            runs = False
            shows |= {"state": draw(st.integers(0, 18)), "running": 0, "speed": draw(st.integers(0, 1600))}
            shows["fault"] = draw(st.integers(0, 7))
        elif event == 4:
            shows["product"] = 3 - (shows["product"] or 0)
        elif event in (5, 6, 7, 8):
            runs = True
            shows |= {"state": draw(st.sampled_from((6, 2))), "running": 1, "speed": 2000}
        elif event == 9:
            bad = {draw(st.sampled_from(sorted({*shows, *counters})))}
        elif event == 10:
            bad = {*shows, *counters}
        elif event == 11:
            shows["order"] = 1 - (shows["order"] or 0)
        elif event == 12:
            shows["mode"] = draw(st.sampled_from((1, 2, 4)))
        elif event == 13:
            shows["reason"] = draw(st.integers(0, 3))
        elif event in (14, 15, 16):
            beats = event == 16
        elif event == 17:
            step = 0
        elif event == 18:
            counts[draw(st.sampled_from(counters))] = draw(st.integers(0, 99))
        at += step
        if beats:
            shows["heartbeat"] = ((shows["heartbeat"] or 0) + 1) % 4
        for signal in counters:
            few = 2 * step if signal in ("total", "good", "lane") else 1
            counts[signal] = (counts[signal] + draw(st.integers(0, few if runs else 0))) % 100
        shown: dict[str, int | None] = {**shows, **counts}
        if bcd:
            shown[bcd] = 0x1A if event == 19 else int(str(counts[bcd]), 16)
        rows.append(Row(at, {name: None if name in bad else value for name, value in shown.items()}))
    return rows


def of_counts(counts: dict[str, int], roles: set[str]) -> tuple[int, int, int]:
    total_count, good, reject = (counts.get(role, 0) for role in ("total", "good", "reject"))
    if roles >= {"total", "reject"}:
        return total_count, total_count - reject, reject
    if roles >= {"total", "good"}:
        return total_count, good, total_count - good
    if roles >= {"good", "reject"}:
        return good + reject, good, reject
    return (total_count, total_count, 0) if "total" in roles else (good, good, 0)


def assert_equal(case: Case, windows: Sequence[Window], slow: Sequence[Expected]) -> None:
    start = case.start_ms
    assert [(w.start_ms, w.end_ms, w.product, w.kind.name, w.shift) for w in windows] == [
        (start + e.start * TICK, start + e.end * TICK, NAMES[e.product], e.kind, e.shift) for e in slow
    ]
    roles = {role for role, _, _ in case.rules.counters.values()}
    for window, e in zip(windows, slow, strict=True):
        total_count, good, reject = of_counts(e.pieces, roles)
        times = tuple(e.time.get(category.name, 0) * TICK for category in Category)
        ideal = 250_000_000 if e.product == 1 else None
        assert window.account == TimeAccount(
            times,
            planned_ms=window.length_ms if e.kind == "SCHEDULED" else times[Category.PRODUCING],
            total_count=total_count,
            good_count=good,
            reject_count=reject,
            rework_count=e.pieces.get("rework", 0),
            startup_reject_count=of_counts(e.startup, roles)[2],
            estimated_count=of_counts(e.estimated, roles)[0],
            lower_bound_count=e.breaks,
            standard_total_ns=0 if ideal is None else ideal * total_count,
            standard_good_ns=0 if ideal is None else ideal * good,
            without_ideal_count=total_count if ideal is None else 0,
            transition_count=e.moves,
            illegal_count=e.illegal,
            stop_count=e.long,
            minor_stop_count=e.minor,
            failure_count=e.failures,
        )
        assert window.account.length_ms == window.length_ms


def assert_stops(case: Case, stops: Sequence[Stop], slow: Sequence[ExpectedStop]) -> None:
    assert [(s.start_ms, s.end_ms, s.category.name, s.reason, s.minor, s.long) for s in stops] == [
        (case.start_ms + e.start * TICK, case.start_ms + e.end * TICK, e.category, e.reason, e.minor, e.long)
        for e in slow
    ]


def in_one_go(case: Case, configuration: LineConfiguration | None = None) -> list[Window]:
    meter = LineMeter(configuration or case.configuration, case.start_ms)
    meter.push(case.block(0, len(case.rows)))
    return meter.advance(case.start_ms + case.end * TICK + 1)


@settings(max_examples=400, deadline=None)
@given(cases(), st.data())
def test_any_split_of_a_stream_gives_the_integers_of_the_slow_loop(case: Case, data: st.DataObject) -> None:
    slow, slow_stops = measure(case.rows, 0, case.end, case.rules)
    rows, start = case.rows, case.start_ms
    meter = LineMeter(case.configuration, start)
    windows: list[Window] = []
    stops: list[Stop] = []
    at = 0
    while at < len(rows):
        size = min(data.draw(st.integers(1, 6)), len(rows) - at)
        meter.push(case.block(at, at + size))
        at += size
        if at < len(rows) and data.draw(st.booleans()):
            # All rows before the next one are there, so the watermark may be anywhere up to it.
            windows += meter.advance(start + data.draw(st.integers(rows[at - 1].at, rows[at].at)) * TICK)
            if data.draw(st.booleans()):
                stops += meter.take_stops()
            if data.draw(st.booleans()):
                meter.live(meter.last_sample_ms + 1_000)
            if data.draw(st.booleans()):
                meter = LineMeter(case.configuration, 0, meter.carry())
    windows += meter.advance(start + case.end * TICK + 1)
    stops += meter.take_stops()
    assert_equal(case, windows, slow)
    assert_stops(case, stops, slow_stops)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_windows_taken_together_are_the_longer_window(case: Case) -> None:
    """Where no product changes inside the longer window; sums are what is compared."""
    short = in_one_go(case)
    long = in_one_go(case, replace(case.configuration, window_ms=120_000))
    for window in long:
        parts = [w.account for w in short if window.start_ms <= w.start_ms and w.end_ms <= window.end_ms]
        assert total(parts) == window.account


@settings(max_examples=25, deadline=None)
@given(cases())
def test_the_uncompiled_form_gives_the_same_windows(case: Case) -> None:
    compiled = in_one_go(case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(jit._mode, "on", False)
        assert in_one_go(case) == compiled


def simple(rows: Sequence[tuple[int, int, int]]) -> SampleBlock:
    """(tick, state, total) of a line with an order and product a."""
    return SampleBlock.from_rows(
        (START + at * TICK, (state, 1, count, 0, 0, 1, 1), 0b1111111) for at, state, count in rows
    )


def test_rows_that_reach_back_are_refused() -> None:
    meter = LineMeter(CONFIGURATION, START)
    meter.push(simple([(10, 6, 0)]))
    with pytest.raises(Malformed, match="reach back"):
        meter.push(simple([(9, 6, 0)]))


def test_a_carry_of_another_line_is_refused() -> None:
    carry = LineMeter(CONFIGURATION, START).carry()
    other = replace(CONFIGURATION, counters=(*CONFIGURATION.counters, Counter(SignalRole.TOTAL)))
    with pytest.raises(Malformed, match="another form"):
        LineMeter(other, START, carry)


def test_live_agrees_with_the_windows_that_close_later() -> None:
    meter = LineMeter(CONFIGURATION, START)
    meter.push(simple([(t, 11 if 200 <= t < 240 else 6, t % 100) for t in range(1, 400)]))
    closed = meter.advance(START + 300 * TICK)
    live = meter.live(START + 399 * TICK)
    assert live.state.name == "EXECUTE"
    assert live.shift_account.length_ms == 399 * TICK
    assert live.shift_account.total_count == 398
    assert live.shift_account.minor_stop_count == 1
    assert [stop.minor for stop in live.stops] == [True]
    assert sum(w.length_ms for w in closed) == 240 * TICK
    assert meter.live(START + 3_999 * TICK).category is Category.UNKNOWN


def test_what_is_shown_of_the_shift_survives_a_restart() -> None:
    rows = simple([(t, 11 if 200 <= t < 240 else 6, t % 100) for t in range(1, 1200)])
    whole, first = LineMeter(CONFIGURATION, START), LineMeter(CONFIGURATION, START)
    for meter in (whole, first):
        meter.push(rows)
        meter.advance(START + 1_199 * TICK)
    carry = canonical.decode(canonical.encode(first.carry()), 1 << 20)
    again = LineMeter(CONFIGURATION, 0, carry)
    shown, expected = again.live(START + 1_200 * TICK), whole.live(START + 1_200 * TICK)
    assert replace(shown, recent_account=TimeAccount()) == replace(expected, recent_account=TimeAccount())
    assert shown.shift_account.total_count == 1_198 and shown.ribbon[0] == (START, Category.UNKNOWN) and shown.stops
    # Without it the same windows close: it is for show.
    plain = LineMeter(CONFIGURATION, 0, {key: value for key, value in carry.items() if key != "live"})
    assert plain.advance(START + 1_300 * TICK) == again.advance(START + 1_300 * TICK) != []
    assert plain.live(START + 1_300 * TICK).shift_account.total_count < 1_198
    with pytest.raises(Malformed, match="27 integers"):
        LineMeter(CONFIGURATION, 0, carry | {"live": ["", [1], [], []]})
    with pytest.raises(Malformed, match="another form"):
        LineMeter(CONFIGURATION, 0, carry | {"live": ["", [0] * 27, [[1, 99]], []]})


def test_a_block_is_checked() -> None:
    with pytest.raises(Malformed, match="past its 7"):
        SampleBlock.from_rows([(0, (0,) * 7, 1 << 7)])
    assert SampleBlock.from_rows([(0, (0,) * (ROLES + 2), 1 << (ROLES + 1))]).values.shape == (1, ROLES + 2)
