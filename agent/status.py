"""`linetally-agent status`: what the spool says, read beside a running agent.

Decides what is shown. Asks neither the PLC nor the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from agent.config import AgentConfiguration
from agent.glance import glance_words, is_running, read_glance, seen_ms
from agent.late import read_late
from agent.log_watch import read_alarm, read_seen
from agent.spool import Spool
from protocols.errors import Malformed
from protocols.evidence.bodies import Gap
from protocols.evidence.record import SignedRecord
from protocols.measurement.definition import Definition
from protocols.measurement.notes import excess_note
from protocols.measurement.ratios import availability, effectiveness, oee, quality
from protocols.measurement.rounding import rounded
from protocols.measurement.shown import Shown

STOPS_SHOWN: Final = 3
GAPS_SHOWN: Final = 3


def read_status(configuration: AgentConfiguration) -> dict[str, Any]:
    """The status as data, for `--json`. Raises LinetallyError when there is no spool."""
    with Spool.open_read_only(configuration.state_folder) as spool:
        receipt = spool.meta("last_receipt")
        sequence, time_ms = receipt.decode().split() if receipt else ("", "")
        following, _ = spool.head()
        newest = spool.lines()
        seen = read_seen(spool)
        lines = []
        for line in configuration.lines:
            kept = spool.carry(line.line_id)
            window = newest.get(line.line_id)
            late = read_late(spool, line.line_id)
            lines.append(
                {
                    "line": line.line_id,
                    "name": line.configuration.name,
                    "stops": [
                        {"start_ms": s.start_ms, "end_ms": s.end_ms, "category": s.category.name, "reason": s.reason}
                        for s in spool.stops(line.line_id, STOPS_SHOWN)
                    ],
                    "late": None if late is None else {"count": late.count, "last_ms": late.last_ms},
                    "shift": None if kept is None else _shift(kept[1], line.configuration.definition),
                    "measured_until_ms": None if kept is None else kept[1]["closed_ms"],
                    "last_window": None
                    if window is None
                    else {
                        "start_ms": window.start_ms,
                        "end_ms": window.end_ms,
                        "total": window.account.total_count,
                        "good": window.account.good_count,
                        "unknown_ms": window.account.unknown_ms,
                    },
                }
            )
        return {
            "gateway": configuration.gateway_id,
            "lines": lines,
            "records": following,
            "gaps": _gaps(spool),
            "spool_depth": spool.depth(),
            "last_receipt": {"sequence": int(sequence), "time_ms": int(time_ms)} if receipt else None,
            "log_size": None if seen is None else seen.size,
            "log_alarm": read_alarm(spool),
            "raw": [
                {
                    "line": held.line_id,
                    "chunks": held.chunks,
                    "bytes": held.size_bytes,
                    "oldest_ms": held.oldest_ms,
                    "newest_ms": held.newest_ms,
                }
                for held in spool.shelf.held()
            ],
            "raw_full": (spool.meta("raw_full") or b"").decode() or None,
            "running": None if configuration.is_replay else is_running(configuration.state_folder),
            "seen_ms": seen_ms(configuration.state_folder),
            "now": read_glance(configuration.state_folder),
            "refused": (spool.meta("refused") or b"").decode() or None,
        }


def _gaps(spool: Spool) -> list[dict[str, Any]]:
    """The newest signed gaps that the spool still holds, oldest first."""
    bodies = [SignedRecord(raw).record.body for raw in spool.newest_of("gap", GAPS_SHOWN)]
    return [
        {"line": body.line_id, "from_ms": body.from_ms, "to_ms": body.to_ms, "reason": body.reason}
        for body in reversed(bodies)
        if isinstance(body, Gap)
    ]


def _shift(kept: Mapping[str, Any], definition: Definition) -> dict[str, Any] | None:
    """The shift under way, as far as its windows are closed: figures in thousandths, None where undefined."""
    try:
        shown = Shown.from_data(kept["live"])
    except (KeyError, Malformed):
        return None  # it serves display alone, and may be missing
    if not shown.shift:
        return None
    figures = (oee, availability, effectiveness, quality)
    exact = {figure.name: figure(shown.account, definition) for figure in figures}
    over = excess_note(shown.account, definition)
    return {
        "shift": shown.shift,
        **{name: None if value is None else rounded(value, 3) for name, value in exact.items()},
        "total": shown.account.total_count,
        "good": shown.account.good_count,
        "excess": None if over is None else over.sentence,
    }


def _shift_words(shift: dict[str, Any]) -> str:
    def share(name: str) -> str:
        return "–" if shift[name] is None else f"{shift[name] / 10:.1f} %"

    parts = ", ".join(f"{name} {share(name)}" for name in ("availability", "effectiveness", "quality"))
    words = f"shift {shift['shift']} so far: OEE {share('oee')} ({parts}); {shift['good']:,} good of {shift['total']:,}"
    return words if shift["excess"] is None else f"{words}; effectiveness: {shift['excess']}"


def status_words(status: dict[str, Any]) -> str:
    """The status for a person."""
    out = [f"gateway {status['gateway']}: {status['records']} records made, {status['spool_depth']} without a receipt"]
    if status["running"] is False:
        since = "" if status["seen_ms"] is None else f" since {_time(status['seen_ms'])}"
        out.append(
            f"NOT RUNNING: no agent has been seen{since}; what follows is of before. To mend: linetally-agent doctor"
        )
    receipt = status["last_receipt"]
    out.append(
        "no receipt from the hub yet"
        if receipt is None
        else f"last receipt: record {receipt['sequence']}, {_time(receipt['time_ms'])}"
    )
    if status["now"] is not None:
        out.append(
            f"the broker is {'connected' if status['now'].get('broker') else 'NOT CONNECTED; records wait here'}"
        )
    if status["log_alarm"]:
        out.append(f"ALARM: {status['log_alarm']['words']}")
    if status["refused"]:
        out.append(f"the hub refuses record {status['refused']}")
    glance = status["now"] or {"lines": []}
    seen = {line["line"]: line for line in glance["lines"]}
    width = max(len(line["line"]) for line in status["lines"])
    for line in status["lines"]:
        until = line["measured_until_ms"]
        words = "never measured" if until is None else f"measured until {_time(until)}"
        window = line["last_window"]
        if window is not None:
            words += f"; {window['good']:,} good of {window['total']:,} in the last window"
        out.append(f"{line['line']:<{width}}  {words}")
        if line["shift"] is not None:
            out.append(f"{'':<{width}}  {_shift_words(line['shift'])}")
        if line["late"] is not None:
            words = (
                f"{line['late']['count']:,} values came too late so far, the last at {_time(line['late']['last_ms'])}"
            )
            out.append(f"{'':<{width}}  {words}")
        out += [f"{'':<{width}}  {_stop(stop)}" for stop in line["stops"]]
        if line["line"] in seen:
            out.append(f"{'':<{width}}  at {_time(glance['time_ms'])}:")
            out += [f"{'':<{width}}    {words}" for words in glance_words(seen[line["line"]])]
    for gap in status["gaps"]:
        seconds = (gap["to_ms"] - gap["from_ms"]) // 1000
        out.append(
            f"gap from {_time(gap['from_ms'])}, {seconds // 60} min {seconds % 60} s: {gap['line']}, {gap['reason']}"
        )
    for held in status["raw"]:
        days = (held["newest_ms"] - held["oldest_ms"]) / 86_400_000
        words = f"{days:.1f} days, {held['bytes'] / 1e6:.1f} MB, from {_time(held['oldest_ms'])} on"
        out.append(f"raw samples of {held['line']}: {words}")
    if not status["raw"]:
        out.append("no raw samples are held")
    if status["raw_full"]:
        out.append(f"new raw samples are not kept: {status['raw_full']}. Raise raw.max_megabytes if that lasts")
    return "\n".join(out)


def _stop(stop: dict[str, Any]) -> str:
    seconds = (stop["end_ms"] - stop["start_ms"]) // 1000
    code = f", reason code {stop['reason']}" if stop["reason"] else ""
    category = stop["category"].replace("_", " ").lower()
    return f"stop from {_time(stop['start_ms'])}, {seconds // 60} min {seconds % 60} s: {category}{code}"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")
