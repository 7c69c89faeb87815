"""Sparkplug B payloads: the few fields of its protobuf message that an edge node needs, written and (commands) read.

Decides the bytes (Eclipse Sparkplug 3.0.0, chapter 6.4, and protobuf's wire format). What is said when is decided in
`sparkplug`. Written by hand because it is 100 lines, and a protobuf library would be 1 MB more on each gateway; the
tests read it with a generated decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PAYLOAD_TIMESTAMP, _PAYLOAD_METRICS, _PAYLOAD_SEQ = 1, 2, 3
_NAME, _ALIAS, _METRIC_TIMESTAMP, _DATATYPE, _IS_NULL = 1, 2, 3, 4, 7
_INT, _LONG, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = 10, 11, 12, 13, 14, 15
_MOST_METRICS: Final = 1000


class DataType(IntEnum):
    """Of a metric; those that we use."""

    INT32 = 3
    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


@dataclass(frozen=True, slots=True)
class Metric:
    """`value`: None where it is not known; else of the data type. A DOUBLE is the one place with a float."""

    name: str
    type: DataType
    value: int | float | bool | str | None


class NotSparkplug(Exception):
    """A payload that cannot be read."""


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
        case DataType.INT32:
            return out + _number(_INT, int(value) & 0xFFFF_FFFF)
        case DataType.INT64 | DataType.UINT64:
            return out + _number(_LONG, int(value) & 0xFFFF_FFFF_FFFF_FFFF)
        case DataType.DOUBLE:
            return out + _double(float(value))
        case DataType.BOOLEAN:
            return out + _number(_BOOLEAN, int(bool(value)))
        case DataType.STRING:
            return out + _bytes(_STRING, str(value).encode())


def true_commands(payload: bytes) -> set[str]:
    """The names of a command's boolean metrics that are true. Raises NotSparkplug."""
    found: set[str] = set()
    try:
        metrics = [value for field, value in _fields(payload) if field == _PAYLOAD_METRICS]
        for metric in metrics[:_MOST_METRICS]:
            if not isinstance(metric, bytes):
                raise NotSparkplug("a metric is no message")
            fields = dict(_fields(metric))
            name = fields.get(_NAME)
            if isinstance(name, bytes) and fields.get(_BOOLEAN) == 1:
                found.add(name.decode())
    except (IndexError, UnicodeDecodeError) as error:
        raise NotSparkplug("the payload is no Sparkplug message") from error
    return found


def _fields(data: bytes) -> Iterable[tuple[int, int | bytes]]:
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
            raise NotSparkplug(f"wire type {kind}")
        if at + length > len(data):
            raise NotSparkplug("the payload ends in the middle of a field")
        yield field, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise NotSparkplug("a number is too long")


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


def _double(value: float) -> bytes:
    return _varint(_DOUBLE << 3 | _FIXED64) + struct.pack("<d", value)
