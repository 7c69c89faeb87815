"""`linetally-agent definition`: what is printed for people and for scripts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.config import load
from protocols.errors import ConfigurationError
from protocols.measurement.definition import ISO, PRESETS, Charge, Definition, Mtbf
from tests.agent import factory
from tests.support.commands import BIN


def test_it_lists_every_preset_with_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["definition"]) == 0
    text = capsys.readouterr().out
    for preset in PRESETS.values():
        assert preset.preset in text and preset.hash.hex() in text and preset.words in text


@pytest.mark.parametrize("preset", PRESETS)
def test_it_explains_a_preset(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["definition", preset, "--explain"]) == 0
    text = capsys.readouterr().out
    assert PRESETS[preset].hash.hex() in text
    assert "Availability = APT / PBT" in text and "What a PackML state costs" in text


def test_scripts_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["definition", "--explain", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hash"] == ISO.hash.hex()
    assert main(["definition", "smrp", "--json"]) == 0
    [smrp] = json.loads(capsys.readouterr().out)
    switches = {name: value for name, value in smrp.items() if name in ISO.to_data()}
    assert Definition.from_data(switches).hash.hex() == smrp["hash"]


def test_a_preset_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["definition", "mine"])
    assert refused.value.code == 2
    assert "smrp" in capsys.readouterr().err


def test_a_line_takes_a_preset_and_the_switches_that_differ(tmp_path: Path) -> None:
    text = factory.modbus().replace("staleness_s = 6", 'staleness_s = 6\ndefinition = "smrp"\nminor_stop_s = 60')
    switches = '\n[line.switches]\nrestraint = "excluded"\nmtbf = "pot/failures"\n'
    found = load(factory.write(tmp_path, text + switches)).lines[0].configuration.definition
    assert (found.preset, found.minor_stop_ms) == ("smrp", 60_000)
    assert (found.restraint, found.mtbf) == (Charge.EXCLUDED, Mtbf.PLANNED_TIME)
    assert found.changes == ("minor_stop_ms", "restraint", "mtbf")
    assert found.planned_down is PRESETS["smrp"].planned_down


@pytest.mark.parametrize("wrong", ['setup = "performance"', 'set_up = "excluded"', "rework = 1"])
def test_a_switch_that_is_not_known_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigurationError):
        load(factory.write(tmp_path, factory.modbus() + f"\n[line.switches]\n{wrong}\n"))


def test_whoever_reads_may_have_seen_enough() -> None:
    """As in `linetally-agent definition --explain | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [str(BIN / "linetally-agent"), "definition", "--explain"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
