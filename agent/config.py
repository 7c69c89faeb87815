"""The gateway's configuration: one TOML file, checked whole at start, as one frozen tree.

Decides the file's keys outside `[[line]]`, their limits and defaults (docs/agent.md is the reference). What a line
is made of is read in `config_line`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.config_line import LineSettings, ReplaySource, read_line
from agent.toml_table import Table, read_toml
from protocols.wire.live import MAX_INTERVAL_S
from protocols.wire.sparkplug import is_group

MINUTE_MS: Final = 60_000
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How the broker's TLS is checked, and the client's certificate if it wants one."""

    ca_file: Path
    certificate_file: Path | None
    key_file: Path | None


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the MQTT broker is. `password_file`: its first line is the password."""

    host: str
    port: int
    tls: TlsSettings | None
    username: str | None
    password_file: Path | None


@dataclass(frozen=True, slots=True)
class RawSettings:
    """How long raw samples are kept for a challenge (0 days: not at all), and in how many bytes."""

    keep_days: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """How operators say what came late: `mqtt` on the broker; the rest is of the page, a process of its own."""

    mqtt: bool = False
    listen: str = "127.0.0.1"
    port: int = 8480
    pin_file: Path | None = None
    reasons_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AgentConfiguration:
    """All that the agent was told. `site` is the subject of each record.

    `log_key`: the log's vkey, or None to take the one that enrolment stored. `simulation`: a clock file.
    `jit`: whether kernels are compiled.
    """

    file: Path
    gateway_id: str
    site: str
    state_folder: Path
    hub_url: str | None
    log_key: str | None
    broker: BrokerSettings
    window_ms: int
    interval_ms: int
    simulation: Path | None
    lines: tuple[LineSettings, ...]
    raw: RawSettings
    jit: bool = True
    health_port: int = 0  # on loopback; 0: no endpoint
    live_interval_s: int = 1  # between two messages that tell all lines
    sparkplug_group: str = ""  # "": no Sparkplug
    operator: OperatorSettings = OperatorSettings()

    @property
    def is_replay(self) -> bool:
        """Whether the lines are replayed from a plant's model (all of them, or none)."""
        return isinstance(self.lines[0].source, ReplaySource)


def load(path: Path) -> AgentConfiguration:
    """The configuration in a file. Raises ConfigurationError with file, line and what to write instead."""
    root = read_toml(path)
    folder = path.resolve().parent
    gateway = root.table("gateway", required=True)
    gateway_id = gateway.text("id", example='"GW-01"')
    if not _ID.fullmatch(gateway_id):
        raise gateway.wrong("id", f'"{gateway_id}" cannot be a name', "1 to 64 of the letters A-Z a-z, digits, _ and -")
    site = gateway.text("site", example='"Tai Po plant"')
    state_folder = folder / gateway.text("state_folder", "state")
    gateway.done()

    hub = root.table("hub")
    url = hub.optional_text("url")
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise hub.wrong("url", f'"{url}" is not a web address', 'write: url = "http://127.0.0.1:8080"')
    log_key = hub.optional_text("log_key")
    hub.done()

    statement = root.table("statement")
    window_ms = statement.integer("window_s", 60, 1, 3600) * 1000
    interval_ms = statement.integer("interval_s", 900, 1, 86_400) * 1000
    # A statement ends on a window's edge; windows are a grid from the epoch, and so a day must be a whole of them.
    if interval_ms % window_ms:
        mend = f"a multiple of window_s = {window_ms // 1000}"
        raise statement.wrong("interval_s", f"{interval_ms // 1000} s does not hold whole windows", mend)
    statement.done()

    clock = root.table("clock")
    simulation = clock.optional_text("simulation")
    clock.done()

    kernel = root.table("kernel")
    jit = kernel.text("jit", "on")
    if jit not in ("on", "off"):
        raise kernel.wrong("jit", f'"{jit}" is neither on nor off', 'write: jit = "off" to compile nothing')
    kernel.done()

    health = root.table("health")
    health_port = health.integer("port", 0, 0, 65_535)
    health.done()

    live = root.table("live")
    sparkplug_group = live.text("sparkplug_group", "")
    if sparkplug_group and not is_group(sparkplug_group):
        mend = "up to 64 characters without + # /"
        raise live.wrong("sparkplug_group", f'"{sparkplug_group}" cannot be in a topic', mend)
    live_interval_s = live.integer("interval_s", 1, 1, MAX_INTERVAL_S)
    live.done()

    raw = root.table("raw")
    raw_settings = RawSettings(
        raw.integer("keep_days", 35, 0, 3650), raw.integer("max_megabytes", 2000, 1, 1_000_000) * 1_000_000
    )
    raw.done()

    operator = _operator(root.table("operator"), folder)
    broker = _broker(root.table("broker"), folder)
    lines = tuple(read_line(table, folder, window_ms) for table in root.tables("line", required=True))
    _check_lines(root, lines)
    root.done()
    return AgentConfiguration(
        path, gateway_id, site, state_folder, url, log_key, broker, window_ms, interval_ms,
        folder / simulation if simulation else None, lines, raw_settings, jit == "on", health_port,
        live_interval_s, sparkplug_group, operator,
    )  # fmt: skip


def _broker(table: Table, folder: Path) -> BrokerSettings:
    tls = None
    if "tls" in table:
        inner = table.table("tls")
        certificate, key = inner.optional_text("certificate_file"), inner.optional_text("key_file")
        if (certificate is None) != (key is None):
            raise inner.wrong("", "a client certificate needs its key", "give both certificate_file and key_file")
        tls = TlsSettings(
            folder / inner.text("ca_file", example='"ca.crt"'),
            folder / certificate if certificate else None,
            folder / key if key else None,
        )
        inner.done()
    else:
        table.table("tls")
    password = table.optional_text("password_file")
    broker = BrokerSettings(
        table.text("host", "127.0.0.1"),
        table.integer("port", 8883 if tls else 1883, 1, 65_535),
        tls,
        table.optional_text("username"),
        folder / password if password else None,
    )
    if password and broker.username is None:
        raise table.wrong("password_file", "a password needs a user name", 'add: username = "GW-01"')
    table.done()
    return broker


def _operator(table: Table, folder: Path) -> OperatorSettings:
    pin, reasons = table.optional_text("pin_file"), table.optional_text("reasons_file")
    operator = OperatorSettings(
        table.flag("mqtt", default=False),
        table.text("listen", "127.0.0.1"),
        table.integer("port", 8480, 1, 65_535),
        folder / pin if pin else None,
        folder / reasons if reasons else None,
    )
    address = table.parsed("listen", operator.listen, ipaddress.ip_address, "an IP address of this gateway")
    if pin is None and not address.is_loopback:
        raise table.wrong("listen", f"{address} can be reached by others, and there is no PIN", 'add: pin_file = "pin"')
    table.done()
    return operator


def _check_lines(root: Table, lines: tuple[LineSettings, ...]) -> None:
    seen: set[str] = set()
    for line in lines:
        if line.line_id in seen:
            raise root.wrong("line", f'two lines have the id "{line.line_id}"', "give each line its own id")
        seen.add(line.line_id)
    replays = [isinstance(line.source, ReplaySource) for line in lines]
    # A replay drives the clock; a PLC would be read at the wrong time beside it.
    if any(replays) and not all(replays):
        raise root.wrong("line", "replayed lines and live lines do not go together", "use a file for each")
