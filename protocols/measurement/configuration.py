"""What a line's numbers depend on besides its samples: the configuration that is signed into the log.

Decides the content of a `config` record. Where a tag is read from is told for the reader's sake (`source`), and
does not enter the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from protocols.errors import Malformed
from protocols.measurement.calendar import Calendar
from protocols.measurement.definition import ISO, Definition, data_hash
from protocols.measurement.machine import MachineMapping, PackML, mapping_data, mapping_from
from protocols.plc.roles import COLUMNS, COUNTER_ROLES, ROLES, SignalRole

WINDOW_MS: Final = 60_000
STALENESS_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Product:
    """A product that the line makes: the PLC's code for it, its name, and its ideal cycle (PRI), if known."""

    code: int
    name: str
    ideal_cycle_ns: int | None


class Encoding(StrEnum):
    """How a counter's raw value holds its number."""

    BINARY = "binary"
    BCD = "bcd"  # four bits a decimal digit; a nibble over 9 is no number, and the reading is refused


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter tag. Several of one role are lanes: each is followed by itself, and their pieces are added.

    `modulus`: the value at which it returns to 0: 65536 for 16 bits, 2147483648 for a PackML counter (whose last
    value is 2147483647), 10000 for four BCD digits; 0 if it never does.
    """

    role: SignalRole
    modulus: int = 0
    encoding: Encoding = Encoding.BINARY


@dataclass(frozen=True)
class LineConfiguration:
    """The measured line.

    `mapping`: how the machine's state is told from its signals.
    `production_modes`: raw mode values that count as production; empty when the line has no mode tag.
    `max_pieces_per_hour`: the physical limit of the line, which tells a roll-over from a reset; 0 if not known.
    `staleness_ms`: how long a value holds without news before the state is UNKNOWN.
    `heartbeat`: whether the PLC has a heartbeat tag; when that stands still for `staleness_ms`, the PLC does.
    `source`: tag map and protocol in words, for the reader of the log.
    """

    line_id: str
    name: str
    calendar: Calendar
    products: tuple[Product, ...]
    counters: tuple[Counter, ...]
    mapping: MachineMapping = PackML()  # noqa: RUF009  frozen
    production_modes: tuple[int, ...] = ()
    max_pieces_per_hour: int = 0
    window_ms: int = WINDOW_MS
    staleness_ms: int = STALENESS_MS
    heartbeat: bool = False
    definition: Definition = ISO
    source: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        roles = {counter.role for counter in self.counters}
        if not roles <= set(COUNTER_ROLES) or ROLES + len(self.counters) - len(roles) > COLUMNS:
            raise Malformed(f"these are no counters of one line, or too many: {self.counters}")

    def to_data(self) -> dict[str, Any]:
        """Plain maps, lists, strings and integers, for the `config` record and the hash."""
        return {
            "calendar": self.calendar.to_data(),
            "counters": [[counter.role.name, counter.modulus, str(counter.encoding)] for counter in self.counters],
            "definition": self.definition.to_data(),
            "heartbeat": int(self.heartbeat),
            "line_id": self.line_id,
            "mapping": mapping_data(self.mapping),
            "max_pieces_per_hour": self.max_pieces_per_hour,
            "name": self.name,
            "production_modes": list(self.production_modes),
            "products": [
                {"code": p.code, "name": p.name}
                | ({} if p.ideal_cycle_ns is None else {"ideal_cycle_ns": p.ideal_cycle_ns})
                for p in self.products
            ],
            "source": dict(self.source),
            "staleness_ms": self.staleness_ms,
            "window_ms": self.window_ms,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> LineConfiguration:
        """The inverse of `to_data`. Raises Malformed."""
        try:
            return cls(
                line_id=data["line_id"],
                name=data["name"],
                calendar=Calendar.from_data(data["calendar"]),
                products=tuple(Product(p["code"], p["name"], p.get("ideal_cycle_ns")) for p in data["products"]),
                counters=tuple(
                    Counter(SignalRole[role], modulus, Encoding(code)) for role, modulus, code in data["counters"]
                ),
                mapping=mapping_from(data["mapping"]),
                production_modes=tuple(data["production_modes"]),
                max_pieces_per_hour=data["max_pieces_per_hour"],
                window_ms=data["window_ms"],
                staleness_ms=data["staleness_ms"],
                heartbeat=bool(data["heartbeat"]),
                definition=Definition.from_data(data["definition"]),
                source=dict(data["source"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"a line's configuration does not parse: {error!r}") from error

    @cached_property
    def hash(self) -> bytes:
        """32 bytes that each measurement names."""
        return data_hash(self.to_data())

    @property
    def counter_columns(self) -> tuple[int, ...]:
        """The column of each of `counters` in a block: the role's, or the next after all roles for a further lane."""
        out: list[int] = []
        following = ROLES
        for counter in self.counters:
            if counter.role in out:
                out.append(following)
                following += 1
            else:
                out.append(int(counter.role))
        return tuple(out)

    @cached_property
    def ideal_cycle_ns(self) -> dict[str, int | None]:
        """Ideal cycle by product name."""
        return {product.name: product.ideal_cycle_ns for product in self.products}
