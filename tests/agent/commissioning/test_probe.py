"""`probe` at the simulator's Modbus server."""

from __future__ import annotations

import json

import pytest

from agent.__main__ import main
from agent.commissioning.probe_command import address_of, taken_words
from protocols.errors import ConfigurationError
from tests.agent.commissioning.support import Served


def test_a_counter_is_found(plant: Served, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"127.0.0.1:{plant.modbus_port}"
    assert main(["probe", where, "5", "--samples", "4", "--every", "0.2"]) == 0
    shown = capsys.readouterr().out
    assert "● likely" in shown
    assert "a counter: rises" in shown
    assert "{ register = 5 }" in shown


def test_it_speaks_to_scripts(plant: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", f"127.0.0.1:{plant.modbus_port}", "40006", "--samples", "3", "--every", "0.2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["table"], data["register"], len(data["samples"])) == ("holding", 5, 3)
    assert data["readings"][0]["verdict"] == "likely"


def test_a_register_near_the_end_is_read_as_far_as_there_are_any(
    plant: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["probe", f"127.0.0.1:{plant.modbus_port}", "9", "--samples", "2", "--every", "0.1", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert [len(sample) for sample in data["samples"]] == [1, 1]


def test_what_is_wrong_is_said_with_the_mend(plant: Served, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"127.0.0.1:{plant.modbus_port}"
    assert main(["probe", where, "4711"]) == 1
    assert "the register does not exist" in (said := capsys.readouterr().err)
    assert "counted from 0" in said
    for wrong in (["--device-id", "300"], ["--device-id", "-1"], ["--baud-rate", "0"], ["--samples", "1"]):
        assert main(["probe", where, "0", *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err
    assert main(["probe", "127.0.0.1:1", "0"]) == 1
    assert "is the PLC on?" in capsys.readouterr().err
    assert main(["probe", where, "hello"]) == 2
    assert "as the maker writes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "table", "expected"),
    [
        ("7", None, ("holding", 7)), ("7", "input", ("input", 7)), ("40001", None, ("holding", 0)),
        ("30010", None, ("input", 9)), ("400010", None, ("holding", 9)), ("10001", None, ("discrete", 0)),
        ("00001", None, ("coil", 0)), ("40001", "input", ("input", 40001)), ("65535", None, ("holding", 65535)),
        ("0x4a38", None, ("holding", 19_000)), ("0x4A38", "input", ("input", 19_000)),
    ],
)  # fmt: skip
def test_both_ways_to_write_a_register(text: str, table: str | None, expected: tuple[str, int]) -> None:
    assert address_of(text, table) == expected


def test_what_is_taken_for_the_makers_number_is_said(plant: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """19000 is a real register of energy meters, and looks like a maker's discrete 8999."""
    assert main(["probe", f"127.0.0.1:{plant.modbus_port}", "19000", "--samples", "2", "--every", "0.1"]) == 1
    assert "19000 is taken for the maker's number: discrete register 8999" in (said := capsys.readouterr().err)
    assert f"it is written {19_000:#x}" in said
    assert taken_words("0x4a38", "holding", 19_000) == taken_words("7", "holding", 7) == ""


def test_no_register() -> None:
    for text in ("0x", "0x12345", "-1", "465537", "70000", "x"):
        with pytest.raises(ConfigurationError):
            address_of(text, None)
