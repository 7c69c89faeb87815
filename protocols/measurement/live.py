"""What a line does now, put together for display.

Decides which of what is known is told, and how it is put beside what was closed. Nothing here is measured or signed:
a meter that is never asked closes the same windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.measurement.account import Category, TimeAccount, Window, total
from protocols.measurement.calendar import Segment
from protocols.measurement.rows import Rows
from protocols.measurement.shown import RECENT_MS, RIBBON_RUNS, STOPS_SHOWN, Shown
from protocols.measurement.timeline import Resolved, Stop
from protocols.plc.packml import State


@dataclass(frozen=True, slots=True)
class Live:
    """What a line does now. Provisional: an open short stop may still become a minor one."""

    time_ms: int
    state: State
    category: Category
    since_ms: int
    product: str
    shift: str
    shift_start_ms: int
    shift_end_ms: int
    shift_account: TimeAccount
    recent_account: TimeAccount  # about the last five minutes
    planned_shift_ms: int  # scheduled time of the whole shift
    ribbon: tuple[tuple[int, Category], ...]
    stops: tuple[Stop, ...]


def live(
    now_ms: int,
    until_ms: int,
    state: tuple[State, int] | None,
    rows: Rows,
    resolved: Resolved,
    open_windows: Sequence[Window],
    shown: Shown,
    place: tuple[Segment, tuple[int, int, int]],
) -> Live:
    """The line at `now_ms`, of what was closed (`shown`) and of what follows it up to `until_ms`: `resolved` and
    `open_windows`. `state`: as of `Rows.state_at`; `place`: as of `NearCalendar.shift_at`."""
    here, bounds = place
    shift_start_ms, shift_end_ms, planned_ms = bounds if here.shift else (now_ms, now_ms, 0)
    closed_ms = rows.closed_ms
    runs = resolved.stretches
    recent_ms = now_ms - RECENT_MS
    stops = [*shown.stops, *(s for s in resolved.stops if s.end_ms > closed_ms)]
    return Live(
        time_ms=now_ms,
        state=State.UNDEFINED if state is None else state[0],
        category=runs[-1][2] if runs and state is not None else Category.UNKNOWN,
        since_ms=until_ms if state is None else state[1],
        product=rows.changes[-1][1] if rows.changes else rows.product,
        shift=here.shift,
        shift_start_ms=shift_start_ms,
        shift_end_ms=shift_end_ms,
        shift_account=total(
            [
                *([shown.account] if here.shift and shown.shift == here.shift else ()),
                *(w.account for w in open_windows if here.shift and w.shift == here.shift),
            ]
        ),
        recent_account=total(
            [
                shown.account_since(recent_ms),
                *(w.account for w in open_windows if w.start_ms >= recent_ms),
            ]
        ),
        planned_shift_ms=planned_ms,
        ribbon=shown.ribbon_with(
            ((max(s, closed_ms), c) for s, e, c in runs if e > closed_ms),
            shift_start_ms,
        )[-RIBBON_RUNS:],
        stops=tuple({s.start_ms: s for s in stops}.values())[-STOPS_SHOWN:],
    )
