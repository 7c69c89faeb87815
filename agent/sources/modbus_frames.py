"""What may be sent to a Modbus device, and what is the answer to what was asked. Pure; bytes in, verdict out.

Decides both byte by byte. pymodbus takes a reply of transaction id 0 for any, does not ask whether function and length
are those of the request, and searches noise for frames; a value that is paid by must not come from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pymodbus.framer import FramerRTU

READ_FUNCTIONS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_RTU_REQUEST: Final = 8
_TCP_REQUEST: Final = 12
_HEADER: Final = 7
_EXCEPTIONS: Final = {
    1: "the device does not know this function", 2: "the register does not exist",
    3: "the device refuses this request", 4: "the device has failed", 5: "the device needs time",
    6: "the device is busy",
    10: "the gateway in between has no path to the device", 11: "the device behind the gateway does not answer",
}  # fmt: skip


class NotReading(Exception):
    """Something tried to send what is not a read. Nobody catches this: it is our mistake, and must be seen."""


class NoAnswer(Exception):
    """The device did not answer, or not as it must: the connection has to be closed."""


class Refusal(Exception):
    """The device answered with an exception code: the connection is good, the request was not."""

    def __init__(self, code: int) -> None:
        super().__init__(_EXCEPTIONS.get(code, f"the device answers with exception {code}"))
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that is under way. `size`: how many bytes of data its answer must have."""

    transaction: int
    device_id: int
    function: int
    size: int


def require_read(frame: bytes, rtu: bool) -> None:
    """Raises NotReading unless `frame` is one whole request of function 1 to 4."""
    at, size = (1, _RTU_REQUEST) if rtu else (_HEADER, _TCP_REQUEST)
    if len(frame) != size or frame[at] not in READ_FUNCTIONS.values():
        raise NotReading(f"this agent only reads; it does not send {frame.hex()}")


def answer_in(data: bytes, ask: Ask, rtu: bool) -> bytes | None:
    """The data of the answer; None while more bytes must come. Raises NoAnswer, or Refusal.

    `data`: everything that arrived since the request was sent. The first byte that cannot belong to the answer ends it.
    """
    return _rtu(data, ask) if rtu else _tcp(data, ask)


def _tcp(data: bytes, ask: Ask) -> bytes | None:
    """MODBUS Messaging on TCP/IP 1.0b, 3.1.3: transaction, protocol 0, length, device, then the PDU."""
    if len(data) < _HEADER + 2:
        return None
    transaction, protocol, length = (int.from_bytes(data[at : at + 2], "big") for at in (0, 2, 4))
    if protocol:
        raise NoAnswer("what answers there is not Modbus TCP; are host and port right?")
    if transaction != ask.transaction:
        if transaction == 0:
            raise NoAnswer("the device answers without a transaction id; its answers cannot be told apart")
        raise NoAnswer("the device answers what was asked before")
    if data[6] != ask.device_id:
        mend = f"write: device_id = {data[6]}" if ask.device_id in (0, 255) else "is another device on this link?"
        raise NoAnswer(f"device {data[6]} answers instead of {ask.device_id}; {mend}")
    size = _pdu(data[_HEADER:], ask)
    if length != size + 1:
        raise NoAnswer(f"the device's answer says it has {length} bytes where {size + 1} belong")
    return _whole(data, ask, _HEADER, size)


def _rtu(data: bytes, ask: Ask) -> bytes | None:
    """MODBUS over Serial Line 1.02, 2.5.1: device, PDU, CRC-16 with its low byte first."""
    if len(data) < 3:
        return None
    if data[0] != ask.device_id:
        raise NoAnswer(f"device {data[0]} answers instead of {ask.device_id}, or there is noise on the line")
    size = _pdu(data[1:], ask)
    end = 1 + size + 2
    if len(data) >= end and FramerRTU.compute_CRC(data[: end - 2]) != int.from_bytes(data[end - 2 : end], "big"):
        raise NoAnswer("the answer was damaged on its way (CRC); check wiring, termination and shield")
    return _whole(data, ask, 1, size, trailer=2)


def _pdu(pdu: bytes, ask: Ask) -> int:
    """How long the PDU that begins so must be. Raises NoAnswer."""
    function = pdu[0]
    if function == ask.function | 0x80:
        return 2
    if function != ask.function:
        raise NoAnswer(f"asked for function {ask.function}, got function {function}")
    if pdu[1] != ask.size:
        raise NoAnswer(f"asked for {ask.size} bytes of data, got {pdu[1]}")
    return 2 + ask.size


def _whole(data: bytes, ask: Ask, start: int, size: int, trailer: int = 0) -> bytes | None:
    end = start + size
    if len(data) < end + trailer:
        return None
    if len(data) > end + trailer:
        raise NoAnswer("the device sends more than was asked for")
    if data[start] != ask.function:
        raise Refusal(data[start + 1])
    return data[start + 2 : end]
