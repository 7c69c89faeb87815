"""One `[[line]]` of the configuration: its source, its tags, and what is signed about it.

Decides the keys of a line and makes its `LineConfiguration`, which is logged. How the tags are read is decided in
`agent.sources`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.config_calendar import read_calendar
from agent.config_machine import read_machine
from agent.config_modbus import ModbusSource, ModbusTag
from agent.config_modbus_keys import read_modbus_source, read_modbus_tags
from agent.config_opcua import OpcuaSource, OpcuaTag, read_opcua_source, read_opcua_tags
from agent.toml_table import Table
from protocols.measurement.configuration import Counter, Encoding, LineConfiguration, Product
from protocols.measurement.definition import CHOICES, PRESETS, Definition
from protocols.plc.packml import Mode
from protocols.plc.roles import COUNTER_ROLES, ROLES, SignalRole

__all__ = ["LineSettings", "ModbusSource", "OpcuaSource", "ReplaySource", "Source", "read_line"]

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOUR_NS: Final = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """The history of a simulated line, from `from_text` to `to_text` (ISO 8601), polled each `poll_ms`."""

    plant: Path
    line: str
    from_ms: int
    to_ms: int
    poll_ms: int


Source: TypeAlias = OpcuaSource | ModbusSource | ReplaySource
Tag: TypeAlias = OpcuaTag | ModbusTag


@dataclass(frozen=True, slots=True)
class LineSettings:
    """A line: where its signals come from (`tags`; `time_tag`: the PLC's clock) and what is measured."""

    line_id: str
    source: Source
    tags: tuple[Tag, ...]
    time_tag: ModbusTag | None
    product_codes: dict[str, int]  # a product tag may speak texts: the text, to the code
    configuration: LineConfiguration


def read_line(table: Table, folder: Path, window_ms: int) -> LineSettings:
    """Raises ConfigurationError."""
    line_id = table.text("id", example='"filling"')
    if not _ID.fullmatch(line_id):
        raise table.wrong("id", f'"{line_id}" cannot be a name', "1 to 64 of the letters A-Z a-z, digits, _ and -")
    zone_name = table.text("timezone", example='"Asia/Hong_Kong"')
    zone = _zone(table, zone_name)
    source = _source(table.table("source", required=True), folder, zone)
    tags, time_tag = _tags(table, source)
    roles = [tag.role for tag in tags]
    products, codes = _products(table)
    encodings = {False: Encoding.BINARY, True: Encoding.BCD}
    # In the order of the columns, which is the order in which further lanes are numbered.
    counters = tuple(Counter(tag.role, tag.modulus, encodings[tag.bcd]) for tag in tags if tag.role in COUNTER_ROLES)
    modes = table.items("production_modes", int, "[1]")
    if SignalRole.MODE in roles and not modes:
        modes = [int(Mode.PRODUCTION)]
    if modes and SignalRole.MODE not in roles:
        raise table.wrong("production_modes", "there is no mode tag", "add line.tags.mode, or leave this out")
    configuration = LineConfiguration(
        line_id=line_id,
        name=table.text("name", line_id),
        calendar=read_calendar(table, zone_name),
        products=products,
        counters=counters,
        mapping=read_machine(table, roles, products),
        production_modes=tuple(modes),
        max_pieces_per_hour=table.integer("max_pieces_per_hour", 0, 0, 10_000_000),
        window_ms=window_ms,
        staleness_ms=table.scaled("staleness_s", 10_000, 1000, 100, 86_400_000),
        heartbeat=SignalRole.HEARTBEAT in roles,
        definition=_definition(table),
        source=_source_words(source, tags, time_tag),
    )
    if any(c.modulus for c in counters) and not configuration.max_pieces_per_hour:
        mend = "write: max_pieces_per_hour = 6000 (the line's physical limit; it tells a roll-over from a reset)"
        raise table.wrong("max_pieces_per_hour", "is needed, since a counter rolls over", mend)
    table.done()
    return LineSettings(line_id, source, tags, time_tag, codes, configuration)


def _zone(table: Table, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        mend = 'an IANA name, for example "Asia/Hong_Kong"'
        raise table.wrong("timezone", f'"{name}" is not a time zone', mend) from None


def _source(table: Table, folder: Path, zone: ZoneInfo) -> Source:
    readers: dict[str, Callable[[Table, Path, ZoneInfo], Source]] = {
        "opcua": _opcua, "modbus": _modbus, "replay": _replay,
    }  # fmt: skip
    source = readers[table.choice("protocol", tuple(readers))](table, folder, zone)
    table.done()
    return source


def _opcua(table: Table, folder: Path, _zone: ZoneInfo) -> OpcuaSource:
    return read_opcua_source(table, folder)


def _modbus(table: Table, folder: Path, _zone: ZoneInfo) -> ModbusSource:
    return read_modbus_source(table, folder)


def _replay(table: Table, folder: Path, zone: ZoneInfo) -> ReplaySource:
    from_ms, to_ms = _instant(table, "from", zone), _instant(table, "to", zone)
    if to_ms <= from_ms:
        raise table.wrong("to", "ends before it starts", "a time after `from`")
    return ReplaySource(
        folder / table.text("plant", example='"plant.toml"'),
        table.text("line", example='"filling"'),
        from_ms,
        to_ms,
        table.integer("poll_ms", 1000, 10, 600_000),
    )


def _instant(table: Table, key: str, zone: ZoneInfo) -> int:
    text = table.text(key, example='"2026-03-02T00:00"')
    moment = table.parsed(key, text, datetime.fromisoformat, f'write: {key} = "2026-03-02T00:00" (the line\'s zone)')
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _tags(table: Table, source: Source) -> tuple[tuple[Tag, ...], ModbusTag | None]:
    tags = table.table("tags", required=True)
    time_tag: ModbusTag | None = None
    read: tuple[Tag, ...]
    if isinstance(source, ModbusSource):
        read, time_tag = read_modbus_tags(tags, source)
    elif isinstance(source, OpcuaSource):
        read = read_opcua_tags(tags)
    else:
        read = read_opcua_tags(tags, replay=True)
    roles = {tag.role for tag in read}
    if SignalRole.TOTAL not in roles and SignalRole.GOOD not in roles:
        raise tags.wrong("total", "is missing", "a line needs a counter: add line.tags.total (or good)")
    tags.done()
    return read, time_tag


def _products(table: Table) -> tuple[tuple[Product, ...], dict[str, int]]:
    products: list[Product] = []
    codes: dict[str, int] = {}
    for inner in table.tables("product", required=True):
        code, name = inner.integer("code", None, 0, 2**31 - 1), inner.text("name", example='"Cola 500 ml"')
        cycle = inner.scaled("ideal_cycle_s", 0, 1_000_000_000, 1_000_000, _HOUR_NS)
        text = inner.text("tag_text", name)
        if code in {product.code for product in products}:
            raise inner.wrong("code", f"{code} is given twice", "give each product its own code")
        # The name is what a window carries: two products of one name could not be told apart.
        if name in {product.name for product in products} or text in codes:
            raise inner.wrong("name", f'"{name}" is given twice', "give each product its own name")
        inner.done()
        products.append(Product(code, name, cycle or None))
        codes[text] = code
    return tuple(products), codes


def _definition(table: Table) -> Definition:
    preset = PRESETS[table.choice("definition", tuple(PRESETS), "iso-22400-2")]

    def time_ms(key: str, default: int) -> int:
        return table.scaled(key, default, 1000, 0, 3_600_000)

    switches = table.table("switches")
    told = {
        name: next(c for c in choices if c == switches.choice(name, choices, str(getattr(preset, name))))
        for name, choices in CHOICES.items()
    }
    switches.done()
    return replace(
        preset,
        **told,  # type: ignore[arg-type]
        minor_stop_ms=time_ms("minor_stop_s", preset.minor_stop_ms),
        startup_ms=time_ms("startup_s", preset.startup_ms),
        min_run_ms=time_ms("min_run_s", preset.min_run_ms),
        min_stop_ms=time_ms("min_stop_s", preset.min_stop_ms),
    )


def _source_words(source: Source, tags: tuple[Tag, ...], time_tag: ModbusTag | None) -> dict[str, str]:
    """The tag map for the reader of the log. No address of the factory's network, no user, no file."""
    words: dict[str, Any] = {
        "protocol": {OpcuaSource: "opcua", ModbusSource: "modbus", ReplaySource: "replay"}[type(source)]
    }
    for tag in tags:
        name = tag.role.name.lower()
        words[name if tag.column < ROLES else f"{name} {tag.column}"] = tag.words
    if time_tag is not None:
        words["time"] = time_tag.words
    if isinstance(source, ReplaySource):
        words["line"] = source.line
        words["poll_ms"] = str(source.poll_ms)
    return words
