"""A definition in plain words: what counts as what, and by which formula.

Decides the words only. Every statement is read out of the definition, the state table, `elements` and `ratios`; none
of it is said twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from protocols.measurement.account import Category
from protocols.measurement.definition import (
    CHOICES,
    PRESET_NAMES,
    TIMES,
    Charge,
    Definition,
    Mtbf,
    Rework,
    TeepCalendar,
)
from protocols.measurement.elements import charge
from protocols.measurement.mapping import category_table
from protocols.measurement.ratios import FIGURES
from protocols.plc.packml import State

_LOST: Final = {
    Charge.AVAILABILITY: "planned busy time (PBT), lost to Availability",
    Charge.PERFORMANCE: "counted as production time (APT), and so lost to Performance",
    Charge.EXCLUDED: "no planned busy time (PBT): in no part of OEE, but in TEEP",
}
_WHAT: Final = {
    "minor_stop_side": "A minor stop",
    "setup": "Set-up, a changeover",
    "planned_down": "Breaks and planned maintenance",
    "no_order": "Time without an order, no demand",
    "restraint": "Blocked or starved by the rest of the line",
}
_CATEGORY: Final = {
    Category.UNKNOWN: "Time that nobody observed",
    Category.PRODUCING: "Producing",
    Category.SETUP: _WHAT["setup"],
    Category.FAILURE: "Failure",
    Category.MINOR_STOP: _WHAT["minor_stop_side"],
    Category.RESTRAINT: _WHAT["restraint"],
    Category.HELD: "Held by the line itself",
    Category.UNASSIGNED: "Stopped, idle or complete with an order in progress",
    Category.NO_ORDER: _WHAT["no_order"],
    Category.PLANNED_DOWN: _WHAT["planned_down"],
    Category.NOT_SCHEDULED: "Outside every shift",
}
_CHOSEN: Final[Mapping[str, Mapping[str, str]]] = {
    "rework": {
        Rework.BAD: "A piece that went through again never counts as good.",
        Rework.GOOD: "A piece that went through again counts as good in the end, and once.",
    },
    "mtbf": {mtbf: f"MTBF is {FIGURES['mtbf'].formulas[mtbf]}." for mtbf in Mtbf},
    "teep_calendar": {
        TeepCalendar.ALL: "TEEP is taken of all calendar time.",
        TeepCalendar.SHIFTS: "TEEP is taken of the shifts with their breaks.",
    },
}


def explain(definition: Definition) -> dict[str, Any]:
    """Everything that a definition says: plain maps, lists, strings and integers."""
    return {
        "preset": definition.preset,
        "name": PRESET_NAMES.get(definition.preset, definition.preset),
        "version": definition.version,
        "hash": definition.hash.hex(),
        "words": definition.words,
        "changed": list(definition.changes),
        "switches": [
            {"switch": name, "value": value if isinstance(value := getattr(definition, name), int) else str(value),
             "words": _switch(name, definition), "choices": [str(choice) for choice in CHOICES.get(name, ())]}
            for name in (*TIMES, *CHOICES)
        ],
        "time": [
            {"category": category.name, "what": _CATEGORY[category], "counts": _counts(category, definition)}
            for category in Category
        ],
        "states": [
            {"state": state.name, "order": Category(with_order).name, "no_order": Category(without).name,
             "changeover": Category(changeover).name}
            for state in State
            for with_order, without, changeover in [category_table()[state].tolist()]
        ],
        "figures": [
            {"name": figure.name, "title": figure.title, "formula": figure.formula_under(definition),
             "unit": figure.unit.value, "better": figure.direction.value, "source": figure.source}
            for figure in FIGURES.values()
        ],
    }  # fmt: skip


def explain_text(definition: Definition) -> str:
    """The same for a terminal of 100 columns."""
    return "\n".join(_lines(explain(definition)))


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"{told['name']} (preset {told['preset']}, version {told['version']})"
    yield f"hash {told['hash']}"
    if told["changed"]:
        yield f"changed from the preset: {', '.join(told['changed'])}"
    yield "\nThe switches"
    for switch in told["switches"]:
        yield f"  {switch['switch']} = {switch['value']}"
        yield f"      {switch['words']}"
    yield "\nWhat time counts as"
    for row in told["time"]:
        yield f"  {row['category']:<13}  {row['what']}"
        yield f"      {row['counts']}"
    yield "\nWhat a PackML state costs"
    yield f"  {'state':<13} {'with an order':<13} {'in a changeover':<15} no order"
    for row in told["states"]:
        yield f"  {row['state']:<13} {row['order']:<13} {row['changeover']:<15} {row['no_order']}"
    yield "  A break, a holiday or time outside the shifts beats every state but production."
    yield "  Another mode than production is UNASSIGNED with an order, NO_ORDER without."
    yield "\nThe figures, all over observed time; nothing is capped, and x / 0 is undefined"
    for row in told["figures"]:
        yield f"  {row['title']} = {row['formula']}"
        better = "" if row["better"] == "neither" else f"; {row['better']} is better"
        yield f"      {row['unit']}{better}; {row['source']}"


def _switch(name: str, definition: Definition) -> str:
    value = getattr(definition, name)
    if name in _WHAT:
        return f"{_WHAT[name]}: {_LOST[value]}."
    if name in _CHOSEN:
        return _CHOSEN[name][value]
    seconds = f"{value / 1000:g} s"
    if not value:
        return {
            "minor_stop_ms": "No stop is a minor one.",
            "startup_ms": "Start-up rejects are not told apart.",
            "min_run_ms": "No run is too short to be one.",
            "min_stop_ms": "No stop is too short to be one.",
        }[name]
    return {
        "minor_stop_ms": f"A whole stop shorter than {seconds} is a minor stop.",
        "startup_ms": f"A reject within {seconds} of a start is a start-up reject.",
        "min_run_ms": f"A run shorter than {seconds} between stops belongs to them.",
        "min_stop_ms": f"A stop shorter than {seconds} between runs belongs to them.",
    }[name]


def _counts(category: Category, definition: Definition) -> str:
    if category is Category.UNKNOWN:
        return "apart: neither running nor stopped; Coverage says how much it is"
    if category is Category.NOT_SCHEDULED:
        return "no planned time: only in TEEP of all calendar time"
    charged = charge(category, definition)
    return "production time (APT), also outside the shifts" if charged is None else _LOST[charged]
