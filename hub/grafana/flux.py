"""The Flux queries of the dashboard: sums first, then a division, and null where that is undefined.

Decides the queries' text. The formulas are those of `protocols.measurement.ratios` under the definition that the
dashboard's variable names (one of the presets), and a test holds them to it.
A ratio is never averaged: each query adds up the accounts over its stretch and divides once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hub.projections.influx import MEASUREMENT
from protocols.measurement.account import ACCOUNT_FIELDS, Category
from protocols.measurement.definition import PRESETS, Charge

# Grafana replaces `v.…` and the variables before it sends the query; doublequote quotes and escapes the value.
_FILTER: Final = (
    f'r._measurement == "{MEASUREMENT}" and r.enterprise == ${{enterprise:doublequote}} '
    "and r.line == ${line:doublequote}"
)
_KNOWN_PLANNED: Final = "(r.planned_ms - r.unknown_ms)"


def _presets(switch: str, charge: Charge) -> tuple[str, ...]:
    return tuple(name for name, preset in PRESETS.items() if getattr(preset, switch) is charge)


# What the presets decide differently, as 0 or 1 in a query; they agree in all else (a test holds that).
SWITCHES: Final[Mapping[str, tuple[str, ...]]] = {
    "minor_in_apt": _presets("minor_stop_side", Charge.PERFORMANCE),
    "break_in_pbt": _presets("planned_down", Charge.AVAILABILITY),
    "idle_out": _presets("no_order", Charge.EXCLUDED),
}
"""Name of a switch to the presets under which it is 1."""
_PBT: Final = "(r.planned_ms - r.unknown_ms + break_in_pbt * r.planned_down_ms - idle_out * r.no_order_ms)"
_PBT_FIELDS: Final = ("planned_ms", "unknown_ms", "planned_down_ms", "no_order_ms")
_APT: Final = "(r.producing_ms + minor_in_apt * r.minor_stop_ms)"
_APT_FIELDS: Final = ("producing_ms", "minor_stop_ms")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure as Flux over one row of sums: `numerator` / `denominator` where `defined`, else null."""

    numerator: str
    denominator: str
    defined: str
    fields: tuple[str, ...]

    def expression(self) -> str:
        return (
            f"if {self.defined} then float(v: {self.numerator}) / float(v: {self.denominator}) "
            'else debug.null(type: "float")'
        )


AVAILABILITY: Final = Ratio(_APT, _PBT, f"{_PBT} > 0", (*_APT_FIELDS, *_PBT_FIELDS))
EFFECTIVENESS: Final = Ratio(
    "r.standard_total_ns",
    f"({_APT} * 1000000)",
    f"r.without_ideal_count == 0 and {_APT} > 0",
    ("standard_total_ns", *_APT_FIELDS, "without_ideal_count"),
)
QUALITY: Final = Ratio("r.good_count", "r.total_count", "r.total_count > 0", ("good_count", "total_count"))
OEE: Final = Ratio(
    "r.standard_good_ns",
    f"({_PBT} * 1000000)",
    f"r.without_ideal_count == 0 and {_PBT} > 0",
    ("standard_good_ns", *_PBT_FIELDS, "without_ideal_count"),
)
COVERAGE: Final = Ratio(_KNOWN_PLANNED, "r.planned_ms", "r.planned_ms > 0", ("planned_ms", "unknown_ms"))
THROUGHPUT: Final = Ratio("(r.total_count * 3600000)", _PBT, f"{_PBT} > 0", ("total_count", *_PBT_FIELDS))
GOOD_THROUGHPUT: Final = Ratio("(r.good_count * 3600000)", _PBT, f"{_PBT} > 0", ("good_count", *_PBT_FIELDS))

LOSSES: Final[Mapping[str, str]] = {
    "Failure": "float(v: r.failure_ms) / 60000.0",
    "Set-up": "float(v: r.setup_ms) / 60000.0",
    "Minor stops": "float(v: r.minor_stop_ms) / 60000.0",
    "Blocked or starved": "float(v: r.restraint_ms) / 60000.0",
    "Held": "float(v: r.held_ms) / 60000.0",
    "Stopped or idle": "float(v: r.unassigned_ms) / 60000.0",
    "No order": "float(v: (1 - idle_out) * r.no_order_ms) / 60000.0",
    "Breaks and planned downtime": "float(v: break_in_pbt * r.planned_down_ms) / 60000.0",
    # In time at the ideal cycle. Below zero more was counted than it holds: shown as it is.
    "Reduced speed": "if r.without_ideal_count == 0 then "
    "float(v: r.producing_ms) / 60000.0 - float(v: r.standard_total_ns) / 60000000000.0 "
    'else debug.null(type: "float")',
    "Rejects": "if r.without_ideal_count == 0 then "
    "float(v: r.standard_total_ns - r.standard_good_ns) / 60000000000.0 "
    'else debug.null(type: "float")',
    "Not observed": "float(v: r.unknown_ms) / 60000.0",
}
"""Series name to minutes lost. With the producing time that was worth a good piece they make up planned busy time and
what was not observed of the planned time."""

_LOSS_FIELDS: Final = (
    *(f"{c.name.lower()}_ms" for c in Category if c is not Category.NOT_SCHEDULED),
    "standard_total_ns",
    "standard_good_ns",
    "without_ideal_count",
)


def _switches(columns: Mapping[str, str]) -> str:
    """What of the definition these expressions ask for: a line for each switch."""
    used = [name for name in SWITCHES if any(name in expression for expression in columns.values())]
    lines = ["wanted = ${definition:doublequote}"] if used else []
    for name in used:
        presets = " or ".join(f'wanted == "{preset}"' for preset in SWITCHES[name])
        lines.append(f"{name} = if {presets} then 1 else 0")
    return "".join(f"{line}\n" for line in lines) + ("\n" if lines else "")


def _rows(fields: Iterable[str]) -> str:
    names = sorted(set(fields))
    unknown = set(names) - set(ACCOUNT_FIELDS)
    assert not unknown, f"no such sums: {unknown}"
    either = " or ".join(f'r._field == "{name}"' for name in names)
    return (
        "from(bucket: v.defaultBucket)\n"
        "  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n"
        f"  |> filter(fn: (r) => {_FILTER})\n"
        f"  |> filter(fn: (r) => {either})\n"
        # Products, shifts and orders add up: one table for each sum, with the range's bounds.
        '  |> group(columns: ["_start", "_stop", "_field"])\n'
    )


def _record(time: str, columns: Mapping[str, str]) -> str:
    body = ",\n".join(f'      "{name}": {expression}' for name, expression in columns.items())
    return f"  |> map(fn: (r) => ({{\n      _time: r.{time},\n{body},\n  }}))"


def over_range(columns: Mapping[str, str], fields: Iterable[str]) -> str:
    """One row: each of `columns` (name to a Flux expression over `r`) from the sums of the whole range."""
    return (
        'import "internal/debug"\n\n'
        + _switches(columns)
        + _rows(fields)
        + "  |> sum()\n"
        + "  |> group()\n"
        + '  |> pivot(rowKey: ["_stop"], columnKey: ["_field"], valueColumn: "_value")\n'
        + _record("_stop", columns)
    )


def over_time(columns: Mapping[str, str], fields: Iterable[str]) -> str:
    """A row for each interval of the panel, from the sums of that interval. An interval without data is undefined."""
    return (
        'import "internal/debug"\n\n'
        + _switches(columns)
        + _rows(fields)
        # An empty interval's sum is null; as 0 it makes every denominator 0, and so every ratio null.
        + '  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: true, timeSrc: "_start")\n'
        + "  |> fill(value: 0)\n"
        + "  |> group()\n"
        + '  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")\n'
        + _record("_time", columns)
        + '\n  |> sort(columns: ["_time"])'
    )


def ratios_over_range(name: str, ratio: Ratio) -> str:
    return over_range({name: ratio.expression()}, ratio.fields)


def ratios_over_time(ratios: Mapping[str, Ratio]) -> str:
    fields = [field for ratio in ratios.values() for field in ratio.fields]
    return over_time({name: ratio.expression() for name, ratio in ratios.items()}, fields)


def losses_over_time() -> str:
    return over_time(LOSSES, _LOSS_FIELDS)


def largest_category_over_time() -> str:
    """For each interval the category that took the most of its time, as the name of its sum; none without data."""
    return (
        _rows(f"{c.name.lower()}_ms" for c in Category)
        + '  |> aggregateWindow(every: v.windowPeriod, fn: sum, createEmpty: false, timeSrc: "_start")\n'
        + "  |> filter(fn: (r) => r._value > 0)\n"
        + '  |> group(columns: ["_time"])\n'
        + "  |> max()\n"
        + "  |> group()\n"
        + '  |> map(fn: (r) => ({_time: r._time, "State": r._field}))\n'
        + '  |> sort(columns: ["_time"])'
    )


def tag_values(tag: str, *, of_enterprise: bool) -> str:
    """The values of a tag, for a variable of the dashboard."""
    within = " and r.enterprise == ${enterprise:doublequote}" if of_enterprise else ""
    return (
        'import "influxdata/influxdb/schema"\n\n'
        f'schema.tagValues(bucket: v.defaultBucket, tag: "{tag}", '
        f'predicate: (r) => r._measurement == "{MEASUREMENT}"{within}, start: -365d)'
    )
