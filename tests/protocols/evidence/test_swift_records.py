"""Many records read at once are the records that are read one by one, whatever their bytes."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.evidence import canonical, cose, swift_records
from protocols.evidence.bodies import Configurations, Gap, Heartbeat, Measurement, Revocation
from protocols.evidence.cose import MAX_BYTES, Kid
from protocols.evidence.lockstep import PADDING, Unusual, Walk
from protocols.evidence.record import CONTENT_TYPE, Body, CheckpointSeen, Clock, Record, SignedRecord, sign_record
from protocols.evidence.swift_records import MANY, read_all, read_records
from tests.support.bundle import LINES, Site, configuration
from tests.support.evidence import (
    GATEWAY,
    GATEWAY_KEY,
    SITE,
    START_MS,
    WINDOW_MS,
    line_statement,
    private_key,
    record,
    signed,
)
from tests.support.strange import STRANGE

VALUES = range(256) if os.environ.get("LINETALLY_ALL_FLIPS") else (0x00, 0x18, 0xFF)
"""What each byte is set to. All 256: `LINETALLY_ALL_FLIPS=1 pytest tests/protocols/evidence/test_swift_records.py`."""


def one_by_one(raws: Sequence[bytes]) -> list[SignedRecord | str]:
    found: list[SignedRecord | str] = []
    for raw in raws:
        try:
            found.append(SignedRecord(raw))
        except Malformed as error:
            found.append(str(error))
    return found


def assert_alike(raws: Sequence[bytes]) -> list[SignedRecord]:
    """Both ways say the same; gives the records."""
    records = []
    for fast, slow in zip(read_records(raws), one_by_one(raws), strict=True):
        if isinstance(fast, Malformed):
            assert str(fast) == slow
            continue
        assert isinstance(slow, SignedRecord)
        assert (fast, fast.message, fast.hash, fast.record) == (slow, slow.message, slow.hash, slow.record)
        assert repr(fast) == repr(slow)  # True, which is equal to 1, would not be the same
        records.append(fast)
    return records


@pytest.fixture
def by_columns(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many records were read at once, call by call; a single one is enough for it here."""
    counts: list[int] = []

    def counting(raws: Sequence[bytes]) -> list[SignedRecord]:
        found = read_plain(raws)
        counts.append(len(found))
        return found

    read_plain = swift_records._read_plain
    monkeypatch.setattr(swift_records, "_read_plain", counting)
    monkeypatch.setattr(swift_records, "MANY", 1)
    yield counts


FULL = replace(
    record(
        Measurement((line_statement(windows=2), replace(line_statement("packing", windows=1), raw=None))),
        sequence=7,
        previous=signed().hash,
        seen=CheckpointSeen(300, bytes(range(32))),
    ),
    clock=Clock(1_000, 2_000_000, "ntp", None, 12, None),
)
"""A record that has a bit of everything."""


def test_records_of_many_gateways_are_read_at_once(by_columns: list[int]) -> None:
    raws = []
    for i in range(60):
        lines = tuple(line_statement(f"line-{j}", windows=1 + (i + j) % 3) for j in range(1 + i % 2))
        body: Body = Heartbeat() if i % 5 == 4 else Measurement(lines)
        seen = CheckpointSeen(i * 1_000, bytes([i]) * 32) if i % 3 else None
        made = replace(
            record(body, sequence=i % 7 * 100, previous=signed().hash if i % 7 else record().previous, seen=seen),
            clock=Clock(i, 1_000_000 + i, "ntp", (-1) ** i * i * 1_000 if i % 2 else None, None, i * 2**20),
        )
        issuer = f"gateway-{i * i * i}"
        raws.append(sign_record(private_key(issuer), made, issuer=issuer, subject=f"Acme {i}").raw)
    assert len(assert_alike(raws)) == 60
    assert by_columns == [60]


def test_a_whole_chain_of_all_kinds(by_columns: list[int]) -> None:
    chain = [*Site.ordinary().chain(), signed(record(Gap("filling", START_MS, START_MS + 1, "no power"))), signed(FULL)]
    assert assert_alike([each.raw for each in chain]) == chain
    assert by_columns == [sum(isinstance(each.record.body, (Measurement, Heartbeat)) for each in chain)]


def test_few_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift_records, "_read_plain", lambda raws: pytest.fail("too few"))
    assert len(assert_alike([signed().raw] * (MANY - 1))) == MANY - 1


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_record_is_read_alike(name: str, by_columns: list[int]) -> None:
    payload = STRANGE[name](Site.ordinary().chain()[4].message.payload)
    raw = cose.sign1(GATEWAY_KEY, payload, issuer=GATEWAY, subject=SITE, content_type=CONTENT_TYPE)
    taken = len(assert_alike([raw]))
    assert taken >= sum(by_columns)
    others = [signed(FULL).raw, signed(record(Heartbeat())).raw]
    assert len(assert_alike([others[0], raw, others[1]])) == 2 + taken


def test_a_heartbeat_that_ends_before_it_starts_is_refused(by_columns: list[int]) -> None:
    payload = STRANGE["a span that ends first"](signed(record(Heartbeat())).message.payload)
    assert not assert_alike([cose.sign1(GATEWAY_KEY, payload, issuer=GATEWAY, subject=SITE, content_type=CONTENT_TYPE)])


def test_a_strange_header_is_read_alike(by_columns: list[int]) -> None:
    payload = signed(FULL).message.payload
    for issuer, subject, content_type in (
        (GATEWAY, SITE, CONTENT_TYPE + "x"),
        ("g" * 200, SITE, CONTENT_TYPE),
        (GATEWAY, "工廠", CONTENT_TYPE),
    ):
        raw = cose.sign1(GATEWAY_KEY, payload, issuer=issuer, subject=subject, content_type=content_type)
        assert_alike([raw])
    assert by_columns == [1, 1]  # not the first


@pytest.mark.timeout(3_600 if len(VALUES) == 256 else 120)
@pytest.mark.parametrize("made", [FULL, record(Heartbeat())], ids=["measurement", "heartbeat"])
def test_every_byte_changed(made: Record, by_columns: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What columns accept is what `SignedRecord` accepts, and says the same, wherever a byte is another."""
    monkeypatch.setattr(swift_records, "_PLAIN", re.compile(b""))  # whatever it looks like
    whole = signed(made).raw
    changed = [
        whole[:at] + bytes([value]) + whole[at + 1 :]
        for at in range(len(whole))
        for value in VALUES
        if whole[at] != value
    ]
    taken = sum(len(assert_alike([raw])) for raw in changed)
    assert 0 < sum(by_columns) <= taken < len(changed)


@pytest.mark.parametrize(
    ("form", "longer"),
    [
        (b"\x63ntp", b"\x78\x03ntp"),
        (b"\x63ntp", b"\x79\x00\x03ntp"),
        (b"\x63ntp", b"\x7a\x00\x00\x00\x1a" + b"n" * 26),
        (b"\x63ntp", b"\x43ntp"),
        (b"\x08\x82\x85", b"\x08\x98\x02\x85"),
        (b"\x83\x6bCola", b"\x98\x03\x6bCola"),
        (b"\x83\x6bCola", b"\x99\x00\x03\x6bCola"),
        (b"\x83\x6bCola", b"\xa3\x6bCola"),
        (b"\x82\x98\x21", b"\x98\x02\x98\x21"),
        (b"\x6bmeasurement", b"\x63gap"),
    ],
)
def test_no_other_form_is_read(
    form: bytes, longer: bytes, by_columns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swift_records, "_PLAIN", re.compile(b""))  # whatever it looks like
    payload = signed(FULL).message.payload
    assert form in payload
    payload = payload.replace(form, longer, 1)
    assert not assert_alike([cose.sign1(GATEWAY_KEY, payload, issuer=GATEWAY, subject=SITE, content_type=CONTENT_TYPE)])
    assert not by_columns


def test_no_other_form_of_an_envelope_is_read(by_columns: list[int]) -> None:
    raw = signed(FULL).raw
    assert raw[2] == 0x58
    assert not assert_alike([raw[:2] + b"\x59\x00" + raw[3:]])
    assert not by_columns


def test_a_heartbeat_by_another_name_is_refused(by_columns: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift_records, "_PLAIN", re.compile(b""))  # whatever it looks like
    payload = signed(record(Heartbeat())).message.payload.replace(b"\x69heartbeat", b"\x63gap")
    assert not assert_alike([cose.sign1(GATEWAY_KEY, payload, issuer=GATEWAY, subject=SITE, content_type=CONTENT_TYPE)])
    assert not by_columns


def test_an_array_cannot_be_longer_than_what_is_left() -> None:
    data = np.frombuffer(b"\x82\x00\x00\x99\xff\xff\x00" + bytes(PADDING), np.uint8)
    assert Walk.of(data, np.array([0]), np.array([3])).array().tolist() == [2]
    with pytest.raises(Unusual):
        Walk.of(data, np.array([0, 3]), np.array([3, 7])).array()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bytes_of_every_kind(data: st.DataObject) -> None:
    """Cut, repeated and mixed: pieces of good records in any order."""
    wholes = [signed(FULL).raw, signed(record(Heartbeat())).raw, signed().raw]
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    raw = bytearray(data.draw(st.sampled_from(wholes)))
    for _ in range(data.draw(st.integers(1, 3))):
        at, other = chance.randrange(len(raw)), chance.choice(wholes)
        first = chance.randrange(len(other))
        piece = other[first : first + chance.choice((0, 1, 2, 8, 40))]
        raw[at : at + chance.choice((0, len(piece), 1, 9))] = piece
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swift_records, "MANY", 1)
        patch.setattr(swift_records, "_PLAIN", re.compile(b""))
        assert_alike([bytes(raw)])
        assert_alike([wholes[0], bytes(raw)])


def test_what_is_wrong_takes_no_other_with_it() -> None:
    good = [signed(replace(FULL, sequence=i)).raw for i in range(1, MANY + 1)]
    raws = [*good[:50], b"", good[50][:-1], bytes(MAX_BYTES + 1), *good[50:]]
    found = read_records(raws)
    assert [i for i, each in enumerate(found) if isinstance(each, Malformed)] == [50, 51, 52]
    assert_alike(raws)


def test_a_record_much_longer_than_the_others_is_left_out(by_columns: list[int]) -> None:
    long = signed(replace(record(Measurement((line_statement(windows=300),))), end_ms=START_MS + 300 * WINDOW_MS)).raw
    short = [signed(replace(FULL, sequence=i)).raw for i in range(1, 10)]
    assert len(assert_alike([*short, long])) == 10
    assert len(assert_alike([long, *[long] * 3])) == 4
    assert by_columns == [9, 4]


def test_what_claims_much_costs_little(by_columns: list[int]) -> None:
    """A hundred records of thousands of texts that no row uses, and one that claims more items than it has bytes."""
    wire = cbor2.loads(signed().message.payload)
    wire[8][0][3] = [f"{number:x}" for number in range(8_000)]
    many = cose.sign1(GATEWAY_KEY, canonical.encode(wire), issuer=GATEWAY, subject=SITE, content_type=CONTENT_TYPE)
    assert not assert_alike([many] * 100)
    payload = signed().message.payload
    at = payload.index(b"\x83\x6bCola")
    payload = payload[:at] + b"\x99\xff\xff" + payload[at + 1 :]
    claims = cose.sign1(GATEWAY_KEY, payload, issuer=GATEWAY, subject=SITE, content_type=CONTENT_TYPE)
    assert not assert_alike([claims] * 100)
    assert not by_columns


def test_nothing_of_another_type_is_read_by_columns(by_columns: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift_records, "_PLAIN", re.compile(b""))  # whatever it looks like
    bodies: list[Body] = [
        Configurations((configuration(LINES[0]),)),
        Revocation("g", Kid(bytes(8)), 3, "stolen"),
        Gap("filling", 1, 2, "off"),
    ]
    assert len(assert_alike([signed(record(body)).raw for body in bodies])) == 3
    assert sum(by_columns) == 0


def test_what_must_be_records_is_refused_as_a_whole() -> None:
    good = [signed(replace(FULL, sequence=i)).raw for i in range(1, MANY + 2)]
    assert read_all(good) == [SignedRecord(raw) for raw in good]
    with pytest.raises(Malformed, match="cut off"):
        read_all([*good, good[0][:-1]])
