"""One line's part in a poll that several lines may share: what it wants, what it got, and what it is told.

Decides what of a poll becomes the line's values, and what is said of it. Which requests are made, and when, is decided
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.config_modbus import ModbusTag
from agent.line import LineInput
from agent.sources.modbus_plan import Read
from agent.sources.modbus_values import Unusable, clock_ms, is_plain, value

_SAID_AT_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Share:
    """What of one request's answer is a part's. `plain`: column and place of tags whose register is their number.

    `words`: its tags, for the log.
    """

    part: Part
    plain: tuple[tuple[int, int], ...]
    others: tuple[ModbusTag, ...]
    words: str


@dataclass(slots=True, eq=False)
class Part:
    """`lost`: why nothing is read; None while something is. `left`: requests of this poll that hold some of its tags
    and are not over yet; `is_open`: it has yet to be told of it.
    """

    line: LineInput
    tags: Sequence[ModbusTag]
    time_tag: ModbusTag | None
    product_codes: Mapping[str, int]
    lost: str | None = ""
    left: int = 0
    is_open: bool = False
    asked_ms: int = 0
    _fresh: dict[int, int | None] = field(default_factory=dict)
    _clock: Sequence[int] | None = None
    _failed: dict[int, str] = field(default_factory=dict)
    _silent: dict[int, str] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    @property
    def wanted(self) -> list[ModbusTag]:
        return [*self.tags] if self.time_tag is None else [*self.tags, self.time_tag]

    @property
    def devices(self) -> list[int]:
        return sorted({tag.device_id for tag in self.wanted})

    def begin(self, asked_ms: int) -> None:
        """A poll begins."""
        self.asked_ms = asked_ms
        self.left, self.is_open = 0, True
        self._fresh, self._failed, self._clock = {}, {}, None

    def share(self, read: Read) -> Share | None:
        """Its share of a request; None where none of its tags are in it."""
        # By their id(): two lines may have equal tags, and comparing them costs more than reading them.
        wanted = {id(tag) for tag in self.wanted}
        tags = [tag for tag in read.tags if id(tag) in wanted]
        if not tags:
            return None
        plain = tuple((tag.column, tag.register - read.address) for tag in tags if self._is_plain(tag))
        others = tuple(tag for tag in tags if not self._is_plain(tag))
        return Share(self, plain, others, ", ".join(tag.words for tag in tags))

    def _is_plain(self, tag: ModbusTag) -> bool:
        return tag is not self.time_tag and is_plain(tag)

    def take(self, share: Share, read: Read, registers: Sequence[int]) -> None:
        """The answer to a request."""
        fresh = self._fresh
        for column, place in share.plain:
            fresh[column] = registers[place]
        for tag in share.others:
            if tag is self.time_tag:
                self._clock = read.part(tag, registers)
            else:
                fresh[tag.column] = self._value(tag, read.part(tag, registers))

    def fail(self, device: int, words: str) -> None:
        """A device that it has tags of did not answer: what it gave before in this poll counts for nothing."""
        self._failed[device] = words
        for tag in self.tags:
            if tag.device_id == device:
                self._fresh.pop(tag.column, None)
        if self.time_tag is not None and self.time_tag.device_id == device:
            self._clock = None

    def end(self, link: str, reads: Callable[[], int]) -> None:
        """All that the poll had for it is there. `reads`: how many requests that takes; `link`: its words."""
        self.is_open = False
        failed = self._failed
        if failed and len(failed) == len(self.devices):
            device, words = next(iter(failed.items()))
            if len(failed) == 1:
                self.lose(f"device {device} at {link}: {words}")
            else:
                self.lose(f"no device at {link} answers: {words}")
            return
        if self.lost is not None:
            self.lost = None
            # Not from now: a first answer that was taken up late would come together with the next one's pieces.
            self.line.begin(self.asked_ms)
            devices = self.devices
            where = f"{link} device{'s' if len(devices) > 1 else ''} {', '.join(map(str, devices))}"
            self.line.connected(f"connected to {where}, {len(self._fresh)} of {len(self.tags)} tags in {reads()} reads")
        if failed or self._silent:
            self._tell_silent(link)
        time_ms = self._time_ms()
        values = [(column, number, time_ms) for column, number in self._fresh.items()]
        if len(values) < len(self.tags):
            values += [(tag.column, None, time_ms) for tag in self.tags if tag.column not in self._fresh]
        self.line.put_all(values)
        self.line.alive()

    def _tell_silent(self, link: str) -> None:
        for device, words in self._failed.items():
            if self._silent.get(device) != words:
                self.line.log.warning("device %d at %s: %s", device, link, words)
        for device in self._silent.keys() - self._failed.keys():
            self.line.log.info("device %d at %s answers again", device, link)
        self._silent = self._failed

    def lose(self, words: str) -> None:
        """Nothing is known any more."""
        if words != self.lost:
            self.lost = words
            self._silent = {}
            self.line.lost(words)

    def say(self, words: str) -> None:
        """Once for each thing to say: a bad register must not fill the log."""
        if words not in self._said and len(self._said) < _SAID_AT_MOST:
            self._said.add(words)
            self.line.log.warning("%s", words)

    def _time_ms(self) -> int | None:
        if self.time_tag is None or self._clock is None:
            return None
        try:
            return clock_ms(self.time_tag, self._clock)
        except Unusable as error:
            self.say(f"the PLC's clock {error}")
            return None

    def _value(self, tag: ModbusTag, registers: Sequence[int]) -> int | None:
        try:
            return value(tag, registers, self.product_codes)
        except Unusable as error:
            self.say(f"{tag.role.name.lower()} ({tag.words}) {error}")
            return None
