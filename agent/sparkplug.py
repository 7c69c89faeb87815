"""Sparkplug B beside the evidence: each line as a device, so that any SCADA or unified namespace can listen.

Decides what is said when (Eclipse Sparkplug 3.0.0): the gateway is an edge node, a line a device, born while its PLC is
read. Births, then only what changed, deaths; of a host's commands only the rebirth is listened to, and answered with
births alone: nothing that comes here ever reaches a PLC. Nothing here is evidence; it needs no receipt, and a record
never waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from agent.line import Line
from protocols.errors import Malformed
from protocols.measurement.figure import Figure
from protocols.measurement.live import Live
from protocols.measurement.ratios import availability, effectiveness, oee, quality, throughput_per_hour
from protocols.wire import sparkplug as names
from protocols.wire.sparkplug import BD_SEQ, REBIRTH, SEQUENCE_NUMBERS, WAITING, Kind, Topic
from protocols.wire.sparkplug_payload import DataType, Metric, decode_payload, encode_payload

_FIGURES: Final[tuple[tuple[str, Figure], ...]] = (
    (names.OEE, oee), (names.AVAILABILITY, availability), (names.EFFECTIVENESS, effectiveness),
    (names.QUALITY, quality),
)  # fmt: skip
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "sparkplug"})


class Out(Protocol):
    """What messages go out by: `mqtt.BrokerLink`."""

    def publish(self, topic: str, payload: bytes, qos: int) -> Callable[[], bool]: ...


class Sparkplug:
    """One edge node. `send` is called each second; births wait for it, so that no host can make us send more."""

    def __init__(self, group: str, gateway_id: str, now_ms: Callable[[], int]) -> None:
        self._group = group
        self._node = gateway_id
        self._now_ms = now_ms
        self._bd_seq = SEQUENCE_NUMBERS - 1
        self._seq = 0
        self._out: Out | None = None
        self._must_be_born = False
        self._devices: dict[str, dict[str, Metric]] = {}
        self._waiting = 0

    @property
    def command_topic(self) -> str:
        return str(Topic(self._group, Kind.NCMD, self._node))

    def next_will(self) -> tuple[str, bytes]:
        """The death certificate for the connection that is made next: its topic and payload, for QoS 1."""
        self._bd_seq = (self._bd_seq + 1) % SEQUENCE_NUMBERS
        return self._death()

    def connected(self, out: Out) -> None:
        self._out = out
        self._must_be_born = True

    def lost(self) -> None:
        """There is no connection any more; the broker tells it by the will."""
        self._out = None

    def leave(self) -> None:
        """An orderly end: the broker will not send the will, so it is said here."""
        if self._out is not None:
            topic, payload = self._death()
            self._out.publish(topic, payload, 1)
        self._out = None

    def take(self, payload: bytes) -> None:
        """A command of a host; all but the rebirth is left alone."""
        try:
            commands = decode_payload(payload).metrics
        except Malformed as error:
            _log.debug("a command cannot be read: %s", error)
            return
        if any(metric.name == REBIRTH and metric.value is True for metric in commands):
            self._must_be_born = True

    def send(self, lines: Sequence[tuple[Line, Live]], waiting: int) -> None:
        """What is to be said now of the lines, as they are now; nothing without a connection."""
        if self._out is None:
            return
        if self._must_be_born:
            self._be_born(waiting)
        elif waiting != self._waiting:
            self._say(Kind.NDATA, [Metric(WAITING, DataType.INT64, waiting)])
        self._waiting = waiting
        reading = {line.settings.line_id: (line, live) for line, live in lines if line.reading}
        for line_id in [known for known in self._devices if known not in reading]:
            del self._devices[line_id]
            self._say(Kind.DDEATH, [], line_id)
        for line_id, (line, live) in reading.items():
            metrics = {metric.name: metric for metric in line_metrics(line, live)}
            before = self._devices.get(line_id)
            if before is None:
                self._say(Kind.DBIRTH, metrics.values(), line_id)
            elif changed := [metric for name, metric in metrics.items() if metric != before[name]]:
                self._say(Kind.DDATA, changed, line_id)
            self._devices[line_id] = metrics

    def _be_born(self, waiting: int) -> None:
        self._must_be_born = False
        self._devices.clear()  # each is born again, at once
        self._seq = 0
        self._say(
            Kind.NBIRTH,
            [
                Metric(BD_SEQ, DataType.INT64, self._bd_seq),
                Metric(REBIRTH, DataType.BOOLEAN, False),
                Metric(WAITING, DataType.INT64, waiting),
            ],
        )

    def _death(self) -> tuple[str, bytes]:
        metric = Metric(BD_SEQ, DataType.INT64, self._bd_seq)
        return str(Topic(self._group, Kind.NDEATH, self._node)), encode_payload(self._now_ms(), [metric], None)

    def _say(self, kind: Kind, metrics: Iterable[Metric], device: str = "") -> None:
        assert self._out is not None
        topic = str(Topic(self._group, kind, self._node, device))
        self._out.publish(topic, encode_payload(self._now_ms(), metrics, self._seq), 0)
        self._seq = (self._seq + 1) % SEQUENCE_NUMBERS


def line_metrics(line: Line, live: Live) -> list[Metric]:
    """State, counts and figures of its shift so far. Always the same names in the same order."""
    account = live.shift_account
    definition = line.settings.configuration.definition
    texts = {
        names.STATE: live.state.name, names.CATEGORY: live.category.name, names.PRODUCT: live.product,
        names.SHIFT: live.shift,
    }  # fmt: skip
    counts = {names.TOTAL: account.total_count, names.GOOD: account.good_count, names.REJECT: account.reject_count}
    rate = throughput_per_hour(live.recent_account)
    return [
        *(Metric(name, DataType.STRING, text) for name, text in texts.items()),
        *(Metric(name, DataType.INT64, count) for name, count in counts.items()),
        *(Metric(name, DataType.DOUBLE, _float(figure(account, definition))) for name, figure in _FIGURES),
        Metric(names.RATE, DataType.DOUBLE, None if rate is None else round(float(rate), 1)),
    ]


def _float(value: object) -> float | None:
    return None if value is None else round(float(value), 4)  # type: ignore[arg-type]
