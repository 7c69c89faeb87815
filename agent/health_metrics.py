"""What the health endpoint says: few figures, each with one name (docs/agent.md has the table).

Decides the names and when the agent counts as well. A PLC or a broker that is off is shown and is no illness: both are
off at night in many factories.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.watchdog import Part

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_THREADS, _START, _RESIDENT, _USER, _SYSTEM = 17, 19, 21, 11, 12  # fields of /proc/self/stat after the name


@dataclass(frozen=True, slots=True)
class LineFacts:
    """One line: whether its PLC is read, why not, until when it is measured, and values that came too late."""

    line_id: str
    reading: bool
    words: str
    measured_until_ms: int
    late_count: int


@dataclass(frozen=True, slots=True)
class Facts:
    """The agent as of now. `records`: how many the chain has; `waiting`: those without a receipt; `raw_bytes`: what raw
    samples take on the disk; `raw_full`: why no new ones are kept. Times in Unix ms."""

    lines: Sequence[LineFacts]
    parts: Sequence[Part]
    records: int
    waiting: int
    connected: bool
    receipt_ms: int | None
    disk_full: bool
    log_alarm: str | None
    raw_bytes: int
    raw_full: str | None


def health_json(facts: Facts) -> tuple[bool, str]:
    """(well, JSON). Not well: something stands still, the disk is full, new raw samples are not kept, or the hub's log
    contradicts itself."""
    wrong = [f"{part.name} has stood still for {part.age_s:.0f} s" for part in facts.parts if part.stands]
    if facts.disk_full:
        wrong.append("the disk is full or takes no data; free some space on this gateway")
    if facts.raw_full:
        wrong.append(f"new raw samples are not kept: {facts.raw_full}")
    if facts.log_alarm:
        wrong.append(facts.log_alarm)
    data = {
        "ok": not wrong,
        "wrong": wrong,
        "lines": {line.line_id: {"reading": line.reading, "words": line.words} for line in facts.lines},
        "broker_connected": facts.connected,
        "records_without_receipt": facts.waiting,
    }
    return not wrong, json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def metrics_text(facts: Facts) -> str:
    """Prometheus text exposition format 0.0.4."""
    out: list[str] = []

    def say(name: str, kind: str, help_text: str, *samples: tuple[str, float]) -> None:
        out.append(f"# HELP {name} {help_text}")
        out.append(f"# TYPE {name} {kind}")
        out.extend(f"{name}{labels} {value:.15g}" for labels, value in samples)

    def by_line(value: str) -> list[tuple[str, float]]:
        return [(f'{{line="{line.line_id}"}}', float(getattr(line, value))) for line in facts.lines]

    say("linetally_line_reading", "gauge", "1 while the line's PLC is read.", *by_line("reading"))
    until = [(labels, value / 1000) for labels, value in by_line("measured_until_ms")]
    say("linetally_line_measured_until_seconds", "gauge", "Unix time up to which the line is measured.", *until)
    say("linetally_line_late_values_total", "counter", "Values that came too late.", *by_line("late_count"))
    say("linetally_records_total", "counter", "Records in this gateway's chain.", ("", facts.records))
    say("linetally_records_waiting", "gauge", "Records without a receipt of the hub.", ("", facts.waiting))
    receipt = [] if facts.receipt_ms is None else [("", facts.receipt_ms / 1000)]
    say("linetally_last_receipt_seconds", "gauge", "Unix time of the hub's last receipt.", *receipt)
    say("linetally_broker_connected", "gauge", "1 while there is a connection to the broker.", ("", facts.connected))
    say("linetally_disk_full", "gauge", "1 while the disk takes no data.", ("", facts.disk_full))
    say("linetally_raw_bytes", "gauge", "Disk that raw samples take.", ("", facts.raw_bytes))
    say("linetally_raw_full", "gauge", "1 while no new raw samples are kept.", ("", bool(facts.raw_full)))
    say("linetally_log_alarm", "gauge", "1 while the hub's log contradicts itself.", ("", bool(facts.log_alarm)))
    ages = [(f'{{part="{part.name}"}}', part.age_s) for part in facts.parts]
    say("linetally_progress_age_seconds", "gauge", "Since the part last moved on.", *ages)
    _process(say)
    return "\n".join(out) + "\n"


def _process(say: object) -> None:
    """The process's own figures, by the names that every Prometheus client uses."""
    assert callable(say)
    fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(") ")[2].split()
    booted_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    cpu_s = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS
    say("process_cpu_seconds_total", "counter", "CPU time used.", ("", cpu_s))
    say("process_resident_memory_bytes", "gauge", "Memory in use.", ("", int(fields[_RESIDENT]) * _PAGE))
    say("process_threads", "gauge", "Threads.", ("", int(fields[_THREADS])))
    say("process_open_fds", "gauge", "Open files and sockets.", ("", len(os.listdir("/proc/self/fd"))))  # noqa: PTH208
    start_s = round(booted_s + int(fields[_START]) / _TICKS, 2)
    say("process_start_time_seconds", "gauge", "Unix time of the start.", ("", start_s))
