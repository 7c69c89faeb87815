"""Lines that are read over one connection: those with the same server, read in the same way.

Decides which lines share. A PLC's server has few sessions to give, and each takes its share of the gateway's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.config_opcua import OpcuaSource, OpcuaTag
from agent.line import Line
from agent.sources.opcua import OpcuaReader
from agent.sources.shared import SharedReaders


class OpcuaServers:
    """The connections of one gateway. `state_folder` and `gateway_id`: as of `OpcuaReader`."""

    def __init__(self, state_folder: Path, gateway_id: str) -> None:
        self._state_folder = state_folder
        self._gateway_id = gateway_id
        self._readers = SharedReaders[OpcuaReader]()

    async def read(
        self, source: OpcuaSource, tags: Sequence[OpcuaTag], product_codes: dict[str, int], line: Line,
        keep_alive_s: float,
    ) -> None:  # fmt: skip
        """Reads one line until it is cancelled; raises what ends its reader."""

        def begin() -> OpcuaReader:
            reader = OpcuaReader(
                source, tags, product_codes, line, keep_alive_s, self._state_folder, self._gateway_id
            )  # fmt: skip
            line.report = lambda: reader.report(line)
            return reader

        def join(reader: OpcuaReader) -> None:
            reader.join(tags, product_codes, line)
            line.report = lambda: reader.report(line)

        await self._readers.read((source, keep_alive_s), line, begin, join)
