"""What an operator says afterwards, as amendments: a stop's reason, rejects that were found late.

Decides how the two are made from what stands. Nothing is overwritten: the old value, the new one, who and why are
signed together. How the command line asks for the same is `agent.amend`'s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from agent import amendments
from agent.spool import Spool
from protocols.errors import Refused
from protocols.measurement.lots import late_rejects
from protocols.measurement.revisions import Amendment, AmendmentKind, ReasonChange
from protocols.measurement.timeline import Stop

_MOST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Said:
    """Who answers for it, and what it rests on."""

    who: str
    why: str


def queue_reason(spool: Spool, line_id: str, stop: Stop, reason: str, said: Said) -> int:
    """The reason of a closed stop; the amendment's number. Raises Refused, and Malformed for what cannot be written."""
    standing_now = standing_reason(spool, line_id, stop)
    change = ReasonChange(stop.start_ms, standing_now, _text("reason", reason))
    return _queue(spool, Amendment(line_id, AmendmentKind.REASON, change, _text("who", said.who), said.why))


def standing_reason(spool: Spool, line_id: str, stop: Stop) -> str:
    """What stands as a stop's reason: the last one that was signed or waits, else the measured code, else ""."""
    for queued in reversed(spool.next_amendments()):
        waiting = amendments.from_bytes(queued.body)
        change = waiting.change
        if waiting.line_id == line_id and isinstance(change, ReasonChange) and change.stop_ms == stop.start_ms:
            return change.new
    found = amendments.standing(spool, line_id, stop.start_ms, stop.start_ms + 1)
    return found.revisions.reason(found.key_id, stop.start_ms) or (f"#{stop.reason}" if stop.reason else "")


def queue_rejects(spool: Spool, line_id: str, from_ms: int, to_ms: int, count: int, said: Said) -> int:
    """Rejects of what was made in [from_ms, to_ms), shared out over its windows. Raises Refused, Malformed."""
    if not 0 < count < 10_000_000:
        raise Refused("bad-count", "the count is a whole number above 0")
    if to_ms <= from_ms:
        raise Refused("bad-time", "the end is not after the beginning")
    stated = amendments.standing(spool, line_id, from_ms, to_ms).stated
    lot = [each for each in stated if each.window.start_ms >= from_ms]
    if not lot:
        raise Refused(
            "unknown-window", "this gateway has no signed window that begins then; it is signed a little later"
        )
    changes = late_rejects(lot, count, ())
    return _queue(spool, Amendment(line_id, AmendmentKind.REJECT, changes, _text("who", said.who), said.why))


def _queue(spool: Spool, amendment: Amendment) -> int:
    body = amendments.to_bytes(amendment)
    if not amendments.must_wait(spool, amendment) and (words := amendments.refusal(spool, amendment)):
        raise Refused("no-effect", words)
    return spool.queue_amendment(body, time.time_ns() // 1_000_000)


def _text(name: str, text: str) -> str:
    text = text.strip()
    if not text or len(text) > _MOST_TEXT or not text.isprintable():
        raise Refused("bad-text", f"{name}: 1 to {_MOST_TEXT} letters")
    return text
