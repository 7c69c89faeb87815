"""Whether the agent itself stood still, so that what comes now may have waited for it.

Decides how long is too long, and how much older than usual a value may be a moment after. What follows of it is decided
in `agent.line` (nothing is taken) and `agent.running` (all lines are connected anew).
"""

from __future__ import annotations

import math
from typing import Final

from agent.clock import Clock

STILL_S: Final = 5.0
"""So long (real) after it was last measured, which is once a second, a line has stood still: longer than a slow card
holds a write up, shorter than `staleness_s` is by default."""
_CALM_S: Final = 600.0
"""Each time it must have stood twice as long, until it was well for so long: one that is always late would only connect
again and again."""
_HELD_UP_S: Final = 2.0
"""So long after it was last measured values have waited too; for so long after that they still come."""


class Standstill:
    """Of one line. By the time that goes on while the machine sleeps; never where something else drives the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second_ms = 1000 * clock.speed
        self._measured_ms = math.inf
        self._stood_ms = -math.inf
        self._still_ms = STILL_S * self._second_ms
        self._held_up_ms = 0.0
        self._held_up_until_ms = -math.inf

    def begin(self) -> None:
        """It is read anew: not measured yet, and nothing waited."""
        self._measured_ms = math.inf
        self._held_up_until_ms = -math.inf

    def measured(self) -> None:
        """The line is measured now."""
        self._measured_ms = elapsed_ms = self._clock.boot_ms()
        if elapsed_ms - self._stood_ms > _CALM_S * self._second_ms:
            self._still_ms = STILL_S * self._second_ms

    def look(self) -> float:
        """For how many real seconds it stood still; 0.0: it did not, or not too long."""
        elapsed_ms = self._clock.boot_ms()
        still_ms = elapsed_ms - self._measured_ms
        if still_ms > _HELD_UP_S * self._second_ms:
            self._held_up_ms = still_ms
            self._held_up_until_ms = elapsed_ms + _HELD_UP_S * self._second_ms
        if still_ms <= self._still_ms:
            return 0.0
        self._stood_ms = elapsed_ms
        self._still_ms *= 2
        return still_ms / self._second_ms

    @property
    def held_up_ms(self) -> float:
        """By how much (the clock's ms) a value may be older just now because all was held up."""
        return self._held_up_ms if self._clock.boot_ms() <= self._held_up_until_ms else 0.0
