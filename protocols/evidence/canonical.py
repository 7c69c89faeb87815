"""Canonical CBOR: the one byte form of every value that linetally signs.

Decides which bytes are canonical: RFC 8949 section 4.2.1 (core deterministic encoding) over a small data model.
Does not decide what the values mean; that is `record` and `cose`.

The model: null, booleans, 64-bit integers (-2^64 .. 2^64-1), byte strings, UTF-8 text, arrays, and maps whose
keys are integers or text. No float, no tag, no other simple value, nothing of indefinite length. With these
left out, a value has exactly one encoding, and `encode(decode(data)) == data` is checked rather than assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import cbor2

from protocols.errors import Malformed

MAX_DEPTH: Final = 16
"""Arrays and maps inside each other. A record needs six; the bound keeps a hostile one from using the stack."""

_INT_MIN: Final = -(2**64)
_INT_MAX: Final = 2**64 - 1
_INTS: Final = frozenset({int})
_SCALARS: Final = frozenset({type(None), bool, bytes, str})

# cbor2 turns these tags into objects (dates, patterns, shared references...) before a tag hook sees them. Each is
# refused by name, so that no hostile pattern is ever compiled and no reference can make a value contain itself.
_BUILT_IN_TAGS: Final = (
    *range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip


def encode(value: object) -> bytes:
    """The canonical bytes of `value`. Tuples are written as arrays.

    Raises Malformed for a value outside the model: a float, an integer of more than 64 bits, a key that is
    neither integer nor text.
    """
    try:
        return cbor2.dumps(_ordered(value, MAX_DEPTH))
    except UnicodeEncodeError as error:  # a lone surrogate has no UTF-8 form
        raise Malformed("text that is not valid Unicode") from error


def decode(data: bytes, max_bytes: int) -> Any:
    """The value whose canonical encoding `data` is. Arrays come back as lists.

    Raises Malformed if `data` is longer than `max_bytes`, does not parse, has something after its end, is outside
    the model, or is any other encoding of the same value.
    """
    if len(data) > max_bytes:
        raise Malformed(f"{len(data)} bytes where at most {max_bytes} are allowed")
    try:
        value = cbor2.loads(
            data,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSED_TAGS,
            max_depth=MAX_DEPTH + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except Malformed:
        raise
    except (cbor2.CBORDecodeError, UnicodeDecodeError, TypeError, ValueError, OverflowError) as error:
        raise Malformed(f"not canonical CBOR: {_innermost(error)}") from error
    again = encode(value)
    if again != data:
        raise Malformed("not in the canonical form", first_difference(again, data))
    return value


def first_difference(one: bytes, other: bytes) -> int:
    """The index of the first byte in which the two differ; the shorter length if one begins the other."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))


def _ordered(value: object, depth: int) -> object:
    """`value` with each map in canonical key order; raises Malformed for what is outside the model.

    The type is compared, not tested with isinstance: True must not pass for 1, nor an IntEnum for an integer.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        _check_ints((value,))
        return value
    if depth == 0:
        raise Malformed(f"more than {MAX_DEPTH} arrays and maps inside each other")
    if isinstance(value, list | tuple):
        kinds = set(map(type, value))
        if kinds == _INTS:  # a measured row: one pass in C instead of a call for each integer
            _check_ints(value)
            return value
        return value if kinds <= _SCALARS else [_ordered(item, depth - 1) for item in value]
    if isinstance(value, Mapping):
        return _ordered_map(value, depth)
    raise Malformed(f"a {kind.__name__} cannot be signed")


def _ordered_map(value: Mapping[Any, object], depth: int) -> dict[Any, object]:
    """RFC 8949 section 4.2.1: keys sorted by the bytewise order of their encodings.

    cbor2's own `canonical=True` is not used: it sorts shorter keys first (RFC 7049), which puts -1 before 100.
    """
    keyed = []
    for key, item in value.items():
        if type(key) is not int and type(key) is not str:
            raise Malformed(f"a map key must be an integer or text, not {type(key).__name__}")
        if type(key) is int:
            _check_ints((key,))
        keyed.append((cbor2.dumps(key), key, _ordered(item, depth - 1)))
    keyed.sort(key=lambda entry: entry[0])
    return {key: item for _, key, item in keyed}


def _check_ints(values: Any) -> None:
    if min(values) < _INT_MIN or max(values) > _INT_MAX:
        raise Malformed("an integer of more than 64 bits")


def _refuse_tag(*_: object) -> NoReturn:
    raise Malformed("a CBOR tag where none is allowed")


_REFUSED_TAGS: Final[dict[int, Callable[..., NoReturn]]] = dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
