"""Tag lists as tables: a row for each tag, as an engineer keeps them in a spreadsheet.

Decides the columns, and that a mistake is said with its row and what to write. A cell that a spreadsheet would take for
a formula is written with an apostrophe before it, and read without.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from agent.commissioning.tree import quoted
from agent.config_modbus import ModbusLink, ModbusSource
from agent.config_modbus_keys import read_modbus_tags
from agent.config_opcua import read_opcua_tags
from agent.config_tags import ROLE_NAMES
from agent.toml_table import Table
from protocols.errors import ConfigurationError

MODBUS: Final = ("register", "table", "type", "word_order", "byte_order", "device_id", "bit", "mask", "shift", "scale",
                 "length", "modulus", "bcd")  # fmt: skip
OPCUA: Final = ("path", "namespace", "node", "deadband", "texts", "modulus", "bcd")
_NUMBERS: Final = ("register", "device_id", "bit", "mask", "shift", "length", "modulus")
# A spreadsheet writes 40 as 40.0. A comma or 40.001 may be thousands or parts: another register, if it is guessed.
_WHOLE: Final = re.compile(r"-?\d{1,18}(\.0+)?", re.ASCII)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_MOST_ROWS: Final = 10_000
_MOST_BYTES: Final = 10_000_000
_ANY_DEVICE: Final = ModbusSource(ModbusLink(), 1, 1000, 1000)  # the whole file is checked again when it is written
_XLSX_MEND: Final = 'install the extra xlsx (pip install "linetally[agent,xlsx]"), or save the sheet as CSV (UTF-8)'


def columns(protocol: str) -> tuple[str, ...]:
    return ("role", *(MODBUS if protocol == "modbus" else OPCUA))


def rows_of(tags: Mapping[str, Any], protocol: str) -> list[dict[str, str]]:
    """`tags`: [line.tags] as TOML gives it. A counter of several lanes has a row for each."""
    out = []
    for role, value in tags.items():
        for tag in value if isinstance(value, list) else [value]:
            row = {"role": role} | {key: _cell(found) for key, found in tag.items() if key in columns(protocol)}
            out.append(row)
    return out


def tags_of(rows: Sequence[tuple[int, Mapping[str, str]]], protocol: str) -> dict[str, str]:
    """Role -> TOML value. `rows`: (number in the file, cells). Raises ConfigurationError with the row and the mend."""
    found: dict[str, list[dict[str, Any]]] = {}
    roles = (*ROLE_NAMES, "time") if protocol == "modbus" else ROLE_NAMES
    for number, row in rows:
        cells = {key.strip().lower(): value.strip() for key, value in row.items() if value and value.strip()}
        if not cells:
            continue
        role = cells.pop("role", "").lower()
        if role not in roles:
            raise _wrong(number, f'"{role}" is no role' if role else "has no role", f"one of: {', '.join(roles)}")
        unknown = [key for key in cells if key not in columns(protocol)]
        if unknown:
            known = ", ".join(columns(protocol))
            raise _wrong(number, f'unknown column "{unknown[0]}"', f"the columns: {known}")
        tag = {key: _value(number, key, text) for key, text in cells.items()}
        lanes = [*found.get(role, []), tag]
        _check(number, role, lanes, protocol)
        found[role] = lanes
    return {role: _toml(lanes[0]) if len(lanes) == 1 else f"[{', '.join(map(_toml, lanes))}]"
            for role, lanes in found.items()}  # fmt: skip


def _check(number: int, role: str, lanes: list[dict[str, Any]], protocol: str) -> None:
    """As the configuration would be checked."""
    table = Table({role: lanes if len(lanes) > 1 else lanes[0]}, ("tags",), "", dict)
    try:
        if protocol == "modbus":
            read_modbus_tags(table, _ANY_DEVICE)
        else:
            read_opcua_tags(table)
    except ConfigurationError as error:
        raise _wrong(number, error.what.removeprefix("tags."), error.mend) from None


def _wrong(number: int, what: str, mend: str) -> ConfigurationError:
    return ConfigurationError(f"row {number}: {what}", mend=mend)


def _value(number: int, key: str, text: str) -> Any:
    try:
        if key in _NUMBERS:
            if text[:2].lower() == "0x":  # as people write masks
                return int(text, 0)
            if not _WHOLE.fullmatch(text):
                raise ValueError(text)
            return int(text.partition(".")[0])
        if key in ("scale", "deadband"):
            return Decimal(text)
        if key == "bcd":
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if key == "namespace" and ";" in text:
            return [part.strip() for part in text.split(";")]
        if key == "texts":
            return {name: int(value) for name, _, value in (part.rpartition("=") for part in text.split(";"))}
    except (ArithmeticError, ValueError, KeyError):
        examples = {"bcd": "true or false", "texts": "Executing=3;Idle=2", "scale": "0.1", "deadband": "0.1"}
        example = examples.get(key, "a number, its digits only: 40001")
        raise _wrong(number, f'{key}: "{text}" cannot be used', f"write {example}") from None
    return text


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ";".join(map(str, value))
    if isinstance(value, dict):
        return ";".join(f"{name}={number}" for name, number in value.items())
    return str(value)


def _toml(tag: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {_toml_value(value)}" for key, value in tag.items()) + " }"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(name)} = {number}" for name, number in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(quoted, value)) + "]"
    if isinstance(value, Decimal):
        return f'"{value:f}"'
    return json.dumps(value) if isinstance(value, bool | int) else quoted(value)


def inert(cell: str) -> str:
    """The cell as no spreadsheet runs it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def live(cell: str) -> str:
    """The inverse of `inert`."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def write_csv(rows: Iterable[Mapping[str, str]], protocol: str) -> str:
    """With a byte order mark, by which spreadsheets know UTF-8."""
    out = io.StringIO()
    names = columns(protocol)
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([inert(row.get(name, "")) for name in names])
    return "\ufeff" + out.getvalue()


def write_xlsx(rows: Iterable[Mapping[str, str]], protocol: str, path: Path) -> None:
    """Every cell a text, so that nothing is run or rounded. Raises ConfigurationError without the extra `xlsx`."""
    book = _openpyxl(path).Workbook(write_only=True)
    sheet = book.create_sheet("tags")
    names = columns(protocol)
    sheet.append(list(names))
    for row in rows:
        sheet.append([inert(row.get(name, "")) for name in names])
    book.save(path)


def read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(row's number in the file, column -> cell) of a CSV or XLSX file. Raises ConfigurationError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError("is too large for a tag list", file=str(path), mend="at most 10 MB")
        grid = _xlsx_grid(path) if path.suffix.lower() == ".xlsx" else _csv_grid(path)
    except OSError as error:
        mend = "check the path"
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=str(path), mend=mend) from error
    if not grid or "role" not in [cell.strip().lower() for cell in grid[0][1]]:
        mend = "the first row names the columns: role, register, type, … (linetally-agent tags export shows them)"
        raise ConfigurationError("has no column “role” in its first row", file=str(path), mend=mend)
    if len(grid) > _MOST_ROWS:
        raise ConfigurationError("has too many rows", file=str(path), mend=f"at most {_MOST_ROWS:,}")
    names = grid[0][1]
    for number, cells in grid[1:]:
        if beyond := [cell for cell in cells[len(names) :] if cell.strip()]:
            mend = "name its column in the first row, or clear it"
            raise ConfigurationError(f'row {number}: "{beyond[0]}" stands under no column', file=str(path), mend=mend)
    return [(number, dict(zip(names, map(live, cells), strict=False))) for number, cells in grid[1:]]


def _csv_grid(path: Path) -> list[tuple[int, list[str]]]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        mend = "save it as “CSV UTF-8”"
        raise ConfigurationError("is not UTF-8 text", file=str(path), mend=mend) from error
    first = text.partition("\n")[0]
    # A spreadsheet of a country with decimal commas separates by semicolons.
    separator = max(",;\t", key=first.count)
    try:
        return [(number, cells) for number, cells in enumerate(csv.reader(io.StringIO(text), delimiter=separator), 1)]
    except csv.Error as error:
        raise ConfigurationError(f"is no CSV: {error}", file=str(path), mend="save it as “CSV UTF-8”") from error


def _xlsx_grid(path: Path) -> list[tuple[int, list[str]]]:
    openpyxl = _openpyxl(path)
    try:
        # As values: what a formula came to, never the formula.
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        with contextlib.closing(book):
            rows = book.worksheets[0].iter_rows(values_only=True, max_row=_MOST_ROWS + 2, max_col=64)
            return [(number, ["" if cell is None else str(cell) for cell in row]) for number, row in enumerate(rows, 1)]
    except (zipfile.BadZipFile, SyntaxError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        # SyntaxError is what XML that is none raises; the rest comes of parts that are not what they say.
        mend = "save it as CSV (UTF-8), and give that"
        raise ConfigurationError("is no XLSX workbook that can be read", file=str(path), mend=mend) from error


def _openpyxl(path: Path) -> Any:
    try:
        return importlib.import_module("openpyxl")
    except ImportError:
        raise ConfigurationError("XLSX needs openpyxl, which is not here", file=str(path), mend=_XLSX_MEND) from None
