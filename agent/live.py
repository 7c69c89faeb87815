"""The live message of a line: unsigned JSON for the hub's page, once a second.

Decides its fields (docs/formats.md has the table), and when it goes. Nothing here is evidence: what is paid by is in
the records.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from agent.clock import Clock
from agent.line import Line
from agent.publisher import LastReceipt, Publisher
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.definition import Definition
from protocols.measurement.mapping import STOPS
from protocols.measurement.meter import Live
from protocols.measurement.ratios import throughput_per_hour
from protocols.plc.packml import State

if TYPE_CHECKING:
    from agent.sparkplug import Sparkplug

NEWS_S: Final = 5.0
"""So long after a line was connected its state is news; if it is not known by then, it waits for its turn."""
VERSION: Final = 1
NS_PER_MS: Final = 1_000_000


class Teller:
    """Tells the hub, and Sparkplug's listeners if there are any, what the lines do. Says nothing while no broker is
    connected."""

    def __init__(self, publisher: Publisher, clock: Clock, sparkplug: Sparkplug | None) -> None:
        self._publisher = publisher
        self._clock = clock
        self._sparkplug = sparkplug
        self._simulated = clock.sync().source == "simulated"
        self._told_s: dict[str, float] = {}  # by line: which connection (`Line.connected_s`) was told of

    def tell(self, lines: Sequence[Line]) -> None:
        """All lines, as of now."""
        if not self._publisher.connected:
            return
        if self._sparkplug is not None:
            self._sparkplug.send(lines, self._publisher.depth)
        for line in lines:
            self._tell(line, line.meter.live(self._clock.now_ms()))

    def news(self, lines: Iterable[Line]) -> list[Line]:
        """The lines that were connected a moment ago, and of which nothing was told since."""
        if not self._publisher.connected:
            return []
        since_s, told_s = time.monotonic() - NEWS_S, self._told_s
        return [
            line
            for line in lines
            if line.connected_s > since_s and line.reading and told_s.get(line.settings.line_id) != line.connected_s
        ]

    def tell_news(self, lines: Iterable[Line]) -> None:
        """Those of `news` whose state is known by now: whoever waits for a line to appear need not wait a second."""
        for line in self.news(lines):
            live = line.meter.live(self._clock.now_ms())
            if live.state is not State.UNDEFINED:
                self._tell(line, live)

    def _tell(self, line: Line, live: Live) -> None:
        if live.state is not State.UNDEFINED:
            self._told_s[line.settings.line_id] = line.connected_s
        self._publisher.publish_live(
            live_message(
                line.settings.configuration,
                live,
                simulated=self._simulated,
                receipt=self._publisher.last_receipt,
                spool_depth=self._publisher.depth,
                late_count=line.late_count,
            )
        )


def live_message(
    configuration: LineConfiguration,
    live: Live,
    *,
    simulated: bool,
    receipt: LastReceipt | None,
    spool_depth: int,
    late_count: int = 0,
) -> bytes:
    """UTF-8 JSON. Accounts are `TimeAccount.as_ints()`; targets are pieces at the ideal cycle over planned time."""
    ideal_ns = configuration.ideal_cycle_ns.get(live.product)
    rate = throughput_per_hour(live.recent_account)
    stops: list[dict[str, Any]] = [
        {
            "start_ms": stop.start_ms,
            "end_ms": stop.end_ms,
            "category": stop.category.name,
            "reason": f"#{stop.reason}" if stop.reason else "",
        }
        for stop in live.stops
    ]
    if stops and live.category in STOPS:
        stops[-1]["end_ms"] = None  # still open
    data: dict[str, Any] = {
        "v": VERSION,
        "line": configuration.line_id,
        "name": configuration.name,
        "time_ms": live.time_ms,
        "state": live.state.name,
        "category": live.category.name,
        "since_ms": live.since_ms,
        "product": live.product,
        "order": "",
        "shift": live.shift,
        "shift_start_ms": live.shift_start_ms,
        "shift_end_ms": live.shift_end_ms,
        "shift_account": live.shift_account.as_ints(),
        "window_account": live.recent_account.as_ints(),
        "target_shift": None if ideal_ns is None else live.planned_shift_ms * NS_PER_MS // ideal_ns,
        "target_now": None if ideal_ns is None else live.shift_account.planned_ms * NS_PER_MS // ideal_ns,
        "pieces_per_hour": None if rate is None else round(float(rate), 1),
        "ribbon": [[start_ms, int(category)] for start_ms, category in live.ribbon],
        "stops": stops,
        "simulated": simulated,
        "receipt": None if receipt is None else {"sequence": receipt.sequence, "time_ms": receipt.time_ms},
        "spool_depth": spool_depth,
        "late_count": late_count,
        **_definition_fields(configuration.definition),
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


@lru_cache(64)
def _definition_fields(definition: Definition) -> dict[str, Any]:
    return {
        "definition": definition.words,
        "definition_hash": definition.hash.hex(),
        "definition_data": definition.to_data(),
    }
