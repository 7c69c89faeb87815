"""What each tag of a configuration says now: read once, beside a running agent if there is one.

Decides which value is shown: the one that would be measured, and what the PLC says where that is not a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agent.commissioning.peers import ModbusPeer, Unreachable, opcua_peer
from agent.commissioning.tree import shown
from agent.config import AgentConfiguration
from agent.config_line import LineSettings
from agent.config_modbus import ModbusSource, ModbusTag
from agent.config_opcua import OpcuaSource, OpcuaTag
from agent.sources.modbus_frames import Refusal
from agent.sources.modbus_values import Unusable, value
from agent.sources.opcua_nodes import read_limits, read_namespaces, read_values, resolve
from agent.sources.opcua_numbers import number_of
from agent.sources.opcua_wire import Told
from agent.sources.opcua_words import status_words
from protocols.plc.roles import SPEED_SCALE, SignalRole


@dataclass(frozen=True, slots=True)
class Seen:
    """One tag. `value`: as text; "" with `trouble` in words where there is none."""

    line_id: str
    role: str
    where: str
    value: str
    trouble: str = ""


async def look(configuration: AgentConfiguration) -> list[Seen]:
    """Every tag of every line that is read from a PLC. A PLC that does not answer gives one row for its line."""
    found = await asyncio.gather(*(_line(configuration, line) for line in configuration.lines))
    return [seen for line in found for seen in line]


async def _line(configuration: AgentConfiguration, line: LineSettings) -> list[Seen]:
    source = line.source
    try:
        if isinstance(source, OpcuaSource):
            return await _opcua(configuration, line, source)
        if isinstance(source, ModbusSource):
            return await _modbus(line, source)
    except Unreachable as error:
        return [Seen(line.line_id, "", "", "", str(error))]
    return []


async def _opcua(configuration: AgentConfiguration, line: LineSettings, source: OpcuaSource) -> list[Seen]:
    tags: Sequence[OpcuaTag] = [tag for tag in line.tags if isinstance(tag, OpcuaTag)]
    async with opcua_peer(source, configuration.state_folder, configuration.gateway_id) as client:
        session = client.uaclient.session
        limits = await read_limits(client)
        places = await resolve(session, limits, await read_namespaces(session), tags)
        nodes = [place for place in places if not isinstance(place, str)]
        values = iter(await read_values(session, limits.read, nodes))
    out = []
    for tag, place in zip(tags, places, strict=True):
        text, trouble = "", place if isinstance(place, str) else ""
        if not trouble:
            text, trouble = told(tag, line, next(values))
        out.append(Seen(line.line_id, tag.role.name.lower(), tag.words, text, trouble))
    return out


def told(tag: OpcuaTag, line: LineSettings, found: Told) -> tuple[str, str]:
    """A node's value as text, and why it cannot be measured ("" if it can)."""
    if found.status >> 30:
        return "", status_words(found.status)
    number = number_of(tag, line.product_codes, found.value)
    trouble = number if isinstance(number, str) else ""
    return shown(found.value), trouble.removeprefix(f"{tag.role.name.lower()}: ")


async def _modbus(line: LineSettings, source: ModbusSource) -> list[Seen]:
    out = []
    async with ModbusPeer(source.link, source.device_id, source.timeout_ms / 1000) as peer:
        for tag in line.tags:
            assert isinstance(tag, ModbusTag)
            peer.device_id = tag.device_id
            text, trouble = "", ""
            try:
                number = value(tag, await peer.read(tag.table, tag.register, tag.count), line.product_codes)
                scaled = number is not None and tag.role is SignalRole.SPEED
                text = "" if number is None else shown(number / SPEED_SCALE if scaled else number)
            except (Refusal, Unusable) as error:
                trouble = str(error)
            out.append(Seen(line.line_id, tag.role.name.lower(), tag.words, text, trouble))
    return out
