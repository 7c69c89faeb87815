"""Machines without PackML: the data form, and what each says of its state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.errors import Malformed
from protocols.measurement.account import Category
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.definition import Definition
from protocols.measurement.machine import (
    MachineMapping,
    PackML,
    PiecesOnly,
    RunningBit,
    Speed,
    StateValues,
    mapping_data,
    mapping_from,
)
from protocols.measurement.meter import LineMeter
from protocols.plc.packml import State
from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import SampleBlock

LINE = LineConfiguration(
    line_id="old",
    name="Old machine",
    calendar=Calendar("Asia/Hong_Kong"),
    products=(Product(1, "a", 1_000_000_000),),
    counters=(Counter(SignalRole.TOTAL),),
    max_pieces_per_hour=7_200,
    staleness_ms=10_000,
    definition=Definition(minor_stop_ms=0),
)
START = 1_772_400_000_000


@pytest.mark.parametrize(
    "mapping",
    [
        PackML(), StateValues(((7, State.EXECUTE),)), RunningBit(3), Speed(500, 1), PiecesOnly(4, 0),
        RunningBit(3, True), Speed(500, 1, True), PiecesOnly(4, 0, True),
    ],
)  # fmt: skip
def test_a_mapping_and_its_data(mapping: MachineMapping) -> None:
    assert mapping_from(mapping_data(mapping)) == mapping


@pytest.mark.parametrize(
    "data",
    [{"kind": "magic"}, {"kind": "speed", "above_milli": -1}, {"kind": "speed", "x": 1},
     {"above_milli": 0, "fault_mask": 0, "kind": "speed", "setup_when_stopped": 2},
     {"fault_mask": 0, "kind": "running"}],
)  # fmt: skip
def test_a_mapping_that_is_none_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        LineConfiguration.from_data(LINE.to_data() | {"mapping": data})


def seconds(
    mapping: MachineMapping,
    *rows: tuple[int, dict[SignalRole, int]],
    until_s: int,
    line: LineConfiguration = LINE,
) -> dict[str, int]:
    """Seconds by category when rows at these seconds show these signals."""
    meter = LineMeter(replace(line, mapping=mapping), START)
    listed = []
    for at_s, shows in rows:
        values = [0] * ROLES
        for role, value in (shows | {SignalRole.ORDER: 1}).items():
            values[role] = value
        valid = 1 << SignalRole.ORDER | sum(1 << role for role in shows)
        listed.append((START + at_s * 1000, tuple(values), valid))
    meter.push(SampleBlock.from_rows(listed))
    account = meter.live(START + until_s * 1000).shift_account
    return {c.name: ms // 1000 for c, ms in zip(Category, account.category_ms, strict=True) if ms}


def test_a_running_bit_and_a_fault_word() -> None:
    bit, fault = SignalRole.RUNNING, SignalRole.FAULT
    rows = [
        (0, {bit: 1, fault: 0}),
        (5, {bit: 0, fault: 8}),
        (8, {bit: 0, fault: 3}),
        (12, {bit: 1, fault: 8}),
        (15, {}),
    ]
    found = seconds(RunningBit(8), *rows, until_s=16)
    assert found == {"PRODUCING": 8, "FAILURE": 3, "UNASSIGNED": 4, "UNKNOWN": 1}
    assert seconds(RunningBit(), *rows[:4], until_s=16) == {"PRODUCING": 9, "UNASSIGNED": 7}


@pytest.mark.parametrize("setup", [False, True])
def test_a_stop_with_another_product_is_set_up_where_the_line_says_so(setup: bool) -> None:
    bit, product = SignalRole.RUNNING, SignalRole.PRODUCT
    two = replace(LINE, products=(Product(1, "a", 1_000_000_000), Product(2, "b", 1_000_000_000)))
    rows = [
        (0, {bit: 1, product: 1}),
        (5, {bit: 0, product: 1}),
        (8, {bit: 0, product: 2}),  # from here on the stop is the changeover
        (12, {bit: 1, product: 2}),
        (14, {bit: 0, product: 2}),
    ]
    expected = {"PRODUCING": 7, "UNASSIGNED": 5, "SETUP": 4} if setup else {"PRODUCING": 7, "UNASSIGNED": 9}
    assert seconds(RunningBit(0, setup), *rows, until_s=16, line=two) == expected


def test_a_speed_is_running_above_the_threshold() -> None:
    rows = [(at, {SignalRole.SPEED: milli}) for at, milli in ((0, 500), (3, 501), (7, 0))]
    assert seconds(Speed(500), *rows, until_s=10) == {"UNASSIGNED": 6, "PRODUCING": 4}


def test_pieces_alone_tell_a_stop_at_the_moment_that_one_is_overdue() -> None:
    rows = [(at, {SignalRole.TOTAL: count}) for at, count in ((0, 5), (2, 6), (4, 7), (10, 7), (15, 8), (16, 8))]
    # Unknown until the first piece; running to 4 + 3 s; stopped to the piece at 15 s.
    assert seconds(PiecesOnly(3), *rows, until_s=17) == {"UNKNOWN": 2, "PRODUCING": 7, "UNASSIGNED": 8}


def test_illegal_moves_are_counted_for_packml_only() -> None:
    rows = [(START + at * 1000, (state,), 1) for at, state in enumerate((6, 11, 12, 6, 9))]
    for mapping, illegal in ((PackML(), 2), (StateValues(tuple((int(s), s) for s in State)), 0)):
        meter = LineMeter(replace(LINE, mapping=mapping), START)
        meter.push(SampleBlock.from_rows(rows))
        account = meter.live(START + 5_000).shift_account
        assert (account.transition_count, account.illegal_count) == (4, illegal)
