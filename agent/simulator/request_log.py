"""What clients asked of the simulated PLCs.

Decides what is kept of each request. Its `writes_seen` is the proof that a reader only reads; each is said at once too.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

_log = logging.getLogger("linetally.simulator")


@dataclass(frozen=True, slots=True)
class Served:
    """The registers of a Modbus line, all of one instant, from which a read was answered."""

    time_ms: int
    line: str
    address: int
    count: int
    registers: tuple[int, ...]


class RequestLog:
    """Counts requests; writes one JSON line for each to a file, or keeps what Modbus served in `served`.

    Lines: {"time_ms", "protocol": "modbus", "line", "function", "address", "count", "registers"},
    {"time_ms", "protocol": "opcua", "request", "nodes"}, and last of all {"requests", "writes_seen"}.
    Not durable, event loop's thread only.
    """

    def __init__(self, path: Path | None = None, *, keep: bool = False) -> None:
        self.requests = 0
        self.writes_seen = 0
        self.served: list[Served] = []
        self._keep = keep
        self._file: TextIO | None = path.open("w", encoding="utf-8", buffering=1) if path is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the sums and close the file. Closing twice does nothing more."""
        if self._file is not None:
            self._line({"requests": self.requests, "writes_seen": self.writes_seen})
            self._file.close()
            self._file = None

    def modbus(self, served: Served, function: int) -> None:
        """A read that a Modbus line answered."""
        if self._keep:
            self.served.append(served)
        self._line(
            {
                "time_ms": served.time_ms, "protocol": "modbus", "line": served.line, "function": function,
                "address": served.address, "count": served.count, "registers": served.registers,
            }
        )  # fmt: skip

    def opcua(self, time_ms: int, request: str, nodes: int) -> None:
        """A request to the OPC UA server."""
        self.requests += 1
        self._line({"time_ms": time_ms, "protocol": "opcua", "request": request, "nodes": nodes})

    def write_refused(self, time_ms: int, protocol: str, what: str) -> None:
        """A client tried to write."""
        self.writes_seen += 1
        _log.warning("a client tried to write to the plant (%s, %s), which is refused", protocol, what)
        self._line({"time_ms": time_ms, "protocol": protocol, "refused": what, "writes_seen": self.writes_seen})

    def _line(self, data: dict[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(data) + "\n")
