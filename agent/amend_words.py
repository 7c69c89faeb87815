"""What an amendment changes, in words for whoever asked for it.

Decides the words alone.
"""

from __future__ import annotations

from datetime import UTC, datetime

from protocols.measurement.account import ACCOUNT_FIELDS
from protocols.measurement.amendment import Amendment, ReasonChange


def change_words(amendment: Amendment) -> list[str]:
    """A line for a reason, or for each window."""
    if isinstance(amendment.change, ReasonChange):
        change = amendment.change
        return [f'{amendment.line_id}, stop at {utc(change.stop_ms)}: reason "{change.old}" becomes "{change.new}"']
    words = []
    for window in amendment.change:
        counts = (f for f in window.fields if not ACCOUNT_FIELDS[f.field].startswith("standard_"))
        changes = ", ".join(f"{ACCOUNT_FIELDS[index]} {old} becomes {new}" for index, old, new in counts)
        words.append(f"{amendment.line_id}, window {utc(window.start_ms)} to {utc(window.end_ms)}: {changes}")
    return words


def utc(at_ms: int) -> str:
    """ISO 8601 with milliseconds and a Z."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
