"""Reading TOML strictly: each key is asked for by name, type and range; what nobody asked for is refused.

Decides how a mistake in a file is said: file, line, and what to write instead. Knows no key of its own.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from protocols.errors import ConfigurationError

KeyPath: TypeAlias = tuple[str | int, ...]
T = TypeVar("T")

_PART: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_HEADER: Final = re.compile(rf"\s*(\[\[?)\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]")
_KEY: Final = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_PARTS: Final = re.compile(_PART)
_WORDS: Final = {
    str: "a text in quotes", int: "a whole number", bool: "true or false", dict: "a table", list: "a list",
}  # fmt: skip


def read_toml(path: Path) -> Table:
    """The root table of a file. Raises ConfigurationError when it cannot be read or is not TOML."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        mend = "check the path; `linetally-agent run --help` shows an example"
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=str(path), mend=mend) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("is not UTF-8 text", file=str(path), mend="save it as UTF-8") from error
    try:
        # Decimal: 1.2 in the file is exactly 1.2 here, so that an ideal cycle is exact to the nanosecond.
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise ConfigurationError(
            f"is not TOML: {error}", file=str(path), line=int(line[1]) if line else None,
            mend="texts need quotes, tables look like [gateway], lists like [1, 2]",
        ) from error  # fmt: skip
    return Table(data, (), str(path), partial(key_lines, text))


def key_lines(text: str) -> dict[KeyPath, int]:
    """Where each table header and each key at the start of a line stands: its path, to the line's number from 1.

    tomllib gives no positions. A key inside an inline table, or on a further line of a long value, is left out:
    whoever looks it up falls back to what encloses it.
    """
    where: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    closing = ""
    for number, content in enumerate(text.split("\n"), 1):  # as editors count
        if closing:  # inside a multi-line string
            closing = "" if closing in content else closing
            continue
        if header := _HEADER.match(content):
            table = ()
            parts = _parts(header[2])
            for depth, part in enumerate(parts, 1):
                table = (*table, part)
                if depth == len(parts) and header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    for inner in [path for path in counts if path[: len(table)] == table and path != table]:
                        del counts[inner]
                if table in counts:
                    table = (*table, counts[table])
            where.setdefault(table, number)
        elif key := _KEY.match(content):
            where.setdefault((*table, *_parts(key[1])), number)
            for quotes in ('"""', "'''"):
                if content.count(quotes) % 2:
                    closing = quotes
    return where


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PARTS.findall(dotted)]


class Table:
    """One table of a file. Ask for each key once; then `done` refuses every key that nobody asked for.

    `lines`: where everything stands, as `key_lines`; called only to say what is wrong.
    """

    def __init__(self, data: dict[str, Any], path: KeyPath, file: str, lines: Callable[[], dict[KeyPath, int]]) -> None:
        self._data = data
        self._path = path
        self._file = file
        self._lines = lines
        self._asked: dict[str, None] = {}

    @property
    def keys(self) -> list[str]:
        return list(self._data)

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def name(self, key: str = "") -> str:
        """How a person would call the key: `line.source.port`."""
        return ".".join([str(part) for part in self._path if isinstance(part, str)] + ([key] if key else []))

    def wrong(self, key: str, what: str, mend: str) -> ConfigurationError:
        """The error to raise about `key`, with the line of the key or of what encloses it."""
        path: KeyPath = (*self._path, key) if key else self._path
        lines = self._lines()
        while path and path not in lines:
            path = path[:-1]
        return ConfigurationError(
            f"{self.name(key)}: {what}" if self.name(key) else what,
            file=self._file, line=lines.get(path), mend=mend,
        )  # fmt: skip

    def done(self) -> None:
        """Refuses what was not asked for, naming the nearest key that exists."""
        for key in self._data:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1, cutoff=0.5)
                known = ", ".join(sorted(self._asked))
                mend = f"did you mean {near[0]}? Known here: {known}" if near else f"known here: {known}"
                raise self.wrong(key, "unknown key", mend)

    def _take(self, key: str, kind: type, example: str, required: bool) -> Any:
        self._asked[key] = None
        if key not in self._data:
            if required:
                raise self.wrong(key, "is missing", f"write: {key} = {example}")
            return None
        value = self._data[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"{_shown(value)} is not {_WORDS[kind]}", f"write: {key} = {example}")
        return value

    def text(self, key: str, default: str | None = None, *, example: str = '"text"') -> str:
        """A text; required when there is no default."""
        value = self._take(key, str, example, default is None)
        if value is None:
            assert default is not None
            return default
        if not value.strip():
            raise self.wrong(key, "is empty", f"write: {key} = {example}, or leave it out if it may be")
        return str(value)

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._data else self._asked.setdefault(key)

    def integer(self, key: str, default: int | None, least: int, most: int) -> int:
        """A whole number from `least` to `most`; required when the default is None."""
        value = self._take(key, int, str(least), default is None)
        if value is None:
            assert default is not None
            return default
        if not least <= value <= most:
            raise self.wrong(key, f"{value} is out of range", f"between {least} and {most}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, bool, "true", required=False)
        return default if value is None else bool(value)

    def scaled(self, key: str, default: int | None, scale: int, least: int, most: int) -> int:
        """A decimal number or text such as 1.2 or "1.2", times `scale`, which must come out whole."""
        self._asked[key] = None
        if key not in self._data:
            if default is None:
                raise self.wrong(key, "is missing", f'write: {key} = "1.2"')
            return default
        given = self._data[key]
        try:
            if isinstance(given, bool) or not isinstance(given, int | str | Decimal):
                raise TypeError(given)
            value = Decimal(given) * scale
            whole = int(value)
        except (ArithmeticError, TypeError, ValueError):
            raise self.wrong(key, f"{_shown(given)} is not a number", f'write: {key} = "1.2"') from None
        if value != whole:
            raise self.wrong(key, f"{given} is finer than 1/{scale}", "write fewer decimals")
        if not least <= whole <= most:
            low, high = Decimal(least) / scale, Decimal(most) / scale
            raise self.wrong(key, f"{given} is out of range", f"between {low:f} and {high:f}")
        return whole

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self.text(key, default, example=f'"{choices[0]}"')
        if value not in choices:
            near = difflib.get_close_matches(value, choices, n=1)
            mend = (f'did you mean "{near[0]}"? ' if near else "") + "one of: " + ", ".join(choices)
            raise self.wrong(key, f'"{value}" is not known', mend)
        return value

    def parsed(self, key: str, value: str, parse: Callable[[str], T], mend: str) -> T:
        """`parse(value)`, a ValueError of which becomes the configuration's."""
        try:
            return parse(value)
        except ValueError:
            raise self.wrong(key, f'"{value}" cannot be used', mend) from None

    def items(self, key: str, kind: type[T], example: str, *, required: bool = False) -> list[T]:
        """A list whose items are all of one type."""
        value = self._take(key, list, example, required)
        for item in value or ():
            if not isinstance(item, kind) or (isinstance(item, bool) and kind is not bool):
                raise self.wrong(key, f"{_shown(item)} does not belong in this list", f"write: {key} = {example}")
        return list(value or ())

    def texts(self, key: str) -> list[str]:
        """A text, or a list of texts; none when it is left out."""
        if isinstance(self._data.get(key), list):
            return self.items(key, str, '["one", "two"]')
        text = self.optional_text(key)
        return [] if text is None else [text]

    def table(self, key: str, *, required: bool = False) -> Table:
        """A table; an empty one when it is left out and not required."""
        self._asked[key] = None
        if required and key not in self._data:
            raise self.wrong(key, "is missing", f"add a table [{self.name(key)}]")
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"{_shown(value)} is not a table", f"write: [{self.name(key)}]")
        return Table(value, (*self._path, key), self._file, self._lines)

    def one_or_more(self, key: str) -> list[Table]:
        """A table, or an array of tables; none when it is left out."""
        if key not in self._data:
            self._asked[key] = None
            return []
        return self.tables(key) if isinstance(self._data[key], list) else [self.table(key)]

    def tables(self, key: str, *, required: bool = False) -> list[Table]:
        """An array of tables, [[key]]."""
        self._asked[key] = None
        values = self._data.get(key, [])
        if required and not values:
            raise self.wrong(key, "is missing", f"add a table [[{self.name(key)}]]")
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, "must be an array of tables", f"write: [[{self.name(key)}]]")
        return [Table(value, (*self._path, key, i), self._file, self._lines) for i, value in enumerate(values)]


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
