"""What a line's numbers depend on besides its samples: the configuration that is signed into the log.

Decides the content of a `config` record. Where a tag is read from is told for the reader's sake (`source`), and
does not enter the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from protocols.errors import Malformed
from protocols.measurement.calendar import Calendar
from protocols.measurement.definition import ISO, Definition, data_hash
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole

WINDOW_MS: Final = 60_000
STALENESS_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Product:
    """A product that the line makes: the PLC's code for it, its name, and its ideal cycle (PRI), if known."""

    code: int
    name: str
    ideal_cycle_ns: int | None


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter tag. `modulus`: the value at which it returns to 0 (65536 for 16 bits); 0 if it never does."""

    role: SignalRole
    modulus: int = 0


@dataclass(frozen=True)
class LineConfiguration:
    """The measured line.

    `states`: raw value -> PackML state; empty when the tag already speaks PackML's numbers.
    `production_modes`: raw mode values that count as production; empty when the line has no mode tag.
    `max_pieces_per_hour`: the physical limit of the line, which tells a roll-over from a reset; 0 if not known.
    `staleness_ms`: how long a value holds without news before the state is UNKNOWN.
    `source`: tag map and protocol in words, for the reader of the log.
    """

    line_id: str
    name: str
    calendar: Calendar
    products: tuple[Product, ...]
    counters: tuple[Counter, ...]
    states: tuple[tuple[int, State], ...] = ()
    production_modes: tuple[int, ...] = ()
    max_pieces_per_hour: int = 0
    window_ms: int = WINDOW_MS
    staleness_ms: int = STALENESS_MS
    definition: Definition = ISO
    source: Mapping[str, str] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Plain maps, lists, strings and integers, for the `config` record and the hash."""
        return {
            "calendar": self.calendar.to_data(),
            "counters": [[counter.role.name, counter.modulus] for counter in self.counters],
            "definition": self.definition.to_data(),
            "line_id": self.line_id,
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
            "states": [[raw, state.name] for raw, state in self.states],
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
                counters=tuple(Counter(SignalRole[role], modulus) for role, modulus in data["counters"]),
                states=tuple((raw, State[state]) for raw, state in data["states"]),
                production_modes=tuple(data["production_modes"]),
                max_pieces_per_hour=data["max_pieces_per_hour"],
                window_ms=data["window_ms"],
                staleness_ms=data["staleness_ms"],
                definition=Definition.from_data(data["definition"]),
                source=dict(data["source"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"a line's configuration does not parse: {error!r}") from error

    @cached_property
    def hash(self) -> bytes:
        """32 bytes that each measurement names."""
        return data_hash(self.to_data())

    @cached_property
    def ideal_cycle_ns(self) -> dict[str, int | None]:
        """Ideal cycle by product name."""
        return {product.name: product.ideal_cycle_ns for product in self.products}
