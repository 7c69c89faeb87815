"""What the running agent sees at each PLC now, in a small file that `status` reads.

Decides its content and how often it is written. It is a hint for people, no evidence: never synced, and too old is as
good as none. `now.json` in the state folder:
{"time_ms", "broker", "lines": [{"line", "reading", "link", "tags", "source"}]}.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.line import Line

FILE: Final = "now.json"
EACH_S: Final = 10.0
FRESH_S: Final = 45.0
"""Older than this, the agent is taken not to run: a slow card may keep the file waiting for some seconds."""


async def write_glances(folder: Path, lines: Sequence[Line], is_connected: Callable[[], bool]) -> None:
    """Writes the file again and again. `is_connected`: to the broker. A disk that takes nothing is said elsewhere."""
    while True:
        await asyncio.sleep(EACH_S)
        data = json.dumps(glance(lines, is_connected()), ensure_ascii=False).encode("utf-8", "replace")
        await asyncio.to_thread(_write, folder / FILE, data)


def glance(lines: Sequence[Line], is_connected: bool) -> dict[str, Any]:
    """What the lines see, and whether the broker is there, as data for JSON."""
    return {
        "time_ms": lines[0].now_ms() if lines else 0,
        "broker": is_connected,
        "lines": [_line(line) for line in lines],
    }


def seen_ms(folder: Path) -> int | None:
    """When a running agent wrote the file last, in Unix ms of this machine's clock; None when none ever did."""
    try:
        return (folder / FILE).stat().st_mtime_ns // 1_000_000
    except OSError:
        return None


def is_running(folder: Path) -> bool:
    """Whether an agent has written the file just now. A file of the future is one: the clock was set back."""
    seen = seen_ms(folder)
    return seen is not None and time.time() - seen / 1000 < FRESH_S


def read_glance(folder: Path) -> dict[str, Any] | None:
    """What the file holds; None when there is none that can be read, or no agent keeps it new."""
    if not is_running(folder):
        return None
    try:
        found = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("lines"), list) else None


def glance_words(line: dict[str, Any]) -> list[str]:
    """One line's part of the glance for a person."""
    out = [str(line["link"])]
    source = line.get("source") or {}
    offset_ms = source.get("clock_offset_ms")
    if offset_ms is not None:
        ahead = "ahead of" if offset_ms >= 0 else "behind"
        words = f"the PLC's clock is {abs(offset_ms) / 1000:.3f} s {ahead} this gateway's"
        out.append(f"{words} (to {source['clock_uncertain_ms'] / 1000:.3f} s)")
    if source.get("gaps"):
        out.append(f"{source['gaps']} times values were lost on the way")
    troubles = {tag["role"]: tag["trouble"] for tag in source.get("tags", ()) if tag["trouble"]}
    for tag in line["tags"]:
        value = tag["value"]
        when = "" if tag["source_ms"] is None else f", by its clock {_time(tag['source_ms'])}"
        told = "no good value" if value is None else f"{value:,}"
        why = f": {troubles[tag['role']]}" if value is None and tag["role"] in troubles else ""
        out.append(f"{tag['role']:<10} {told}{why}{when}")
    return out


def _line(line: Line) -> dict[str, Any]:
    tags = []
    for tag in line.settings.tags:
        value, source_ms, received_ms = line.last.get(tag.column, (None, None, None))
        tags.append(
            {
                "role": tag.role.name.lower(), "tag": tag.words, "value": value,
                "source_ms": source_ms, "received_ms": received_ms,
            }
        )  # fmt: skip
    return {
        "line": line.settings.line_id, "reading": line.reading, "link": line.link, "tags": tags,
        "source": None if line.report is None else line.report(),
    }  # fmt: skip


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError:
        return


def _time(time_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return "no year that a calendar has"
    return f"{moment:%F %H:%M:%S}.{time_ms % 1000:03d}"
