"""What goes out is a read; what comes in is the answer, whole and alone, or nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from agent.sources.modbus_frames import READ_FUNCTIONS, Ask, NoAnswer, NotReading, Refusal, answer_in, require_read

ASKS = st.builds(
    Ask,
    st.integers(1, 0xFFFF),
    st.integers(1, 247),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(1, 125).map(lambda n: 2 * n),
)


def frame(ask: Ask, payload: bytes, rtu: bool, exception: int = 0) -> bytes:
    pdu = bytes([ask.function | 0x80, exception]) if exception else bytes([ask.function, len(payload)]) + payload
    if rtu:
        body = bytes([ask.device_id]) + pdu
        return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")
    header = ask.transaction.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big")
    return header + bytes([ask.device_id]) + pdu


@given(ask=ASKS, rtu=st.booleans(), data=st.data())
def test_an_answer_is_taken_when_it_is_whole_and_not_before(ask: Ask, rtu: bool, data: st.DataObject) -> None:
    payload = data.draw(st.binary(min_size=ask.size, max_size=ask.size))
    sent = frame(ask, payload, rtu)
    assert answer_in(sent, ask, rtu) == payload
    assert all(answer_in(sent[:length], ask, rtu) is None for length in range(len(sent)))
    with pytest.raises(NoAnswer):
        answer_in(sent + data.draw(st.binary(min_size=1, max_size=300)), ask, rtu)


@given(ask=ASKS, other=ASKS, data=st.data())
def test_an_answer_to_another_request_is_never_taken(ask: Ask, other: Ask, data: st.DataObject) -> None:
    assume(ask != other)
    sent = frame(other, data.draw(st.binary(min_size=other.size, max_size=other.size)), rtu=False)
    with pytest.raises(NoAnswer):
        answer_in(sent, ask, rtu=False)
    # Without transaction ids, one of the same device, function and length looks like the answer: the wire sees to that.
    assume((ask.device_id, ask.function, ask.size) != (other.device_id, other.function, other.size))
    sent = frame(other, bytes(other.size), rtu=True)
    outcome = None
    try:
        outcome = answer_in(sent, ask, rtu=True)
    except NoAnswer:
        return
    assert outcome is None


@given(ask=ASKS, data=st.data())
def test_no_flipped_bit_passes_a_serial_line(ask: Ask, data: st.DataObject) -> None:
    sent = bytearray(frame(ask, data.draw(st.binary(min_size=ask.size, max_size=ask.size)), rtu=True))
    for at in data.draw(st.sets(st.integers(0, 8 * len(sent) - 1), min_size=1, max_size=3)):
        sent[at // 8] ^= 1 << at % 8
    outcome = None
    try:
        outcome = answer_in(bytes(sent), ask, rtu=True)
    except NoAnswer:
        return
    assert outcome is None


@given(ask=ASKS, noise=st.binary(max_size=300), rtu=st.booleans())
def test_noise_is_never_an_answer(ask: Ask, noise: bytes, rtu: bool) -> None:
    with contextlib.suppress(NoAnswer, Refusal):
        assert answer_in(noise, ask, rtu) is None


@given(ask=ASKS, rtu=st.booleans(), code=st.integers(1, 255))
def test_an_exception_is_told_from_silence(ask: Ask, rtu: bool, code: int) -> None:
    with pytest.raises(Refusal) as found:
        answer_in(frame(ask, b"", rtu, exception=code), ask, rtu)
    assert found.value.code == code


@pytest.mark.parametrize(
    ("ask", "sent", "words"),
    [
        (Ask(7, 1, 3, 2), "0000 0000 0005 01 03 02 0009", "without a transaction id"),
        (Ask(7, 1, 3, 2), "0006 0000 0005 01 03 02 0009", "what was asked before"),
        (Ask(7, 1, 3, 2), "0007 0001 0005 01 03 02 0009", "is not Modbus TCP"),
        (Ask(7, 1, 3, 2), b"HTTP/1.1 400 Bad Request".hex(), "is not Modbus TCP; are host and port right?"),
        (Ask(7, 1, 3, 2), "0007 0000 0007 01 03 02 0009", "says it has 7 bytes where 5 belong"),
        (Ask(7, 1, 3, 2), "0007 0000 0005 01 04 02 0009", "asked for function 3, got function 4"),
        (Ask(7, 1, 3, 2), "0007 0000 0005 01 84 02", "asked for function 3"),
        (Ask(7, 1, 3, 4), "0007 0000 0005 01 03 02 0009", "asked for 4 bytes of data, got 2"),
        (Ask(7, 9, 3, 2), "0007 0000 0005 01 03 02 0009", "device 1 answers instead of 9"),
        (Ask(7, 255, 3, 2), "0007 0000 0005 01 03 02 0009", "write: device_id = 1"),
    ],
)
def test_why_an_answer_is_refused_is_said(ask: Ask, sent: str, words: str) -> None:
    with pytest.raises(NoAnswer, match=words):
        answer_in(bytes.fromhex(sent), ask, rtu=False)


def test_only_the_functions_1_to_4_pass() -> None:
    for function in range(256):
        tcp, rtu = bytes([0, 1, 0, 0, 0, 6, 1, function, 0, 0, 0, 1]), bytes([1, function, 0, 0, 0, 1, 0, 0])
        for sent, is_rtu in ((tcp, False), (rtu, True)):
            if function in READ_FUNCTIONS.values():
                require_read(sent, is_rtu)
            else:
                with pytest.raises(NotReading):
                    require_read(sent, is_rtu)


def test_nothing_travels_behind_a_read() -> None:
    read, write = bytes([0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]), bytes([0, 2, 0, 0, 0, 6, 1, 6, 0, 0, 0, 1])
    for sent in (read + write, read[:-1], b"", write):
        with pytest.raises(NotReading):
            require_read(sent, rtu=False)
