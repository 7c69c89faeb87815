"""Definitions: parsed as they are written, refused when they say nothing known, and told apart by their hash."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given

from protocols.errors import Malformed
from protocols.measurement.account import Category
from protocols.measurement.definition import CHOICES, ISO, PRESET_NAMES, PRESETS, TIMES, Charge, Definition, Mtbf
from protocols.measurement.explain import explain, explain_text
from tests.protocols.measurement.accounts import definitions


@given(definition=definitions)
def test_what_is_written_is_read(definition: Definition) -> None:
    data = json.loads(json.dumps(definition.to_data()))
    assert Definition.from_data(data) == definition
    assert Definition.from_data(data).hash == definition.hash


def test_every_switch_is_in_the_hash() -> None:
    seen = {ISO.hash}
    for name in TIMES:
        seen.add(replace(ISO, **{name: 1234}).hash)
    for name, choices in CHOICES.items():
        seen |= {replace(ISO, **{name: choice}).hash for choice in choices if choice != getattr(ISO, name)}
    seen.add(replace(ISO, preset="mine").hash)
    assert len(seen) == 2 + len(TIMES) + sum(len(choices) - 1 for choices in CHOICES.values())


def test_presets() -> None:
    assert PRESETS.keys() == PRESET_NAMES.keys()
    assert len({preset.hash for preset in PRESETS.values()}) == 4
    assert [PRESETS[name].minor_stop_side for name in PRESETS] == [Charge.AVAILABILITY, *[Charge.PERFORMANCE] * 3]
    assert [PRESETS[name].planned_down is Charge.AVAILABILITY for name in PRESETS] == [False, False, True, True]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"version": True}, {"preset": ""}, {"preset": "ü"}, {"preset": 7}, {"minor_stop_ms": -1},
        {"minor_stop_ms": "300000"}, {"startup_ms": True}, {"min_run_ms": 86_400_001}, {"setup": "performance"},
        {"minor_stop_side": "excluded"}, {"rework": "maybe"}, {"mtbf": None}, {"mtbf": ["uptime/failures"]},
        {"teep_calendar": 1}, {"another": 1},
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        Definition.from_data(ISO.to_data() | change)


def test_a_missing_switch_is_refused_rather_than_guessed() -> None:
    for name in ISO.to_data():
        with pytest.raises(Malformed):
            Definition.from_data({key: value for key, value in ISO.to_data().items() if key != name})


def test_words_tell_what_was_changed() -> None:
    assert ISO.words == "ISO 22400-2; stops under 300 s are Availability loss"
    mine = replace(ISO, minor_stop_ms=0, restraint=Charge.EXCLUDED, mtbf=Mtbf.PLANNED_TIME)
    assert mine.words == "ISO 22400-2; no minor stops; restraint excluded; mtbf pot/failures"
    assert mine.changes == ("minor_stop_ms", "restraint", "mtbf")
    assert max(len(replace(ISO, **{n: c[-1] for n, c in CHOICES.items()}).words), len(mine.words)) < 300


@pytest.mark.parametrize("definition", PRESETS.values(), ids=PRESETS)
def test_an_explanation_says_every_switch_category_state_and_figure(definition: Definition) -> None:
    told = explain(definition)
    assert json.loads(json.dumps(told)) == told
    assert {row["switch"] for row in told["switches"]} == set(TIMES) | set(CHOICES)
    assert [row["category"] for row in told["time"]] == [category.name for category in Category]
    assert len(told["states"]) == 18
    text = explain_text(definition)
    assert definition.hash.hex() in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_an_explanation_follows_the_switch() -> None:
    def minor(definition: Definition) -> str:
        return next(r["counts"] for r in explain(definition)["time"] if r["category"] == "MINOR_STOP")

    assert "Availability" in minor(ISO) and "Performance" in minor(PRESETS["tpm"])
    formula = {r["name"]: r["formula"] for r in explain(replace(ISO, mtbf=Mtbf.PLANNED_TIME))["figures"]}["mtbf"]
    assert formula == "POT / failures"
