"""When a gateway tells what its lines do, for the hub's page: all of them once a second or less often, news at once.

Decides when, and of which lines; the message's form is `live_message`'s. Nothing here is evidence: what is paid by is
in the records.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from agent.clock import Clock
from agent.line import Line
from agent.live_message import LineText, messages
from agent.publisher import Publisher
from protocols.measurement.live import Live
from protocols.plc.packml import State

if TYPE_CHECKING:
    from agent.sparkplug import Sparkplug

WHOLE_EACH: Final = 10
"""A line's history is told again in each so many messages, at least once a minute: a hub may have begun to listen, or
missed it."""
NEWS_S: Final = 5.0
"""So long after a line was connected its state is news; if it is not known by then, it waits for its turn."""


class Teller:
    """Tells the hub, and Sparkplug's listeners if there are any, what the lines do. Says nothing while no broker is
    connected, or a slow network has not taken what was told before: what is told then is as of then."""

    def __init__(self, publisher: Publisher, clock: Clock, sparkplug: Sparkplug | None, interval_s: int = 1) -> None:
        """`interval_s`: between two messages that tell all lines."""
        self._publisher = publisher
        self._clock = clock
        self._sparkplug = sparkplug
        self._interval_s = interval_s
        self._turn = -1  # of calls of `tell`, one a second
        self._tellings = 0
        self._simulated = clock.sync().source == "simulated"
        self._told_s: dict[str, float] = {}  # by line: which connection (`Line.connected_s`) was told of
        self._texts: dict[str, LineText] = {}  # by line

    def tell(self, lines: Sequence[Line]) -> None:
        """All lines, as of now, where it is their turn. To be called once a second."""
        self._turn += 1
        if not self._publisher.has_room or self._turn % self._interval_s:
            return
        now_ms = self._clock.now_ms()
        seen = [(line, line.meter.live(now_ms)) for line in lines]
        if self._sparkplug is not None:
            self._sparkplug.send(seen, self._publisher.depth)
        # Told, and not due: on a slow network the same turns may be left out again and again.
        every, now = max(1, min(WHOLE_EACH, 60 // self._interval_s)), self._tellings
        self._tellings += 1
        self._tell(seen, now_ms, [(now + at) % every == 0 for at in range(len(seen))])
        if len(self._texts) > len(lines):
            there = {line.settings.line_id for line in lines}
            self._texts = {line_id: text for line_id, text in self._texts.items() if line_id in there}

    def news(self, lines: Iterable[Line]) -> list[Line]:
        """The lines that were connected a moment ago, and of which nothing was told since."""
        if not self._publisher.has_room:
            return []
        since_s, told_s = time.monotonic() - NEWS_S, self._told_s
        return [
            line
            for line in lines
            if line.connected_s > since_s and line.reading and told_s.get(line.settings.line_id) != line.connected_s
        ]

    def tell_news(self, lines: Iterable[Line]) -> None:
        """Those of `news` whose state is known by now: whoever waits for a line to appear need not wait a second."""
        now_ms = self._clock.now_ms()
        seen = [(line, line.meter.live(now_ms)) for line in self.news(lines)]
        known = [(line, live) for line, live in seen if live.state is not State.UNDEFINED]
        self._tell(known, now_ms, [True] * len(known))

    def _tell(self, seen: Sequence[tuple[Line, Live]], now_ms: int, whole: Sequence[bool]) -> None:
        """`whole`: whether with its history in any case, of each."""
        parts: list[tuple[LineText, bytes]] = []
        for (line, live), history in zip(seen, whole, strict=True):
            if live.state is not State.UNDEFINED:
                self._told_s[line.settings.line_id] = line.connected_s
            text = self._text(line)
            parts.append((text, text.write(live, line.late_count, whole=history)))
        for message in messages(
            parts,
            time_ms=now_ms,
            interval_s=self._interval_s,
            simulated=self._simulated,
            receipt=self._publisher.last_receipt,
            spool_depth=self._publisher.depth,
        ):
            self._publisher.publish_live(message)

    def _text(self, line: Line) -> LineText:
        configuration = line.settings.configuration
        text = self._texts.get(configuration.line_id)
        if text is None or text.configuration is not configuration:
            text = self._texts[configuration.line_id] = LineText(configuration)
        return text
