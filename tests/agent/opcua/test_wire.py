"""Values from bytes: what asyncua reads, we read; where it is wrong, the standard's own order holds."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_to_binary
from asyncua.ua.uaerrors import BadTooManyOperations
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.opcua_items import Items
from agent.sources.opcua_wire import Told, Unread, changes, publish_answer, read_answer, told_at
from tests.agent.opcua.support import STATE, Plc, reading

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = ua.VariantType


def ranged(kind: ua.VariantType, bits: int, *, signed: bool) -> st.SearchStrategy[tuple[ua.VariantType, Any]]:
    least = -(1 << bits - 1) if signed else 0
    return st.tuples(st.just(kind), st.integers(least, least + (1 << bits) - 1))


VALUES = st.one_of(
    *(ranged(kind, bits, signed=True) for kind, bits in
      ((KINDS.SByte, 8), (KINDS.Int16, 16), (KINDS.Int32, 32), (KINDS.Int64, 64))),
    *(ranged(kind, bits, signed=False) for kind, bits in
      ((KINDS.Byte, 8), (KINDS.UInt16, 16), (KINDS.UInt32, 32), (KINDS.UInt64, 64))),
    st.tuples(st.just(KINDS.Boolean), st.booleans()),
    st.tuples(st.just(KINDS.Float), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just(KINDS.Double), st.floats(allow_nan=False)),
    st.tuples(st.just(KINDS.String), st.none() | st.text(max_size=20)),
    st.tuples(st.just(KINDS.LocalizedText), st.builds(ua.LocalizedText, st.text(max_size=9))),
    st.tuples(st.just(KINDS.Int32), st.lists(st.integers(-9, 9), max_size=3)),
    st.tuples(st.just(KINDS.Null), st.none()),
)  # fmt: skip
TIMES = st.none() | st.integers(1, 4_000_000_000_000)


@st.composite
def data_values(draw: st.DrawFn) -> tuple[ua.DataValue, Told]:
    """As asyncua makes it, and what is told by it."""
    kind, value = draw(VALUES)
    status = draw(st.none() | st.integers(0, 2**32 - 1))
    source_ms, server_ms = draw(TIMES), draw(TIMES)
    source, server = (None if ms is None else EPOCH + timedelta(milliseconds=ms) for ms in (source_ms, server_ms))
    made = ua.DataValue(ua.Variant(value, kind), None if status is None else ua.StatusCode(status), source, server)
    return made, Told(value, status or 0, source_ms, server_ms)


@given(st.lists(data_values(), max_size=6))
def test_what_is_read_is_what_asyncua_wrote(values: list[tuple[ua.DataValue, Told]]) -> None:
    response = ua.ReadResponse(Results=[made for made, _ in values])
    found = read_answer(Buffer(struct_to_binary(response)))
    assert found == [told for _, told in values]
    assert [type(told.value) for told in found] == [type(told.value) for _, told in values]


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), data_values()), max_size=6), st.booleans(), st.integers(1, 2**31))
def test_notifications_keep_their_order_and_place(
    values: list[tuple[int, tuple[ua.DataValue, Told]]], more: bool, number: int
) -> None:
    told = [(handle, told) for handle, (_, told) in values]
    change = ua.DataChangeNotification([ua.MonitoredItemNotification(handle, made) for handle, (made, _) in values])
    ended = ua.StatusChangeNotification(ua.StatusCode(ua.StatusCodes.BadTimeout))
    response = ua.PublishResponse()
    response.Parameters = ua.PublishResult(7, [number - 1, number], more)
    response.Parameters.NotificationMessage = ua.NotificationMessage(number, EPOCH, [change, ended, change])
    found = publish_answer(Buffer(struct_to_binary(response))).Parameters
    assert (found.SubscriptionId, found.MoreNotifications) == (7, more)
    assert found.AvailableSequenceNumbers == [number - 1, number]
    assert found.NotificationMessage.SequenceNumber == number
    assert found.NotificationMessage.NotificationData == [told, ended, told]


@given(
    data_values(), st.integers(2, 9), st.booleans(), st.lists(st.tuples(st.integers(0, 8), data_values()), max_size=2)
)
def test_many_alike_are_read_as_each_of_them(
    alike: tuple[ua.DataValue, Told], count: int, cut: bool, others: list[tuple[int, tuple[ua.DataValue, Told]]]
) -> None:
    values = [alike] * count
    for place, other in others:
        values.insert(min(place, len(values)), other)
    items = [ua.MonitoredItemNotification(handle, made) for handle, (made, _) in enumerate(values)]
    body = struct.pack("<i", len(items)) + b"".join(map(struct_to_binary, items))
    found = changes(body)
    assert found == list(enumerate(told for _, told in values))
    assert [type(told.value) for _, told in found] == [type(told.value) for _, told in values]
    with pytest.raises((struct.error, IndexError, ua.uaerrors.UaError)):
        changes(body[: -1 - cut])


STRUCTURES = (
    # That asyncua knows, shorter than it knows it; of the maker's own; without a body; two of them; a matrix of one.
    b"\x16\x01\x00\x60\x03\x01\x04\x00\x00\x00abcd",
    b"\x16\x01\x03\xbb\x0b\x01\x04\x00\x00\x00abcd",
    b"\x16\x00\x00\x00",
    b"\x96\x02\x00\x00\x00\x01\x00\x60\x03\x01\x02\x00\x00\x00ab\x00\x00\x00",
    b"\xd6\x01\x00\x00\x00\x01\x00\x60\x03\x01\x01\x00\x00\x00a\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00",
)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_structure_is_passed_over_and_what_comes_after_it_is_read(structure: bytes) -> None:
    value = b"\x05" + structure + struct.pack("<q", 116_444_736_000_010_000)
    body = struct.pack("<i", 2) + struct.pack("<I", 3) + value + struct.pack("<I", 4) + b"\x01\x07\x05\x00\x00\x00"
    assert changes(body) == [(3, Told(Unread(structure), 0, 1)), (4, Told(5))]
    for length in range(4, 4 + 4 + len(value)):
        with pytest.raises((struct.error, IndexError, ua.uaerrors.UaError)):
            changes(body[:length])


def test_a_list_of_nothing_is_not_as_long_as_it_says() -> None:
    """Six bytes would make a list that no gateway has the memory for."""
    assert told_at(b"\x01\x80\x00\x00\x00\x00", 0)[0] == Told([])
    for inside in (b"\x01", b"\x01\x98\x01\x00\x00\x00"):
        with pytest.raises(ua.UaError, match="a list of nothing"):
            told_at(inside + b"\x80\x00\x00\x10\x00", 0)


def test_picoseconds_stand_behind_their_own_time() -> None:
    """Part 6, 5.2.2.17. asyncua writes and reads them behind both times."""
    ticks = 116_444_736_000_000_000
    for value, kind in ((b"\x01\x01", 1), (b"\x0c\x02\x00\x00\x00ok", 12)):
        body = b"\x3f" + value + struct.pack("<IqHqH", 0x4000_0000, ticks + 10_000, 5600, ticks + 20_000, 5800)
        told, end = told_at(body + b"more", 0)
        assert told == Told(True if kind == 1 else "ok", 0x4000_0000, 1, 2)
        assert end == len(body)


def test_a_time_of_nought_is_none() -> None:
    body = b"\x0d\x07" + struct.pack("<Iqq", 5, 0, 0)
    assert told_at(body, 0) == (Told(5), len(body))
    assert told_at(b"\x00", 0) == (Told(), 1)


def test_what_ends_too_soon_is_an_error() -> None:
    whole = struct_to_binary(ua.MonitoredItemNotification(3, ua.DataValue(ua.Variant(1, KINDS.UInt32), None, EPOCH)))
    body = struct.pack("<i", 1) + whole
    assert changes(body) == [(3, Told(1, 0, 0))]
    for length in range(len(body)):
        with pytest.raises((struct.error, IndexError, ua.uaerrors.UaError)):
            changes(body[:length])
    assert changes(struct.pack("<i", -1)) == []


def test_a_server_that_refuses_to_read_is_heard() -> None:
    response = ua.ReadResponse()
    response.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadTooManyOperations)
    with pytest.raises(BadTooManyOperations):
        read_answer(Buffer(struct_to_binary(response)))


def test_a_change_that_cannot_be_taken_in_ends_the_connection(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncua's publish loop would go on without a word."""
    take = Items.take

    def stumble(self: Items, found: Any, heard_ms: int | None = None) -> None:
        if any(told.value == 666 for _, told in found):
            monkeypatch.undo()
            raise RuntimeError("a mistake of ours")
        take(self, found, heard_ms)

    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        async with reading(tmp_path, plc.endpoint) as line:
            await line.until(lambda: line.newest(STATE) == 0)
            monkeypatch.setattr(Items, "take", stumble)
            await plc.write("State", 666)
            await line.until(lambda: line.newest(STATE) == 666)
            assert any("could not be taken in" in event for event in line.events)
        await plc.stop()

    asyncio.run(scenario())
