"""Registers read in every type, byte order and word order, and which of the readings make sense. Pure.

Decides what is plausible, and says why: a counter rises in small even steps, a measured value is of a sane size, a text
can be printed, a clock shows about now. It can only be a hint: the maker's list of registers decides.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from typing import Final, TypeAlias

from agent.config_modbus import MODBUS_TYPES, Kind

Number: TypeAlias = int | float | str | None
MOST_REGISTERS: Final = 4
_TEXT_REGISTERS: Final = 2
_ORDERS: Final = (("big", "big"), ("little", "big"), ("big", "little"), ("little", "little"))
_FLOATS: Final = {2: ">f", 4: ">d"}
# Ours: no machine counts faster than this, and no unit that people use needs larger or smaller numbers.
_MOST_A_SECOND: Final = 500
_LARGEST, _SMALLEST = 1e7, 1e-3
_MOST_PIECES: Final = 10**12
_CODE: Final = 4096
_DAY_S: Final = 86_400


class Verdict(IntEnum):
    """How a reading looks. The higher the better."""

    NO = 0
    POSSIBLE = 1
    LIKELY = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """The samples read in one way; `values` holds None where the bits are no such value. `why`: of the verdict."""

    type: str
    word_order: str
    byte_order: str
    values: tuple[Number, ...]
    verdict: Verdict
    why: str
    score: float = 0.0

    @property
    def order(self) -> str:
        """As makers write it: AB is the register that comes first, A its high byte."""
        size = 2 * (MODBUS_TYPES[self.type][0] or 1)
        letters = "ABCDEFGH"[:size]
        words = [letters[at : at + 2] for at in range(0, size, 2)]
        words = words[::-1] if self.word_order == "little" else words
        return " ".join(word[::-1] if self.byte_order == "little" else word for word in words)

    @property
    def keys(self) -> str:
        """The TOML keys of a tag that is read so, besides its register."""
        keys = [] if self.type == "uint16" else [f'type = "{self.type}"']
        keys += ['word_order = "little"'] if self.word_order == "little" else []
        keys += ['byte_order = "little"'] if self.byte_order == "little" else []
        return ", ".join(keys)


def readings(samples: Sequence[Sequence[int]], seconds: float, now_s: float) -> list[Reading]:
    """Every reading of `samples` (each 1 to 4 registers, taken evenly over `seconds`), the most plausible first.

    `now_s`: Unix time, to know a clock by.
    """
    out = []
    for type_, (size, kind) in MODBUS_TYPES.items():
        size = _TEXT_REGISTERS if kind is Kind.TEXT else size
        if kind is Kind.BIT or size > min(map(len, samples)):
            continue
        for word_order, byte_order in _ORDERS:
            if word_order == "little" and (size == 1 or kind is Kind.TEXT):
                continue
            taken = size if kind is not Kind.TEXT else min(map(len, samples))
            values = tuple(_value(kind, sample[:taken], word_order, byte_order) for sample in samples)
            verdict, why, score = _judge(kind, size, values, seconds, now_s)
            out.append(Reading(type_, word_order, byte_order, values, verdict, why, score))
    out = _without_twins(out)
    steady = {(e.word_order, e.byte_order) for e in out if e.type[:4] == "uint" and e.verdict is Verdict.LIKELY}
    # Until a digit passes 9 the two cannot be told apart, and BCD is the rarer.
    out = [_weaker(e) if e.type[:3] == "bcd" and (e.word_order, e.byte_order) in steady else e for e in out]
    best = max((each.score for each in out if each.verdict is Verdict.LIKELY), default=0.0)
    out = [_weaker(each) if each.verdict is Verdict.LIKELY and each.score < best / 2 else each for each in out]
    return sorted(out, key=lambda each: (-each.verdict, -each.score))


def as_told(type_: str, order: str) -> Reading | None:
    """The reading of a number that a person named: uint32 and CDAB; without an order the high byte comes first.

    None where there is no such type, or no such order of it.
    """
    if MODBUS_TYPES.get(type_, (0, Kind.TEXT))[1] in (Kind.TEXT, Kind.BIT):
        return None
    each = (Reading(type_, word_order, byte_order, (), Verdict.POSSIBLE, "") for word_order, byte_order in _ORDERS)
    return next((reading for reading in each if order in ("", reading.order.replace(" ", ""))), None)


def _value(kind: Kind, registers: Sequence[int], word_order: str, byte_order: str) -> Number:
    words = list(reversed(registers)) if word_order == "little" else list(registers)
    data = struct.pack(f"{'<' if byte_order == 'little' else '>'}{len(words)}H", *words)
    if kind is Kind.FLOAT:
        (number,) = struct.unpack(_FLOATS[len(words)], data)
        return float(number) if math.isfinite(number) else None
    if kind is Kind.BCD:
        return int(data.hex()) if data.hex().isdecimal() else None
    if kind is Kind.TEXT:
        text = data.rstrip(b"\0 ")
        return text.decode("ascii") if len(text) > 2 and all(32 <= byte < 127 for byte in text) else None
    return int.from_bytes(data, "big", signed=kind is Kind.SIGNED)


def _judge(kind: Kind, size: int, values: Sequence[Number], seconds: float, now_s: float) -> tuple[Verdict, str, float]:
    if any(value is None for value in values):
        what = {Kind.FLOAT: "no number", Kind.BCD: "no BCD digits", Kind.TEXT: "no text"}.get(kind, "no value")
        return Verdict.NO, what, 0.0
    if isinstance(values[0], str):
        return Verdict.LIKELY, "readable text", 6.0
    numbers = [value for value in values if isinstance(value, int | float)]
    if not any(numbers):
        return Verdict.POSSIBLE, "0 all the time: nothing can be told", 1.0 / size
    if clock := _clock(numbers, now_s):
        return Verdict.LIKELY, clock, 20.0
    return _float(numbers) if kind is Kind.FLOAT else _whole(kind, size, numbers, seconds)


def _clock(numbers: Sequence[float], now_s: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1000)):
        if all(abs(number / scale - now_s) < _DAY_S for number in numbers) and numbers == sorted(numbers):
            return f"a clock: Unix time in {unit}"
    return ""


def _whole(kind: Kind, size: int, numbers: Sequence[float], seconds: float) -> tuple[Verdict, str, float]:
    steps = [after - before for before, after in pairwise(numbers)]
    rises = [step for step in steps if step > 0]
    if not any(steps):
        if kind is not Kind.BCD and 0 <= numbers[0] < _CODE and numbers[0] % 256:
            return Verdict.POSSIBLE, "stands still: a state, a code or a setting", 1.5 / size
        return Verdict.NO, "stands still, and is large", 0.0
    most = max(_MOST_A_SECOND * seconds / len(steps), 2)
    whole = next((unit for unit in (1 << 24, 65_536, 256) if all(step % unit == 0 for step in steps)), 0)
    if whole:
        return Verdict.NO, f"jumps by multiples of {whole:,}: another order", 0.0
    if rises and min(steps) >= 0:
        if max(steps) <= most:
            even = len(rises) / len(steps) / (1 + (max(rises) - min(rises)) / max(rises))
            # Of two that fit the narrow one is safer: taken modulo 65,536 the low word alone counts right as well.
            preferred = {Kind.UNSIGNED: 1.0, Kind.SIGNED: 0.9, Kind.BCD: 0.8}[kind]
            why = f"a counter: rises {_span(rises)} at a time"
            if not 0 <= numbers[0] < _MOST_PIECES:
                return Verdict.POSSIBLE, "rises, but no counter is so large, or negative", 1.0
            return Verdict.LIKELY, why, 10 * (0.5 + even / 2) * preferred * (1 - size / 100) / math.log2(4 + max(rises))
        return Verdict.NO, "jumps too far", 0.0
    if max(map(abs, numbers)) < _CODE and max(map(abs, steps)) < _CODE:
        return Verdict.POSSIBLE, "up and down: a state or a measured value", 2.0 / size
    return Verdict.NO, "jumps up and down", 0.0


def _float(numbers: Sequence[float]) -> tuple[Verdict, str, float]:
    sizes = [abs(number) for number in numbers if number]
    if not all(_SMALLEST <= size <= _LARGEST for size in sizes):
        return Verdict.NO, f"{max(sizes):.0e} is of no size that machines speak of", 0.0
    span = max(numbers) - min(numbers)
    if span > max(sizes) / 4 and min(numbers) != 0:
        return Verdict.NO, "jumps too far for a measured value", 0.0
    short = sum(f"{number:.7g}" == f"{number:.4g}" for number in numbers) / len(numbers)
    if short == 1:
        return Verdict.LIKELY, "a decimal number with few digits", 9.0
    if span:
        return Verdict.LIKELY, "a decimal number that changes a little", 2.2
    return Verdict.POSSIBLE, "a decimal number of sane size", 1.5


def _span(rises: Sequence[float]) -> str:
    low, high = min(rises), max(rises)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _weaker(reading: Reading) -> Reading:
    return replace(reading, verdict=min(reading.verdict, Verdict.POSSIBLE))


def _without_twins(found: list[Reading]) -> list[Reading]:
    """A signed reading that never was negative says what the unsigned one says."""
    unsigned = {(each.type, each.word_order, each.byte_order): each.values for each in found if each.type[:4] == "uint"}
    return [
        each for each in found
        if each.type[:3] != "int" or unsigned[f"u{each.type}", each.word_order, each.byte_order] != each.values
    ]  # fmt: skip
