"""A line as Sparkplug shows it: the view of a page, where the agent's own live message does not come.

Decides what is let in of metrics that anybody on the broker may have written, and that a figure which a gateway has
rounded stands apart from those that are made here from integers.
"""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction
from typing import Any, Final, TypeVar

from hub.api.live_message import MAX_RIBBON, LineView, Source, Told
from hub.live import SparkplugMessage
from hub.live_wire import SAFE
from protocols.measurement.account import Category
from protocols.measurement.rounding import rounded
from protocols.plc.packml import State
from protocols.wire import sparkplug as names

MAX_TEXT: Final = 200
MAX_PERCENT: Final = 100_000.0
_Name = TypeVar("_Name", State, Category)


class SparkplugLine:
    """One line's last hours: each change of its category since it was first heard, for the ribbon."""

    def __init__(self) -> None:
        self._ribbon: deque[tuple[int, str]] = deque(maxlen=MAX_RIBBON)

    def view(self, message: SparkplugMessage, timezone: str, trend: list[tuple[int, float]]) -> LineView:
        """The view of its newest message. Metrics of another type or out of range are as if they were not known."""
        metrics = message.metrics
        time_ms = min(max(message.time_ms, 0), SAFE)
        category = _one_of(Category.UNKNOWN, metrics.get(names.CATEGORY)).name
        if self._ribbon and self._ribbon[-1][0] > time_ms:
            self._ribbon.clear()  # the gateway's clock went back
        if not self._ribbon or self._ribbon[-1][1] != category:
            self._ribbon.append((time_ms, category))
        return LineView(
            line=message.line_id, name="", gateway=message.gateway_id, source=Source.SPARKPLUG, timezone=timezone,
            time_ms=time_ms, received_ms=message.received_ms, gone=None, gone_ms=None,
            state=_one_of(State.UNDEFINED, metrics.get(names.STATE)).name, category=category,
            since_ms=self._ribbon[-1][0], product=_text(metrics.get(names.PRODUCT)), order="",
            shift=_text(metrics.get(names.SHIFT)), shift_start_ms=None, shift_end_ms=None,
            shift_figures=None, recent_figures=None,
            told=Told(
                oee_percent=_percent(metrics.get(names.OEE)),
                availability_percent=_percent(metrics.get(names.AVAILABILITY)),
                effectiveness_percent=_percent(metrics.get(names.EFFECTIVENESS)),
                quality_percent=_percent(metrics.get(names.QUALITY)),
                total_count=_count(metrics.get(names.TOTAL)),
                good_count=_count(metrics.get(names.GOOD)),
                reject_count=_count(metrics.get(names.REJECT)),
            ),
            target_shift=None, target_now=None, pieces_per_hour=pieces_per_hour(message), trend=trend,
            ribbon=list(self._ribbon), stops=[], simulated=False, late_count=0, receipt=None,
            spool_depth=_count(message.waiting) or 0, definition="", definition_hash="",
        )  # fmt: skip


def pieces_per_hour(message: SparkplugMessage) -> float | None:
    """The throughput that it tells, if any."""
    value = message.metrics.get(names.RATE)
    return value if isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1e9 else None


def _one_of(default: _Name, value: Any) -> _Name:
    return type(default).__members__.get(value, default) if isinstance(value, str) else default


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and -SAFE <= value <= SAFE else None


def _percent(value: Any) -> float | None:
    """Of a share of 1; a good count below zero gives one below zero."""
    if not isinstance(value, float) or not math.isfinite(value) or abs(value) > MAX_PERCENT / 100:
        return None
    return rounded(Fraction(value), 3) / 10
