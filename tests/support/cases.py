"""Published worked examples: what a case.toml says, as accounts, as a stream of samples, and as figures.

The form of a case stands in tests/cases/oee/README.md. Nothing here knows a formula.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from protocols.measurement.account import CATEGORIES, Category, TimeAccount, total
from protocols.measurement.calendar import Calendar, Shift, local_ms
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.definition import PRESETS, Definition
from protocols.measurement.meter import LineMeter
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock

FOLDER: Final = Path(__file__).parents[1] / "cases" / "oee"
UNIT_MS: Final = {"h": 3_600_000, "min": 60_000, "s": 1_000}
ZONE: Final = "Asia/Hong_Kong"
MONDAY: Final = date(2026, 3, 2)
MINUTE_MS: Final = 60_000
SIGNALS: Final = sum(1 << role for role in (0, 2, 3, 5, 6))  # STATE, TOTAL, GOOD, PRODUCT, ORDER are valid
_COUNTS: Final = {
    "rework": "rework_count",
    "startup_rejects": "startup_reject_count",
    "stops": "stop_count",
    "minor_stops": "minor_stop_count",
    "failures": "failure_count",
}


@dataclass(frozen=True)
class Case:
    """One published example."""

    name: str
    data: Mapping[str, Any]

    @property
    def account(self) -> TimeAccount:
        """The published inputs as sums."""
        return total(account_of(part) for part in self.parts)

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        """The machines or products that are added up; the case itself when it has none."""
        return self.data.get("part", [self.data])

    @property
    def products(self) -> tuple[Product, ...]:
        return tuple(
            Product(code, product["name"], ideal_cycle_ns(product))
            for code, product in enumerate(self.data["product"], start=1)
        )


def cases() -> list[Case]:
    """Every folder of tests/cases/oee, by name."""
    return [Case(path.parent.name, tomllib.loads(path.read_text())) for path in sorted(FOLDER.glob("*/case.toml"))]


def definition_of(read: Mapping[str, Any]) -> Definition:
    """A preset with the reading's switches."""
    preset = PRESETS[read["definition"]]
    return Definition.from_data(preset.to_data() | read.get("switches", {}))


def ideal_cycle_ns(product: Mapping[str, Any]) -> int:
    """To the nearest nanosecond: of a rate such as 1.041 pieces a minute the cycle is no whole number of them."""
    above, _, below = product["ideal_cycle_s"].partition("/")
    return round(Fraction(above) / Fraction(below or 1) * 1_000_000_000)


def account_of(part: Mapping[str, Any]) -> TimeAccount:
    """The sums of one machine: its time by category, its products, its counts."""
    times = dict(part["time"])
    unit_ms = UNIT_MS[times.pop("unit")]
    category_ms = [0] * CATEGORIES
    for name, value in times.items():
        ms = Fraction(str(value)) * unit_ms
        assert ms.denominator == 1, f"{name} is no whole number of milliseconds"
        category_ms[Category[name.upper()]] = int(ms)
    made = good = made_ns = good_ns = 0
    for product in part.get("product", []):
        cycle_ns = ideal_cycle_ns(product)
        made, good = made + product["total"], good + product["good"]
        made_ns, good_ns = made_ns + cycle_ns * product["total"], good_ns + cycle_ns * product["good"]
    account = TimeAccount(
        tuple(category_ms),
        planned_ms=sum(category_ms) - category_ms[Category.PLANNED_DOWN] - category_ms[Category.NOT_SCHEDULED],
        total_count=made,
        good_count=good,
        reject_count=made - good,
        standard_total_ns=made_ns,
        standard_good_ns=good_ns,
    )
    return replace(account, **{_COUNTS[name]: value for name, value in part.get("counts", {}).items()})


@dataclass(frozen=True)
class Event:
    """From `at_ms` of the week on the line is in `state`."""

    at_ms: int
    state: State
    product: int
    order: bool


def events(case: Case) -> list[Event]:
    """The case's events and its repeated short stops, in order of time."""
    stream = case.data["stream"]
    codes = {product.name: product.code for product in case.products}
    rows = [(in_ms(row[0]), row[1], row[2] if len(row) > 2 else "") for row in stream["events"]]
    for stop in stream.get("stops", []):
        first, every, lasts = (in_ms(stop[key]) for key in ("first", "every", "minutes"))
        for at in range(first, first + every * stop["times"], every):
            rows += [(at, stop["state"], ""), (at + lasts, "EXECUTE", "")]
    out: list[Event] = []
    product = 1
    for at, state, word in sorted(rows, key=lambda row: row[0]):
        product = codes.get(word, product)
        out.append(Event(at, State[state], product, word != "no order"))
    return out


def samples(case: Case, day_ms: int, until_ms: int) -> Iterator[tuple[int, tuple[int, ...], int]]:
    """A row at every event and every `sample_s` from the first on, with counters that rise while the line executes.

    Pieces of a product come evenly over the time in which it is executed.
    """
    moves = events(case)
    every = case.data["stream"].get("sample_s", 10) * 1_000
    ends = [*(move.at_ms for move in moves[1:]), until_ms]
    wanted = {p.code: (row["total"], row["good"]) for p, row in zip(case.products, case.data["product"], strict=True)}
    whole = dict.fromkeys(wanted, 0)
    for move, end in zip(moves, ends, strict=True):
        whole[move.product] += (end - move.at_ms) * (move.state is State.EXECUTE)
    done = dict.fromkeys(wanted, 0)
    for move, end in zip(moves, ends, strict=True):
        for at in range(move.at_ms, end, every):
            ran = done | {move.product: done[move.product] + (at - move.at_ms) * (move.state is State.EXECUTE)}
            made, good = (
                sum(wanted[code][i] * ran[code] // whole[code] for code in wanted if whole[code]) for i in (0, 1)
            )
            yield day_ms + at, (int(move.state), 0, made, good, 0, move.product, int(move.order)), SIGNALS
        done[move.product] += (end - move.at_ms) * (move.state is State.EXECUTE)


def in_ms(minutes: float) -> int:
    """Minutes, of whole milliseconds."""
    ms = Fraction(str(minutes)) * MINUTE_MS
    assert ms.denominator == 1, f"{minutes} minutes are no whole number of milliseconds"
    return int(ms)


def measured(case: Case) -> TimeAccount:
    """What the meter makes of the case's stream: the sum of its windows over `measured`."""
    stream = case.data["stream"]
    zone = ZoneInfo(ZONE)
    first, last = stream["measured"]
    shifts = tuple(
        Shift(
            row["name"],
            tuple(row.get("weekdays", [0])),
            row["start"],
            row["end"],
            tuple((a, b) for a, b in row.get("breaks", [])),
        )
        for row in stream["shifts"]
    )
    sample_s = stream.get("sample_s", 10)
    configuration = LineConfiguration(
        line_id=case.name,
        name=case.name,
        calendar=Calendar(ZONE, shifts),
        products=case.products,
        counters=(Counter(SignalRole.TOTAL), Counter(SignalRole.GOOD)),
        staleness_ms=3_000 * sample_s,
        definition=definition_of(case.data["read"][0]),
    )
    start_ms, end_ms = (local_ms(zone, MONDAY, minute) for minute in (first, last))
    until = last + 30  # half an hour more, so that no window is left undecided
    meter = LineMeter(configuration, start_ms)
    meter.push(SampleBlock.from_rows(samples(case, local_ms(zone, MONDAY, 0), until * MINUTE_MS)))
    windows = meter.advance(local_ms(zone, MONDAY, until))
    inside = [window for window in windows if window.end_ms <= end_ms]
    assert (inside[0].start_ms, inside[-1].end_ms) == (start_ms, end_ms), "windows tile what is measured"
    return total(window.account for window in inside)


@dataclass(frozen=True)
class Shown:
    """A published number: its digits, how many follow the point, and the unit; None for undefined."""

    digits: int | None
    places: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Shown:
        if text == "undefined":
            return cls(None, 0, "")
        number, _, unit = text.partition(" ")
        return cls(int(number.replace(".", "")), len(number.partition(".")[2]), unit)

    def of(self, value: Fraction | None) -> Shown:
        """`value` (a share, or milliseconds) as it would be printed with these places: halves upward, as people do."""
        if value is None:
            return Shown(None, 0, "")
        scaled = in_unit(value, self.unit) * (100 if self.unit == "%" else 1) * 10**self.places
        return Shown(int(scaled + Fraction(1, 2)), self.places, self.unit)


def in_unit(value: Fraction, unit: str) -> Fraction:
    """A share stays what it is; milliseconds become the unit."""
    return value / UNIT_MS.get(unit, 1)
