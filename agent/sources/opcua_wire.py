"""Values as a server sends them: from the bytes of a read or publish response to what was told of each.

Decides nothing of what a value is worth. asyncua makes some thirty calls and four objects of each value, and takes the
picoseconds of the source for the server's time; here a number with its times is one call of `struct`. The answer around
the values, and a value that is no plain number, are asyncua's to read; but a structure is passed over, since no tag is
one: asyncua fails at those that it knows otherwise, and with it all values of the answer would be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import Primitives
from asyncua.ua.uaerrors import UaError


class Told(NamedTuple):
    """What a server told of a value: a Python value, the status code as it is, times in Unix ms (None for none)."""

    value: Any = None
    status: int = 0
    source_ms: int | None = None
    server_ms: int | None = None


class Unread(bytes):
    """A structure, or some, as it came."""


Changes = list[tuple[int, Told]]
"""Notifications, in their order: the number that we gave the monitored item, and what it told."""

_TICKS_A_MS: Final = 10_000
_EPOCH_MS: Final = 11_644_473_600_000  # from 1601 to 1970, Part 6, 5.2.2.5
_NUMBERS: Final = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d"}
"""Built-in types (Part 6, 5.1.2) of one fixed length, as `struct` writes them."""
_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PICO, _SERVER_PICO = (1 << bit for bit in range(6))
_ABSENT: Final = (0, None)
_HANDLE: Final = Struct("<I").unpack_from
_LENGTH: Final = Struct("<i").unpack_from
_STRUCTURE: Final = 22  # Part 6, 5.1.2, the type; and of 5.2.2.16, the bits of a value's first byte:
_KIND, _HAS_DIMENSIONS, _IS_ARRAY = 63, 64, 128
_LENGTH_BYTES: Final = 4
_DATA_CHANGE: Final = ua.NodeId(ua.Int32(ObjectIds.DataChangeNotification_Encoding_DefaultBinary))
_WITH_BODY: Final = b"\x01"


class _Shape(NamedTuple):
    """How the parts behind each other are read that a mask says are there (Part 6, 5.2.2.17), and put in one order."""

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    size: int
    order: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    handled: Struct
    """The same behind the handle of a notification."""


def _shape(start: str, mask: int) -> _Shape:
    """`start`: the format of what comes before the status; it gives a value if the mask has one."""
    layout = "<" + start
    places = [0] if mask & _VALUE else []
    count = len(places)
    for bit, code, absent in ((_STATUS, "I", -2), (_SOURCE, "q", -1), (_SERVER, "q", -1)):
        places.append(count if mask & bit else absent)
        count += bool(mask & bit)
        layout += code if mask & bit else ""
        pico = (bit == _SOURCE and mask & _SOURCE_PICO) or (bit == _SERVER and mask & _SERVER_PICO)
        layout += "xx" if pico else ""
    packed = Struct(layout)
    return _Shape(packed.unpack_from, packed.size, itemgetter(*places), Struct("<I" + layout[1:]))


@lru_cache(512)
def _plain(head: bytes) -> _Shape | None:
    """By the first two bytes of a DataValue, its mask and its value's type: how it is read in one; None: not at all."""
    if len(head) < 2 or not head[0] & _VALUE or head[1] not in _NUMBERS:
        return None
    return _shape(f"xx{_NUMBERS[head[1]]}", head[0])


@lru_cache(64)
def _tail(mask: int) -> _Shape:
    """What comes after a value that was read by itself."""
    return _shape("", mask & ~_VALUE)


def told_at(data: bytes, at: int) -> tuple[Told, int]:
    """The DataValue at a place, and the place after it. Raises struct.error, IndexError and what asyncua raises."""
    shape = _plain(data[at : at + 2])
    if shape is not None:
        value, status, source, server = shape.order(shape.unpack(data, at) + _ABSENT)
    else:
        value, mask = None, data[at]
        at += 1
        if mask & _VALUE and data[at] & _KIND == _STRUCTURE:
            value, at = _structures(data, at)
        elif mask & _VALUE:
            buffer = Buffer(data, at)
            value = _legible(ua_binary.variant_from_binary(buffer).Value)
            at = buffer.cur_pos
        shape = _tail(mask & 63)
        status, source, server = shape.order(shape.unpack(data, at) + _ABSENT)
    # 0 is no time (Part 6, 5.2.2.5).
    source_ms = source // _TICKS_A_MS - _EPOCH_MS if source else None
    return Told(value, status, source_ms, server // _TICKS_A_MS - _EPOCH_MS if server else None), at + shape.size


def _legible(value: Any) -> Any:
    """A text must be in UTF-8 (Part 6, 5.2.2.4). PLCs also give Latin-1, of which asyncua makes surrogates."""
    if isinstance(value, ua.LocalizedText):
        return ua.LocalizedText(_legible(value.Text), value.Locale)
    if not isinstance(value, str) or value.isascii() or not any("\udc80" <= sign <= "\udcff" for sign in value):
        return value
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


_array_of = ua_binary._create_uatype_array_deserializer


def _some_of(kind: ua.VariantType) -> Callable[[Any], list[Any] | None]:
    """asyncua makes a list as long as is claimed; what has no bytes may be claimed as often as a peer likes."""
    return _none_of if kind is ua.VariantType.Null else _array_of(kind)


def _none_of(data: Any) -> list[Any]:
    if Primitives.Int32.unpack(data) > 0:
        raise UaError("a list of nothing")
    return []


ua_binary._create_uatype_array_deserializer = _some_of  # type: ignore[assignment]


def _structures(data: bytes, at: int) -> tuple[Unread, int]:
    """A variant of one structure or an array of them (Part 6, 5.2.2.15), and the place after it."""
    first, encoding = at, data[at]
    at += 1
    (count,) = _LENGTH(data, at) if encoding & _IS_ARRAY else (1,)
    at += _LENGTH_BYTES if encoding & _IS_ARRAY else 0
    for _ in range(count):
        buffer = Buffer(data, at)
        ua_binary.nodeid_from_binary(buffer)
        at = buffer.cur_pos + 1
        if data[at - 1]:
            at += _LENGTH_BYTES + max(0, _LENGTH(data, at)[0])
    if encoding & _HAS_DIMENSIONS:
        at += _LENGTH_BYTES * (1 + max(0, _LENGTH(data, at)[0]))
    if at > len(data):
        raise IndexError("a structure is longer than the answer")
    return Unread(data[first:at]), at


def read_answer(answer: Buffer) -> list[Told]:
    """The body of a read response. Raises UaStatusCodeError where the server refused, and as `told_at`."""
    ua_binary.nodeid_from_binary(answer)
    ua_binary.struct_from_binary(ua.ResponseHeader, answer).ServiceResult.check()
    count = Primitives.Int32.unpack(answer)
    data, at = answer.read(len(answer)), 0
    out = []
    for _ in range(count):
        told, at = told_at(data, at)
        out.append(told)
    return out


def publish_answer(answer: Buffer) -> ua.PublishResponse:
    """The body of a publish response, with `Changes` in place of each DataChangeNotification. Raises as `told_at`."""
    ua_binary.nodeid_from_binary(answer)
    response = ua.PublishResponse(ResponseHeader=ua_binary.struct_from_binary(ua.ResponseHeader, answer))
    result = response.Parameters
    result.SubscriptionId = Primitives.UInt32.unpack(answer)
    result.AvailableSequenceNumbers = ua_binary.unpack_uatype_array(ua.VariantType.UInt32, answer) or []
    result.MoreNotifications = Primitives.Boolean.unpack(answer)
    message = result.NotificationMessage
    message.SequenceNumber = Primitives.UInt32.unpack(answer)
    message.PublishTime = Primitives.DateTime.unpack(answer)
    message.NotificationData = [_notification(answer) for _ in range(Primitives.Int32.unpack(answer))]
    return response  # what comes after it says how our acknowledgements were taken


def _notification(answer: Buffer) -> Any:
    ahead = answer.copy()
    if ua_binary.nodeid_from_binary(ahead) != _DATA_CHANGE or ahead.read(1) != _WITH_BODY:
        return ua_binary.extensionobject_from_binary(answer)
    body = ahead.read(Primitives.Int32.unpack(ahead))
    answer.skip(len(answer) - len(ahead))
    return changes(body)


def changes(body: bytes) -> Changes:
    """The body of a DataChangeNotification (Part 4, 7.25.2). Raises as `told_at`."""
    (count,) = _HANDLE(body, 0)
    at = _LENGTH_BYTES
    out: Changes = []
    count = 0 if count == 0xFFFF_FFFF else count
    while len(out) < count:
        shape = _plain(body[at + _LENGTH_BYTES : at + _LENGTH_BYTES + 2])
        alike = 0 if shape is None else _alike(body, at, shape.handled.size, count - len(out))
        if shape is not None and alike > 1:
            end = at + alike * shape.handled.size
            out += _run(shape, body[at:end])
            at = end
            continue
        (handle,) = _HANDLE(body, at)
        told, at = told_at(body, at + _LENGTH_BYTES)
        out.append((handle, told))
    return out


def _alike(body: bytes, at: int, size: int, most: int) -> int:
    """How many notifications from a place on, up to so many, begin with the same mask and type: they are as long."""
    most = min(most, (len(body) - at) // size)
    first = at + _LENGTH_BYTES
    masks, types = body[first : first + most * size : size], body[first + 1 : first + 1 + most * size : size]
    return min(len(masks) - len(masks.lstrip(masks[:1])), len(types) - len(types.lstrip(types[:1])))


def _run(shape: _Shape, data: bytes) -> Changes:
    """Notifications of one form, by columns: a server's numbers mostly are."""
    handles, *columns = zip(*shape.handled.iter_unpack(data), strict=True)
    values, statuses, *times = shape.order((*columns, (0,) * len(handles), (None,) * len(handles)))
    sources, servers = ([ticks // _TICKS_A_MS - _EPOCH_MS if ticks else None for ticks in column] for column in times)
    return list(zip(handles, map(Told, values, statuses, sources, servers), strict=True))
