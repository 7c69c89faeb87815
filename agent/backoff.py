"""How long to wait before trying again: 1 to 2 s at first, doubling up to 15 to 30 s, with jitter.

Decides only the length. Jitter keeps the gateways of a factory from coming back all at once after a power cut.
"""

from __future__ import annotations

import random
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0


class Backoff:
    """`next_s()` gives each wait in turn; `reset()` after a success."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._tries = 0

    def next_s(self) -> float:
        """Between half of the doubled wait and all of it."""
        self._tries += 1
        wait = min(self._longest_s, self._first_s * float(2 ** min(self._tries, 16)))
        return wait * (0.5 + random.random() / 2)  # noqa: S311 - spread, not secrecy

    def reset(self) -> None:
        self._tries = 0
