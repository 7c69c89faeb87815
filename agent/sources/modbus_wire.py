"""One Modbus connection: a request goes out, and its one right answer comes in or the connection is over.

Decides when an answer has come and when a connection is of no more use. pymodbus carries the bytes and frames the
requests; `modbus_frames` judges what goes out and what comes in. Whoever owns a wire asks one thing at a time.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import struct
import time
from secrets import randbelow
from typing import Final

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest
from pymodbus.transport import CommParams, CommType, ModbusProtocol

from agent.config_modbus import BIT_TABLES, ModbusLink
from agent.sources.modbus_frames import READ_FUNCTIONS, Ask, NoAnswer, Refusal, answer_in, require_read
from agent.sources.modbus_words import NOT_OPENED, link_words, system_words

LEAST_SILENCE_S: Final = 0.005
"""So long, or 3.5 characters (Serial Line 1.02, 2.5.1.1), nothing may follow an answer without transaction id. Longer
than the standard asks of fast lines: an operating system hands bytes on late."""
_BITS_A_CHARACTER: Final = 11
_RTU_BYTES: Final = 8 + 5  # a request, and an answer but for its data
_REQUESTS: Final = {
    "coil": ReadCoilsRequest, "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest, "input": ReadInputRegistersRequest,
}  # fmt: skip
_TYPES: Final = {
    "tcp": CommType.TCP, "udp": CommType.UDP, "tls": CommType.TLS,
    "rtu-over-tcp": CommType.TCP, "serial": CommType.SERIAL,
}  # fmt: skip


class LinkFailed(Exception):
    """There is no connection; the words say why."""


class Wire(ModbusProtocol):
    """`open`, then `ask` as often as needed, then `close`. One that failed or was closed is not used again."""

    def __init__(self, link: ModbusLink, timeout_s: float) -> None:
        """Raises LinkFailed."""
        super().__init__(_parameters(link, timeout_s), is_server=False)
        self.max_buffer_size = 1 << 20  # pymodbus drops longer input without a word; here it is judged, and refused
        self._rtu = link.is_rtu
        self._device = link.device
        self._framer = (FramerRTU if self._rtu else FramerSocket)(DecodePDU(False))
        # Not from 1: an answer that something in between kept from an earlier connection must not fit.
        self._transaction = randbelow(0xFFFF)
        self._character_s = _BITS_A_CHARACTER / link.baud_rate if link.device else 0.0
        self._silence_s = max(LEAST_SILENCE_S, 3.5 * self._character_s) if self._rtu else 0.0
        self._made: asyncio.Future[None] = self.loop.create_future()
        self._asked: Ask | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._silence: asyncio.Handle | None = None
        self._draining = True
        self._sent = b""
        self.failed: str | None = None
        """Why this connection is of no more use."""

    async def open(self, drain_s: float = 0.0) -> None:
        """Connects; what arrives within `drain_s` was meant for somebody else. Raises LinkFailed."""
        try:
            async with asyncio.timeout(self.comm_params.timeout_connect):
                self.transport, _ = await self.call_create()
                await self._made
            why = self.failed
        except TimeoutError:
            why = "no answer in time"
        except NOT_OPENED as error:
            why = link_words(error, self._device)
        if why is not None:
            raise LinkFailed(why)  # not above: a port that failed half-way is held while its error is
        if drain_s:
            await asyncio.sleep(drain_s)
        self._draining = False

    async def ask(self, device_id: int, table: str, address: int, count: int, timeout_s: float) -> list[int]:
        """`count` registers (or bits, as 0 and 1). Raises Refusal, or NoAnswer, after which the wire must be closed.

        `timeout_s`: without the time that the bytes take on a serial line, and the silence that must follow.
        """
        if self.failed is not None:
            raise NoAnswer(self.failed)
        self._transaction = self._transaction % 0xFFFF + 1
        bits = table in BIT_TABLES
        request = _REQUESTS[table](
            address=address, count=count, dev_id=device_id, transaction_id=0 if self._rtu else self._transaction
        )
        size = (count + 7) // 8 if bits else 2 * count
        self._asked = Ask(self._transaction, device_id, READ_FUNCTIONS[table], size)
        self._answer = self.loop.create_future()
        try:
            self._sent = self._framer.buildFrame(request)
            self.send(self._sent)
            on_line_s = (_RTU_BYTES + size) * self._character_s + self._silence_s
            asked_s = _boottime_s()
            async with asyncio.timeout(timeout_s + on_line_s):
                data = await self._answer
            if _boottime_s() - asked_s > timeout_s + on_line_s:
                raise TimeoutError  # the loop's clock stands while the machine sleeps: it lay there, and is as old
        except TimeoutError:
            self.failed = "no answer in time"
            raise NoAnswer(self.failed) from None
        finally:
            self._asked = self._answer = None
            if self._silence is not None:
                self._silence.cancel()
                self._silence = None
        if bits:
            return [data[i // 8] >> i % 8 & 1 for i in range(count)]
        return list(struct.unpack(f">{count}H", data))

    def send(self, data: bytes, addr: tuple[str, int] | None = None) -> None:
        """The one way to the transport. Raises NotReading for all but one whole request of function 1 to 4."""
        require_read(data, self._rtu)
        super().send(data, addr)

    # pymodbus calls these

    def callback_connected(self) -> None:
        """The connection is made."""
        if not self._made.done():
            self._made.set_result(None)

    def callback_disconnected(self, exc: Exception | None) -> None:
        """The peer closed the connection, or it broke."""
        self._fail(NoAnswer("the device closed the connection" if exc is None else link_words(exc, self._device)))

    def error_received(self, exc: Exception) -> None:
        """UDP: nothing listens there, or there is no way."""
        self._fail(NoAnswer(link_words(exc)))

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:
        """`data`: all bytes that arrived and were not used; gives how many are used now."""
        if self._draining or self.failed is not None:
            return len(data)
        if self._asked is None or self._silence is not None:
            self._fail(NoAnswer("the device sends what nobody asked for"))
            return len(data)
        try:
            found = answer_in(data, self._asked, self._rtu)
        except Refusal as refusal:
            self._settle(refusal)
        except NoAnswer as wrong:
            echo = self._rtu and data[: len(self._sent)] == self._sent[: len(data)]
            self._fail(NoAnswer("the adapter hears what it sends; write: local_echo = true") if echo else wrong)
        else:
            if found is None:
                return 0
            self._settle(found)
        return len(data)

    def callback_new_connection(self) -> ModbusProtocol:
        """Only servers have these."""
        raise NotImplementedError

    def _settle(self, outcome: bytes | Refusal) -> None:
        if self._rtu:
            # Nothing but silence shows that this was the answer, and all of it.
            self._silence = self.loop.call_later(self._silence_s, self._look, outcome, 2)
        else:
            self._resolve(outcome)

    def _look(self, outcome: bytes | Refusal, rounds: int) -> None:
        """Settles after so many more rounds of the loop: what came while it was held up must be seen before."""
        if rounds:
            self._silence = self.loop.call_soon(self._look, outcome, rounds - 1)
        else:
            self._resolve(outcome)

    def _resolve(self, outcome: bytes | Exception) -> None:
        if self._answer is None or self._answer.done():
            return
        if isinstance(outcome, bytes):
            self._answer.set_result(outcome)
        else:
            self._answer.set_exception(outcome)

    def _fail(self, wrong: NoAnswer) -> None:
        self.failed = self.failed or str(wrong)
        self.callback_connected()  # whoever waits for it looks at `failed`
        self._resolve(wrong)


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _parameters(link: ModbusLink, timeout_s: float) -> CommParams:
    if link.transport == "serial" and importlib.util.find_spec("serial") is None:
        raise LinkFailed("a serial line needs the package pyserial: pip install pyserial")
    found = CommParams(
        comm_name="linetally", comm_type=_TYPES[link.transport], host=link.device or link.host, port=link.port,
        timeout_connect=timeout_s, baudrate=link.baud_rate, bytesize=8, parity=link.parity[0].upper(),
        stopbits=link.stop_bits, handle_local_echo=link.local_echo,
    )  # fmt: skip
    if link.transport == "tls":
        # The peer's certificate and name are always checked. Port 802 speaks the same frames (MODBUS/TCP Security, 5).
        found.sslctx = _security(link)
    return found


def _security(link: ModbusLink) -> ssl.SSLContext:
    where, otherwise = f"ca_file {link.ca_file}", "it holds no certificate"
    try:
        made = ssl.create_default_context(cafile=str(link.ca_file))
        if link.certificate_file is not None:
            where, otherwise = "certificate_file and key_file", "damaged, with a password, or not made for each other"
            # Without a password OpenSSL would ask for one at the terminal, and everything would wait.
            made.load_cert_chain(link.certificate_file, link.key_file, password="")
    except ssl.SSLError:
        raise LinkFailed(f"{where}: {otherwise}") from None
    except OSError as error:
        raise LinkFailed(f"{where}: {system_words(error)}") from error
    return made
