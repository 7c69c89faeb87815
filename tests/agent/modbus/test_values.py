"""What registers mean: every type in every order of bytes and words, fields, scales, texts, and what is no number."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config_modbus import ModbusTag
from agent.sources.modbus_values import Unusable, clock_ms, value
from protocols.plc.roles import SignalRole

TOTAL, SPEED, PRODUCT, ORDER, FAULT = (
    SignalRole.TOTAL, SignalRole.SPEED, SignalRole.PRODUCT, SignalRole.ORDER, SignalRole.FAULT,
)  # fmt: skip

# In which order the bytes A (the most significant), B, ... arrive: little_words, little_bytes -> letters.
ORDERS = {
    2: {(0, 0): "AB", (0, 1): "BA", (1, 0): "AB", (1, 1): "BA"},
    4: {(0, 0): "ABCD", (1, 0): "CDAB", (0, 1): "BADC", (1, 1): "DCBA"},
    8: {(0, 0): "ABCDEFGH", (1, 0): "GHEFCDAB", (0, 1): "BADCFEHG", (1, 1): "HGFEDCBA"},
}
FORMATS = {
    "uint16": ">H", "int16": ">h", "uint32": ">I", "int32": ">i", "uint64": ">Q", "int64": ">q",
    "float32": ">f", "float64": ">d",
}  # fmt: skip


def registers(data: bytes, words: bool = False, low: bool = False) -> list[int]:
    """What a device sends for the big-endian `data`, in the order asked for."""
    sent = bytes(data["ABCDEFGH".index(letter)] for letter in ORDERS[len(data)][int(words), int(low)])
    return [sent[i] << 8 | sent[i + 1] for i in range(0, len(sent), 2)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("low", [False, True])
@given(seed=st.binary(min_size=8, max_size=8))
def test_every_type_in_every_order(kind: str, words: bool, low: bool, seed: bytes) -> None:
    data = seed[: struct.calcsize(FORMATS[kind])]
    (expected,) = struct.unpack(FORMATS[kind], data)
    tag = ModbusTag(TOTAL, 0, kind, little_words=words, little_bytes=low)
    if kind.startswith("float") and not math.isfinite(expected):
        with pytest.raises(Unusable, match="is no number"):
            value(tag, registers(data, words, low))
    else:
        assert value(tag, registers(data, words, low)) == round(Fraction(expected))


@given(number=st.integers(0, 10**16 - 1), words=st.booleans(), low=st.booleans())
def test_bcd_is_read_digit_by_digit(number: int, words: bool, low: bool) -> None:
    for kind, digits in (("bcd16", 4), ("bcd32", 8), ("bcd64", 16)):
        text = f"{number % 10**digits:0{digits}d}"
        tag = ModbusTag(TOTAL, 0, kind, little_words=words, little_bytes=low)
        assert value(tag, registers(bytes.fromhex(text), words, low)) == int(text)


def test_what_is_no_bcd_is_no_number() -> None:
    with pytest.raises(Unusable, match="0x12a4, which is no BCD"):
        value(ModbusTag(TOTAL, 0, "bcd16"), [0x12A4])


@pytest.mark.parametrize(
    ("kind", "raw", "role", "scale", "number"),
    [
        ("float32", struct.pack(">f", 0.7), SPEED, "1", 700),  # 0.699999988 is nearer to 700 thousandths than to 699
        ("float64", struct.pack(">d", 59.9996), SPEED, "1", 60_000),
        ("float32", struct.pack(">f", 12.5), TOTAL, "1000", 12_500),
        ("uint16", struct.pack(">H", 123), SPEED, "0.1", 12_300),
        ("int16", struct.pack(">h", -25), SPEED, "0.5", -12_500),
        ("uint32", struct.pack(">I", 7), TOTAL, "12", 84),
        ("bcd16", b"\x01\x25", SPEED, "0.01", 1_250),
        ("float64", struct.pack(">d", 2.5), TOTAL, "1", 2),  # halves go to the even number
        ("float64", struct.pack(">d", 3.5), TOTAL, "1", 4),
    ],
)
def test_a_scaled_value_is_a_whole_number(kind: str, raw: bytes, role: SignalRole, scale: str, number: int) -> None:
    found = value(ModbusTag(role, 0, kind, scale=Fraction(scale)), registers(raw))
    assert found == number
    assert type(found) is int


def test_a_bit_field_is_masked_and_shifted() -> None:
    assert value(ModbusTag(FAULT, 0, mask=0x0FF0, shift=4), [0xABCD]) == 0xBC
    assert value(ModbusTag(FAULT, 0, mask=0x8000, shift=15), [0x8000]) == 1
    field = ModbusTag(FAULT, 0, "uint32", mask=0x0001_0000, shift=16, little_words=True)
    assert value(field, [0xFFFE, 0x0001]) == 1
    assert value(field, [0xFFFF, 0xFFFE]) == 0


@pytest.mark.parametrize("low", [False, True])
def test_a_product_may_be_a_text(low: bool) -> None:
    tag = ModbusTag(PRODUCT, 0, "string", length=4, little_bytes=low)

    def sent(text: bytes) -> list[int]:
        padded = text.ljust(8, b"\0")
        return list(struct.unpack("<4H" if low else ">4H", padded))

    assert value(tag, sent(b"Cola"), {"Cola": 5}) == 5
    assert value(tag, sent(b"Cola   "), {"Cola": 5}) == 5
    assert value(tag, sent("可樂".encode()), {"可樂": 9}) == 9
    assert value(tag, sent(b""), {"Cola": 5}) is None
    with pytest.raises(Unusable, match='"Kola", a product that is not in the configuration'):
        value(tag, sent(b"Kola"), {"Cola": 5})
    with pytest.raises(Unusable, match="is its byte_order right"):
        value(tag, sent(b"\xff\xfeCola"), {"Cola": 5})


def test_an_order_is_there_or_not_and_a_bit_is_a_bit() -> None:
    assert value(ModbusTag(ORDER, 0), [4711]) == 1
    assert value(ModbusTag(ORDER, 0), [0]) == 0
    assert value(ModbusTag(FAULT, 0, "bit", "coil"), [1]) == 1


def test_a_clock_in_seconds_is_scaled() -> None:
    tag = ModbusTag(SignalRole.STATE, 0, "uint32", scale=Fraction(1000))
    assert clock_ms(tag, registers(struct.pack(">I", 1_770_000_000))) == 1_770_000_000_000
