"""Records: parse and format are inverses, and every impossible field is refused by its name."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed, Unverified
from protocols.evidence import canonical, cose
from protocols.evidence.fields import MAX_INT
from protocols.evidence.record import (
    CONTENT_TYPE,
    MAX_BYTES,
    NO_PREVIOUS,
    Amendment,
    Body,
    CheckpointSeen,
    Clock,
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    LineStatement,
    Measurement,
    PlanStatement,
    RawCommitment,
    RawGap,
    Record,
    RecordHash,
    RecordType,
    Revocation,
    Rotation,
    SignedRecord,
    decode_record,
    encode_record,
    fits,
    record_hash,
    sign_record,
)
from protocols.measurement.account import ACCOUNT_INTS, CATEGORIES, CalendarKind, TimeAccount, Window
from protocols.measurement.amendment import REJECT_FIELDS, AmendmentKind, FieldChange, ReasonChange, WindowChange
from tests.support.evidence import (
    GATEWAY,
    GATEWAY_KEY,
    ROOT_KEY,
    SITE,
    START_MS,
    line_statement,
    record,
    signed,
    window,
)

IDS = st.text("abcXYZ019_-", min_size=1, max_size=12)
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)
HASHES = st.binary(min_size=32, max_size=32)
COUNTS = st.integers(0, 2**53)
DATA = st.dictionaries(st.text(max_size=5), st.integers(-5, 5) | st.text(max_size=5) | st.lists(COUNTS), max_size=3)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, ...]:
    rows: list[Window] = []
    at = START_MS
    for _ in range(draw(st.integers(1, 4))):
        times = draw(st.lists(st.integers(0, 10**7), min_size=CATEGORIES, max_size=CATEGORIES).filter(any))
        length = sum(times)
        good, reject = draw(st.integers(-50, 10**6)), draw(st.integers(-50, 10**6))
        rest = draw(st.lists(COUNTS, min_size=12, max_size=12))
        rest[5] -= draw(st.integers(0, 2**40))  # the standard time of the good pieces may be negative
        made = (draw(st.integers(0, length)), max(0, good + reject), good, reject)
        account = TimeAccount.from_ints([*times, *made, *rest])
        texts = (draw(NAMES), draw(NAMES), draw(NAMES))
        rows.append(Window(at, at + length, draw(st.sampled_from(CalendarKind)), *texts, account))
        at += length
    return tuple(rows)


@st.composite
def amendments(draw: st.DrawFn) -> Amendment:
    kind = draw(st.sampled_from(AmendmentKind))
    who, why = draw(NAMES.filter(bool)), draw(NAMES.filter(bool))
    if kind is AmendmentKind.REASON:
        reason = draw(NAMES)
        new = draw(NAMES.filter(lambda text: text not in ("", reason)))
        return Amendment(draw(IDS), kind, ReasonChange(draw(st.integers(0, 10**12)), reason, new), who, why)
    indices = sorted(REJECT_FIELDS) if kind is AmendmentKind.REJECT else range(ACCOUNT_INTS)
    changes = []
    at = START_MS
    for _ in range(draw(st.integers(1, 3))):
        fields = []
        for field in sorted(draw(st.sets(st.sampled_from(indices), min_size=1, max_size=4))):
            old = draw(COUNTS)
            fields.append(FieldChange(field, old, old + draw(st.integers(1, 9))))
        start, end = at + draw(st.integers(0, 9)), at + draw(st.integers(10, 99))
        changes.append(WindowChange(start, end, draw(st.integers(0, MAX_INT)), tuple(fields)))
        at = end
    return Amendment(draw(IDS), kind, tuple(changes), who, why)


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    ids = tuple(sorted(draw(st.sets(IDS, max_size=3))))
    gateway, text = draw(IDS), draw(NAMES.filter(bool))
    start = draw(st.integers(0, 10**12))
    raw = st.none() | st.builds(RawCommitment, HASHES, COUNTS, COUNTS)
    lines = draw(st.lists(st.builds(LineStatement, IDS, HASHES, raw, windows()), min_size=1, max_size=3))
    some: list[Body] = [Heartbeat(), draw(amendments())]
    return draw(
        st.sampled_from(
            [
                *some,
                Gap(gateway, start, start + draw(st.integers(1, 10**9)), text),
                RawGap(gateway, start, start + 1, draw(st.integers(1, 10**9)), text),
                Enrolment(gateway, draw(HASHES), ids, ids),
                Rotation(gateway, cose.Kid(draw(HASHES)[:8]), draw(HASHES), draw(HASHES) * 2, draw(HASHES) * 2),
                Revocation(gateway, cose.Kid(draw(HASHES)[:8]), draw(COUNTS), text),
                PlanStatement(draw(DATA)),
                Configurations(tuple(draw(DATA) | {"line_id": line_id} for line_id in ids or ("a",))),
                Measurement(tuple({line.line_id: line for line in lines}.values())),
            ]
        )
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    sequence = draw(st.integers(0, MAX_INT))
    boot = draw(COUNTS)
    small = st.none() | st.integers(0, 10**9)
    return Record(
        sequence,
        RecordHash(draw(HASHES.filter(any))) if sequence else NO_PREVIOUS,
        draw(HASHES)[:16],
        START_MS,
        START_MS + 10**9,
        Clock(boot, boot + draw(COUNTS), draw(NAMES.filter(bool)), draw(small), draw(small), draw(small)),
        draw(bodies()),
        draw(st.none() | st.builds(CheckpointSeen, COUNTS, HASHES)),
    )


@settings(max_examples=300, deadline=None)
@given(records())
def test_decode_inverts_encode(one: Record) -> None:
    payload = encode_record(one)
    assert decode_record(payload) == one
    assert encode_record(decode_record(payload)) == payload


def test_a_signed_record_gives_back_what_was_signed() -> None:
    one = signed()
    assert (one.issuer, one.subject, one.record) == (GATEWAY, SITE, record())
    assert one.kid == cose.key_id(GATEWAY_KEY.public_key().public_bytes_raw())
    assert one.hash == record_hash(one.raw)
    assert one.record.type is RecordType.MEASUREMENT
    assert SignedRecord(one.raw) == one
    one.verify(GATEWAY_KEY.public_key())
    with pytest.raises(Unverified):
        one.verify(ROOT_KEY.public_key())


def test_a_thousand_single_byte_changes_are_refused() -> None:
    raw = signed().raw
    chance = random.Random(8949)
    for _ in range(1000):
        changed = bytearray(raw)
        changed[chance.randrange(len(raw))] ^= chance.randrange(1, 256)
        with pytest.raises((Malformed, Unverified)):
            SignedRecord(bytes(changed)).verify(GATEWAY_KEY.public_key())


def test_the_size_of_one_and_of_ten_rows() -> None:
    # design: about 370 bytes with one row for one line, 1,050 with ten rows.
    one = signed(record(Measurement((line_statement(windows=1),))))
    ten = signed(record(Measurement((line_statement(windows=10),))))
    assert len(one.raw) < 500
    assert len(ten.raw) < 1_200


SEEN = CheckpointSeen(7, hashlib.sha256(b"root").digest())


def test_the_worked_example_of_the_documentation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    example = bytes.fromhex(text.split("```hex\n")[1].split("```")[0])
    body = Measurement((line_statement(windows=1),))
    one = signed(record(body, end_ms=START_MS + 60_000, seen=SEEN))
    assert one.raw == example
    assert f"`{one.hash.hex()}`, kid `{one.kid.hex()}`" in " ".join(text.split())
    assert f"{len(example)} bytes" in text


def test_a_record_that_is_too_long_is_known_before_it_is_signed() -> None:
    def with_rows(count: int) -> Record:
        return record(Measurement((line_statement(windows=count),)), end_ms=START_MS + count * 60_000)

    count = 600
    while fits(with_rows(count), issuer=GATEWAY, subject=SITE):
        count += 1
    longest = sign_record(GATEWAY_KEY, with_rows(count - 1), issuer=GATEWAY, subject=SITE)
    assert MAX_BYTES - 200 < len(longest.raw) <= MAX_BYTES
    with pytest.raises(Malformed, match="split"):
        sign_record(GATEWAY_KEY, with_rows(count), issuer=GATEWAY, subject=SITE)
    with pytest.raises(Malformed, match="split"):
        encode_record(with_rows(2 * count))


def test_another_content_type_is_not_a_record() -> None:
    raw = cose.sign1(GATEWAY_KEY, encode_record(record()), issuer=GATEWAY, subject=SITE, content_type="text/plain")
    with pytest.raises(Malformed, match="content type"):
        SignedRecord(raw)
    assert CONTENT_TYPE in repr(signed().message)


def wire(body: Body | None = None) -> dict[int, Any]:
    value: dict[int, Any] = canonical.decode(encode_record(record(body, seen=SEEN)), MAX_BYTES)
    return value


ONE_LINE = Measurement((line_statement(windows=2),))
# Where in the wire form, what instead, and a word of the message.
CHANGES: list[tuple[tuple[int, ...], Any, str]] = [
    ((1,), 2, "version"), ((1,), True, "version"), ((1,), "1", "version"),
    ((2,), "measure", "type"), ((2,), 1, "type"), ((2,), "amend", "type"),
    ((3,), -1, "sequence"), ((3,), 1, "previous"), ((3,), True, "sequence"), ((3,), 2**63, "sequence"),
    ((4,), b"\x01" * 32, "previous"), ((4,), bytes(31), "previous"), ((4,), "0" * 32, "previous"),
    ((5,), bytes(15), "boot id"), ((5,), None, "boot id"),
    ((6,), [START_MS], "span"), ((6,), [START_MS, START_MS - 1], "span"), ((6,), [-1, START_MS], "span start"),
    ((6,), [0, 10**15], "span end"), ((6,), [START_MS, START_MS + 1], "end after"), ((6,), {}, "span"),
    ((7, 0), -1, "boot time"), ((7, 1), 0, "boot time"), ((7, 2), "", "source"), ((7, 2), "a\x1b[31m", "source"),
    ((7, 3), True, "offset"), ((7, 4), -1, "error"), ((7, 5), -1, "age"), ((7,), [0, 0, "ntp"], "clock"),
    ((8,), {}, "body"), ((8,), [], "body"), ((8, 0), [], "body[0]"), ((8, 0, 0), "a/b", "line id"),
    ((8, 0, 0), "", "line id"), ((8, 0, 1), bytes(31), "configuration hash"), ((8, 0, 2), [], "raw"),
    ((8, 0, 2, 0), b"", "raw root"), ((8, 0, 2, 1), -1, "raw chunks"), ((8, 0, 2, 2), True, "raw samples"),
    ((8, 0, 3), [], "index"), ((8, 0, 3, 0), 7, "strings[0]"), ((8, 0, 3, 0), "x" * 201, "strings[0]"),
    ((8, 0, 3, 1), "Cola 330 ml", "twice"), ((8, 0, 3), ["a", "b", "c", "d"], "no row uses"),
    ((8, 0, 4), [], "no rows"), ((8, 0, 4, 0), [], "row 0"), ((8, 0, 4, 0, 0), -1, "row 0: start"),
    ((8, 0, 4, 0, 0), True, "row 0"), ((8, 0, 4, 1, 0), 60_001, "row 1: does not begin"),
    ((8, 0, 4, 1, 0), 0, "row 1: does not begin"), ((8, 0, 4, 0, 1), 0, "without a length"),
    ((8, 0, 4, 0, 1), 59_999, "categories"), ((8, 0, 4, 0, 2), 3, "kind"), ((8, 0, 4, 0, 3), 1, "index"),
    ((8, 0, 4, 1, 5), 3, "index"), ((8, 0, 4, 0, 6), -1, "unknown_ms"), ((8, 0, 4, 0, 7), 1, "categories"),
    ((8, 0, 4, 0, 17), 60_001, "planned"), ((8, 0, 4, 0, 18), -1, "total_count"), ((8, 0, 4, 0, 18), 99, "pieces"),
    ((8, 0, 4, 0, 19), -(2**63), "good_count"), ((8, 0, 4, 0, 25), 2**63, "standard_total_ns"),
    ((8, 0, 4, 0, 32), None, "integers"),
    ((9,), [], "checkpoint"), ((9, 0), -1, "size"), ((9, 1), b"", "root"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "instead", "word"), CHANGES, ids=[f"{w}={str(i)[:12]}" for w, i, _ in CHANGES])
def test_an_impossible_field_is_named(where: tuple[int, ...], instead: object, word: str) -> None:
    value: Any = wire(ONE_LINE)
    at = value
    for step in where[:-1]:
        at = at[step]
    at[where[-1]] = instead
    with pytest.raises(Malformed, match=word.replace("[", r"\[").replace("]", r"\]")):
        decode_record(canonical.encode(value))


def test_keys_are_exact() -> None:
    for changed in (wire() | {10: 0}, {k: v for k, v in wire().items() if k != 9}, wire() | {"x": 0}):
        with pytest.raises(Malformed, match="keys"):
            decode_record(canonical.encode(changed))
    with pytest.raises(Malformed):
        decode_record(cbor2.dumps(dict(reversed(wire().items()))))


def test_a_line_is_stated_once() -> None:
    with pytest.raises(Malformed, match="twice"):
        encode_record(record(Measurement((line_statement(), line_statement()))))


def late(*changes: WindowChange, kind: AmendmentKind = AmendmentKind.REJECT, who: str = "QC") -> Amendment:
    return Amendment("filling", kind, changes, who, "sample 7")


def change(*fields: tuple[int, int, int], start: int = 5, end: int = 6, sequence: int = 1) -> WindowChange:
    return WindowChange(start, end, sequence, tuple(FieldChange(*each) for each in fields))


def why(old: str, new: str, stop_ms: int = 5) -> Amendment:
    return Amendment("filling", AmendmentKind.REASON, ReasonChange(stop_ms, old, new), "M. Chan", "late")


GOOD, REJECT = sorted(REJECT_FIELDS)[:2]


@pytest.mark.parametrize(
    "body",
    [
        late(),
        late(change()),
        late(change((GOOD, 1, 1))),
        late(change((GOOD, 1, True))),
        late(change((REJECT, 1, 2), (GOOD, 2, 1))),
        late(change((GOOD, 1, 2), (GOOD, 2, 1))),
        late(change((0, 1, 2))),
        late(change((ACCOUNT_INTS, 1, 2)), kind=AmendmentKind.WINDOW),
        late(change((0, 1, -2)), kind=AmendmentKind.WINDOW),
        late(change((GOOD, 1, 2), end=5)),
        late(change((GOOD, 1, 2), sequence=-1)),
        late(change((GOOD, 1, 2)), change((GOOD, 1, 2))),
        late(change((GOOD, 1, 2), start=7, end=8), change((GOOD, 1, 2))),
        late(change((GOOD, 1, 2)), who=""),
        late(change((GOOD, 1, 2)), who="x" * 201),
        why("jam", "jam"),
        why("jam", ""),
        why("", "two\nlines"),
        why("", "jam", -1),
        replace(why("", "jam"), line_id="filling line"),
        replace(why("", "jam"), kind=AmendmentKind.WINDOW),
        replace(late(change((GOOD, 1, 2))), kind=AmendmentKind.REASON),
        Gap("filling", 5, 5, "why"),
        Gap("filling", 6, 5, "why"),
        Gap("filling", 5, 6, ""),
        Gap("filling", 5, 6, "two\nlines"),
        RawGap("filling", 5, 5, 1, "why"),
        RawGap("filling", 5, 6, 0, "why"),
        RawGap("filling", 5, 6, 1, ""),
        RawGap("filling station", 5, 6, 1, "why"),
        Enrolment("gateway-1", bytes(31), (), ()),
        Enrolment("gateway 1", bytes(32), (), ()),
        Enrolment("gateway-1", bytes(32), ("b", "a"), ()),
        Enrolment("gateway-1", bytes(32), (), ("a", "a")),
        Rotation("gateway-1", cose.Kid(bytes(8)), bytes(32), bytes(63), bytes(64)),
        Rotation("gateway-1", cose.Kid(bytes(8)), bytes(32), bytes(64), bytes(63)),
        Revocation("gateway-1", cose.Kid(bytes(8)), -1, "stolen"),
        Revocation("gateway-1", cose.Kid(bytes(7)), 1, "stolen"),
        Configurations(()),
        Configurations(({"line_id": "a"}, {"line_id": "a"})),
        Configurations(({"name": "a"},)),
        PlanStatement({"limit": 1.5}),
        Measurement(()),
        Measurement((replace(line_statement(), windows=()),)),
        Measurement((replace(line_statement(), windows=(window(START_MS), window(START_MS))),)),
        Measurement((replace(line_statement(), windows=(window(START_MS - 1),)),)),
    ],
)
def test_an_impossible_body_is_never_signed(body: Body) -> None:
    with pytest.raises(Malformed):
        encode_record(record(body))


def test_a_late_reject_may_make_a_window_negative() -> None:
    account = TimeAccount(
        (0, 60_000) + (0,) * 9, 60_000, total_count=0, good_count=-1, reject_count=1, standard_good_ns=-5
    )
    one = Window(START_MS, START_MS + 60_000, CalendarKind.SCHEDULED, "", "", "", account)
    body = Measurement((LineStatement("filling", bytes(32), None, (one,)),))
    assert decode_record(encode_record(record(body))).body == body


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_never_escapes_the_error_types(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_record(data)
