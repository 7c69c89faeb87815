"""One line at work: what its source reads goes in, closed windows come out.

Decides how long a value may be under way, what a source's times are worth, and that nothing counts which waited while
the agent stood still. Measuring is the meter's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias

from agent.clock import Clock
from agent.config_line import LineSettings, ModbusSource, OpcuaSource, ReplaySource
from agent.image import Image, Values
from agent.raw_meter import RawMeter
from agent.standstill import Standstill
from agent.watchdog import READ_LIMIT_S
from protocols.measurement.account import Window

CLOCK_TOLERANCE_MS: Final = 2000
"""Real milliseconds by which a PLC's clock may differ before the gateway's is used (oee.md, edge rules)."""
_TRANSIT_MS: Final = 500  # ours: network and event loop
_I64: Final = 2**63
_LATE_SAID_EACH: Final = 100  # ours: a slow network would fill the log


Fresh: TypeAlias = tuple[int, int | None, int | None]
"""A value that was read: its column, the value (None: not good), the PLC's time in Unix ms (None: it tells none)."""


class LineInput(Protocol):
    """What a source of one line's values may call. Event loop's thread only."""

    log: logging.LoggerAdapter[logging.Logger]

    def now_ms(self) -> int: ...

    def put(self, column: int, value: int | None, source_ms: int | None) -> None: ...

    def put_all(self, values: Iterable[Fresh]) -> None: ...

    def begin(self, since_ms: int | None = None) -> None: ...

    def alive(self, age_ms: float = 0.0) -> None: ...

    def tried(self) -> None: ...

    def lost(self, words: str) -> None: ...

    def connected(self, words: str) -> None: ...


class Line:
    """A line that is read from a PLC.

    `delay_ms`: how far (in the clock's ms) measuring stays behind now: the watermark is now less this. What a window
    says is settled when the watermark has passed it. `connected_s`: the monotonic second at which reading began.
    `stood`: the agent stood still (a stopped process, a machine that slept, a processor or disk that held all up). What
    comes may be old then, and nothing is taken until `wake`, after which reading must begin with a new connection.
    """

    def __init__(self, settings: LineSettings, meter: RawMeter, clock: Clock) -> None:
        self.settings = settings
        self.meter = meter
        self.link = "not connected yet"
        self.reading = False
        self.stood = False
        self.last: dict[int, tuple[int | None, int | None, int]] = {}  # of a column: value, source's time, ours
        self.report: Callable[[], dict[str, Any]] | None = None  # what the source tells of itself
        self.tried_s = self.connected_s = time.monotonic()
        self.log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": settings.line_id})
        self._clock = clock
        speed = clock.speed if math.isfinite(clock.speed) else 1.0
        self._scale = speed
        self._tolerance_ms = round((CLOCK_TOLERANCE_MS + _wait_ms(settings)) * speed)
        self.delay_ms = round((_wait_ms(settings) + _TRANSIT_MS) * speed) if _tells_time(settings) else 0
        configuration = settings.configuration
        self._image = Image((tag.column for tag in settings.tags), configuration.staleness_ms // 3, meter.floor_ms)
        self._connected_ms = 0
        self._unknown_ms: dict[int, int] = {}  # of a column without a good value: since when
        self._clock_doubted = False
        self._late_said = 0
        self._standstill = Standstill(clock)

    @property
    def late_count(self) -> int:
        """Values that came after the watermark had passed their time. They hold from the watermark on."""
        return self._image.late_count

    def begin(self, since_ms: int | None = None) -> None:
        """The source begins anew: values that it reports with older times hold from `since_ms` on, or from now."""
        self.tried()
        self._connected_ms = self._clock.now_ms() if since_ms is None else since_ms
        self._unknown_ms = {tag.column: self._connected_ms for tag in self.settings.tags}

    def now_ms(self) -> int:
        """The clock that everything here is measured by."""
        return self._clock.now_ms()

    def connected(self, words: str) -> None:
        """The source reads."""
        self.tried()
        if self._is_still():
            return
        self.reading = True
        self.connected_s = time.monotonic()
        self.link = words
        self.log.info("%s", words)

    def put(self, column: int, value: int | None, source_ms: int | None) -> None:
        """A fresh value; None when its quality is bad or it is no usable number. `source_ms`: the PLC's time."""
        self.put_all(((column, value, source_ms),))

    def put_all(self, values: Iterable[Fresh]) -> None:
        """Fresh values of one answer, in their order."""
        if self._is_still():
            return
        now = self._clock.now_ms()
        last, unknown = self.last, self._unknown_ms
        told: int | None = None
        same: Values | None = None  # of the time that was told last
        for column, value, source_ms in values:
            good = value is not None and -_I64 <= value < _I64
            last[column] = (value if good else None, source_ms, now)
            if not good or column in unknown:
                self._put_unknown(column, value if good else None, now if source_ms is None else source_ms, now)
                same = None  # what comes now holds after it
                continue
            if same is None or source_ms != told:
                told, same = source_ms, []
                self._image.put(self._placed(now if source_ms is None else source_ms, now), same)
            same.append((column, value))

    def _placed(self, time_ms: int, now: int) -> int:
        """From when on a good value holds whose column had one before."""
        if 0 < self._connected_ms - time_ms <= self._tolerance_ms:
            time_ms = self._connected_ms  # its clock is a little behind
        if abs(time_ms - now) > self._tolerance_ms and not self._was_held_up(now - time_ms):
            self._doubt(time_ms - now)
            time_ms = now
        return time_ms

    def _was_held_up(self, age_ms: int) -> bool:
        """Whether a value is so old since all was held up here: its own time is right then, as is the PLC's clock."""
        return 0 < age_ms <= self._tolerance_ms + self._standstill.held_up_ms

    def _put_unknown(self, column: int, value: int | None, time_ms: int, now: int) -> None:
        """A value that is not good, or the first good one after it."""
        unknown_ms = self._unknown_ms.pop(column, None)
        if unknown_ms is None:
            time_ms = self._placed(time_ms, now)
        else:
            time_ms = max(time_ms, unknown_ms)  # it changed before we came: it is known from then on
            if abs(time_ms - now) > self._tolerance_ms:
                if time_ms > now:
                    self._doubt(time_ms - now)
                time_ms = now
        if value is None:
            self._unknown_ms[column] = time_ms
        self._image.put(time_ms, [(column, value)])

    def alive(self, age_ms: float = 0.0) -> None:
        """The source heard of its peer `age_ms` real milliseconds ago."""
        self.tried()
        if self._is_still():
            return
        self._image.alive(self._clock.now_ms() - round(age_ms * self._scale))

    def tried(self) -> None:
        """The source is at work, with or without an answer: all that the watchdog asks of it."""
        self.tried_s = time.monotonic()

    @property
    def try_limit_s(self) -> float:
        """How long the source may say nothing before something in it stands still."""
        source = self.settings.source
        poll_ms = 0 if isinstance(source, ReplaySource) else source.poll_interval_ms
        return READ_LIMIT_S + (poll_ms + self.settings.configuration.staleness_ms / self._scale) / 1000

    def lost(self, words: str) -> None:
        """The source knows nothing any more."""
        self.tried()
        if not self._is_still():
            self._lose(words)

    def _lose(self, words: str) -> None:
        self.reading = False
        self._image.lose(self._clock.now_ms())
        if words != self.link:
            self.log.warning("%s", words)
        self.link = words

    def wake(self) -> None:
        """Who read this line has ended: what comes from now on is new."""
        self.stood = False
        self._standstill.begin()

    def _is_still(self) -> bool:
        """Looked at before anything is taken: on waking, what waited in a socket comes before the next measure, and
        more of it after."""
        if not self.stood and (still_s := self._standstill.look()):
            self.stood = True
            self._lose(
                f"the agent stood still for {still_s:.0f} s (stopped, asleep, or held up by processor or disk): what "
                "waited meanwhile is too old to count; connecting again"
            )
        return self.stood

    def close_windows(self, now_ms: int) -> list[Window]:
        """Measures up to now less the delay, and gives the windows that this closed."""
        self._is_still()
        self._standstill.measured()
        until_ms = now_ms - self.delay_ms
        if until_ms <= self.meter.closed_until_ms:
            return []  # the clock was set back: wait until it comes by again
        windows = self.meter.measure(until_ms, lambda at_ms: self._give(at_ms, until_ms))
        if self.late_count >= self._late_said + (_LATE_SAID_EACH if self._late_said else 1):
            self._late_said = self.late_count
            words = "%d values so far came after their time was measured, over %.1f s late; they count from then on"
            self.log.warning(words, self._late_said, self.delay_ms / self._scale / 1000)
        return windows

    def _give(self, at_ms: int, until_ms: int) -> None:
        # At the edges on the way there nothing is repeated: chunks must not change what is measured.
        for row in self._image.release(at_ms, repeat=at_ms == until_ms):
            self.meter.push_row(*row)

    def _doubt(self, difference_ms: int) -> None:
        if not self._clock_doubted:
            self._clock_doubted = True
            words = "the PLC's clock is %.1f s %s the gateway's; using the gateway's. Set the PLC's clock by NTP"
            self.log.warning(words, abs(difference_ms) / 1000, "ahead of" if difference_ms > 0 else "behind")


def _tells_time(settings: LineSettings) -> bool:
    """Whether values come with the source's time. Others hold from when they come, and none is ever under way."""
    return isinstance(settings.source, OpcuaSource) or settings.time_tag is not None


def _wait_ms(settings: LineSettings) -> int:
    """How long (real ms) a change may wait at the source before it is sent."""
    source = settings.source
    if isinstance(source, OpcuaSource):
        return source.wait_ms
    if isinstance(source, ModbusSource) and settings.time_tag is not None:
        return source.poll_interval_ms
    return 0
