"""A changed configuration, taken up while the agent runs.

Decides what may change so: lines, the broker, whether operators are heard, how often it is signed, how much is kept of
raw samples. Only what differs is touched: the other lines go on, and their PLCs notice nothing. A file with an error,
or a change that needs a new start, leaves all as it was, and the log names what waits.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from agent.clock import Clock
from agent.config import AgentConfiguration, load
from agent.late import LateCounts
from agent.line import Line
from agent.publisher import Publisher
from agent.raw_meter import RawMeter
from agent.recorder import Recorder
from agent.running import Running
from protocols.errors import ConfigurationError, LinetallyError
from protocols.plc.roles import ROLES
from protocols.plc.sample import SampleBlock

_AT_START: Final = {
    "gateway_id": "gateway.id",
    "site": "gateway.site",
    "state_folder": "gateway.state_folder",
    "log_key": "hub.log_key",
    "simulation": "clock.simulation",
    "jit": "kernel.jit",
    "health_port": "health.port",
    "is_replay": "source.protocol",
    "sparkplug_group": "live.sparkplug_group",
}
"""What is taken up only at a start: the field, and its key in the file."""
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "agent"})


@dataclass(frozen=True, slots=True)
class Difference:
    """Ids of lines. `changed`: any of their settings; a line whose measuring is the same keeps its meter.

    `others`: what else differs, for the log.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def words(self) -> str:
        """For the log."""
        parts = [
            f"{'lines' if len(ids) > 1 else 'line'} {', '.join(ids)} {verb}"
            for ids, verb in ((self.added, "added"), (self.removed, "removed"), (self.changed, "changed"))
            if ids
        ]
        return "; ".join([*parts, *self.others]) or "nothing differs"


def difference(old: AgentConfiguration, new: AgentConfiguration) -> Difference:
    """What differs. Raises ConfigurationError for what is taken up only at a start."""
    fixed = [key for field, key in _AT_START.items() if getattr(old, field, None) != getattr(new, field, None)]
    if bool(old.raw.keep_days) != bool(new.raw.keep_days):
        fixed.append("raw.keep_days (from or to 0)")  # the meters begin or end their chunks
    if fixed:
        mend = "restart the agent (systemctl restart linetally-agent), or change it back"
        raise ConfigurationError(f"{', '.join(fixed)} cannot change while it runs", file=str(new.file), mend=mend)
    others = {
        "another broker": old.broker != new.broker,
        "operator.mqtt changed": old.operator.mqtt != new.operator.mqtt,
        "[operator] of the page changed, which waits for: systemctl restart linetally-operator": (
            replace(old.operator, mqtt=False) != replace(new.operator, mqtt=False)
        ),
        "statement.window_s changed": old.window_ms != new.window_ms,
        "statement.interval_s changed": old.interval_ms != new.interval_ms,
        "[raw] changed": old.raw != new.raw,
    }
    before = {line.line_id: line for line in old.lines}
    after = {line.line_id: line for line in new.lines}
    return Difference(
        tuple(after.keys() - before.keys()),
        tuple(before.keys() - after.keys()),
        tuple(line_id for line_id in after if line_id in before and after[line_id] != before[line_id]),
        tuple(words for words, differs in others.items() if differs),
    )


class Reloader:
    """Holds the configuration that is in use."""

    def __init__(
        self,
        configuration: AgentConfiguration,
        running: Running,
        recorder: Recorder,
        publisher: Publisher,
        late: LateCounts,
        clock: Clock,
    ) -> None:
        self.configuration = configuration
        self._running = running
        self._recorder = recorder
        self._publisher = publisher
        self._late = late
        self._clock = clock

    async def reload(self) -> bool:
        """Reads the file again and takes up what differs. False: nothing was changed, and the log says why."""
        try:
            new = load(self.configuration.file)
            found = difference(self.configuration, new)
            if self._recorder.disk_full_since_ms is not None:
                raise LinetallyError("the disk is full, and lines cannot change before there is room")
        except (LinetallyError, OSError) as error:
            _log.error("the changed configuration is not taken up, the old one goes on: %s", error)
            return False
        self._publisher.use(new)
        self._recorder.use(new)
        if found.added or found.removed or found.changed:
            await self._change(new, found)
        self.configuration = new
        _log.info("configuration read again: %s", found.words)
        return True

    async def _change(self, new: AgentConfiguration, found: Difference) -> None:
        stopped = {line.settings.line_id: line for line in await self._running.stop((*found.removed, *found.changed))}
        # From here to `start` nothing is awaited: no tick of measuring comes in between.
        now_ms = self._clock.now_ms()
        closed = [(line.meter, line.close_windows(now_ms + line.delay_ms)) for line in stopped.values()]
        self._recorder.keep(closed)
        self._late.keep({line_id: line.late_count for line_id, line in stopped.items()}, now_ms, at_once=True)
        settings = {line.line_id: line for line in new.lines}
        lines = [
            Line(settings[line_id], self._resumed(stopped[line_id]), self._clock)
            for line_id in found.changed
            if settings[line_id].configuration.hash == stopped[line_id].settings.configuration.hash
        ]
        kept = {line.settings.line_id for line in lines}
        begun = [line_id for line_id in (*found.added, *found.changed) if line_id not in kept]
        started = self._recorder.reload(new.lines, begun)
        lines += [Line(settings[line_id], started[line_id].meter, self._clock) for line_id in begun]
        for line in lines:
            self._late.begin(line.settings.line_id)
        self._running.start(lines)

    @staticmethod
    def _resumed(line: Line) -> RawMeter:
        """The same meter goes on; until its source is there again nothing is known."""
        line.meter.push(SampleBlock.from_rows([(line.meter.floor_ms, (0,) * ROLES, 0)]))
        return line.meter
