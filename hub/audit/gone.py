"""Minutes whose raw samples a gateway has signed not to hold: gone, and said so, rather than unanswered.

Decides which signed raw-gaps explain that a minute cannot be replayed, and whether they were said before anybody asked:
a gateway that drops what it was asked for, and says so afterwards, has withheld it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hub.audit.evidence import Evidence
from hub.audit.minutes import decide_ms
from protocols.measurement.configuration import LineConfiguration


@dataclass(frozen=True, slots=True)
class Gone:
    """A window by its start. `said_late`: the record that says so came into the log after the challenge was made."""

    start_ms: int
    reason: str
    said_late: bool


def gone(evidence: Evidence, line_id: str, starts_ms: Collection[int], asked_size: Mapping[int, int]) -> list[Gone]:
    """Those of a line's windows that lie in a signed raw-gap, in order of time.

    A window lies in one that lacks any of the time from its start until its last stop is decided. `asked_size`: the
    log's size when a window was asked for, where that is known.
    """
    gaps = evidence.raw_gaps(line_id) if starts_ms else []
    if not gaps:
        return []
    decide = {hash_: decide_ms(LineConfiguration.from_data(data)) for hash_, data in evidence.configurations.items()}
    wanted = set(starts_ms)
    found: dict[int, Gone] = {}
    for window, hash_ in evidence.windows(line_id, min(wanted), max(wanted) + 1):
        if window.start_ms not in wanted:
            continue
        to_ms = window.end_ms + decide[hash_]
        touching = [(gap, leaf) for gap, leaf in gaps if gap.from_ms < to_ms and gap.to_ms > window.start_ms]
        if touching:
            asked = asked_size.get(window.start_ms)
            late = asked is not None and all(leaf is not None and leaf >= asked for _, leaf in touching)
            reasons = "; ".join(dict.fromkeys(gap.reason for gap, _ in touching))
            found[window.start_ms] = Gone(window.start_ms, reasons, late)
    return [found[start_ms] for start_ms in sorted(found)]
