"""The live message of a line: unsigned JSON for the hub's page, once a second.

Decides its fields (docs/formats.md has the table). Nothing here is evidence: what is paid by is in the records.
"""

from __future__ import annotations

import json
from typing import Any, Final

from agent.publisher import LastReceipt
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.mapping import STOPS
from protocols.measurement.meter import Live
from protocols.measurement.ratios import throughput_per_hour

VERSION: Final = 1
NS_PER_MS: Final = 1_000_000


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
        "definition": configuration.definition.words,
        "definition_hash": configuration.definition.hash.hex(),
        "definition_data": configuration.definition.to_data(),
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
