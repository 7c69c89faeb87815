"""What a value of an OPC UA server means: the number that is measured. Pure.

Decides texts, products and scaling, and when a value is another than before. A value of which no whole number can be
made gives words for a person instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua

from agent.certificates import printable
from agent.config_opcua import OpcuaTag
from agent.sources.opcua_wire import Unread
from protocols.plc.roles import SPEED_SCALE, SignalRole

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def number_of(tag: OpcuaTag, product_codes: Mapping[str, int], value: Any) -> int | str | None:
    """The line's number of a good value; words that say why there is none; None for an empty product text."""
    role = tag.role
    name = role.name.lower()
    if isinstance(value, ua.LocalizedText):
        value = value.Text or ""
    if tag.texts:
        meaning = dict(tag.texts).get(str(value))
        return f'{name}: "{printable(str(value))}" is not among its texts; add it' if meaning is None else meaning
    if role is SignalRole.PRODUCT and isinstance(value, str):
        code = product_codes.get(value)
        if code is None and value:
            return f'the product "{printable(value)}" is not in the configuration; add it with its ideal cycle'
        return code
    if role is SignalRole.ORDER and isinstance(value, int | float):
        return int(bool(value))
    if role is SignalRole.SPEED and isinstance(value, int | float) and math.isfinite(value * SPEED_SCALE):
        return math.floor(value * SPEED_SCALE)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return int(value)
    # Not the value itself: one that changes each second would be said each second.
    if isinstance(value, str):
        return f"{name}: a whole number is needed, it says a text; say what each text means: texts = {{ … = 1 }}"
    kinds = {float: "a number with decimals", list: "a list", Unread: "a structure", type(None): "nothing"}
    return f"{name}: a whole number is needed, it says {kinds.get(type(value), type(value).__name__)}; check the tag"


def is_other(value: Any, last: Any, deadband: float) -> bool:
    """Whether a good value is neither the one before nor within the deadband around it, of which no server tells."""
    if isinstance(value, int | float) and isinstance(last, int | float) and value != last:
        both_nan = math.isnan(value) and math.isnan(last)
        return not both_nan and not abs(value - last) <= deadband
    return bool(value != last)


def unix_ms(moment: datetime) -> int:
    """A value of type DateTime in Unix ms."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)
