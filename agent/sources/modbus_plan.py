"""Which reads fetch a line's Modbus tags, and what the registers mean. Pure.

Decides the requests: tags of one table that lie within one request's reach are read by one. Decides the value of a
tag from its registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.config_tags import MODBUS_TYPES, ModbusTag

MAX_REGISTERS: Final = 125
MAX_BITS: Final = 2000
"""Modbus Application Protocol 1.1b3, 6.1 to 6.4: the most that one request may read."""


@dataclass(frozen=True, slots=True)
class Read:
    """One request: `count` registers (or bits) of `table` from the 0-based `address`, and the tags in it."""

    table: str
    address: int
    count: int
    tags: tuple[ModbusTag, ...]


def plan(tags: Iterable[ModbusTag]) -> list[Read]:
    """The fewest requests that read all tags, each request in one table."""
    out: list[Read] = []
    for tag in sorted(tags, key=lambda tag: (tag.table, tag.register, tag.count)):
        most = MAX_BITS if tag.table in ("coil", "discrete") else MAX_REGISTERS
        end = tag.register + tag.count
        if out and out[-1].table == tag.table and end - out[-1].address <= most:
            last = out[-1]
            count = max(last.count, end - last.address)
            out[-1] = Read(last.table, last.address, count, (*last.tags, tag))
        else:
            out.append(Read(tag.table, tag.register, tag.count, (tag,)))
    return out


def split(read: Read) -> list[Read]:
    """The same tags, one request each: for a device that refuses the block because of a hole in it."""
    return [Read(tag.table, tag.register, tag.count, (tag,)) for tag in read.tags]


def value(tag: ModbusTag, read: Read, registers: Sequence[int]) -> int:
    """The tag's number from the registers (or bits) that a read gave."""
    start = tag.register - read.address
    words = [int(word) for word in registers[start : start + tag.count]]
    if tag.little_words:
        words.reverse()
    number = 0
    for word in words:
        number = number << 16 | word
    bits = 16 * tag.count
    if MODBUS_TYPES[tag.type][1] and number >= 1 << (bits - 1):
        number -= 1 << bits
    return number
