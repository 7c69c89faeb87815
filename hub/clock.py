"""The hub's wall clock: the one place that reads it. Everything else is given `now_ms`."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Milliseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000
