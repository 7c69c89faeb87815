"""The pre-registered plan: the rules of an evaluation, fixed before the upgrade is installed.

Decides what a `plan` record holds. Its hash goes into the log and seeds the resampling, so neither the rules nor
the luck of the draw can be chosen afterwards. What follows from the plan is computed in `outcome`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from protocols.errors import Malformed
from protocols.measurement.definition import ISO, Definition, data_hash

PRIMARY: Final = "good-output-rate"
PLAN_VERSION: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """Half-open [from_ms, to_ms), UTC. A window counts wholly to the period in which it starts."""

    from_ms: int
    to_ms: int

    def __post_init__(self) -> None:
        if self.to_ms < self.from_ms:
            raise Malformed(f"a period ends at {self.to_ms}, before it starts at {self.from_ms}")

    def __contains__(self, instant_ms: int) -> bool:
        return self.from_ms <= instant_ms < self.to_ms

    @property
    def length_ms(self) -> int:
        return self.to_ms - self.from_ms


@dataclass(frozen=True)
class Plan:
    """The evaluation of one project. Raises Malformed when the periods overlap or a limit is impossible.

    `ideal_cycles_ns`: PRI_0, the ideal cycle of each product in ns a piece, frozen before the upgrade. A product
    that is not in it is new and stands apart.
    `minimum_effect_permille`: the smallest relative change of the primary figure that counts as improved.
    `confidence_permille`: of the interval. `min_shifts`: the fewest shifts with observed planned time on each side.
    `coverage_minimum_permille`, `coverage_difference_permille`: the coverage gate.
    `apart_maximum_permille`: the largest share of a period's observed planned time that may go to new products.
    The defaults are linetally's own choices, not a standard's.
    """

    project_id: str
    scheme: str
    title: str
    enterprise: str
    line_ids: tuple[str, ...]
    baseline: Period
    commissioning: Period
    reporting: Period
    ideal_cycles_ns: Mapping[str, int] = field(default_factory=dict)
    primary: str = PRIMARY
    minimum_effect_permille: int = 0
    confidence_permille: int = 950
    coverage_minimum_permille: int = 900
    coverage_difference_permille: int = 50
    apart_maximum_permille: int = 200
    min_shifts: int = 80
    definition: Definition = ISO
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        periods = (self.baseline, self.commissioning, self.reporting)
        if any(after.from_ms < before.to_ms for before, after in pairwise(periods)):
            raise Malformed("a plan's baseline, commissioning and reporting periods must follow each other")
        if not self.baseline.length_ms or not self.reporting.length_ms:
            raise Malformed("a plan's baseline and reporting periods must not be empty")
        times = [instant for period in periods for instant in (period.from_ms, period.to_ms)]
        if any(type(number) is not int for number in (*times, *self.ideal_cycles_ns.values())):
            raise Malformed("a plan's times and ideal cycles are integers")
        if not self.line_ids or len(set(self.line_ids)) != len(self.line_ids):
            raise Malformed("a plan names each of its lines once, and at least one")
        if self.primary != PRIMARY:
            raise Malformed(f"the primary figure is {PRIMARY!r}; {self.primary!r} is not known")
        if any(cycle <= 0 for cycle in self.ideal_cycles_ns.values()) or not self.ideal_cycles_ns:
            raise Malformed("a plan freezes the ideal cycle of at least one product, each above 0 ns")
        if not 500 <= self.confidence_permille <= 990:
            raise Malformed("the confidence of a plan is between 500 and 990 permille")
        limits = (self.coverage_minimum_permille, self.coverage_difference_permille, self.apart_maximum_permille)
        if any(not 0 <= limit <= 1000 for limit in (*limits, self.minimum_effect_permille)) or self.min_shifts < 2:
            raise Malformed("a plan's limits are 0 to 1000 permille, and at least 2 shifts on each side")

    def to_data(self) -> dict[str, Any]:
        """Plain maps with ASCII keys, lists, strings and integers: the body of a `plan` record."""
        return {
            "apart_maximum_permille": self.apart_maximum_permille,
            "baseline": [self.baseline.from_ms, self.baseline.to_ms],
            "commissioning": [self.commissioning.from_ms, self.commissioning.to_ms],
            "confidence_permille": self.confidence_permille,
            "coverage_difference_permille": self.coverage_difference_permille,
            "coverage_minimum_permille": self.coverage_minimum_permille,
            "definition": self.definition.to_data(),
            "enterprise": self.enterprise,
            # A list, not a map: the names of products need not be ASCII, and a map's keys must be (RFC 8785 order).
            "ideal_cycles_ns": [[product, cycle] for product, cycle in sorted(self.ideal_cycles_ns.items())],
            "line_ids": list(self.line_ids),
            "min_shifts": self.min_shifts,
            "minimum_effect_permille": self.minimum_effect_permille,
            "primary": self.primary,
            "project_id": self.project_id,
            "reporting": [self.reporting.from_ms, self.reporting.to_ms],
            "scheme": self.scheme,
            "timezone": self.timezone,
            "title": self.title,
            "version": PLAN_VERSION,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_data`. Raises Malformed for anything but its exact form."""
        try:
            plan = cls(
                project_id=data["project_id"],
                scheme=data["scheme"],
                title=data["title"],
                enterprise=data["enterprise"],
                line_ids=tuple(data["line_ids"]),
                baseline=Period(*data["baseline"]),
                commissioning=Period(*data["commissioning"]),
                reporting=Period(*data["reporting"]),
                ideal_cycles_ns=dict(data["ideal_cycles_ns"]),
                primary=data["primary"],
                minimum_effect_permille=data["minimum_effect_permille"],
                confidence_permille=data["confidence_permille"],
                coverage_minimum_permille=data["coverage_minimum_permille"],
                coverage_difference_permille=data["coverage_difference_permille"],
                apart_maximum_permille=data["apart_maximum_permille"],
                min_shifts=data["min_shifts"],
                definition=Definition.from_data(data["definition"]),
                timezone=data["timezone"],
            )
            exact = plan.to_data() == data and data_hash(plan.to_data()) == data_hash(data)
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"a plan does not parse: {error!r}") from error
        if not exact:
            raise Malformed(f"a plan has exactly the keys {sorted(plan.to_data())}, in their one form")
        return plan

    @cached_property
    def hash(self) -> bytes:
        """32 bytes: what the log holds, and the seed of the resampling."""
        return data_hash(self.to_data())
