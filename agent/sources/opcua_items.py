"""The tags of lines at an OPC UA server: what each of them said last, and when by which clock.

Decides what becomes of a value: its quality and time, and what is said of it. A bad tag is set aside, alone; a value
that was lost on the way becomes a gap. Which number it is, is decided in `opcua_numbers`. Knows no request.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from agent.certificates import printable
from agent.config_opcua import OpcuaTag
from agent.line import Fresh, LineInput
from agent.sources.opcua_numbers import is_other, number_of
from agent.sources.opcua_wire import Changes, Told
from agent.sources.opcua_words import status_words
from protocols.plc.roles import COUNTER_ROLES, SignalRole

_OVERFLOW: Final = 0x480  # Part 4, 7.39.1: InfoType DataValue with the Overflow bit
_GONE: Final = frozenset(
    {StatusCodes.BadNodeIdUnknown, StatusCodes.BadNodeIdInvalid, StatusCodes.BadMonitoredItemIdInvalid}
)
_MOST_SAID: Final = 50  # of one role
_LONGEST_WORDS: Final = 1000
_OTHER_NUMBERS: Final = (SignalRole.ORDER, SignalRole.SPEED)  # see `opcua_numbers`


@dataclass(slots=True, eq=False)
class Part:
    """One line's part in a connection that several lines may share. `begun`: it was told that the source begins."""

    line: LineInput
    product_codes: dict[str, int]
    begun: bool = False
    gaps: int = 0
    said: dict[SignalRole | None, set[str]] = field(default_factory=dict)

    def say(self, role: SignalRole | None, words: str) -> None:
        """Once for each thing to say of a tag, or of all (None): a bad tag must not fill the log, nor keep the others
        from being said."""
        said = self.said.setdefault(role, set())
        if words not in said and len(said) < _MOST_SAID:
            said.add(words)
            self.line.log.warning("%s", words)


@dataclass(slots=True, eq=False)
class Item:
    """One tag of a line. Times are Unix ms (`heard_s`: monotonic seconds); `trouble`: why it has no value, in words.

    `node` is None and `waiting` true while it is set aside; `monitored` is the server's number of its monitored item.
    """

    tag: OpcuaTag
    handle: int
    part: Part
    node: ua.NodeId | None = None
    monitored: int | None = None
    waiting: bool = True
    trouble: str = ""
    good: bool = False
    value: Any = None
    source_ms: int | None = None
    server_ms: int | None = None
    received_ms: int | None = None
    heard_s: float = 0.0
    overflows: int = 0
    told: int = 0  # values in this connection
    silent: int = 0  # how often in a row it was found to have changed without a notification
    column: int = field(init=False)
    as_it_is: bool = field(init=False)  # a whole number is the line's number

    def __post_init__(self) -> None:
        self.column = self.tag.column
        self.as_it_is = not self.tag.texts and self.tag.role not in _OTHER_NUMBERS

    def set_aside(self, words: str) -> None:
        self.node = None
        self.waiting = True
        self.good = False
        self.trouble = words

    def differs(self, found: Told) -> bool:
        """Whether a value that was read is not the one that was told last."""
        good = found.status >> 30 == 0
        return good != self.good or (good and is_other(found.value, self.value, self.tag.deadband / 1000))


class Items:
    """The tags of a connection's lines, in one connection after the other. Event loop's thread only.

    `now_ms`: the lines' clock. `parted`: tags of lines that left, for which the server may still have a monitored item.
    """

    def __init__(self, tags: Sequence[OpcuaTag], product_codes: dict[str, int], line: LineInput) -> None:
        self.all: list[Item] = []
        self.parts: list[Part] = []
        self.parted: list[Item] = []
        self.now_ms = line.now_ms
        self._by_handle: dict[int, Item] = {}
        self._handles = 0
        self.join(tags, product_codes, line)

    def join(self, tags: Sequence[OpcuaTag], product_codes: dict[str, int], line: LineInput) -> None:
        """A line's tags are read from now on; they wait until they are found."""
        part = Part(line, product_codes)
        self.parts.append(part)
        for tag in tags:
            self._handles += 1
            self._by_handle[self._handles] = item = Item(tag, self._handles, part)
            self.all.append(item)

    def leave(self, line: LineInput) -> None:
        """It hears of nothing any more."""
        self.parts = [part for part in self.parts if part.line is not line]
        left = [item for item in self.all if item.part.line is line]
        for item in left:
            item.waiting = True
            del self._by_handle[item.handle]
        self.all = [item for item in self.all if item.part.line is not line]
        self.parted += left

    def alive(self) -> None:
        """The server was heard."""
        for part in self.parts:
            part.line.alive()

    def lost(self, words: str) -> None:
        """There is no connection any more. Some of the words may be the server's."""
        words = printable(words, _LONGEST_WORDS)
        for part in self.parts:
            part.line.lost(words)

    def say(self, words: str) -> None:
        """To each line, once."""
        for part in self.parts:
            part.say(None, words)

    def begin(self) -> None:
        """A new connection: nothing of the one before holds."""
        self.parted.clear()
        for part in self.parts:
            part.begun = False
        for item in self.all:
            item.set_aside("not found yet")
            item.monitored = None
            item.told = 0

    @property
    def live(self) -> list[Item]:
        return [item for item in self.all if not item.waiting]

    @property
    def waiting(self) -> list[Item]:
        return [item for item in self.all if item.waiting]

    def refuse(self, item: Item, words: str) -> None:
        """This tag has no value; it is tried again later, and the others go on."""
        item.set_aside(words)
        item.part.line.put(item.tag.column, None, None)
        item.part.say(item.tag.role, f"the tag {item.tag.words} cannot be read ({words}); trying again later")

    def take(self, changes: Changes, heard_ms: int | None = None) -> None:
        """Values of one answer, in the order of their queues. `heard_ms`: when the server was heard before; None: read.

        What is done here is done for each change of each tag: status and role are looked at only where they are rare.
        """
        received_ms, heard_s = self.now_ms(), time.monotonic()
        fresh: dict[Part, list[Fresh]] = {}
        for handle, (value, status, source_ms, server_ms) in changes:
            item = self._by_handle.get(handle)
            if item is None or item.waiting:
                continue
            if status:
                _give(fresh)  # what may be said of the line now comes after that
                if self._is_gone(item, status, heard_ms):
                    continue
            item.value, item.source_ms, item.server_ms = value, source_ms, server_ms
            item.received_ms, item.heard_s = received_ms, heard_s
            # Severity, the two top bits, must be Good (Part 4, 7.39); Uncertain is not good enough to pay by.
            item.good = good = status >> 30 == 0
            item.trouble = "" if good else status_words(status)
            if heard_ms is not None:
                item.told += 1
                if item.told > 1:
                    item.silent = 0
            number = None
            if good:
                number = value if item.as_it_is and type(value) is int else _number(item.tag, item.part, value)
            told = item.column, number, server_ms if source_ms is None else source_ms
            if (values := fresh.get(item.part)) is None:
                fresh[item.part] = [told]
            else:
                values.append(told)
        _give(fresh)

    def _is_gone(self, item: Item, status: int, heard_ms: int | None) -> bool:
        """Sets a tag aside that is not there any more; notes values that the server lost before this one."""
        if status & 0xFFFF_0000 in _GONE:
            self.refuse(item, status_words(status))  # as after a download to the PLC: its node may be another one now
            return True
        if status & _OVERFLOW == _OVERFLOW:
            self._lost(item, heard_ms)
            name = item.tag.role.name.lower()
            item.part.say(item.tag.role, f"{name}: the server lost values, its queue was full; raise queue_size")
        return False

    def gap(self, words: str, heard_ms: int) -> None:
        """Notifications were lost since `heard_ms`: what the tags did meanwhile is not known."""
        for item in self.live:
            self._lost(item, heard_ms)
        for part in self.parts:
            part.line.log.warning("%s; what the tags did meanwhile is not known", words)

    def _lost(self, item: Item, heard_ms: int | None) -> None:
        """A counter says later what it counted; of any other signal it stays unknown what it was in between."""
        item.overflows += 1
        item.part.gaps += 1
        if item.tag.role not in COUNTER_ROLES:
            item.part.line.put(item.tag.column, None, heard_ms)

    def report(self, line: LineInput) -> tuple[int, list[dict[str, Any]]]:
        """For `status`: how often the line's values were lost, and of each tag the last value and its three times."""
        gaps = sum(part.gaps for part in self.parts if part.line is line)
        return gaps, [
            {
                "role": item.tag.role.name.lower(), "tag": item.tag.words, "good": item.good, "trouble": item.trouble,
                "value": printable(str(item.value)), "source_ms": item.source_ms, "server_ms": item.server_ms,
                "received_ms": item.received_ms, "overflows": item.overflows,
            }
            for item in self.all
            if item.part.line is line
        ]  # fmt: skip


def _give(fresh: dict[Part, list[Fresh]]) -> None:
    for part, values in fresh.items():
        part.line.put_all(values)
    fresh.clear()


def _number(tag: OpcuaTag, part: Part, value: Any) -> int | None:
    found = number_of(tag, part.product_codes, value)
    if isinstance(found, str):
        part.say(tag.role, found)
        return None
    return found


def nodes_of(items: Iterable[Item]) -> list[ua.NodeId]:
    return [item.node for item in items if item.node is not None]
