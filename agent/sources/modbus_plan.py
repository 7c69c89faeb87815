"""Which requests fetch a line's Modbus tags, and how they change when a device refuses one. Pure but for its memory.

Decides the requests: tags of one device and table are read together when little lies between them. A block that is
refused is cut where its widest hole is, then in the middle, and the cut is remembered; a tag that is refused alone is
set aside and asked for again later, so that it does not cost a request a poll.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from agent.config_modbus import BIT_TABLES, ModbusTag

MAX_REGISTERS: Final = 125
MAX_BITS: Final = 2000
"""Modbus Application Protocol 1.1b3, 6.1 to 6.4: the most that one request may read."""
QUARANTINE_S: Final = 30.0
MEMORY_S: Final = 3600.0
"""How long a refused block is known as such: a changed program in the PLC may have changed its registers."""
PATIENCE: Final = 3
"""Exception 4, "the device has failed", passes on most devices, and is how some refuse a hole: cut after so many."""
_ILLEGAL_FUNCTION: Final = 1
_ILLEGAL_RANGE: Final = frozenset({2, 3})


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
    """Two requests instead of one: parted at the widest hole, or else in the middle. None for tags that overlap."""
    best: tuple[int, int, int] | None = None
    reached = 0
    for i, tag in enumerate(read.tags):
        if i and tag.register >= reached:
            hole, middle = tag.register - reached, -abs(2 * i - len(read.tags))
            best = max(best, (hole, middle, i)) if best else (hole, middle, i)
        reached = max(reached, tag.register + tag.count)
    if best is None:
        return None
    first, second = read.tags[: best[2]], read.tags[best[2] :]
    return _around(read, first), _around(read, second)


def _around(read: Read, tags: tuple[ModbusTag, ...]) -> Read:
    address = tags[0].register
    count = max(tag.register + tag.count for tag in tags) - address
    return Read(read.device_id, read.table, address, count, tags)


class Blocks:
    """The requests of one device, as they were learned. `now`: seconds of any clock that only goes forward.

    Cutting finds what a device refuses, and leaves more parts than it takes; so parts are put together again, one
    pair a poll, until what holds a refused block is known and nothing else is cut.
    """

    def __init__(self, reads: Iterable[Read], before: Blocks | None = None) -> None:
        """`before`: of the same device for other tags; what was learned with them holds."""
        self._planned = tuple(reads)
        self._reads = list(self._planned)
        self._aside: dict[Read, float] = {}
        self._failures: dict[Read, int] = {}
        self._refused: dict[Read, float] = {}
        self._trial: tuple[Read, Read, Read] | None = None
        if before is not None:
            self._learn(before)

    def _learn(self, before: Blocks) -> None:
        self._refused = dict(before._refused)
        bad = [*before._refused, *before._aside]
        waiting, self._reads = self._reads, []
        while waiting:
            read = waiting.pop(0)
            worse = [each for each in bad if _within(each, read)]
            halves = cut(read) if any(each in before._refused or each.count < read.count for each in worse) else None
            if halves is not None:
                waiting[:0] = halves
                continue
            self._reads.append(read)
            until = [before._aside[each] for each in worse if each in before._aside]
            if until:
                self._aside[read] = min(until)

    def __iter__(self) -> Iterator[Read]:
        return iter(self._reads)

    def due(self, now: float) -> list[Read]:
        """What to ask for now: all but what is set aside."""
        out = [read for read in self._reads if self._aside.get(read, now) <= now]
        self._trial = None
        for first, second in pairwise(self._reads):
            if first not in self._aside and second not in self._aside and self._may_join(first, second, now):
                both = _around(first, (*first.tags, *second.tags))
                self._trial = both, first, second
                at = out.index(first)
                out[at : at + 2] = [both]
                break
        return out

    def refused(self, read: Read, code: int, now: float) -> list[Read]:
        """What to ask for instead of a read that was answered by exception `code`; empty: nothing more for now."""
        if self._trial is not None and read == self._trial[0]:
            self._refuse(read, now)
            return list(self._trial[1:])
        if code not in (_ILLEGAL_FUNCTION, *_ILLEGAL_RANGE):
            self._failures[read] = self._failures.get(read, 0) + 1
            if self._failures[read] < PATIENCE:
                return []
        self._failures.pop(read, None)
        halves = cut(read) if code != _ILLEGAL_FUNCTION else None
        if halves is None:
            self._aside[read] = now + QUARANTINE_S
            return []
        self._refuse(read, now)
        at = self._reads.index(read)
        self._reads[at : at + 1] = halves
        return list(halves)

    def answered(self, read: Read) -> None:
        """The device gave what was asked for."""
        if self._trial is not None and read == self._trial[0]:
            at = self._reads.index(self._trial[1])
            self._reads[at : at + 2] = [read]
        self._failures.pop(read, None)
        self._aside.pop(read, None)

    def is_aside(self, read: Read) -> bool:
        """Whether a read was refused for good, and is only tried now and then."""
        return read in self._aside

    def __len__(self) -> int:
        return len(self._reads)

    def _refuse(self, read: Read, now: float) -> None:
        self._refused = {bad: until for bad, until in self._refused.items() if now < until}
        self._refused[read] = now + MEMORY_S

    def _may_join(self, first: Read, second: Read, now: float) -> bool:
        """Whether both were one read by plan, and nothing in them as one is known to be refused."""
        end = second.address + second.count
        planned = any(
            _place(read) == _place(first) == _place(second)
            and read.address <= first.address
            and end <= read.address + read.count
            for read in self._planned
        )
        return planned and not any(
            now < until
            and _place(bad) == _place(first)
            and first.address <= bad.address
            and bad.address + bad.count <= end
            for bad, until in self._refused.items()
        )


def _within(read: Read, other: Read) -> bool:
    """Whether a request asks for a part of what the other asks for, or for the same."""
    end, other_end = read.address + read.count, other.address + other.count
    return _place(read) == _place(other) and other.address <= read.address and end <= other_end


def _place(read: Read) -> tuple[int, str]:
    return read.device_id, read.table
