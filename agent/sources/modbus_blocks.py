"""The requests of one Modbus device, and how they change when it refuses one, or leaves one unanswered. Pure but for
its memory.

Decides what is asked for now. A block that is refused is cut, and the cut is remembered; a tag that is refused alone is
set aside and asked for again later, so that it does not cost a request a poll. So is a block that a device leaves
without an answer while it answers others: some do that with what they do not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from agent.sources.modbus_plan import Read, around, cut

QUARANTINE_S: Final = 30.0
MEMORY_S: Final = 3600.0
"""How long a refused block is known as such: a changed program in the PLC may have changed its registers."""
PATIENCE: Final = 3
"""Exception 4, "the device has failed", passes on most devices, and is how some refuse a hole: cut after so many."""
_ILLEGAL_FUNCTION: Final = 1
_ILLEGAL_RANGE: Final = frozenset({2, 3})


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
        self._unanswered: dict[Read, int] = {}  # how often while others were answered; the latest is the last
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
            is_known = any(each in before._refused or each.count < read.count or cut(each) is None for each in worse)
            halves = cut(read) if is_known else None
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
        """What to ask for now: all but what is set aside. What had no answer comes last: others shall have theirs."""
        out = [read for read in self._reads if self._aside.get(read, now) <= now]
        self._trial = None
        for first, second in pairwise(self._reads):
            if self._is_well(first) and self._is_well(second) and self._may_join(first, second, now):
                both = around(first, (*first.tags, *second.tags))
                self._trial = both, first, second
                at = out.index(first)
                out[at : at + 2] = [both]
                break
        rank = {read: at for at, read in enumerate(self._unanswered, 1)}
        return sorted(out, key=lambda read: rank.get(read, 0))

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
        self._unanswered.pop(read, None)
        halves = cut(read) if code != _ILLEGAL_FUNCTION else None
        if halves is None:
            self._aside[read] = now + QUARANTINE_S
            return []
        self._part(read, halves, now)
        return list(halves)

    def unanswered(self, read: Read, is_alive: bool, now: float) -> bool:
        """A read had no answer. `is_alive`: the device answered another of the same poll. True where this shows that
        it is the read's fault and not the device's; it is cut then, or set aside."""
        if self._trial is not None and read == self._trial[0]:
            self._refuse(read, now)
            return is_alive
        count = self._unanswered.pop(read, 0) + is_alive
        self._unanswered[read] = count
        if not is_alive or (count < PATIENCE and read not in self._aside):
            return False
        halves = cut(read)
        if halves is None:
            # Longer each time: to try costs a timeout, in which nobody on the link is read.
            self._aside[read] = now + min(MEMORY_S, QUARANTINE_S * 2.0 ** max(0, count - PATIENCE))
        else:
            self._part(read, halves, now)
            self._unanswered |= dict.fromkeys(halves, PATIENCE - 1)
        return True

    def is_doubted(self, read: Read) -> bool:
        """Whether a read had no answer when it was asked for last, or was never asked for so: once is enough then."""
        return read in self._unanswered or read in self._aside or (self._trial is not None and read == self._trial[0])

    def answered(self, read: Read) -> None:
        """The device gave what was asked for."""
        if self._trial is not None and read == self._trial[0]:
            at = self._reads.index(self._trial[1])
            self._reads[at : at + 2] = [read]
        for memory in (self._failures, self._unanswered, self._aside):
            memory.pop(read, None)

    def is_aside(self, read: Read) -> bool:
        """Whether a read was refused for good, and is only tried now and then."""
        return read in self._aside

    def __len__(self) -> int:
        return len(self._reads)

    def _part(self, read: Read, halves: tuple[Read, Read], now: float) -> None:
        self._refuse(read, now)
        self._aside.pop(read, None)
        self._unanswered.pop(read, None)
        at = self._reads.index(read)
        self._reads[at : at + 1] = halves

    def _is_well(self, read: Read) -> bool:
        return read not in self._aside and read not in self._unanswered

    def _refuse(self, read: Read, now: float) -> None:
        self._refused = {bad: until for bad, until in self._refused.items() if now < until}
        self._refused[read] = now + MEMORY_S

    def _may_join(self, first: Read, second: Read, now: float) -> bool:
        """Whether both were one read by plan, and nothing in them as one is known to be refused."""
        end = max(each.address + each.count for each in (first, second))
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
