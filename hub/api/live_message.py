"""A line as the pages show it, made of what its gateway's live message says.

Decides what is shown, and turns the message's integers into figures, once for all readers. What of a message is
accepted at all is decided in `hub.live_wire`. The signed windows take another way: ingest, log, index.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hub.api.figures import Figures, Frozen, figures
from hub.live import LiveMessage, Loss
from hub.live_wire import LiveReceipt, Stop
from protocols.measurement.account import Category, TimeAccount

MAX_RIBBON: Final = 400
MAX_STOPS: Final = 5


class ShownStop(Stop):
    """A stop on a page. `measured_reason`: what the gateway said, where somebody put the reason right afterwards."""

    measured_reason: str | None = None


class Source(StrEnum):
    """By what a line was heard."""

    LIVE = "live"  # its agent's live message
    SPARKPLUG = "sparkplug"


class Told(Frozen):
    """The shift so far as Sparkplug tells it: rounded by the gateway, null where it does not say."""

    oee_percent: float | None
    availability_percent: float | None
    effectiveness_percent: float | None
    quality_percent: float | None
    total_count: int | None
    good_count: int | None
    reject_count: int | None


class LineView(Frozen):
    """What a page shows of a line, with figures made from integers. Times are ms UTC; `timezone` is the site's.

    Of a line that is heard by Sparkplug alone, `told` stands instead of the figures, and `name` is empty. `gone`: why
    it is not heard any more, where the broker or its gateway has said so (at `gone_ms`, the hub's clock); a line of the
    source "live" that is silent for some of its `interval_s` is not heard either, one of the source "sparkplug" says
    only changes.
    `ribbon`: [start, category] of each run, oldest first; `stops`: newest first; `trend`: [time, pieces an hour].
    """

    line: str
    name: str
    gateway: str
    source: Source = Source.LIVE
    timezone: str
    time_ms: int
    received_ms: int
    interval_s: int = 1
    gone: Loss | None = None
    gone_ms: int | None = None
    state: str
    category: str
    since_ms: int
    product: str
    order: str
    shift: str
    shift_start_ms: int | None
    shift_end_ms: int | None
    shift_figures: Figures | None
    recent_figures: Figures | None
    told: Told | None = None
    target_shift: int | None
    target_now: int | None
    pieces_per_hour: float | None
    trend: list[tuple[int, float]]
    ribbon: list[tuple[int, str]]
    stops: list[ShownStop]
    simulated: bool
    late_count: int
    receipt: LiveReceipt | None
    spool_depth: int
    definition: str
    definition_hash: str


def present(
    message: LiveMessage,
    *,
    timezone: str,
    trend: list[tuple[int, float]],
    amended: Mapping[int, str] = MappingProxyType({}),
) -> LineView:
    """The view of a line. `trend`: (time_ms, pieces an hour) of the last minutes, oldest first. `amended`: reasons that
    were given afterwards, by when their stop began."""
    told = message.told
    gateway, line, definition = told.gateway, told.line, told.definition
    ribbon = (line.ribbon or [])[-MAX_RIBBON:]
    return LineView(
        line=line.line,
        name=line.name,
        gateway=message.gateway_id,
        timezone=timezone,
        time_ms=gateway.time_ms,
        received_ms=message.received_ms,
        interval_s=gateway.interval_s,
        state=line.state,
        category=line.category,
        since_ms=line.since_ms,
        product=line.product,
        order=line.order,
        shift=line.shift,
        shift_start_ms=line.shift_start_ms,
        shift_end_ms=line.shift_end_ms,
        shift_figures=figures(TimeAccount.from_ints(line.shift_account), definition),
        recent_figures=figures(TimeAccount.from_ints(line.window_account), definition),
        target_shift=line.target_shift,
        target_now=line.target_now,
        pieces_per_hour=line.pieces_per_hour,
        trend=trend,
        ribbon=[(at, Category(what).name if isinstance(what, int) else what) for at, what in ribbon],
        stops=[
            _shown(stop, amended.get(stop.start_ms))
            for stop in sorted(line.stops or [], key=lambda stop: -stop.start_ms)[:MAX_STOPS]
        ],
        simulated=gateway.simulated,
        late_count=line.late_count,
        receipt=gateway.receipt,
        spool_depth=gateway.spool_depth,
        definition=told.words,
        definition_hash=line.definition,
    )


def _shown(stop: Stop, amended: str | None) -> ShownStop:
    shown = ShownStop(**stop.model_dump())
    return shown if amended is None else shown.model_copy(update={"reason": amended, "measured_reason": stop.reason})
