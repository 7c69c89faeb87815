"""What is shown of a shift: the short ways give what the long ones give."""

from __future__ import annotations

import random

from protocols.measurement.account import CalendarKind, Category, TimeAccount, Window, total
from protocols.measurement.shown import RECENT_MS, Shown, merged

MINUTE_MS = 60_000


def window(start_ms: int, pieces: int) -> Window:
    return Window(
        start_ms, start_ms + MINUTE_MS, CalendarKind.SCHEDULED, "", "", "",
        TimeAccount((0, MINUTE_MS, *(0,) * 9), MINUTE_MS, pieces, pieces),
    )  # fmt: skip


def test_the_ribbon_is_joined_as_if_all_of_it_were_merged_again() -> None:
    choice = random.Random(7)
    for _ in range(2_000):
        at, runs = 0, []
        for _ in range(choice.randrange(12)):
            runs.append((at, choice.choice((Category.PRODUCING, Category.FAILURE, Category.HELD))))
            at += choice.randrange(3)
        cut = choice.randrange(len(runs) + 1)
        shown = Shown(ribbon=list(merged(runs[:cut], 0)))
        from_ms = choice.randrange(-1, at + 2)
        assert shown.ribbon_with(runs[cut:], from_ms) == merged([*shown.ribbon, *runs[cut:]], from_ms)


def test_the_last_minutes_are_summed_anew_when_a_window_closes_or_leaves() -> None:
    shown = Shown()
    for minute in range(20):
        closed = window(minute * MINUTE_MS, 1 << minute)
        shown.remember([closed], [(closed.start_ms, closed.end_ms, Category.PRODUCING)], [], closed.start_ms)
        for now_ms in (closed.end_ms, closed.end_ms, closed.end_ms + MINUTE_MS // 2):
            since_ms = now_ms - RECENT_MS
            wanted = total(w.account for w in shown.recent if w.start_ms >= since_ms)
            assert shown.account_since(since_ms) == wanted
    assert shown.account_since(21 * MINUTE_MS) == TimeAccount()
