"""The outcome of an upgrade: what a project's windows say, by the rules of its plan.

Decides every figure of a report and the verdict word. Pure and deterministic: the hub writes it, and an auditor
computes it again offline and compares `Outcome.to_data()` to the last integer.
The method in plain words: docs/outcome.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from protocols.measurement.account import Window
from protocols.measurement.plan import Period, Plan

__all__ = ["Figure", "Finding", "Outcome", "Period", "Plan", "outcome"]


class Finding(StrEnum):
    """The verdict in one word."""

    IMPROVED = "improved"
    NOT_SHOWN = "not shown"
    WORSENED = "worsened"
    INSUFFICIENT = "insufficient data"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure before and after, with its interval.

    `relative`: the change is reporting / baseline - 1; else it is the difference. Changes in parts per million.
    None where it is undefined.
    """

    name: str
    unit: str
    formula: str
    definition_hash: bytes
    relative: bool
    baseline: Fraction | None
    reporting: Fraction | None
    change_ppm: int | None
    low_ppm: int | None
    high_ppm: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """See `outcome`."""

    plan: Plan
    finding: Finding
    reasons: tuple[str, ...]
    figures: tuple[Figure, ...]  # the first is the primary one

    def to_data(self) -> dict[str, Any]:
        """Plain maps, lists, strings, integers and None: the content of report.json."""
        raise NotImplementedError


def outcome(plan: Plan, windows: Mapping[str, Sequence[Window]]) -> Outcome:
    """The outcome of `plan` from the windows of its lines, by line id, in any order.

    Windows of other lines and of other times are passed over. Raises Malformed when two windows of a line overlap.
    """
    raise NotImplementedError
