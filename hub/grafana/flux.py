"""The Flux queries of the dashboard: sums first, then a division, and null where that is undefined.

Decides the queries' text. The formulas are those of `protocols.measurement.ratios`, and a test holds them to it.
A ratio is never averaged: each query adds up the accounts over its stretch and divides once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hub.projections.influx import MEASUREMENT
from protocols.measurement.account import ACCOUNT_FIELDS, Category

# Grafana replaces `v.…` and the variables before it sends the query; doublequote quotes and escapes the value.
_FILTER: Final = (
    f'r._measurement == "{MEASUREMENT}" and r.enterprise == ${{enterprise:doublequote}} '
    "and r.line == ${line:doublequote}"
)
_KNOWN_PLANNED: Final = "(r.planned_ms - r.unknown_ms)"


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


AVAILABILITY: Final = Ratio(
    "r.producing_ms", _KNOWN_PLANNED, f"{_KNOWN_PLANNED} > 0", ("producing_ms", "planned_ms", "unknown_ms")
)
EFFECTIVENESS: Final = Ratio(
    "r.standard_total_ns",
    "(r.producing_ms * 1000000)",
    "r.without_ideal_count == 0 and r.producing_ms > 0",
    ("standard_total_ns", "producing_ms", "without_ideal_count"),
)
QUALITY: Final = Ratio("r.good_count", "r.total_count", "r.total_count > 0", ("good_count", "total_count"))
OEE: Final = Ratio(
    "r.standard_good_ns",
    f"({_KNOWN_PLANNED} * 1000000)",
    f"r.without_ideal_count == 0 and {_KNOWN_PLANNED} > 0",
    ("standard_good_ns", "planned_ms", "unknown_ms", "without_ideal_count"),
)
COVERAGE: Final = Ratio(_KNOWN_PLANNED, "r.planned_ms", "r.planned_ms > 0", ("planned_ms", "unknown_ms"))
THROUGHPUT: Final = Ratio(
    "(r.total_count * 3600000)", _KNOWN_PLANNED, f"{_KNOWN_PLANNED} > 0", ("total_count", "planned_ms", "unknown_ms")
)
GOOD_THROUGHPUT: Final = Ratio(
    "(r.good_count * 3600000)", _KNOWN_PLANNED, f"{_KNOWN_PLANNED} > 0", ("good_count", "planned_ms", "unknown_ms")
)

LOSSES: Final[Mapping[str, str]] = {
    "Failure": "float(v: r.failure_ms) / 60000.0",
    "Set-up": "float(v: r.setup_ms) / 60000.0",
    "Minor stops": "float(v: r.minor_stop_ms) / 60000.0",
    "Blocked or starved": "float(v: r.restraint_ms) / 60000.0",
    "Held": "float(v: r.held_ms) / 60000.0",
    "Stopped or idle": "float(v: r.unassigned_ms) / 60000.0",
    "No order": "float(v: r.no_order_ms) / 60000.0",
    # In time at the ideal cycle. Below zero the ideal cycle is too slow: shown as it is.
    "Reduced speed": "if r.without_ideal_count == 0 then "
    "float(v: r.producing_ms) / 60000.0 - float(v: r.standard_total_ns) / 60000000000.0 "
    'else debug.null(type: "float")',
    "Rejects": "if r.without_ideal_count == 0 then "
    "float(v: r.standard_total_ns - r.standard_good_ns) / 60000000000.0 "
    'else debug.null(type: "float")',
    "Not observed": "float(v: r.unknown_ms) / 60000.0",
}
"""Series name to minutes lost. With the producing time that was worth a good piece they make up the planned time."""

_LOSS_FIELDS: Final = (
    *(f"{c.name.lower()}_ms" for c in Category if c not in (Category.PLANNED_DOWN, Category.NOT_SCHEDULED)),
    "standard_total_ns",
    "standard_good_ns",
    "without_ideal_count",
)


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
