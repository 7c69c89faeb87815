"""`linetally-agent definition`: what is printed for people and for scripts."""

from __future__ import annotations

import json

import pytest

from agent.__main__ import main
from protocols.measurement.definition import ISO, PRESETS, Definition


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
