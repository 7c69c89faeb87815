"""Which records are under way to the hub: how many at once, which is next, and when they are sent again.

Decides the flow alone, by a clock that its caller reads (monotonic seconds); what a record is, and whether an answer
holds, is `publisher`'s. At most `OUTSTANDING` are under way, in order. After a silence, or an answer that was none, the
oldest is sent again alone until there is a receipt: a hub that is away for a day must not find a thousand copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

OUTSTANDING: Final = 32
RESEND_S: Final = 10.0
LONGEST_RESEND_S: Final = 30.0


class Flow:
    """`next`: the first sequence that may be sent now; 0: the oldest without a receipt."""

    def __init__(self) -> None:
        self.next = 0
        self.hold_until_s = 0.0
        self.resend_s = RESEND_S
        self._under_way: set[int] = set()
        self._most = OUTSTANDING
        self._silent_since_s = 0.0

    def begin(self, now_s: float) -> None:
        """A new connection: what was under way may be lost."""
        self._under_way.clear()
        self.next = 0
        self.hold_until_s = 0.0
        self._speed_up(now_s)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be under way."""
        return len(self._under_way) >= self._most

    def is_awaited(self, sequence: int) -> bool:
        """Whether it is under way."""
        return sequence in self._under_way

    def may_send(self, now_s: float) -> bool:
        return now_s >= self.hold_until_s and not self.is_full

    def sent(self, sequence: int, now_s: float) -> None:
        if not self._under_way:
            self._silent_since_s = now_s
        self._under_way.add(sequence)
        self.next = sequence + 1

    def receipted(self, sequences: Iterable[int], now_s: float) -> bool:
        """Whether it had been one at a time until now."""
        self._under_way.difference_update(sequences)
        was_slow = self._most < OUTSTANDING
        self._speed_up(now_s)
        return was_slow

    def silence_s(self, now_s: float, *, goes_out: bool) -> float | None:
        """How long no receipt came, if that is too long; then the oldest is next. `goes_out`: whether the network takes
        what it is given; otherwise a record may be on its way for long."""
        silent_s = now_s - self._silent_since_s
        patience_s = self.resend_s if goes_out else LONGEST_RESEND_S
        if not self._under_way or now_s < self.hold_until_s or silent_s < patience_s:
            return None
        self.again(now_s, 0.0)
        self.resend_s = min(self.resend_s * 1.5, LONGEST_RESEND_S)
        return silent_s

    def again(self, now_s: float, after_s: float, from_sequence: int = 0) -> None:
        """One at a time from here on, after a while; from the oldest without a receipt, if no other is named."""
        self._under_way.clear()
        self.next = from_sequence
        self._most = 1
        self._silent_since_s = now_s
        self.hold_until_s = now_s + after_s

    def _speed_up(self, now_s: float) -> None:
        self._most = OUTSTANDING
        self.resend_s = RESEND_S
        self._silent_since_s = now_s
