"""What people say afterwards, made into amendments: a stop's reason, rejects that were found late.

Decides how they are made from what stands, and which are taken; whoever asks comes through here: the command (`amend`),
the page (`agent.commissioning`), a panel by MQTT (`amend_mqtt`). Each builds on what waits already. Nothing is
overwritten: the old value, the new one, who and why are signed together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from agent import amendments
from agent.spool import Sender, Spool
from agent.stops import MeantStop
from protocols.errors import Refused
from protocols.measurement.amendment import Amendment, AmendmentKind, ReasonChange, WindowChange
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.lots import late_rejects
from protocols.measurement.revisions import Stated

KEPT: Final = "This gateway knows what it signed in its newest records; older ones can no longer be amended here"
MOST_TEXT: Final = 200
_MOST_COUNT: Final = 10_000_000

Span: TypeAlias = tuple[int, int]
"""Unix milliseconds, from and to."""


@dataclass(frozen=True, slots=True)
class Said:
    """Who answers for it, and what it rests on."""

    who: str
    why: str


def line_of(lines: Iterable[LineConfiguration], line_id: str) -> LineConfiguration:
    """Raises Refused, naming the lines that there are."""
    known = {line.line_id: line for line in lines}
    if line_id not in known:
        raise Refused("unknown-line", f"there is no line {line_id}; this gateway has: {', '.join(known)}")
    return known[line_id]


def reason_amendment(
    spool: Spool, line_id: str, stop: MeantStop, reason: str, said: Said, old: str | None = None
) -> Amendment:
    """The reason of a stop. `old`: what stands, if not what is found here. Raises Refused for a text that is none."""
    stands = standing_reason(spool, line_id, stop) if old is None else old
    change = ReasonChange(stop.start_ms, stands, _text("reason", reason))
    return _amendment(line_id, AmendmentKind.REASON, change, said)


def standing_reason(spool: Spool, line_id: str, stop: MeantStop) -> str:
    """What stands as a stop's reason: the last one that was signed or waits, else the measured code, else ""."""
    for queued in reversed(spool.next_amendments()):
        waiting = amendments.from_bytes(queued.body)
        change = waiting.change
        if waiting.line_id == line_id and isinstance(change, ReasonChange) and change.stop_ms == stop.start_ms:
            return change.new
    found = amendments.standing(spool, line_id, stop.start_ms, stop.start_ms + 1)
    return found.revisions.reason(found.key_id, stop.start_ms) or stop.measured_reason


def reject_amendment(
    spool: Spool, line_id: str, lot: Span, count: int, said: Said, product: str | None = None,
    counted: Span | None = None,
) -> Amendment:  # fmt: skip
    """Rejects of what was made in `lot` (of one product, if named), shared out over its windows; negative: found good.

    `counted`: where the line's own counter counted them, if it did. Raises Refused.
    """
    if not count or abs(count) >= _MOST_COUNT:
        raise Refused("bad-count", f"the count {count} changes nothing, or is out of all bounds")
    made = [s for s in _windows(spool, line_id, lot) if product in (None, s.window.product)]
    changes = late_rejects(made, count, () if counted is None else _windows(spool, line_id, counted))
    if not changes:
        raise Refused("nothing", "the lot and the windows of the count are the same: nothing changes")
    return _amendment(line_id, AmendmentKind.REJECT, changes, said)


def queue(spool: Spool, amendment: Amendment, sender: Sender | None = None) -> int:
    """Into the queue of the agent, if it would have an effect; its number. Raises Refused, Malformed, SpoolFull."""
    body = amendments.to_bytes(amendment)
    if not amendments.must_wait(spool, amendment) and (words := amendments.refusal(spool, amendment, waiting=True)):
        raise Refused("no-effect", f"{words}. {KEPT}")
    return spool.queue_amendment(body, time.time_ns() // 1_000_000, sender)


def _windows(spool: Spool, line_id: str, span: Span) -> Sequence[Stated]:
    """The signed windows that begin in [from, to). Raises Refused where there is none."""
    if span[1] <= span[0]:
        raise Refused("bad-time", "the end is not after the beginning")
    found = amendments.standing(spool, line_id, *span, waiting=True)
    stated = [each for each in found.stated if each.window.start_ms >= span[0]]
    if not stated:
        words = f"this gateway has no signed window of {line_id} that begins then; one is signed a little after its end"
        raise Refused("unknown-window", f"{words}. {KEPT}")
    return stated


def _amendment(
    line_id: str, kind: AmendmentKind, change: ReasonChange | tuple[WindowChange, ...], said: Said
) -> Amendment:
    return Amendment(line_id, kind, change, _text("who", said.who), _text("why", said.why))


def _text(name: str, text: str) -> str:
    text = text.strip()
    if not text or len(text) > MOST_TEXT or not text.isprintable():
        raise Refused("bad-text", f"{name} must have 1 to {MOST_TEXT} letters, without control characters")
    return text
