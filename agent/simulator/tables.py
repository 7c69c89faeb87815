"""Reading a TOML table strictly: every key is asked for once, with its type and range.

Decides how a wrong key or value is said (file, line, mend). Knows nothing of plants.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from protocols.errors import ConfigurationError

_Choice = TypeVar("_Choice", bound=StrEnum)

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.-]+)\s*\]\]?")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_MINUTE: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\Z")
_MINUTES_A_DAY: Final = 1440


def parse_toml(path: Path) -> Table:
    """The root table of a file. Raises ConfigurationError when it cannot be read or is not TOML."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("is not UTF-8 text", file=str(path)) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not TOML: {error}", file=str(path)) from error
    return Table(data, (), str(path), _line_numbers(text))


def _line_numbers(text: str) -> dict[tuple[str | int, ...], int]:
    """Where each key stands: the path of the key, with an index for a table of an array, to the line's number.

    tomllib gives no positions, so headers and keys are found line by line; what that misses has no line.
    """
    where: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    for number, content in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(content):
            table = ()
            parts = header[2].split(".")
            for depth, part in enumerate(parts, 1):
                table = (*table, part)
                if depth == len(parts) and header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                if table in counts:
                    table = (*table, counts[table])
            where.setdefault(table, number)
        elif key := _KEY.match(content):
            where.setdefault((*table, key[1]), number)
    return where


class Table:
    """A TOML table whose keys are taken one by one; `done` refuses what nobody took."""

    def __init__(
        self,
        data: dict[str, Any],
        path: tuple[str | int, ...],
        file: str,
        lines: dict[tuple[str | int, ...], int],
    ) -> None:
        self._data = data
        self._path = path
        self._file = file
        self._lines = lines
        self._taken: list[str] = []

    def wrong(self, key: str, what: str, mend: str) -> ConfigurationError:
        """The error to raise about `key`."""
        line = self._lines.get((*self._path, key), self._lines.get(self._path))
        names = [str(part) for part in self._path if isinstance(part, str)]
        return ConfigurationError(f"{'.'.join([*names, key])}: {what}", file=self._file, line=line, mend=mend)

    def done(self) -> None:
        """Refuse every key that was not taken."""
        for key in self._data:
            if key not in self._taken:
                raise self.wrong(key, "unknown key", f"known here: {', '.join(sorted(set(self._taken)))}")

    def _take(self, key: str, kinds: tuple[type, ...], default: Any, form: str) -> Any:
        self._taken.append(key)
        value = self._data.get(key, default)
        if value is None:
            raise self.wrong(key, "is missing", f"write: {key} = {form}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(key, f"{value!r} has the wrong type", f"write: {key} = {form}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        return str(self._take(key, (str,), default, '"text"'))

    def name(self, key: str) -> str:
        value = self.text(key)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
            raise self.wrong(key, f'"{value}" is no id', "use letters, digits, - and _, at most 64")
        return value

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        value = int(self._take(key, (int,), default, str(low)))
        if not low <= value <= high:
            raise self.wrong(key, f"{value} is out of range", f"between {low} and {high}")
        return value

    def number(self, key: str, default: float | None, low: float, high: float) -> float:
        value = float(self._take(key, (int, float), default, f"{low:g}"))
        if not low <= value <= high:  # NaN fails this too
            raise self.wrong(key, f"{value} is out of range", f"between {low:g} and {high:g}")
        return value

    def integers(self, key: str, default: Sequence[int], low: int, high: int) -> tuple[int, ...]:
        values = self._take(key, (list, tuple), default, f"[{low}, {high}]")
        if not values or not all(type(value) is int and low <= value <= high for value in values):
            raise self.wrong(key, f"{values!r} is not usable", f"a list of integers from {low} to {high}")
        return tuple(values)

    def choice(self, key: str, kind: type[_Choice]) -> _Choice:
        value = self.text(key)
        try:
            return kind(value)
        except ValueError:
            mend = "one of " + ", ".join(f'"{member.value}"' for member in kind)
            raise self.wrong(key, f'"{value}" is not known', mend) from None

    def zone(self, key: str, default: str) -> ZoneInfo:
        value = self.text(key, default)
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            mend = 'an IANA name, e.g. "Asia/Hong_Kong"'
            raise self.wrong(key, f'"{value}" is no time zone', mend) from None

    def instant(self, key: str, zone: ZoneInfo) -> int:
        return self._instant(key, self._take(key, (str, datetime), None, '"2026-03-01T06:00"'), zone)

    def instants(self, key: str, zone: ZoneInfo) -> list[int]:
        values = self._take(key, (list,), [], '["2026-03-01T06:00"]')
        return [self._instant(key, value, zone) for value in values]

    def _instant(self, key: str, value: object, zone: ZoneInfo) -> int:
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            mend = f'write: {key} = "2026-03-01T06:00" (local time) or with an offset'
            raise self.wrong(key, f"{value!r} is no time", mend) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return round(moment.timestamp() * 1000)

    def minute(self, key: str) -> int:
        return self._minute(key, self.text(key))

    def _minute(self, key: str, value: str) -> int:
        if value == "24:00":
            return _MINUTES_A_DAY
        match = _MINUTE.match(value)
        if match is None:
            raise self.wrong(key, f'"{value}" is no time of day', f'write: {key} = "06:00"')
        return int(match[1]) * 60 + int(match[2])

    def minute_ranges(self, key: str) -> tuple[tuple[int, int], ...]:
        ranges: list[tuple[int, int]] = []
        for value in self._take(key, (list,), [], '["12:00-12:30"]'):
            start, dash, end = str(value).partition("-")
            if not dash:
                raise self.wrong(key, f"{value!r} is no range", f'write: {key} = ["12:00-12:30"]')
            ranges.append((self._minute(key, start), self._minute(key, end)))
        return tuple(ranges)

    def table(self, key: str) -> Table:
        value = self._take(key, (dict,), {}, "a table")
        return Table(value, (*self._path, key), self._file, self._lines)

    def optional_table(self, key: str) -> Table | None:
        if key not in self._data:
            self._taken.append(key)
            return None
        return self.table(key)

    def tables(self, key: str, at_least: int = 0) -> list[Table]:
        values = self._take(key, (list,), [], "an array of tables")
        if len(values) < at_least:
            raise self.wrong(key, "is missing", f"add a [[{'.'.join([*self._names(), key])}]] table")
        if not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, "must be an array of tables", f"write: [[{'.'.join([*self._names(), key])}]]")
        return [Table(value, (*self._path, key, index), self._file, self._lines) for index, value in enumerate(values)]

    def _names(self) -> list[str]:
        return [part for part in self._path if isinstance(part, str)]
