"""Lines that are polled together: those on the same Modbus link, polled in the same way.

Decides which lines share a poll. Their registers are fetched by as few requests as if they were one line's, which
spares a slow serial line more than the gateway. A line with a clock tag is polled alone: its clock and its values must
come from one instant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.config_modbus import ModbusLink, ModbusSource, ModbusTag
from agent.line import LineInput
from agent.sources.modbus import ModbusReader
from agent.sources.modbus_link import Link
from agent.sources.shared import SharedReaders


class ModbusDevices:
    """The polls of one gateway, and the links that they use."""

    def __init__(self) -> None:
        self._links: dict[ModbusLink, Link] = {}
        self._readers = SharedReaders[ModbusReader]()

    async def read(
        self, source: ModbusSource, tags: Sequence[ModbusTag], time_tag: ModbusTag | None, line: LineInput,
        product_codes: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        """Reads one line until it is cancelled; raises what ends its reader."""
        # Each tag names its device: the source's is only what tags without one had.
        key = replace(source, device_id=0), None if time_tag is None else id(line)
        await self._readers.read(
            key,
            line,
            lambda: ModbusReader(source, tags, time_tag, line, product_codes, self._links),
            lambda reader: reader.join(tags, time_tag, line, product_codes),
        )
