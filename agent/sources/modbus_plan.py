"""Which requests fetch Modbus tags, and where one is cut that a device refuses. Pure.

Decides the requests: tags of one device and table are read together when little lies between them. A block is cut
where its widest hole is, then in the middle. What is refused, and what is made of that, is `modbus_blocks`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.config_modbus import BIT_TABLES, ModbusTag

MAX_REGISTERS: Final = 125
MAX_BITS: Final = 2000
"""Modbus Application Protocol 1.1b3, 6.1 to 6.4: the most that one request may read."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """One request: `count` registers (or bits) of a device's `table` from the 0-based `address`, and the tags in it.

    Each is only equal to itself: hundreds of tags are not to be compared at each poll.
    """

    device_id: int
    table: str
    address: int
    count: int
    tags: tuple[ModbusTag, ...]

    def part(self, tag: ModbusTag, registers: Sequence[int]) -> Sequence[int]:
        """The tag's own registers of the answer."""
        start = tag.register - self.address
        return registers[start : start + tag.count]


def plan(tags: Iterable[ModbusTag], hole_limit: int = MAX_REGISTERS, max_registers: int = MAX_REGISTERS) -> list[Read]:
    """The fewest requests that read all tags. `hole_limit`: the most registers (or 16 bits) between two tags of one."""
    out: list[Read] = []
    for tag in sorted(tags, key=lambda tag: (tag.device_id, tag.table, tag.register, tag.count)):
        bits = tag.table in BIT_TABLES
        most = min(MAX_BITS, 16 * max_registers) if bits else max_registers
        hole = 16 * hole_limit if bits else hole_limit
        end = tag.register + tag.count
        last = out[-1] if out else None
        if (
            last is not None
            and (last.device_id, last.table) == (tag.device_id, tag.table)
            and tag.register - (last.address + last.count) <= hole
            and end - last.address <= most
        ):
            count = max(last.count, end - last.address)
            out[-1] = Read(last.device_id, last.table, last.address, count, (*last.tags, tag))
        else:
            out.append(Read(tag.device_id, tag.table, tag.register, tag.count, (tag,)))
    return out


def cut(read: Read) -> tuple[Read, Read] | None:
    """Two requests instead of one: parted at the widest hole, or else in the middle. None where all tags are of the
    same registers."""
    best: tuple[int, int, int] | None = None
    reached = 0
    for i, tag in enumerate(read.tags):
        if i and tag.register >= reached:
            hole, middle = tag.register - reached, -abs(2 * i - len(read.tags))
            best = max(best, (hole, middle, i)) if best else (hole, middle, i)
        reached = max(reached, tag.register + tag.count)
    if best is not None:
        return around(read, read.tags[: best[2]]), around(read, read.tags[best[2] :])
    # All overlap, as where two lines read a register by different types: only one of them may reach too far.
    extents = [(tag.register, tag.count) for tag in read.tags]
    apart = sorted(set(extents))
    if len(apart) == 1:
        return None
    at = extents.index(apart[len(apart) // 2])
    return around(read, read.tags[:at]), around(read, read.tags[at:])


def around(read: Read, tags: tuple[ModbusTag, ...]) -> Read:
    """The request for some tags of the same device and table as a read's."""
    address = tags[0].register
    count = max(tag.register + tag.count for tag in tags) - address
    return Read(read.device_id, read.table, address, count, tags)
