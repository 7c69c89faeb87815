"""An agent that stood still: what waited for it meanwhile is old, and counts for nothing; no piece is lost of it."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from agent.clock import SystemClock
from agent.config import load
from agent.keys import LOG_KEY_FILE, load_or_make_key
from agent.simulator.modbus_server import ModbusServer
from agent.simulator.opcua_server import OpcUaServer
from agent.simulator.plant import RUNNING, Plant
from agent.simulator.request_log import RequestLog
from agent.simulator.spec import LineSpec, load_plant
from agent.spool import Spool
from protocols.evidence.record import SignedRecord
from protocols.measurement.account import TimeAccount, total
from protocols.plc.packml import State
from protocols.plc.roles import ROLES, SignalRole
from tests.agent import factory
from tests.agent.test_run import EXAMPLES, command, until, windows_of
from tests.simulators.receipt_hub import ReceiptHub

STILL_S: Final = int(os.environ.get("LINETALLY_STILL_S", "9"))
"""How long it stands. The long form: 200 s."""
PIECES_A_SECOND: Final = 10
FIRST: Final = 1000


class Machine(Plant):
    """Makes pieces from `on` to `off`, so that its own count is known to the piece."""

    def __init__(self, spec: LineSpec, running: int) -> None:
        super().__init__(spec, SystemClock().now_ms())
        self._running = running
        self._on_ms: int | None = None
        self.made = 0

    def on(self) -> None:
        self._on_ms = SystemClock().now_ms()

    def off(self) -> None:
        self.made = self._count(SystemClock().now_ms())
        self._on_ms = None

    def _count(self, time_ms: int) -> int:
        if self._on_ms is None:
            return self.made
        return max(0, time_ms - self._on_ms) * PIECES_A_SECOND // 1000

    def image(self, time_ms: int) -> tuple[int, ...]:
        values = [0] * ROLES
        values[SignalRole.STATE] = self._running
        values[SignalRole.TOTAL] = FIRST + self._count(time_ms)
        return tuple(values)

    def next_change_ms(self, time_ms: int) -> int:
        return time_ms + 3_600_000

    def pieces_per_minute(self, time_ms: int) -> float:
        return 0.0


def accounts(folder: Path) -> dict[str, TimeAccount]:
    """What was signed of each line."""
    with Spool.open_read_only(folder) as spool:
        records = [SignedRecord(record.raw) for record in spool.open_records(0, 10_000)]
    return {line: total(window.account for window in windows) for line, windows in windows_of(records).items()}


@pytest.mark.alone
def test_no_piece_is_lost_and_nothing_old_is_taken_for_new(tmp_path: Path) -> None:
    """A process that was stopped in the midst of reading two lines, over OPC UA and over Modbus."""
    log = tmp_path / "log"
    plant = load_plant(EXAMPLES / "plant.toml")
    clock = SystemClock()

    async def scenario() -> list[Machine]:
        machines = [
            Machine(replace(plant.line("filling"), counter_start=0), State.EXECUTE),
            Machine(replace(plant.line("packing"), counter_start=0), RUNNING),
        ]
        opcua = OpcUaServer(machines[:1], clock, RequestLog(), port=0, scan_ms=100)
        modbus = ModbusServer(machines[1:], clock, RequestLog(), port=0)
        await opcua.start()
        await modbus.start()
        try:
            lines = [factory.opcua(opcua.url), factory.modbus(modbus.port)]
            lines = [line.replace("000\nstaleness", "0000\nstaleness") for line in lines]
            path = factory.write(tmp_path, *lines, window_s=1, interval_s=1)
            state = load(path).state_folder
            load_or_make_key(state)
            (state / LOG_KEY_FILE).write_text(ReceiptHub(1).log_key, "utf-8")
            with command("run", "--config", str(path), log=log) as agent:
                await asyncio.to_thread(until, lambda: log.read_text("utf-8").count(" connected to ") >= 2, 30, log)
                await asyncio.sleep(1.5)
                for machine in machines:
                    machine.on()
                await asyncio.sleep(2.5)
                agent.send_signal(signal.SIGSTOP)
                await asyncio.sleep(STILL_S)
                agent.send_signal(signal.SIGCONT)
                await asyncio.sleep(4)
                for machine in machines:
                    machine.off()
                await asyncio.sleep(2.5)
                agent.send_signal(signal.SIGTERM)
                await asyncio.to_thread(until, lambda: agent.poll() == 0, 15, log)
        finally:
            await modbus.stop()
            await opcua.stop()
        return machines

    machines = asyncio.run(scenario())
    assert all(machine.made > (STILL_S + 4) * PIECES_A_SECOND for machine in machines)
    said = log.read_text("utf-8")
    found = accounts(load(tmp_path / "agent.toml").state_folder)
    for machine in machines:
        account = found[machine.spec.id]
        assert account.lower_bound_count == 0, said
        assert account.total_count == machine.made, said
        assert account.estimated_count >= STILL_S * PIECES_A_SECOND, said
    assert said.count("stood still for") == 2, said
