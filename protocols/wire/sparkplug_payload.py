"""Sparkplug B payloads: the few fields of its protobuf message that we need, written and read.

Decides the bytes (Eclipse Sparkplug 3.0.0, chapter 6.4, and protobuf's wire format). Written by hand because it is 150
lines, and a protobuf library would be 1 MB more on each gateway; the tests read and write it with another's decoder.
Data sets, templates, byte strings and properties are passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocols.errors import Malformed

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PAYLOAD_TIMESTAMP, _PAYLOAD_METRICS, _PAYLOAD_SEQ = 1, 2, 3
_NAME, _ALIAS, _METRIC_TIMESTAMP, _DATATYPE, _IS_HISTORICAL, _IS_NULL = 1, 2, 3, 4, 5, 7
_INT, _LONG, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = 10, 11, 12, 13, 14, 15
MAX_METRICS: Final = 1000

Value = int | float | bool | str | None
"""None where it is not known. A DOUBLE or FLOAT is the one place with a float."""


class DataType(IntEnum):
    """Of a metric; those that we read or write."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14


_SIGNED_BITS: Final[Mapping[int, int]] = {
    DataType.INT8: 8,
    DataType.INT16: 16,
    DataType.INT32: 32,
    DataType.INT64: 64,
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One to be written."""

    name: str
    type: DataType
    value: Value


@dataclass(frozen=True, slots=True)
class ReadMetric:
    """One that was read. `name`: "" where only its alias stands. `type`: 0 where none stands, as data messages may.

    `value`: integers unsigned, as they stand on the wire; `typed` gives them their sign.
    """

    name: str
    alias: int | None
    type: int
    value: Value
    is_historical: bool = False

    def typed(self, type_at_birth: int) -> Value:
        """The value under its own type, or where none stands the one that its birth gave it."""
        bits = _SIGNED_BITS.get(self.type or type_at_birth)
        if bits is None or isinstance(self.value, bool) or not isinstance(self.value, int):
            return self.value
        kept = self.value & (1 << bits) - 1
        return kept - (1 << bits) if kept >> (bits - 1) else kept


@dataclass(frozen=True, slots=True)
class Payload:
    """A message that was read. `timestamp_ms` 0 and `seq` None where none stands."""

    timestamp_ms: int
    metrics: tuple[ReadMetric, ...]
    seq: int | None


def encode_payload(timestamp_ms: int, metrics: Iterable[Metric], seq: int | None) -> bytes:
    """A Payload message. `seq`: 0 to 255; None for a death certificate, which has none."""
    out = _number(_PAYLOAD_TIMESTAMP, timestamp_ms)
    for metric in metrics:
        out += _bytes(_PAYLOAD_METRICS, _metric(metric, timestamp_ms))
    return out if seq is None else out + _number(_PAYLOAD_SEQ, seq)


def _metric(metric: Metric, timestamp_ms: int) -> bytes:
    out = _bytes(_NAME, metric.name.encode())
    out += _number(_METRIC_TIMESTAMP, timestamp_ms) + _number(_DATATYPE, metric.type)
    value = metric.value
    if value is None:
        return out + _number(_IS_NULL, 1)
    match metric.type:
        case DataType.INT64 | DataType.UINT64 | DataType.DATETIME:
            return out + _number(_LONG, int(value) & 0xFFFF_FFFF_FFFF_FFFF)
        case DataType.FLOAT:
            return out + _varint(_FLOAT << 3 | _FIXED32) + struct.pack("<f", float(value))
        case DataType.DOUBLE:
            return out + _varint(_DOUBLE << 3 | _FIXED64) + struct.pack("<d", float(value))
        case DataType.BOOLEAN:
            return out + _number(_BOOLEAN, int(bool(value)))
        case DataType.STRING | DataType.TEXT:
            return out + _bytes(_STRING, str(value).encode())
        case _:
            return out + _number(_INT, int(value) & 0xFFFF_FFFF)


def decode_payload(data: bytes) -> Payload:
    """Reads a Payload message; at most MAX_METRICS metrics of it. Raises Malformed."""
    timestamp_ms, seq = 0, None
    metrics: list[ReadMetric] = []
    for field, value in _fields(data):
        if field == _PAYLOAD_METRICS:
            if not isinstance(value, bytes):
                raise Malformed("a metric is no message")
            if len(metrics) == MAX_METRICS:
                raise Malformed(f"more than {MAX_METRICS} metrics in a message")
            metrics.append(_read_metric(value))
        elif field == _PAYLOAD_TIMESTAMP and isinstance(value, int):
            timestamp_ms = value
        elif field == _PAYLOAD_SEQ and isinstance(value, int):
            seq = value
    return Payload(timestamp_ms, tuple(metrics), seq)


def _read_metric(data: bytes) -> ReadMetric:
    fields = dict(_fields(data))
    alias, kind = fields.get(_ALIAS), fields.get(_DATATYPE)
    return ReadMetric(
        _text(fields.get(_NAME)) or "",
        alias if isinstance(alias, int) else None,
        kind if isinstance(kind, int) else 0,
        None if fields.get(_IS_NULL) else _value(fields),
        bool(fields.get(_IS_HISTORICAL)),
    )


def _value(fields: Mapping[int, int | bytes]) -> Value:
    for field in (_INT, _LONG):
        if isinstance(found := fields.get(field), int):
            return found
    if isinstance(found := fields.get(_BOOLEAN), int):
        return bool(found)
    for field, form in ((_FLOAT, "<f"), (_DOUBLE, "<d")):
        if isinstance(found := fields.get(field), bytes) and len(found) == struct.calcsize(form):
            return float(struct.unpack(form, found)[0])
    return _text(fields.get(_STRING))


def _text(found: int | bytes | None) -> str | None:
    if not isinstance(found, bytes):
        return None
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a text is not UTF-8") from error


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values; bytes for all but varints. Raises Malformed."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield field, value
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise Malformed(f"wire type {kind} of protobuf is not used by Sparkplug", at)
        if at + length > len(data):
            raise Malformed("the payload ends in the middle of a field", at)
        yield field, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise Malformed("the payload ends in the middle of a number", at)
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + place + 1
    raise Malformed("a number is too long", at)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value
