"""Lines for systemd's journal: each with its weight, so that `journalctl -p warning` shows only what is wrong.

Decides how a line looks that a person will read, wherever it comes from. What is said is decided by whoever says it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

_WEIGHTS: Final = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"))  # sd-daemon(3)
_REST: Final = "<6>"


def is_journal() -> bool:
    """Whether stderr goes to the journal; a terminal of a desktop's session names it too, and is none."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def shown(text: str, level: int, *, journal: bool) -> str:
    """`text` with its weight, where it goes to the journal.

    What a PLC, broker or hub said may stand in it: a further line is set in, so that none passes for another message,
    and what would steer a terminal is written out.
    """
    first, *others = text.splitlines() or [""]
    lines = [first, *(line if line.startswith(" ") else f"  {line}" for line in others)]
    mark = next((mark for least, mark in _WEIGHTS if level >= least), _REST) if journal else ""
    return "\n".join(mark + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines)
