"""What a Modbus tag's registers mean: the number that is measured. Pure.

Decides byte and word order, types, bit fields and scaling. The result is a whole number, always: a scaled value is
rounded to the nearest, halves to the even one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from agent.config_modbus import UNSCALED, Kind, ModbusTag
from protocols.plc.roles import SPEED_SCALE, SignalRole

_FLOATS: Final = {2: ">f", 4: ">d"}


class Unusable(Exception):
    """The registers hold nothing that can be measured; the words say why."""


def value(tag: ModbusTag, registers: Sequence[int], product_codes: Mapping[str, int] | None = None) -> int | None:
    """The tag's number from its `count` registers, each 0 to 65535 (or its one bit, 0 or 1).

    In the unit of the tag's column: a speed in thousandths, an order as 0 or 1. A product that speaks texts: the code
    of the text in `product_codes`; None for an empty text. Raises Unusable.
    """
    if tag.kind is Kind.TEXT:
        return _product(_text(tag, registers), product_codes or {})
    number = _scaled(tag, _number(tag, registers))
    return int(number != 0) if tag.role is SignalRole.ORDER else number


def is_plain(tag: ModbusTag) -> bool:
    """Whether its number is its one register (or bit) as it is, which most are: then `value` need not be asked."""
    whole = tag.kind is Kind.BIT or (tag.kind is Kind.UNSIGNED and tag.count == 1 and not tag.little_bytes)
    return whole and not tag.mask and tag.scale is UNSCALED and tag.role not in (SignalRole.SPEED, SignalRole.ORDER)


def clock_ms(tag: ModbusTag, registers: Sequence[int]) -> int:
    """The PLC's clock in Unix ms: the tag's number, scaled. Raises Unusable."""
    return round(_number(tag, registers) * tag.scale)


def _scaled(tag: ModbusTag, number: int | Fraction) -> int:
    speed = tag.role is SignalRole.SPEED
    if tag.scale is UNSCALED and not speed and isinstance(number, int):
        return number
    return round(number * tag.scale * (SPEED_SCALE if speed else 1))


def _bytes(tag: ModbusTag, registers: Sequence[int]) -> bytes:
    """The registers, the most significant byte first."""
    words = list(reversed(registers)) if tag.little_words else list(registers)
    return struct.pack(f"{'<' if tag.little_bytes else '>'}{len(words)}H", *words)


def _number(tag: ModbusTag, registers: Sequence[int]) -> int | Fraction:
    kind = tag.kind
    if kind is Kind.BIT or (kind is Kind.UNSIGNED and tag.count == 1 and not tag.mask and not tag.little_bytes):
        return registers[0]  # what most tags are
    data = _bytes(tag, registers)
    if kind is Kind.FLOAT:
        (found,) = struct.unpack(_FLOATS[tag.count], data)
        if not math.isfinite(found):
            raise Unusable(f"holds {found}, which is no number")
        return int(found) if found.is_integer() else Fraction(found)
    if kind is Kind.BCD:
        digits = data.hex()
        if not digits.isdecimal():
            raise Unusable(f"holds 0x{digits}, which is no BCD")
        return int(digits)
    number = int.from_bytes(data, "big", signed=kind is Kind.SIGNED)
    return (number & tag.mask) >> tag.shift if tag.mask else number


def _text(tag: ModbusTag, registers: Sequence[int]) -> str:
    data = _bytes(tag, registers).split(b"\0", 1)[0]
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Unusable(f"holds {data!r}, which is no text; is its byte_order right?") from None


def _product(text: str, codes: Mapping[str, int]) -> int | None:
    if text and text not in codes:
        raise Unusable(f'says "{text}", a product that is not in the configuration; add it with its ideal cycle')
    return codes.get(text)
