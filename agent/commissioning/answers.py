"""What may be answered in a guided start: each reader takes what a person typed, or says what to type instead.

Decides the forms. That the whole fits together is seen when the file is read as the agent reads it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Collection
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.commissioning.ask import Wrong
from protocols.plc.packml import State

T = TypeVar("T")

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_DAY_MINUTES: Final = 1440


def name(text: str) -> str:
    """An id of a gateway or a line."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise Wrong("1 to 64 of the letters A-Z a-z, digits, _ and -; no spaces")
    return text


def words(text: str) -> str:
    if not text.strip():
        raise Wrong("a few words are needed")
    if not text.isprintable() or len(text) > 200:
        raise Wrong("at most 200 letters")
    return text.strip()


def zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Wrong("an IANA name, such as Asia/Hong_Kong (timedatectl list-timezones)") from None
    return text


def hub_url(text: str) -> str:
    if text in ("", "none"):
        return ""
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise Wrong("write https://hub.example.org, or nothing")
    return text


def broker(text: str) -> tuple[str, int, bool]:
    """(host, port, whether by TLS) of `host` or `host:port`."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "1883" if text in ("127.0.0.1", "localhost") else "8883"
    if not re.fullmatch(r"[A-Za-z0-9.-]+", host) or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise Wrong("write broker.example.org:8883, or 127.0.0.1:1883")
    return host, int(port), int(port) == 8883


def cycle(text: str) -> str:
    """Seconds, exact to the nanosecond; "" for not known."""
    if text in ("", "none", "?"):
        return ""
    try:
        seconds = Decimal(text)
        fits = Decimal("0.001") <= seconds <= 3600 and seconds * 10**9 == int(seconds * 10**9)
    except (InvalidOperation, ValueError, OverflowError):
        fits = False
    if not fits:
        raise Wrong("seconds for one piece, such as 1.2 (0.001 to 3600); nothing if it is not known")
    return text


def needed_cycle(text: str) -> str:
    """As `cycle`, where a stop is told by it."""
    found = cycle(text)
    if not found:
        raise Wrong("it is needed here, where nothing but pieces tells a stop: seconds for one piece, such as 1.2")
    return found


def none_for_nothing(text: str) -> str:
    return "" if text == "none" else text


def another(read: Callable[[str], T], taken: Collection[T]) -> Callable[[str], T]:
    """As `read`, and none of those that are taken."""

    def fresh(text: str) -> T:
        found = read(text)
        if found in taken:
            raise Wrong(f"{found} is given already; each has its own")
        return found

    return fresh


def shifts(text: str) -> list[tuple[str, str, str]]:
    """`06:00-14:00, 14:00-22:00` as (A, 06:00, 14:00), …; none for nothing."""
    if text in ("", "none"):
        return []
    out = []
    spans = []
    for number, part in enumerate(re.split(r"[,;\s]+", text.strip())):
        start, dash, end = part.partition("-")
        found = [_TIME.fullmatch(each) for each in (start, end)]
        if not dash or None in found:
            raise Wrong("write 06:00-14:00, 14:00-22:00, 22:00-06:00, or nothing for no shifts")
        start, end = (f"{int(each[1]):02}:{each[2]}" for each in found if each is not None)
        out.append((chr(65 + number), start, end))
        first, last = (int(each[:2]) * 60 + int(each[3:]) for each in (start, end))
        spans.append((first, last if last > first else last + _DAY_MINUTES))
    if len(out) > 26:
        raise Wrong("at most 26 shifts")
    spans.sort()
    for (_, end_minute), (begin_minute, _) in pairwise([*spans, (spans[0][0] + _DAY_MINUTES, 0)]):
        if begin_minute < end_minute:
            raise Wrong("two of these shifts overlap; let one end where the other starts")
    return out


def states(text: str) -> dict[int, str]:
    """`2=EXECUTE, 1=STOPPED`: the tag's values and the PackML states that they mean."""
    found = _meanings(re.split(r"[,;\s]+", text.strip()), r"-?\d{1,9}", "2=EXECUTE, 1=STOPPED")
    return {int(value): state for value, state in found.items()}


def state_texts(text: str) -> dict[str, str]:
    """`Executing=EXECUTE, Not ready=STOPPED`: the same of a tag that speaks texts."""
    return _meanings(re.split(r"[,;]", text), r".+", "Executing=EXECUTE, Not ready=STOPPED")


def _meanings(parts: list[str], value: str, example: str) -> dict[str, str]:
    out = {}
    for part in filter(None, map(str.strip, parts)):
        said, _, state = (each.strip() for each in part.rpartition("="))
        if not re.fullmatch(value, said) or state.upper() not in State.__members__:
            mend = ", ".join(each.name for each in State if each.name[-3:] != "ING")
            raise Wrong(f'"{part}": write {example}; the usual states: {mend}')
        out[said] = state.upper()
    if "EXECUTE" not in out.values():
        raise Wrong(f"one value must mean EXECUTE, that the machine runs: {example}")
    return out


def number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text) or not least <= int(text) <= most:
            raise Wrong(f"a whole number from {least} to {most:,}")
        return int(text)

    return read


def this_zone() -> str:
    """The time zone of this machine, or Hong Kong's."""
    try:
        found = (
            os.path.realpath("/etc/localtime").partition("zoneinfo/")[2] or Path("/etc/timezone").read_text().strip()
        )
        return "Asia/Hong_Kong" if found in ("", "Etc/UTC", "UTC") else zone(found)
    except (OSError, Wrong):
        return "Asia/Hong_Kong"


def this_name() -> str:
    """A gateway's id from this machine's name."""
    host = re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname().split(".")[0]).strip("-")[:32]
    return host if host and host != "localhost" else "GW-01"
