"""The Modbus TCP server of a simulated plant: a real one, by pymodbus.

Decides the register map and that a read is answered from one instant. Holding registers (0-based addresses, read
by function 3 or 4):

    0     status word: 0 off, 1 stopped, 2 running, 3 fault, 4 starved, 5 blocked, 6 set-up, 7 idle
    1     pieces in total, unsigned 16 bit, rolls over at 65536
    2     rejected pieces, unsigned 16 bit, rolls over at 65536
    3     product code
    4     1 = an order is active
    5     heartbeat, counts up each second and rolls over at 65536
    6-9   the PLC's clock: Unix ms, unsigned 64 bit, high word first

Lines are device ids 1, 2, ... in the plant file's order. Every write is refused with exception 1;
whatever is no read is counted as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.clock import Clock
from agent.simulator.plant import Plant
from agent.simulator.ports import free_port
from agent.simulator.request_log import RequestLog, Served
from protocols.plc.roles import SignalRole

REGISTERS: Final = 10

_READS: Final = frozenset({1, 2, 3, 4})


def registers_at(plant: Plant, time_ms: int) -> tuple[int, ...]:
    """The ten registers of a line at one instant."""
    image = plant.image(time_ms)
    clock = time_ms.to_bytes(8, "big")
    return (
        image[SignalRole.STATE],
        image[SignalRole.TOTAL],
        image[SignalRole.REJECT],
        image[SignalRole.PRODUCT],
        image[SignalRole.ORDER],
        time_ms // 1000 % 65536,
        *(int.from_bytes(clock[at : at + 2], "big") for at in (0, 2, 4, 6)),
    )


class ModbusServer:
    """Serves lines on one port. `start` and `stop` from the event loop; stopping twice does nothing more."""

    def __init__(
        self, plants: Sequence[Plant], clock: Clock, log: RequestLog, host: str = "127.0.0.1", port: int = 5020
    ) -> None:
        self._plants = plants
        self._clock = clock
        self._log = log
        self._host = host
        self._server: ModbusTcpServer | None = None
        self.port = port

    async def start(self) -> None:
        """Listen. Port 0 takes a free one and sets `port`. Raises ConfigurationError when the port is taken."""
        self.port = free_port(self._host, self.port, "--modbus-port")
        devices = [
            SimDevice(
                id=number,
                simdata=[SimData(0, values=[0] * REGISTERS, datatype=DataType.REGISTERS)],
                action=partial(self._answer, plant),
            )
            for number, plant in enumerate(self._plants, 1)
        ]
        self._server = ModbusTcpServer(devices, address=(self._host, self.port), trace_pdu=self._trace)
        await self._server.serve_forever(background=True)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    def _trace(self, sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        if not sending:
            self._log.requests += 1
            if pdu.function_code not in _READS:  # also what resets counters, or stops a device's answers
                self._log.write_refused(self._clock.now_ms(), "modbus", f"function {pdu.function_code}")
        return pdu

    async def _answer(
        self,
        plant: Plant,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """pymodbus asks this once for each request, so all its registers come from the same instant."""
        if function not in _READS or values is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        now_ms = self._clock.now_ms()
        image = registers_at(plant, now_ms)
        registers[: len(image)] = image
        self._log.modbus(Served(now_ms, plant.spec.id, address, count, image), function)
        return None
