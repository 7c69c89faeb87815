"""Sparkplug B: topics, and payloads read and written by protoc, which is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.wire.sparkplug import REBIRTH, Kind, Topic, is_group, listening, parse_topic
from protocols.wire.sparkplug_payload import (
    MAX_METRICS,
    DataType,
    Metric,
    ReadMetric,
    decode_payload,
    encode_payload,
)
from tests.support.sparkplug import decoded, encoded

NOW = 1_767_225_600_000


def test_topics_are_read_as_they_are_written() -> None:
    for topic in (Topic("Tai Po", Kind.NBIRTH, "GW-01"), Topic("裝瓶", Kind.DDATA, "GW-01", "filling")):
        assert parse_topic(str(topic)) == topic
    assert str(Topic("Tai Po", Kind.DDEATH, "GW-01", "filling")) == "spBv1.0/Tai Po/DDEATH/GW-01/filling"
    assert listening("Tai Po")[:2] == ["spBv1.0/Tai Po/NBIRTH/+", "spBv1.0/Tai Po/NDATA/+"]
    assert not any("CMD" in each for each in listening())
    assert is_group("Tai Po") and not any(map(is_group, ("", "a/b", "+", "#", "x" * 65)))


@pytest.mark.parametrize(
    "name",
    [
        "spBv1.0/g/NBIRTH/GW-01/filling", "spBv1.0/g/DBIRTH/GW-01", "spBv1.0/g/DCMD/GW-01/filling", "spBv1.0/STATE/x",
        "spAv1.0/g/NBIRTH/GW-01", "spBv1.0//NBIRTH/GW-01", "spBv1.0/g/NBIRTH/GW 01", "spBv1.0/g/DDATA/GW-01/a/b",
        f"spBv1.0/{'g' * 65}/NBIRTH/GW-01", "spBv1.0/g/NBIRTH/GW-01\n",
    ],
)  # fmt: skip
def test_other_topics_are_not_ours(name: str) -> None:
    with pytest.raises(Malformed):
        parse_topic(name)


@pytest.mark.needs("protoc")
def test_another_implementation_reads_what_we_write(tmp_path: Path) -> None:
    values = [
        Metric("a", DataType.INT64, 2**53), Metric("b", DataType.INT64, -2), Metric("c", DataType.DOUBLE, 0.8125),
        Metric("d", DataType.STRING, "裝瓶線 1"), Metric("e", DataType.BOOLEAN, True), Metric("f", DataType.INT32, -1),
        Metric("g", DataType.DOUBLE, None), Metric("h", DataType.UINT64, 0), Metric("i", DataType.STRING, ""),
        Metric("j", DataType.FLOAT, 0.5),
    ]  # fmt: skip
    payload = encode_payload(NOW, values, 255)
    metrics, seq = decoded(tmp_path, payload, NOW)
    assert seq == "255"
    text = "裝瓶線 1".encode()
    octal = "".join(f"\\{byte:03o}" if byte > 127 else chr(byte) for byte in text)
    assert metrics == {
        "a": str(2**53), "b": str(2**64 - 2), "c": "0.8125", "d": f'"{octal}"', "e": "true", "f": str(2**32 - 1),
        "g": "null", "h": "0", "i": '""', "j": "0.5",
    }  # fmt: skip
    read = decode_payload(payload)
    assert (read.timestamp_ms, read.seq) == (NOW, 255)
    assert [(each.name, each.type, each.typed(0)) for each in read.metrics] == [
        (each.name, each.type, each.value) for each in values
    ]


@pytest.mark.needs("protoc")
def test_what_another_implementation_writes_is_read(tmp_path: Path) -> None:
    payload = decode_payload(encoded(tmp_path, f'''
        timestamp: {NOW} seq: 7 uuid: "x" body: "\\377"
        metrics {{ name: "{REBIRTH}" alias: 1 datatype: 11 boolean_value: false }}
        metrics {{ alias: 2 timestamp: 1 int_value: 4294967295 }}
        metrics {{ alias: 3 float_value: 0.25 }}
        metrics {{ alias: 4 is_null: true datatype: 10 }}
        metrics {{ name: "bytes" bytes_value: "abc" }}
        metrics {{ name: "old" is_historical: true long_value: 18446744073709551615 }}
    '''))  # fmt: skip
    assert (payload.timestamp_ms, payload.seq) == (NOW, 7)
    rebirth, number, share, null, other, old = payload.metrics
    assert rebirth == ReadMetric(REBIRTH, 1, DataType.BOOLEAN, False)
    assert (number.name, number.alias) == ("", 2)
    kinds = (0, DataType.INT32, DataType.INT16, DataType.UINT32, 99)
    assert [number.typed(kind) for kind in kinds] == [2**32 - 1, -1, -1, 2**32 - 1, 2**32 - 1]
    assert (share.value, null.value, other.value) == (0.25, None, None)
    assert old.is_historical and old.typed(DataType.INT64) == -1


NOISE = [
    b"\x12", b"\x12\xff\x01", b"\x0f", b"\xff" * 11, b"\x12\x03\x0a\x01\xff", b"\x10\x01", b"\x09\0", b"\x12\x01\x0a",
    b"\x12\0" * (MAX_METRICS + 1),
]  # fmt: skip


@pytest.mark.parametrize("data", NOISE)
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_payload(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        payload = decode_payload(data)
    except Malformed:
        return
    for metric in payload.metrics:
        metric.typed(DataType.INT8)


metrics = st.builds(
    Metric,
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.sampled_from([DataType.INT64]),
    st.integers(-(2**63), 2**63 - 1),
) | st.builds(
    Metric,
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.just(DataType.DOUBLE),
    st.floats(width=64, allow_nan=False),
)


@given(st.lists(metrics, max_size=10), st.integers(0, 255) | st.none(), st.integers(0, 2**63))
def test_what_is_written_is_read_again(written: list[Metric], seq: int | None, now_ms: int) -> None:
    payload = decode_payload(encode_payload(now_ms, written, seq))
    assert (payload.timestamp_ms, payload.seq) == (now_ms, seq)
    assert [(each.name, each.typed(0)) for each in payload.metrics] == [(each.name, each.value) for each in written]
