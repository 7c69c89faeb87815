"""The form of a gateway's live messages: unsigned JSON, all lines of the gateway in as few as hold them.

Decides its fields (docs/formats.md has the table), which lines go together, and that a line's history, its ribbon and
its stops, is told when it has changed, and again now and then: a shift has hundreds of runs, ten times as much as all
the rest, and a gateway may pay for each megabyte. Written as text, with what stays for as long as a configuration,
names and definition, kept as it was written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from agent.publisher import LastReceipt
from protocols.measurement.account import ACCOUNT_INTS, Category
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.definition import Definition
from protocols.measurement.live import Live
from protocols.measurement.mapping import STOPS
from protocols.measurement.ratios import throughput_per_hour
from protocols.measurement.timeline import Stop
from protocols.wire.live import MAX_BYTES, VERSION

NS_PER_MS: Final = 1_000_000
_ACCOUNT: Final = f"[{','.join(['%d'] * ACCOUNT_INTS)}]"
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class LineText:
    """Writes one line's part, for as long as the line has this configuration."""

    def __init__(self, configuration: LineConfiguration) -> None:
        self.configuration = configuration
        self.definition = definition_text(configuration.definition)
        hash_hex = configuration.definition.hash.hex()
        self._names = (
            f'"line":{_json(configuration.line_id)},"name":{_json(configuration.name)},"definition":"{hash_hex}"'
        )
        self._told: tuple[tuple[tuple[int, Category], ...], tuple[Stop, ...], bool] | None = None

    def write(self, live: Live, late_count: int, *, whole: bool) -> bytes:
        """UTF-8. Accounts are `TimeAccount.as_ints()`; targets are pieces at the ideal cycle over planned time.

        `whole`: with the history, even if it was told before as it is.
        """
        ideal_ns = self.configuration.ideal_cycle_ns.get(live.product)
        rate = throughput_per_hour(live.recent_account)
        shift, now = "null", "null"
        if ideal_ns is not None:
            shift = str(live.planned_shift_ms * NS_PER_MS // ideal_ns)
            now = str(live.shift_account.planned_ms * NS_PER_MS // ideal_ns)
        return (
            f'{{{self._names},"state":"{live.state.name}","category":"{live.category.name}","since_ms":{live.since_ms},'
            f'"product":{_json(live.product)},"order":"","shift":{_json(live.shift)},'
            f'"shift_start_ms":{live.shift_start_ms},"shift_end_ms":{live.shift_end_ms},'
            f'"shift_account":{_ACCOUNT % live.shift_account.as_ints()},'
            f'"window_account":{_ACCOUNT % live.recent_account.as_ints()},'
            f'"target_shift":{shift},"target_now":{now},'
            f'"pieces_per_hour":{"null" if rate is None else round(float(rate), 1)},'
            f'{self._history(live, whole)}"late_count":{late_count}}}'
        ).encode()

    def _history(self, live: Live, whole: bool) -> str:
        is_open = live.category in STOPS
        history = live.ribbon, live.stops, is_open
        if history == self._told and not whole:
            return ""
        self._told = history
        runs = ",".join([f"[{start_ms},{category:d}]" for start_ms, category in live.ribbon])
        return f'"ribbon":[{runs}],"stops":{_stops(live.stops, is_open)},'


def messages(
    parts: Iterable[tuple[LineText, bytes]],
    *,
    time_ms: int,
    interval_s: int,
    simulated: bool,
    receipt: LastReceipt | None,
    spool_depth: int,
) -> Iterator[bytes]:
    """As few messages as hold the parts, in their order, none longer than a hub takes."""
    told = None if receipt is None else {"sequence": receipt.sequence, "time_ms": receipt.time_ms}
    head = (
        f'{{"v":{VERSION},"time_ms":{time_ms},"interval_s":{interval_s},"simulated":{_json(simulated)},"receipt":{_json(told)},'
        f'"spool_depth":{spool_depth},"definitions":{{'
    ).encode()
    middle, end = b'},"lines":[', b"]}"
    empty = len(head) + len(middle) + len(end)
    size, definitions, lines = empty, dict[bytes, None](), list[bytes]()
    for text, part in parts:
        more = len(part) + 1 + (0 if text.definition in definitions else len(text.definition) + 1)
        if lines and size + more > MAX_BYTES:
            yield b"".join((head, b",".join(definitions), middle, b",".join(lines), end))
            size, definitions, lines = empty, {}, []
            more = len(part) + 1 + len(text.definition) + 1
        definitions[text.definition] = None
        lines.append(part)
        size += more
    if lines:
        yield b"".join((head, b",".join(definitions), middle, b",".join(lines), end))


@lru_cache(64)
def definition_text(definition: Definition) -> bytes:
    """A member of "definitions": the hash, and what it is of."""
    data = {"words": definition.words, "data": definition.to_data()}
    return f'"{definition.hash.hex()}":{_json(data)}'.encode()


def _stops(stops: tuple[Stop, ...], is_open: bool) -> str:
    """`is_open`: the last one goes on."""
    return _json(
        [
            {
                "start_ms": stop.start_ms,
                "end_ms": None if is_open and stop is stops[-1] else stop.end_ms,
                "category": stop.category.name,
                "reason": f"#{stop.reason}" if stop.reason else "",
            }
            for stop in stops
        ]
    )
