"""Field checks: the small rules that every signed field obeys.

Decides types and ranges of single values, and names the field that breaks them. A boolean is never an integer
here, though Python says so.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final, TypeGuard

from protocols.errors import Malformed

MAX_INT: Final = 2**63 - 1
"""The largest integer that every database and language on the way can hold."""
MAX_TIME_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999 (UTC)."""
MAX_TEXT: Final = 200
"""Characters of a name or a reason."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def as_int(value: object, name: str, low: int = 0, high: int = MAX_INT) -> int:
    if type(value) is not int:
        raise Malformed(f"{name} must be an integer, not {_kind(value)}")
    if not low <= value <= high:
        raise Malformed(f"{name} must be between {low} and {high}, not {value}")
    return value


def as_optional_int(value: object, name: str, low: int = 0, high: int = MAX_INT) -> int | None:
    return None if value is None else as_int(value, name, low, high)


def as_time_ms(value: object, name: str) -> int:
    """A wall time: milliseconds since the Unix epoch, UTC."""
    return as_int(value, name, 0, MAX_TIME_MS)


def as_bytes(value: object, name: str, length: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise Malformed(f"{name} must be {length} bytes")
    return value


def as_text(value: object, name: str, *, empty: bool = True) -> str:
    """A text for people. Control characters are refused: names end up on terminals."""
    if not isinstance(value, str):
        raise Malformed(f"{name} must be text, not {_kind(value)}")
    # Most texts are printable, which is quicker to tell; some that are not, such as a wide space, are allowed.
    if len(value) > MAX_TEXT or not (value.isprintable() or not _CONTROL.search(value)) or not (value or empty):
        raise Malformed(f"{name} must be {0 if empty else 1} to {MAX_TEXT} characters without control characters")
    return value


def as_id(value: object, name: str) -> str:
    """The id of a line, gateway or project: it may become a topic, a path or a column."""
    if not is_id(value):
        raise Malformed(f"{name} must be 1 to 64 of the characters A-Z a-z 0-9 _ -")
    return value


def is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def as_list(value: object, name: str, length: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(f"{name} must be an array, not {_kind(value)}")
    if length is not None and len(value) != length:
        raise Malformed(f"{name} must have {length} items, not {len(value)}")
    return value


def as_map(value: object, name: str, keys: frozenset[int] | None = None) -> dict[Any, Any]:
    """A map; with `keys`, one with exactly these keys."""
    if not isinstance(value, dict):
        raise Malformed(f"{name} must be a map, not {_kind(value)}")
    if keys is not None and value.keys() != keys:
        raise Malformed(f"{name} must have exactly the keys {sorted(keys)}")
    return value


def as_ids(value: object, name: str) -> tuple[str, ...]:
    """Ids in ascending order, each once, so that a set has one form."""
    ids = [as_id(item, f"{name}[{i}]") for i, item in enumerate(as_list(value, name))]
    if any(a >= b for a, b in pairwise(ids)):
        raise Malformed(f"{name} must be in ascending order, each once")
    return tuple(ids)


def _kind(value: object) -> str:
    return type(value).__name__
