"""What Sparkplug B tells of gateways and lines: births, data and deaths, put together again. Pure.

Decides what is believed (Eclipse Sparkplug 3.0.0, chapters 5 and 6.4): data only of what was born, under the names and
types that its birth gave; a death only of the birth that it names; and when a rebirth must be asked for. All of it is
for display: nothing here is evidence, and nothing is remembered over a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from protocols.errors import Malformed
from protocols.wire import sparkplug as names
from protocols.wire.sparkplug import BD_SEQ, SEQUENCE_NUMBERS, Kind, Topic
from protocols.wire.sparkplug_payload import Payload, ReadMetric, Value, decode_payload

REBIRTH_EVERY_MS: Final = 10_000
"""A gateway is not asked more often to be born again."""
MAX_NODES: Final = 10_000
_OF_A_LINE: Final = frozenset({
    names.STATE, names.CATEGORY, names.PRODUCT, names.SHIFT, names.TOTAL, names.GOOD, names.REJECT, names.OEE,
    names.AVAILABILITY, names.EFFECTIVENESS, names.QUALITY, names.RATE,
})  # fmt: skip
_OF_A_GATEWAY: Final = frozenset({names.WAITING})


@dataclass(frozen=True, slots=True)
class LineTold:
    """A line as Sparkplug shows it now. `metrics`: all that are known of it, by name; `waiting`: records without a
    receipt at its gateway, None where it does not say. `time_ms`: the gateway's clock."""

    gateway_id: str
    line_id: str
    time_ms: int
    metrics: Mapping[str, Value]
    waiting: int | None


@dataclass(frozen=True, slots=True)
class LineDied:
    """The gateway no longer reads the line's PLC."""

    gateway_id: str
    line_id: str


@dataclass(frozen=True, slots=True)
class GatewayDied:
    """The gateway has left the broker."""

    gateway_id: str


@dataclass(frozen=True, slots=True)
class RebirthWanted:
    """Something was missed: the gateway at `command`, an NCMD topic, should be born again."""

    command: Topic


News = LineTold | LineDied | GatewayDied | RebirthWanted


@dataclass(frozen=True, slots=True)
class SparkplugCounts:
    """Messages since the start that could not be read, that came from a gateway which may not speak for the line,
    gaps in the numbers, and rebirths that were asked for."""

    malformed_count: int = 0
    foreign_count: int = 0
    gap_count: int = 0
    rebirth_count: int = 0


@dataclass(slots=True)
class _Metrics:
    """What a birth declared, and the values since. `aliases`: of a line those of all metrics, so that one that is not
    known shows that a birth was missed; of a gateway, whose word alone does not show that it is ours, of the wanted."""

    wanted: frozenset[str]
    is_line: bool
    types: dict[str, int] = field(default_factory=dict)
    aliases: dict[int, str] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def be_born(self, metrics: tuple[ReadMetric, ...]) -> None:
        for metric in metrics:
            if metric.alias is not None and (self.is_line or metric.name in self.wanted):
                self.aliases[metric.alias] = metric.name
            if metric.name in self.wanted:
                self.types[metric.name] = metric.type
                self.values[metric.name] = metric.typed(0)

    def update(self, metrics: tuple[ReadMetric, ...]) -> bool:
        """False where an alias is not known: a birth was missed."""
        whole = True
        for metric in metrics:
            name = metric.name
            if not name:
                known = self.aliases.get(-1 if metric.alias is None else metric.alias)
                whole = whole and (known is not None or not self.is_line)
                name = known or ""
            if name in self.types and not metric.is_historical:
                self.values[name] = metric.typed(self.types[name])
        return whole


@dataclass(slots=True)
class _Node:
    bd_seq: int | None = None
    """Of the newest birth; None while the gateway is not born, as far as is known here."""
    seq: int = 0
    is_whole: bool = False
    own: _Metrics = field(default_factory=lambda: _Metrics(_OF_A_GATEWAY, is_line=False))
    lines: dict[str, _Metrics] = field(default_factory=dict)
    asked_ms: int | None = None


class SparkplugNodes:
    """`may_speak_for(gateway_id, line_id)`: whether the registry says so. Not for several threads at once."""

    def __init__(self, may_speak_for: Callable[[str, str], bool]) -> None:
        self._may_speak_for = may_speak_for
        self._nodes: dict[tuple[str, str], _Node] = {}
        self.counts = SparkplugCounts()

    def forget(self) -> None:
        """All of it: deaths may have been missed."""
        self._nodes.clear()

    def take(self, topic: Topic, data: bytes, now_ms: int) -> list[News]:
        """What a message changes. A payload that cannot be read is counted, and is as if it had not come."""
        if topic.device and not self._may_speak_for(topic.node, topic.device):
            self._count("foreign_count")
            return []
        try:
            payload = decode_payload(data)
        except Malformed:
            self._count("malformed_count")
            return []
        key = (topic.group, topic.node)
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                return []
            node = self._nodes[key] = _Node()
        if topic.kind is Kind.NBIRTH:
            return self._gateway_born(node, payload)
        if topic.kind is Kind.NDEATH:
            return self._gateway_died(node, topic, payload)
        self._follow(node, payload)
        if topic.kind is Kind.NDATA:
            node.own.update(payload.metrics)
            return [] if node.bd_seq is None else self._all_told(node, topic, payload.timestamp_ms)
        return self._line(node, topic, payload, now_ms)

    def _gateway_born(self, node: _Node, payload: Payload) -> list[News]:
        bd_seq = _bd_seq(payload)
        if bd_seq is None or payload.seq is None:
            self._count("malformed_count")
            return []
        node.bd_seq, node.seq, node.is_whole = bd_seq, payload.seq, True
        node.own, node.lines = _Metrics(_OF_A_GATEWAY, is_line=False), {}
        node.own.be_born(payload.metrics)
        return []

    def _gateway_died(self, node: _Node, topic: Topic, payload: Payload) -> list[News]:
        """Only by the will of the birth that we know: that of a connection before may come after the new birth."""
        if node.bd_seq is None or _bd_seq(payload) != node.bd_seq:
            return []
        node.bd_seq, node.lines = None, {}
        return [GatewayDied(topic.node)]

    def _line(self, node: _Node, topic: Topic, payload: Payload, now_ms: int) -> list[News]:
        news: list[News] = []
        if topic.kind is Kind.DDEATH:
            if node.lines.pop(topic.device, None) is not None:
                news.append(LineDied(topic.node, topic.device))
        elif node.bd_seq is not None:
            line = node.lines.get(topic.device)
            if topic.kind is Kind.DBIRTH:
                line = node.lines[topic.device] = _Metrics(_OF_A_LINE, is_line=True)
                line.be_born(payload.metrics)
            if line is None:
                node.is_whole = False
            else:
                node.is_whole = line.update(payload.metrics) and node.is_whole
                news.append(_told(node, topic.node, topic.device, payload.timestamp_ms))
        # Only here, where the registry has said that the gateway is ours.
        return news + self._rebirth(node, topic, now_ms)

    def _follow(self, node: _Node, payload: Payload) -> None:
        if node.bd_seq is None:
            node.is_whole = False
            return
        if payload.seq != (node.seq + 1) % SEQUENCE_NUMBERS:
            self._count("gap_count")
            node.is_whole = False
        node.seq = node.seq if payload.seq is None else payload.seq

    def _rebirth(self, node: _Node, topic: Topic, now_ms: int) -> list[News]:
        if node.is_whole or (node.asked_ms is not None and 0 <= now_ms - node.asked_ms < REBIRTH_EVERY_MS):
            return []
        node.asked_ms = now_ms
        return [RebirthWanted(Topic(topic.group, Kind.NCMD, topic.node))]

    def _all_told(self, node: _Node, topic: Topic, time_ms: int) -> list[News]:
        return [_told(node, topic.node, line_id, time_ms) for line_id in node.lines]

    def rebirth_sent(self) -> None:
        self._count("rebirth_count")

    def _count(self, name: str) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + 1})


def _told(node: _Node, gateway_id: str, line_id: str, time_ms: int) -> LineTold:
    waiting = node.own.values.get(names.WAITING)
    return LineTold(
        gateway_id, line_id, time_ms, dict(node.lines[line_id].values), waiting if type(waiting) is int else None
    )


def _bd_seq(payload: Payload) -> int | None:
    for metric in payload.metrics:
        if metric.name == BD_SEQ and type(metric.value) is int:
            return metric.value
    return None
