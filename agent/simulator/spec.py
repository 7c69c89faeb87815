"""The plant file: what a simulated plant is made of.

Decides the keys of the TOML file, their units and what is refused. Every field is immutable, so that a plant is a
pure function of its specification and its start. How a line behaves is decided in `walk`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.simulator import tables
from agent.toml_table import Table, read_toml

PACKML_MODULUS = 2**31
"""PackML counters are a signed 32-bit integer that rolls over at 2147483647 (OPC 30050, 5.2)."""


class Protocol(StrEnum):
    """How a line is served. NONE: its history can be generated, but no server shows it."""

    OPCUA = "opcua"
    MODBUS = "modbus"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ProductSpec:
    """`cycle_ms`: the machine's best cycle for a piece. `share`: its weight among the orders."""

    code: int
    name: str
    cycle_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """`pieces`: the median size of an order. `spread`: sigma of the lognormal distribution around a median."""

    pieces: int
    spread: float
    setup_minutes: float
    setup_spread: float
    no_order_share: float
    no_order_minutes: float


@dataclass(frozen=True, slots=True)
class StopSpec:
    """A kind of stop: a mean running time between two (exponential), and a median length (lognormal).

    `share`: the part of them that is internal (minor stops: HELD) or starved (restraint); else blocked.
    """

    every_minutes: float
    seconds: float
    spread: float
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class ShiftSpec:
    """`start_minute`, `end_minute`: local minutes after midnight; an end that is not later is on the next day.

    `days`: ISO weekdays, 1 = Monday. `breaks`: local (start, end) minutes.
    """

    name: str
    start_minute: int
    end_minute: int
    days: frozenset[int]
    breaks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class UpgradeSpec:
    """From `at_ms` the line is down for `install_ms` in maintenance mode, and is a better machine after it."""

    at_ms: int
    install_ms: int
    cycle_factor: float
    failure_factor: float
    minor_stop_factor: float
    reject_rate: float


@dataclass(frozen=True, slots=True)
class LineSpec:
    """One line. Counters are shown modulo `counter_modulus`, beginning at `counter_start`.

    `counter_reset_ms`: instants at which the PLC restarts and its counters begin again at 0.
    """

    id: str
    name: str
    seed: int
    protocol: Protocol
    timezone: ZoneInfo
    products: tuple[ProductSpec, ...]
    reject_rate: float
    speed_loss: float
    startup_pieces: int
    startup_reject_rate: float
    startup_seconds: float
    orders: OrderSpec
    minor_stops: StopSpec
    failures: StopSpec
    restraint: StopSpec
    shifts: tuple[ShiftSpec, ...]
    upgrade: UpgradeSpec | None
    counter_modulus: int
    counter_start: int
    counter_reset_ms: tuple[int, ...] = field(default=())

    def product_name(self, code: int) -> str:
        """The name of a product code, "" when there is none."""
        return next((product.name for product in self.products if product.code == code), "")


@dataclass(frozen=True, slots=True)
class PlantSpec:
    """The lines of one plant file, in its order."""

    lines: tuple[LineSpec, ...]

    def line(self, line_id: str) -> LineSpec:
        """The line of this id; KeyError when there is none."""
        for line in self.lines:
            if line.id == line_id:
                return line
        raise KeyError(line_id)

    def served_by(self, protocol: Protocol) -> tuple[LineSpec, ...]:
        """The lines that this protocol's server shows."""
        return tuple(line for line in self.lines if line.protocol is protocol)


def load_plant(path: Path) -> PlantSpec:
    """Read a plant file. Raises ConfigurationError with file, line and mend."""
    root = read_toml(path)
    zone = root.text("timezone", "UTC")
    lines = tuple(_line(table, zone) for table in root.tables("line", required=True))
    root.done()
    seen: set[str] = set()
    for line in lines:
        if line.id in seen:
            raise root.wrong("line", f'two lines have the id "{line.id}"', "give each line its own id")
        seen.add(line.id)
    return PlantSpec(lines)


def _line(table: Table, default_zone: str) -> LineSpec:
    line_id = tables.identifier(table, "id")
    protocol = Protocol(table.choice("protocol", [each.value for each in Protocol]))
    zone = tables.zone(table, "timezone", default_zone)
    products = tuple(_product(product) for product in table.tables("product", required=True))
    if len({product.code for product in products}) != len(products):
        raise table.wrong("product", "two products have the same code", "give each product its own code")
    modulus = table.integer("counter_modulus", PACKML_MODULUS, 2, 2**32)
    if protocol is Protocol.MODBUS and modulus != 2**16:
        mend = "write: counter_modulus = 65536"
        raise table.wrong("counter_modulus", "the Modbus line's counters are 16-bit registers", mend)
    if protocol is Protocol.OPCUA and modulus > PACKML_MODULUS:
        mend = f"at most {PACKML_MODULUS}"
        raise table.wrong("counter_modulus", "PackML counters are signed 32-bit integers", mend)
    startup = table.table("startup")
    shifts = tuple(_shift(shift) for shift in table.tables("shift"))
    upgrade = _upgrade(table.table("upgrade"), zone) if "upgrade" in table else None
    line = LineSpec(
        id=line_id,
        name=table.text("name", line_id),
        seed=table.integer("seed", 1, 0, 2**63 - 1),
        protocol=protocol,
        timezone=zone,
        products=products,
        reject_rate=tables.number(table, "reject_rate", 0.0, 0.0, 1.0),
        speed_loss=tables.number(table, "speed_loss", 0.0, 0.0, 10.0),
        startup_pieces=startup.integer("pieces", 0, 0, 1_000_000),
        startup_reject_rate=tables.number(startup, "reject_rate", 0.0, 0.0, 1.0),
        startup_seconds=tables.number(startup, "seconds", 10.0, 0.001, 86_400.0),
        orders=_orders(table.table("orders")),
        minor_stops=_stop(table.table("minor_stops"), "seconds", 1.0, "held_share"),
        failures=_stop(table.table("failures"), "minutes", 60.0, None),
        restraint=_stop(table.table("restraint"), "minutes", 60.0, "starved_share"),
        shifts=shifts,
        upgrade=upgrade,
        counter_modulus=modulus,
        counter_start=table.integer("counter_start", 0, 0, modulus - 1),
        counter_reset_ms=tables.instants(table, "counter_resets", zone),
    )
    startup.done()
    table.done()
    return line


def _product(table: Table) -> ProductSpec:
    product = ProductSpec(
        table.integer("code", None, 1, 65535),
        table.text("name"),
        tables.number(table, "cycle_ms", None, 20.0, 3_600_000.0),
        tables.number(table, "share", 1.0, 0.0001, 1e6),
    )
    table.done()
    return product


def _orders(table: Table) -> OrderSpec:
    orders = OrderSpec(
        table.integer("pieces", 5000, 1, 10**9),
        tables.number(table, "spread", 0.4, 0.0, 3.0),
        tables.number(table, "setup_minutes", 10.0, 0.01, 10_000.0),
        tables.number(table, "setup_spread", 0.3, 0.0, 3.0),
        tables.number(table, "no_order_share", 0.0, 0.0, 1.0),
        tables.number(table, "no_order_minutes", 30.0, 0.01, 100_000.0),
    )
    table.done()
    return orders


def _stop(table: Table, unit: str, seconds_each: float, share: str | None) -> StopSpec:
    stop = StopSpec(
        tables.number(table, "every_minutes", 1e9, 0.01, 1e9),
        tables.number(table, unit, 1.0, 0.001, 1e6) * seconds_each,
        tables.number(table, "spread", 0.6, 0.0, 3.0),
        tables.number(table, share, 0.5, 0.0, 1.0) if share is not None else 0.0,
    )
    table.done()
    return stop


def _shift(table: Table) -> ShiftSpec:
    shift = ShiftSpec(
        table.text("name"),
        tables.minute(table, "start"),
        tables.minute(table, "end"),
        tables.weekdays(table, "days"),
        tables.minute_ranges(table, "breaks"),
    )
    table.done()
    return shift


def _upgrade(table: Table, zone: ZoneInfo) -> UpgradeSpec:
    upgrade = UpgradeSpec(
        tables.instant(table, "at", zone),
        round(tables.number(table, "install_hours", 0.0, 0.0, 10_000.0) * 3_600_000),
        tables.number(table, "cycle_factor", 1.0, 0.01, 100.0),
        tables.number(table, "failure_factor", 1.0, 0.0001, 100.0),
        tables.number(table, "minor_stop_factor", 1.0, 0.0001, 100.0),
        tables.number(table, "reject_rate", None, 0.0, 1.0),
    )
    table.done()
    return upgrade
