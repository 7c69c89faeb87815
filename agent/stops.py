"""Which stop a person means: by the time that `status` shows, by a time within it, or the last one.

Decides the match. A stop is named in an amendment by the exact millisecond at which it began, which nobody types.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from agent.spool import KEPT_STOPS, Spool
from protocols.errors import LinetallyError, Refused
from protocols.measurement.calendar import wall_ms
from protocols.measurement.timeline import Stop


@dataclass(frozen=True, slots=True)
class MeantStop:
    """`start_ms`: when it began. `measured_reason`: what was measured as its reason, "" for none or not known."""

    start_ms: int
    measured_reason: str


def time_ms(option: str, text: str, zone: ZoneInfo) -> int:
    """Unix milliseconds, or ISO 8601 with an offset or on the clock of `zone`. Raises LinetallyError."""
    if text.isdecimal() and 8 < len(text) < 16:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return wall_ms(zone, moment)
        return wall_ms(ZoneInfo("UTC"), moment.astimezone(UTC).replace(tzinfo=None))
    except (ValueError, OverflowError):
        raise LinetallyError(f'{option}: "{text}" is not a time; write it like 2026-11-21T14:03:20') from None


def find_stop(spool: Spool, line_id: str, text: str, zone: ZoneInfo) -> MeantStop:
    """The stop that is meant. A time of which the gateway keeps no stop stands for itself: an open stop, or an old one.

    Raises Refused where several are meant, or none although the stops of that time are kept.
    """
    stops = spool.stops(line_id, KEPT_STOPS)
    if text == "last":
        if not stops:
            raise Refused("unknown-stop", f"this gateway knows no closed stop of {line_id}")
        return meant(stops[0])
    at_ms = time_ms("--stop", text, zone)
    began = [stop for stop in stops if at_ms <= stop.start_ms < at_ms + _precision_ms(text)]
    found = began or [stop for stop in stops if stop.start_ms <= at_ms < stop.end_ms]
    if len(found) == 1:
        return meant(found[0])
    if found:
        raise Refused("several-stops", f"{len(found)} stops began then: {_list(found, zone)}; name one of them")
    if stops and stops[-1].start_ms <= at_ms < stops[0].end_ms:
        near = sorted(stops, key=lambda stop: abs(stop.start_ms - at_ms))[:3]
        raise Refused("unknown-stop", f"{line_id} did not stop then; the nearest stops: {_list(near, zone)}")
    return MeantStop(at_ms, "")


def _precision_ms(text: str) -> int:
    """How long a stretch a time names: as status shows it a second, without seconds a minute."""
    clock = text.replace(" ", "T").partition("T")[2].split("+")[0].split("-")[0].rstrip("Z")
    if not clock or "." in clock:
        return 1
    return 1000 if clock.count(":") == 2 else 60_000


def meant(stop: Stop) -> MeantStop:
    """A stop that the gateway keeps."""
    return MeantStop(stop.start_ms, f"#{stop.reason}" if stop.reason else "")


def _list(stops: list[Stop], zone: ZoneInfo) -> str:
    times = (datetime.fromtimestamp(stop.start_ms / 1000, UTC).astimezone(zone) for stop in reversed(stops[:10]))
    return ", ".join(time.replace(tzinfo=None).isoformat(timespec="milliseconds") for time in times)
