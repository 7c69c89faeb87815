"""Configuration files and windows for the agent's tests."""

from __future__ import annotations

from pathlib import Path

from agent.config import AgentConfiguration, load
from protocols.measurement.account import CalendarKind, Category, TimeAccount, Window

GATEWAY = """\
[gateway]
id = "GW-01"
site = "Tai Po plant"
state_folder = "state"

[broker]
host = "127.0.0.1"
port = {broker_port}

[statement]
window_s = {window_s}
interval_s = {interval_s}
"""

OPCUA_LINE = """
[[line]]
id = "filling"
name = "Filling line"
timezone = "Asia/Hong_Kong"
max_pieces_per_hour = 6000
staleness_s = 6

[line.source]
protocol = "opcua"
endpoint = "{endpoint}"
publishing_interval_ms = 50
sampling_interval_ms = 0

[line.tags]
state = {{ path = "filling/Status/StateCurrent", namespace = "urn:linetally:simulator" }}
[line.tags.total]
path = "filling/Admin/ProdProcessedCount/AccCount"
namespace = "urn:linetally:simulator"
modulus = 2147483648

[line.tags.reject]
path = "filling/Admin/ProdDefectiveCount/AccCount"
namespace = "urn:linetally:simulator"
modulus = 2147483648


[[line.product]]
code = 1
name = "Cola 500 ml"
ideal_cycle_s = "1.2"
"""

MODBUS_LINE = """
[[line]]
id = "packing"
name = "Packing line"
timezone = "Asia/Hong_Kong"
max_pieces_per_hour = 8000
staleness_s = 6

[line.source]
protocol = "modbus"
host = "127.0.0.1"
port = {port}
poll_interval_ms = 50
timeout_ms = 300

[line.tags]
state = {{ register = 0 }}
total = {{ register = 1 }}
reject = {{ register = 2 }}

[line.states]
1 = "STOPPED"
2 = "EXECUTE"

[[line.product]]
code = 1
name = "Carton"
ideal_cycle_s = "0.68"
"""


def opcua(endpoint: str = "opc.tcp://127.0.0.1:4840") -> str:
    return OPCUA_LINE.format(endpoint=endpoint)


def modbus(port: int = 502) -> str:
    return MODBUS_LINE.format(port=port)


def write(folder: Path, *lines: str, broker_port: int = 1, window_s: int = 60, interval_s: int = 900) -> Path:
    """A configuration file in `folder`."""
    path = folder / "agent.toml"
    head = GATEWAY.format(broker_port=broker_port, window_s=window_s, interval_s=interval_s)
    path.write_text(head + "".join(lines), "utf-8")
    return path


def configuration(folder: Path, *lines: str, **values: int) -> AgentConfiguration:
    return load(write(folder, *(lines or (opcua(), modbus())), **values))


def window(start_ms: int, length_ms: int = 60_000, total: int = 50) -> Window:
    times = [0] * len(Category)
    times[Category.PRODUCING] = length_ms
    account = TimeAccount(tuple(times), length_ms, total, total)
    return Window(start_ms, start_ms + length_ms, CalendarKind.SCHEDULED, "Cola 500 ml", "", "2026-11-21/day", account)
