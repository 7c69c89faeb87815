"""The running agent in figures: for the watchdog, systemd's status line and the health endpoint.

Decides where each figure comes from. Nothing is asked of PLC, broker or disk for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.line import Line
from agent.publisher import Publisher
from agent.recorder import Recorder
from agent.watchdog import Part, Progress

if TYPE_CHECKING:
    from agent.health_metrics import Facts


class Reporter:
    """`lines`: those that run, as they are at each call."""

    def __init__(self, lines: Sequence[Line], recorder: Recorder, publisher: Publisher, progress: Progress) -> None:
        self._lines = lines
        self._recorder = recorder
        self._publisher = publisher
        self._progress = progress

    def parts(self) -> list[Part]:
        """What must move on."""
        return self._progress.parts({line.settings.line_id: (line.tried_s, line.try_limit_s) for line in self._lines})

    def status(self) -> str:
        """One line for `systemctl status`."""
        reading = sum(line.reading for line in self._lines)
        broker = "connected" if self._publisher.connected else "not connected"
        full = "; the disk is full" if self._recorder.disk_full_since_ms is not None else ""
        full += "; no room for raw samples" if self._recorder.raw_full else ""
        return (
            f"reading {reading} of {len(self._lines)} lines; broker {broker}; "
            f"{self._publisher.depth} records without a receipt{full}"
        )

    def facts(self) -> Facts:
        """Everything, as of now."""
        from agent.health_metrics import Facts, LineFacts

        receipt = self._publisher.last_receipt
        lines = [
            LineFacts(line.settings.line_id, line.reading, line.link, line.meter.closed_until_ms, line.late_count)
            for line in self._lines
        ]
        return Facts(
            lines,
            self.parts(),
            self._recorder.sequence,
            self._publisher.depth,
            self._publisher.connected,
            None if receipt is None else receipt.time_ms,
            self._recorder.disk_full_since_ms is not None,
            self._publisher.log_alarm,
            self._recorder.raw_bytes,
            self._recorder.raw_full,
        )
