"""What is believed of Sparkplug: births, data under names and aliases, deaths by their number, and rebirths."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from hub.sparkplug_nodes import (
    REBIRTH_EVERY_MS,
    GatewayDied,
    LineDied,
    LineTold,
    News,
    RebirthWanted,
    SparkplugCounts,
    SparkplugNodes,
)
from protocols.wire import sparkplug as names
from protocols.wire.sparkplug import Kind, Topic
from protocols.wire.sparkplug_payload import DataType, Metric, decode_payload, encode_payload
from tests.support.sparkplug import encoded

NOW = 1_767_225_600_000
BIRTH = [
    Metric(names.STATE, DataType.STRING, "EXECUTE"), Metric(names.GOOD, DataType.INT64, -3),
    Metric(names.OEE, DataType.DOUBLE, None), Metric("Vendor's own", DataType.INT64, 1),
]  # fmt: skip


class Gateway:
    """Speaks to `nodes` as an edge node would; `seq` goes on by itself."""

    def __init__(self, nodes: SparkplugNodes, group: str = "Tai Po", node: str = "GW-01") -> None:
        self.nodes, self.group, self.node = nodes, group, node
        self.numbers: Iterator[int] = count()
        self.now_ms = NOW

    def raw(self, kind: Kind, data: bytes, line: str = "") -> list[News]:
        return self.nodes.take(Topic(self.group, kind, self.node, line), data, self.now_ms)

    def says(self, kind: Kind, *metrics: Metric, line: str = "") -> list[News]:
        return self.raw(kind, encode_payload(NOW, metrics, next(self.numbers) % 256), line)

    def is_born(self, bd_seq: int = 0, *lines: str) -> list[News]:
        self.numbers = count()
        born = [Metric(names.BD_SEQ, DataType.INT64, bd_seq), Metric(names.WAITING, DataType.INT64, 2)]
        news = self.says(Kind.NBIRTH, *born)
        for line in lines:
            news += self.says(Kind.DBIRTH, *BIRTH, line=line)
        return news

    def dies(self, bd_seq: int) -> list[News]:
        return self.raw(Kind.NDEATH, encode_payload(NOW, [Metric(names.BD_SEQ, DataType.INT64, bd_seq)], None))


@pytest.fixture
def nodes() -> SparkplugNodes:
    return SparkplugNodes(lambda gateway, line: (gateway, line) in {("GW-01", "filling"), ("GW-01", "packing")})


def test_births_data_and_deaths(nodes: SparkplugNodes) -> None:
    gateway = Gateway(nodes)
    (told,) = gateway.is_born(5, "filling")
    first = {names.STATE: "EXECUTE", names.GOOD: -3, names.OEE: None}
    assert told == LineTold("GW-01", "filling", NOW, first, 2)
    (told,) = gateway.says(Kind.DDATA, Metric(names.GOOD, DataType.INT64, 41), line="filling")
    assert isinstance(told, LineTold) and told.metrics == first | {names.GOOD: 41}
    (told,) = gateway.says(Kind.NDATA, Metric(names.WAITING, DataType.INT64, 9))
    assert isinstance(told, LineTold) and (told.waiting, told.metrics[names.GOOD]) == (9, 41)
    assert gateway.says(Kind.DDEATH, line="filling") == [LineDied("GW-01", "filling")]
    (told,) = gateway.says(Kind.DBIRTH, *BIRTH, line="filling")
    assert gateway.dies(5) == [GatewayDied("GW-01")]
    assert gateway.dies(5) == [], "it is dead already"
    assert nodes.counts == SparkplugCounts()


def test_a_death_of_another_life_is_not_believed(nodes: SparkplugNodes) -> None:
    gateway = Gateway(nodes)
    assert gateway.dies(0) == [], "never born, as far as is known"
    gateway.is_born(7, "filling")
    assert gateway.dies(6) == [], "the broker was late with the will of the connection before"
    assert gateway.raw(Kind.NDEATH, encode_payload(NOW, [], None)) == []
    assert gateway.dies(7) == [GatewayDied("GW-01")]


def test_a_gap_asks_for_one_rebirth_in_some_seconds(nodes: SparkplugNodes) -> None:
    gateway = Gateway(nodes)
    gateway.is_born(0, "filling")
    next(gateway.numbers)
    told, wanted = gateway.says(Kind.DDATA, Metric(names.GOOD, DataType.INT64, 1), line="filling")
    assert isinstance(told, LineTold) and told.metrics[names.GOOD] == 1, "what came is shown all the same"
    assert wanted == RebirthWanted(Topic("Tai Po", Kind.NCMD, "GW-01"))
    for _ in range(300):  # the numbers go around: 255, 0
        assert len(gateway.says(Kind.DDATA, line="filling")) == 1
    gateway.now_ms += REBIRTH_EVERY_MS
    assert len(gateway.says(Kind.DDATA, line="filling")) == 2, "it did not answer: asked again"
    gateway.is_born(0, "filling")
    gateway.now_ms += REBIRTH_EVERY_MS
    assert len(gateway.says(Kind.DDATA, line="filling")) == 1, "whole again"
    assert nodes.counts == SparkplugCounts(gap_count=1)


def test_data_of_what_was_not_born_is_not_shown(nodes: SparkplugNodes) -> None:
    gateway = Gateway(nodes)
    assert gateway.says(Kind.NDATA) == [], "its word alone does not show that it is ours"
    wanted = [RebirthWanted(Topic("Tai Po", Kind.NCMD, "GW-01"))]
    assert gateway.says(Kind.DDATA, *BIRTH, line="filling") == wanted
    gateway.is_born(0, "filling")
    gateway.now_ms += REBIRTH_EVERY_MS
    assert gateway.says(Kind.DDATA, *BIRTH, line="packing") == wanted
    nodes.forget()
    gateway.now_ms += REBIRTH_EVERY_MS
    assert gateway.says(Kind.DDATA, *BIRTH, line="filling") == wanted


def test_only_gateways_of_the_registry_are_heard_and_asked(nodes: SparkplugNodes) -> None:
    stranger, ours = Gateway(nodes, node="GW-66"), Gateway(nodes)
    stranger.is_born(0)
    assert stranger.says(Kind.DBIRTH, *BIRTH, line="filling") == []
    assert stranger.says(Kind.DDATA, *BIRTH, line="filling") == []
    ours.is_born(0)
    assert ours.says(Kind.DBIRTH, *BIRTH, line="rival") == []
    assert nodes.counts.foreign_count == 3
    other_group = Gateway(nodes, group="Elsewhere")
    other_group.is_born(3)
    assert other_group.dies(0) == [], "another group is another node"


def test_whoever_is_born_under_many_names_takes_little_memory(nodes: SparkplugNodes) -> None:
    """A gateway may choose its group, and of groups there are any number."""

    def metric(alias: int) -> bytes:
        return bytes((0x12, 9, 0x0A, 1, 0x78, 0x10, 0x80 | alias & 0x7F, 0x80 | alias >> 7 & 0x7F, 1, 0x58, 1))

    birth = encode_payload(NOW, [Metric(names.BD_SEQ, DataType.INT64, 0)], 0) + b"".join(map(metric, range(999)))
    assert len(decode_payload(birth).metrics) == 1000
    tracemalloc.start()
    try:
        for number in range(100):
            Gateway(nodes, group=f"group-{number}").raw(Kind.NBIRTH, birth)
        assert tracemalloc.get_traced_memory()[0] < 100 * 5_000, "ten thousand of them: 50 MB at most"
    finally:
        tracemalloc.stop()
    assert nodes.counts.malformed_count == 0


@pytest.mark.needs("protoc")
def test_aliases_stand_for_the_names_of_the_birth(nodes: SparkplugNodes, tmp_path: Path) -> None:
    gateway = Gateway(nodes)
    gateway.is_born(0)
    birth = f'''timestamp: {NOW} seq: 1
        metrics {{ name: "{names.STATE}" alias: 4 datatype: 12 string_value: "HELD" }}
        metrics {{ name: "{names.REJECT}" alias: 5 datatype: 3 int_value: 1 }}
        metrics {{ name: "Vendor's own" alias: 6 datatype: 3 int_value: 1 }}'''
    (told,) = gateway.raw(Kind.DBIRTH, encoded(tmp_path, birth), "filling")
    data = f"""timestamp: {NOW} seq: 2 metrics {{ alias: 5 int_value: 4294967295 }} metrics {{ alias: 6 int_value: 2 }}
        metrics {{ alias: 4 is_historical: true string_value: "ABORTED" }}"""
    (told,) = gateway.raw(Kind.DDATA, encoded(tmp_path, data), "filling")
    assert isinstance(told, LineTold) and told.metrics == {names.STATE: "HELD", names.REJECT: -1}
    unknown = encoded(tmp_path, f"timestamp: {NOW} seq: 3 metrics {{ alias: 9 int_value: 1 }}")
    assert isinstance(gateway.raw(Kind.DDATA, unknown, "filling")[1], RebirthWanted)


def test_malformed_payloads_cost_a_count_and_nothing_else(nodes: SparkplugNodes) -> None:
    gateway = Gateway(nodes)
    gateway.is_born(0, "filling")
    luck = random.Random(7)
    good = encode_payload(NOW, BIRTH, 2)
    refused = 0
    for kind, line in ((Kind.DDATA, "filling"), (Kind.NBIRTH, ""), (Kind.NDEATH, "")):
        for noise in (good[: len(good) - 1], b"\xff" * 20, luck.randbytes(50) + b"\x0f"):
            assert gateway.raw(kind, noise, line) == []
            refused += 1
    assert gateway.raw(Kind.NBIRTH, encode_payload(NOW, [], 0)) == [], "a birth without its number"
    assert nodes.counts == SparkplugCounts(malformed_count=refused + 1)
    assert len(gateway.says(Kind.DDATA, *BIRTH, line="filling")) == 1, "nothing of it was taken"
