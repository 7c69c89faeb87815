"""Canonical CBOR: what is accepted has exactly one encoding, and everything else is refused."""

from __future__ import annotations

import io
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.evidence import canonical
from protocols.evidence.canonical import MAX_DEPTH, decode, encode, first_difference

# RFC 8949 appendix A, table 6: every line whose value lies inside the model.
ACCEPTED: list[tuple[object, str]] = [
    (0, "00"), (1, "01"), (10, "0a"), (23, "17"), (24, "1818"), (25, "1819"), (100, "1864"), (1000, "1903e8"),
    (1000000, "1a000f4240"), (1000000000000, "1b000000e8d4a51000"), (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"), (-1, "20"), (-10, "29"), (-100, "3863"), (-1000, "3903e7"),
    (False, "f4"), (True, "f5"), (None, "f6"), (b"", "40"), (bytes.fromhex("01020304"), "4401020304"), ("", "60"),
    ("a", "6161"), ("IETF", "6449455446"), ('"\\', "62225c"), ("\u00fc", "62c3bc"), ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"), ([], "80"), ([1, 2, 3], "83010203"), ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"), ({1: 2, 3: 4}, "a201020304"), ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
]  # fmt: skip

# The same appendix: floats, tags, simple values, indefinite lengths. Then what RFC 8949 section 4.2.1 rules out.
REFUSED = {
    "bignum": "c249010000000000000000", "negative bignum": "c349010000000000000000", "half float": "f93c00",
    "single float": "fa47c35000", "double float": "fb3ff199999999999a", "infinity": "f97c00", "NaN": "f97e00",
    "undefined": "f7", "simple 16": "f0", "simple 255": "f8ff",
    "date text": "c074323031332d30332d32315432303a30343a30305a",
    "epoch": "c11a514b67b0", "epoch float": "c1fb41d452d9e8200000", "base16 hint": "d74401020304",
    "encoded CBOR": "d818456449455446", "URI": "d82076687474703a2f2f7777772e6578616d706c652e636f6d",
    "indefinite bytes": "5f42010243030405ff", "indefinite text": "7f657374726561646d696e67ff",
    "indefinite array": "9fff", "indefinite map": "bf61610161629f0203ffff", "a break": "ff",
    "long 0": "1800", "long 23": "1817", "long 24": "190018", "long 255": "1900ff", "long 65535": "1a0000ffff",
    "long -1": "3800", "long bytes": "580101", "long text": "780161", "long array": "980101", "long map": "b8010203",
    "keys out of order": "a203040102", "text keys out of order": "a2616201616101",
    "length-first key order": "a220001864" "00",
    "duplicate key": "a201020103", "null key": "a1f600", "boolean key": "a1f500", "bytes key": "a1410000",
    "array key": "a1810000", "trailing byte": "0000", "empty": "", "cut array": "8301", "cut text": "6361",
    "bad UTF-8": "62c328", "surrogate": "63eda080", "huge length": "9bffffffffffffffff", "reserved": "1c",
    "pattern": "d82363612b2b", "shared": "d81c81d81d00", "self-described": "d9d9f700", "set": "d9010281" "01",
    "string reference": "d9010082" "6161d81900",
}  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(("value", "data"), ACCEPTED, ids=[data for _, data in ACCEPTED])
def test_known_answers_of_rfc_8949(value: object, data: str) -> None:
    assert encode(value).hex() == data
    again = decode(bytes.fromhex(data), 100)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("name", REFUSED)
def test_every_other_form_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        decode(bytes.fromhex(REFUSED[name]), 100)


def test_key_order_is_bytewise_and_not_length_first() -> None:
    # RFC 8949 section 4.2.1 gives this very order: 10, 100, -1, "z", "aa" (its other keys lie outside the model).
    data = encode({"aa": 5, -1: 3, "z": 4, 100: 2, 10: 1})
    assert data.hex() == "a50a011864022003617a0462616105"
    assert list(decode(data, 100)) == [10, 100, -1, "z", "aa"]


@given(VALUES)
@example([True, 1])
@example({-1: 0, 24: 0})
def test_decode_inverts_encode(value: Any) -> None:
    data = encode(value)
    again = decode(data, len(data))
    assert again == value
    assert encode(again) == data


@given(VALUES)
def test_an_independent_encoder_agrees_on_the_length(value: Any) -> None:
    # cbor2 orders keys by the older rule; all else of the encoding, and so its length, must be the same.
    assert len(encode(value)) == len(cbor2.dumps(value))


@given(st.binary(max_size=60))
def test_whatever_is_accepted_encodes_to_itself(data: bytes) -> None:
    try:
        value = decode(data, 100)
    except Malformed:
        return
    assert encode(value) == data
    assert cbor2.load(io.BytesIO(data)) == value


@given(VALUES, st.data())
def test_nothing_near_an_accepted_message_has_a_second_form(value: Any, draw: st.DataObject) -> None:
    data = bytearray(encode(value))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=3))
    try:
        again = decode(bytes(data), 1_000)
    except Malformed:
        return
    assert encode(again) == data


@pytest.mark.parametrize(
    "value", [1.0, 2**64, -(2**64) - 1, {1.5: 0}, {True: 0}, {b"": 0}, {1}, object(), "\ud800", [1.5]]
)
def test_encode_refuses_what_is_outside_the_model(value: object) -> None:
    with pytest.raises(Malformed):
        encode(value)


def test_depth_is_bounded() -> None:
    assert decode(b"\x81" * MAX_DEPTH + b"\x00", 100)
    for data in (b"\x81" * (MAX_DEPTH + 1) + b"\x00", b"\x81" * 60_000 + b"\x00", b"\xa1\x00" * 30_000 + b"\x00"):
        with pytest.raises(Malformed):
            decode(data, 65_535)


def test_the_size_cap_comes_first() -> None:
    with pytest.raises(Malformed, match="at most 3"):
        decode(b"\xff" * 4, 3)


def test_the_wrong_byte_is_named() -> None:
    with pytest.raises(Malformed) as caught:
        decode(bytes.fromhex("8301180003"), 10)
    assert caught.value.offset == 2
    assert first_difference(b"abc", b"abd") == 2
    assert first_difference(b"ab", b"abc") == 2


def test_times_are_not_kept_for_ever() -> None:
    """An agent that runs for years meets a new time each second."""
    encode([list(range(100)), [0]])
    decode(encode([list(range(100)), [0]]), 1_000)
    kept = len(canonical._INT_BYTES) + len(canonical._INT_LENGTHS)
    times = [1_795_324_442_887 + 1_000 * second for second in range(5_000)] + [2**32 - 1, 2**32, 2**64 - 1, -(2**40)]
    packed = encode([times, [0]])
    assert decode(packed, 100_000) == [times, [0]]
    assert packed == cbor2.dumps([times, [0]])
    assert len(canonical._INT_BYTES) + len(canonical._INT_LENGTHS) <= kept + 2  # the list's own length
