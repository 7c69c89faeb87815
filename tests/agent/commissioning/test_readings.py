"""Which reading of registers is marked, and that each reads as measuring does."""

from __future__ import annotations

import struct
import time
from itertools import pairwise

import pytest

from agent.commissioning.readings import Reading, Verdict, readings
from agent.config_modbus import MODBUS_TYPES, Kind, ModbusTag
from agent.sources.modbus_values import Unusable, value
from protocols.plc.roles import SPEED_SCALE, SignalRole

NOW = 1_790_000_000.0
COUNTS = [1_204_881 + 7 * i + i % 2 for i in range(6)]
ORDERS = [("big", "big"), ("little", "big"), ("big", "little"), ("little", "little")]


def registers(data: bytes, word_order: str, byte_order: str) -> list[int]:
    """The value's bytes, high one first, as a device of that order holds them."""
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    words = words[::-1] if word_order == "little" else words
    return [int.from_bytes(word, "little" if byte_order == "little" else "big") for word in words]


def best(samples: list[list[int]]) -> Reading:
    return readings(samples, len(samples) - 1, NOW)[0]


@pytest.mark.parametrize(("word_order", "byte_order"), ORDERS)
class TestEachOrder:
    def test_a_counter_of_32_bits(self, word_order: str, byte_order: str) -> None:
        samples = [[*registers(count.to_bytes(4, "big"), word_order, byte_order), 0xABCD, 3] for count in COUNTS]
        likely = [r for r in readings(samples, 5, NOW) if r.verdict is Verdict.LIKELY]
        found = next(r for r in likely if r.type == "uint32")
        assert (found.word_order, found.byte_order, found.values) == (word_order, byte_order, tuple(COUNTS))
        assert "counter" in found.why
        if word_order == "big":  # else the register itself is the low word, and counts as well
            assert likely[0] == found

    def test_a_temperature(self, word_order: str, byte_order: str) -> None:
        samples = [[*registers(struct.pack(">f", 72.5 + i / 10), word_order, byte_order), 17, 23_456] for i in range(5)]
        found = best(samples)
        assert (found.type, found.word_order, found.byte_order) == ("float32", word_order, byte_order)
        assert found.verdict is Verdict.LIKELY

    def test_a_clock(self, word_order: str, byte_order: str) -> None:
        times = [round(NOW * 1000) + 1000 * i for i in range(4)]
        found = best([registers(at.to_bytes(8, "big"), word_order, byte_order) for at in times])
        assert (found.type, found.word_order, found.byte_order) == ("uint64", word_order, byte_order)
        assert found.why == "a clock: Unix time in ms"


def test_a_bcd_counter_that_passes_nine() -> None:
    samples = [[int(str(995 + 2 * i), 16), 7, 7, 7] for i in range(6)]
    likely = [r for r in readings(samples, 5, NOW) if r.verdict is Verdict.LIKELY]
    assert {r.type for r in likely} >= {"bcd16"}
    assert not any(r.type.startswith("uint") for r in likely)


def test_what_stands_still_is_not_called_likely() -> None:
    assert best([[3, 0, 0, 0]] * 4).verdict is Verdict.POSSIBLE
    assert best([[0, 0, 0, 0]] * 4).why == "0 all the time: nothing can be told"


def test_the_order_is_named_as_makers_do() -> None:
    found = {(r.type, r.word_order, r.byte_order): r.order for r in readings([[1, 2, 3, 4]] * 2, 1, NOW)}
    assert found["uint32", "big", "big"] == "AB CD"
    assert found["uint32", "little", "big"] == "CD AB"
    assert found["uint32", "big", "little"] == "BA DC"
    assert found["uint32", "little", "little"] == "DC BA"


@pytest.mark.parametrize("raw", [[0x1204, 0x8812, 0x4248, 0x0001], [0xFFFE, 0x8000, 0x7F80, 0x0000]])
def test_it_reads_as_measuring_does(raw: list[int]) -> None:
    """What `probe` shows for a type and order is what the agent then measures."""
    compared = 0
    for found in readings([raw, raw], 1, time.time()):
        size, kind = MODBUS_TYPES[found.type]
        if kind is Kind.TEXT:
            continue
        little = (found.word_order == "little", found.byte_order == "little")
        # A speed is kept in thousandths, so that a float's decimals show, too.
        tag = ModbusTag(SignalRole.SPEED, 0, found.type, little_words=little[0], little_bytes=little[1])
        shown = found.values[0]
        if shown is None:
            with pytest.raises(Unusable):
                value(tag, raw[:size])
        else:
            assert isinstance(shown, int | float)
            exact = shown if isinstance(shown, int) else float(shown)
            assert value(tag, raw[:size]) == pytest.approx(exact * SPEED_SCALE, abs=1, rel=1e-12)
        compared += 1
    assert compared > 20


def test_the_best_comes_first() -> None:
    samples = [[count >> 16, count & 0xFFFF, 9, 9] for count in COUNTS]
    verdicts = [r.verdict for r in readings(samples, 5, NOW)]
    assert all(before >= after for before, after in pairwise(verdicts))
