"""The configuration: what is read, and how each mistake is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import load
from agent.config_line import ModbusSource, OpcuaSource, ReplaySource
from agent.toml_table import key_lines
from protocols.errors import ConfigurationError
from protocols.measurement.configuration import Counter, Encoding, LineConfiguration
from protocols.measurement.machine import (
    ANY_FAULT,
    MachineMapping,
    PackML,
    PiecesOnly,
    RunningBit,
    Speed,
    StateValues,
)
from protocols.plc.packml import State
from protocols.plc.roles import COUNTER_ROLES, SignalRole
from tests.agent import factory

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


def test_the_example_is_read_to_the_nanosecond() -> None:
    found = load(EXAMPLES / "agent.toml")
    filling, packing = found.lines
    assert isinstance(filling.source, OpcuaSource) and isinstance(packing.source, ModbusSource)
    assert [p.ideal_cycle_ns for p in filling.configuration.products] == [1_200_000_000, 1_180_000_000, 1_320_000_000]
    assert [shift.end_minute - shift.start_minute for shift in filling.configuration.calendar.shifts] == [480] * 3
    assert packing.time_tag is not None and packing.time_tag.count == 4
    assert isinstance(packing.configuration.mapping, StateValues)
    assert (2, State.EXECUTE) in packing.configuration.mapping.values
    assert packing.configuration.counters[0].modulus == 65536
    assert found.state_folder == EXAMPLES / "state"


def test_the_history_example_is_a_replay() -> None:
    found = load(EXAMPLES / "history.toml")
    assert found.is_replay
    source = found.lines[0].source
    assert isinstance(source, ReplaySource)
    assert source.to_ms - source.from_ms == 19 * 7 * 86_400_000


def test_the_signed_configuration_names_no_address(tmp_path: Path) -> None:
    found = factory.configuration(tmp_path)
    for line in found.lines:
        assert "127.0.0.1" not in str(line.configuration.to_data())


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ('site = "Tai Po plant"', 'sight = "Tai Po plant"', 1, "site: is missing"),
        ('id = "GW-01"', 'id = "GW-01"\nstate_foldr = "x"', 3, "did you mean state_folder?"),
        ('id = "GW-01"', 'id = "GW/01"', 2, "cannot be a name"),
        ("window_s = 60", 'window_s = "60"', 11, "is not a whole number"),
        ("interval_s = 900", "interval_s = 901", 12, "a multiple of window_s"),
        ("interval_s = 900", "interval_s = 0", 12, "out of range"),
        ("interval_s = 900", "interval_s = 900\n[raw]\nkeep_days = -1", 14, "out of range"),
        ("interval_s = 900", "interval_s = 900\n[raw]\nkeep_day = 3", 14, "did you mean keep_days?"),
        ('protocol = "opcua"', 'protocol = "opc"', 22, 'did you mean "opcua"?'),
        ('endpoint = "opc.tcp', 'endpoint = "http', 23, "endpoint"),
        ('ideal_cycle_s = "1.2"', 'ideal_cycle_s = "fast"', 43, "is not a number"),
        ('ideal_cycle_s = "1.2"', 'ideal_cycle_s = "1.0000000001"', 43, "finer than"),
        ("max_pieces_per_hour = 6000\n", "", 14, "tells a roll-over from a reset"),
        ('timezone = "Asia/Hong_Kong"', 'timezone = "Asia/Hong_Kng"', 17, "is not a time zone"),
        ("sampling_interval_ms = 0", "sampling_interval_ms = true", 25, "is not a whole number"),
        ("state = { path", "stat = { path", 28, "state"),
    ],
)
def test_a_mistake_is_said_with_its_line_and_its_mend(
    tmp_path: Path, before: str, after: str, line: int, words: str
) -> None:
    path = factory.write(tmp_path, factory.opcua())
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")
    with pytest.raises(ConfigurationError) as found:
        load(path)
    assert words in str(found.value)
    assert found.value.mend
    if "missing" not in words and "roll-over" not in words and words != "state":
        assert found.value.line == line
    assert f"{path}" in str(found.value)


def test_no_toml_at_all_has_a_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[gateway]\nid = GW\n", "utf-8")
    with pytest.raises(ConfigurationError) as found:
        load(path)
    assert found.value.line == 2


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.toml")


def test_shifts_that_overlap_are_refused(tmp_path: Path) -> None:
    shifts = "".join(
        f'\n[[line.shift]]\nname = "{name}"\nstart = "{start}"\nend = "{end}"\n'
        for name, start, end in (("A", "06:00", "14:00"), ("C", "22:00", "06:30"))
    )
    with pytest.raises(ConfigurationError, match='"C" and "A" overlap'):
        load(factory.write(tmp_path, factory.opcua() + shifts))


def test_a_break_lies_in_its_shift(tmp_path: Path) -> None:
    shift = '\n[[line.shift]]\nname = "N"\nstart = "22:00"\nend = "06:00"\nbreaks = [["{}", "{}"]]\n'
    found = load(factory.write(tmp_path, factory.opcua() + shift.format("01:00", "01:30")))
    assert found.lines[0].configuration.calendar.shifts[0].breaks == ((1500, 1530),)
    with pytest.raises(ConfigurationError, match="does not fit"):
        load(factory.write(tmp_path, factory.opcua() + shift.format("12:00", "12:30")))


def test_a_line_needs_a_state_and_a_counter(tmp_path: Path) -> None:
    text = factory.modbus().replace("state = { register = 0 }\n", "")
    with pytest.raises(ConfigurationError, match="needs its state"):
        load(factory.write(tmp_path, text))
    text = factory.modbus().replace("total = { register = 1 }\n", "")
    with pytest.raises(ConfigurationError, match="needs a counter"):
        load(factory.write(tmp_path, text))


STATES = '[line.states]\n1 = "STOPPED"\n2 = "EXECUTE"\n'
STATE_TAG = "state = { register = 0 }"


@pytest.mark.parametrize(
    ("tag", "table", "mapping"),
    [
        (STATE_TAG, "", PackML()),
        (STATE_TAG, STATES, StateValues(((1, State.STOPPED), (2, State.EXECUTE)))),
        (
            STATE_TAG,
            '[line.mapping]\nkind = "values"\n' + STATES,
            StateValues(((1, State.STOPPED), (2, State.EXECUTE))),
        ),
        ('running = { register = 3, table = "coil" }', '[line.mapping]\nkind = "running"\n', RunningBit()),
        (
            "running = { register = 3 }\nfault = { register = 4 }",
            '[line.mapping]\nkind = "running"\nfault_mask = 0x0F\n',
            RunningBit(15),
        ),
        (
            "speed = { register = 3 }\nfault = { register = 4 }",
            '[line.mapping]\nkind = "speed"\nrunning_above = 0.5\n',
            Speed(500, ANY_FAULT),
        ),
        ("", '[line.mapping]\nkind = "pieces"\ncycles = 5\n', PiecesOnly(5)),
        ("", '[line.mapping]\nkind = "pieces"\nsetup_when_stopped = true\n', PiecesOnly(3, 0, True)),
    ],
)
def test_a_machine_is_told_by_what_it_has(tmp_path: Path, tag: str, table: str, mapping: MachineMapping) -> None:
    text = factory.modbus().replace(STATE_TAG, tag).replace(STATES, table)
    found = load(factory.write(tmp_path, text)).lines[0].configuration
    assert found.mapping == mapping
    assert LineConfiguration.from_data(found.to_data()) == found


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (STATES, '[line.mapping]\nkind = "running"\n', "running is missing"),
        (STATES, '[line.mapping]\nkind = "speed"\n', "speed is missing"),
        (STATES, '[line.mapping]\nkind = "values"\n', "needs the table [line.states]"),
        (STATES, STATES + '[line.mapping]\nkind = "pieces"\n', "has no use"),
        (STATES, '[line.mapping]\nkind = "pieces"\nfault_mask = 1\n', "there is no fault word"),
        (STATES, '[line.mapping]\nkind = "pieces"\ncycles = 0\n', "out of range"),
        (STATES, '[line.mapping]\nkind = "runing"\n', 'did you mean "running"?'),
        ('ideal_cycle_s = "0.68"', '[line.mapping]\nkind = "pieces"', "has no ideal cycle"),
        ("total = { register = 1 }", 'total = { register = 1, type = "int16", bcd = true }', "BCD has none"),
        ("total = { register = 1 }", "total = { register = 1, bcd = true, modulus = 65536 }", "no power of ten"),
        (
            STATE_TAG,
            STATE_TAG + "\n[[line.tags.order]]\nregister = 7\n[[line.tags.order]]\nregister = 8",
            "more than once",
        ),
        (
            "total = { register = 1 }",
            "total = { register = 1 }\nheartbeat = { register = 5, bcd = true }",
            "unknown key",
        ),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(tmp_path: Path, before: str, after: str, words: str) -> None:
    text = factory.modbus()
    assert before in text
    if "ideal_cycle" in before:
        text = text.replace(STATES, "")
    with pytest.raises(ConfigurationError) as found:
        load(factory.write(tmp_path, text.replace(before, after)))
    assert words in str(found.value)
    assert found.value.mend


def test_lanes_bcd_heartbeat_and_flapping(tmp_path: Path) -> None:
    tags = "\n".join(
        f"[[line.tags.{role}]]\nregister = {register}{more}"
        for role, register, more in (
            ("total", 1, ""),
            ("total", 2, "\nbcd = true"),
            ("reject", 3, ""),
            ("reject", 4, ""),
        )
    )
    text = factory.modbus().replace(
        "total = { register = 1 }\nreject = { register = 2 }", "heartbeat = { register = 9 }\n" + tags
    )
    text = text.replace("staleness_s = 6", "staleness_s = 6\nmin_run_s = 3\nmin_stop_s = 2.5\nstartup_s = 60")
    line = load(factory.write(tmp_path, text)).lines[0]
    found = line.configuration
    assert found.counters == (
        Counter(SignalRole.TOTAL, 65536),
        Counter(SignalRole.TOTAL, 10000, Encoding.BCD),
        Counter(SignalRole.REJECT, 65536),
        Counter(SignalRole.REJECT, 65536),
    )
    assert found.heartbeat
    assert (found.definition.min_run_ms, found.definition.min_stop_ms, found.definition.startup_ms) == (
        3000,
        2500,
        60_000,
    )
    # The meter looks for a lane where its source puts it.
    columns = [(tag.role, tag.column) for tag in line.tags if tag.role in COUNTER_ROLES]
    assert [column for _, column in columns] == list(found.counter_columns) == [2, 13, 4, 14]


def test_a_node_id_needs_its_namespace_by_uri(tmp_path: Path) -> None:
    tag = 'state = { path = "filling/Status/StateCurrent", namespace = "urn:linetally:simulator" }'
    good = factory.opcua().replace(tag, 'state = { node = "nsu=urn:x;s=State" }')
    assert load(factory.write(tmp_path, good)).lines[0].tags[0].role is SignalRole.STATE
    with pytest.raises(ConfigurationError, match="lasting"):
        load(factory.write(tmp_path, good.replace("nsu=urn:x", "ns=2")))


def test_lines_of_keys_are_found() -> None:
    text = '[a]\nx = 1\n# y = 2\n[[b]]\nz = """\nfake = 1\n"""\n[b.c]\nk = {d = 1}\n[[b]]\n[b.c]\n"q" = 2\n'
    where = key_lines(text)
    assert where[("a", "x")] == 2
    assert where[("b", 0, "z")] == 5
    assert ("b", 0, "fake") not in where
    assert where[("b", 0, "c", "k")] == 9
    assert where[("b", 1, "c", "q")] == 12


def test_the_kernels_can_be_left_uncompiled(tmp_path: Path) -> None:
    path = factory.write(tmp_path, factory.opcua())
    assert load(path).jit
    text = path.read_text("utf-8")
    path.write_text(text + '\n[kernel]\njit = "off"\n', "utf-8")
    assert not load(path).jit
    path.write_text(text + "\n[kernel]\njit = false\n", "utf-8")
    with pytest.raises(ConfigurationError):
        load(path)
