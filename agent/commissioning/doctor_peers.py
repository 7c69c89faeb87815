"""What `linetally-agent doctor` asks over the network: the broker, the hub, and each PLC with each of its tags.

Decides what is asked of whom, and when an answer is a warning. Only reads; works beside a running agent.
"""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asyncua.ua.object_ids import ObjectIds

from agent.commissioning.finding import Finding, fail, failed, ok, warn
from agent.commissioning.look import told
from agent.commissioning.peers import ModbusPeer, Unreachable, opcua_peer
from agent.commissioning.probe_command import address_of
from agent.config import AgentConfiguration
from agent.config_line import LineSettings
from agent.config_modbus import ModbusSource, ModbusTag
from agent.config_opcua import OpcuaSource, OpcuaTag
from agent.glance import read_glance
from agent.line import CLOCK_TOLERANCE_MS
from agent.mqtt import BrokerLink, BrokerLost
from agent.sources.modbus_frames import Refusal
from agent.sources.modbus_values import Unusable, clock_ms, value
from agent.sources.opcua_nodes import own, read_limits, read_namespaces, read_values, resolve
from agent.sources.opcua_numbers import number_of, unix_ms
from agent.sources.opcua_wire import Told
from protocols.errors import ConfigurationError, LinetallyError
from protocols.measurement.machine import StateValues
from protocols.plc.roles import SignalRole
from protocols.wire.topics import receipt_topic

_HUB_S: Final = 10


async def peer_findings(configuration: AgentConfiguration) -> list[Finding]:
    """Everybody is asked at once; the findings come in the order of the configuration."""
    asked = [_broker(configuration), _hub(configuration)]
    asked += [_line(configuration, line) for line in configuration.lines]
    return [finding for found in await asyncio.gather(*asked) for finding in found]


async def _broker(configuration: AgentConfiguration) -> list[Finding]:
    broker = configuration.broker
    where = f"{broker.host}:{broker.port}"
    gateway = configuration.gateway_id
    # A broker that names clients by their certificate (deploy/mosquitto does) knows one client of a gateway only: a
    # second would throw the running agent out, whatever it calls itself.
    if (now := read_glance(configuration.state_folder)) and now.get("broker"):
        return [ok("broker", f"the running agent is connected to {where}")]
    try:
        async with BrokerLink(broker, f"{gateway}-doctor", receipt_topic(gateway)):
            return [ok("broker", f"{where} lets this gateway in")]
    except BrokerLost as error:
        mend = "check broker.host and port, the network, username and [broker.tls]; measuring goes on meanwhile"
        return [fail("broker", f"{where}: {error}", mend)]
    except ConfigurationError as error:
        return [failed("broker", error)]


async def _hub(configuration: AgentConfiguration) -> list[Finding]:
    url = configuration.hub_url
    if url is None:
        return []

    def ask() -> Finding:
        try:
            with urllib.request.urlopen(url, timeout=_HUB_S) as answer:  # noqa: S310 - config.load checks the scheme
                answer.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            return ok("hub", f"{url} answers")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            mend = "it is needed to enrol only; check hub.url, DNS and the firewall"
            return warn("hub", f"{url} cannot be reached ({reason})", mend)
        return ok("hub", f"{url} answers")

    return [await asyncio.to_thread(ask)]


async def _line(configuration: AgentConfiguration, line: LineSettings) -> list[Finding]:
    about = f"line {line.line_id}"
    try:
        if isinstance(line.source, OpcuaSource):
            return await _opcua(configuration, line, line.source, about)
        if isinstance(line.source, ModbusSource):
            return await _modbus(line, line.source, about)
    except PermissionError as error:
        mend = "run doctor as the agent's user"
        return [fail(about, f"{error.filename}: this user may not open it", mend)]
    except (LinetallyError, Refusal) as error:
        if isinstance(error, Unreachable) and (link := _read_by_agent(configuration, line)):
            return [ok(about, f"the running agent reads it ({link}), and nobody else can beside it: {error}")]
        mend = "check power, network, the address and the PLC's firewall; the agent tries for ever"
        if isinstance(error, Unreachable) and ("accept" in str(error) or ";" in str(error)):
            mend = ""
        found = failed(about, error) if isinstance(error, LinetallyError) else fail(about, str(error))
        return [Finding(about, found.level, found.words, found.mend or mend)]
    return [ok(about, "is replayed from a plant's model")]


def _read_by_agent(configuration: AgentConfiguration, line: LineSettings) -> str:
    """What a running agent says of a line that it reads, "" for none: a serial port, and some PLCs, serve one only."""
    now = read_glance(configuration.state_folder) or {"lines": []}
    return next((str(each["link"]) for each in now["lines"] if each["line"] == line.line_id and each["reading"]), "")


async def _modbus(line: LineSettings, source: ModbusSource, about: str) -> list[Finding]:
    out: list[Finding] = []
    tags = [tag for tag in line.tags if isinstance(tag, ModbusTag)]
    count = len(tags) + (line.time_tag is not None)
    devices = {tag.device_id for tag in tags}
    silent: set[int] = set()
    good = 0
    async with ModbusPeer(source.link, source.device_id, source.timeout_ms / 1000) as first:
        for tag in [*tags, *([line.time_tag] if line.time_tag is not None else [])]:
            name = "time" if tag is line.time_tag else tag.role.name.lower()
            if tag.device_id in silent:
                continue
            first.device_id = tag.device_id
            try:
                registers = await first.read(tag.table, tag.register, tag.count)
                if tag is line.time_tag:
                    out += _clock(about, clock_ms(tag, registers))
                else:
                    out += _meaning(about, line, tag.role, value(tag, registers, line.product_codes))
            except Refusal as refusal:
                mend = _refused_mend(source, tag, refusal)
                out.append(fail(f"{about}, {name}", f"{tag.table} register {tag.register}: {refusal}", mend))
                continue
            except Unreachable as error:
                if len(devices) == 1:
                    raise
                silent.add(tag.device_id)  # the others on this link may be well
                mend = "check its power, its device id and its cable; the others are read meanwhile"
                out.append(fail(f"{about}, device {tag.device_id}", str(error), mend))
                continue
            except Unusable as error:
                mend = f"look at it: {_probe(source, tag)}"
                out.append(fail(f"{about}, {name}", f"{tag.table} register {tag.register} {error}", mend))
                continue
            good += 1
    words = f"{source.link.words} answers, {good} of {count} tags can be measured"
    return [ok(about, words) if good else fail(about, words), *out]


def _refused_mend(source: ModbusSource, tag: ModbusTag, refusal: Refusal) -> str:
    if refusal.code not in (2, 3):
        return f"is its device id {tag.device_id}? Does it know the table {tag.table}? Look: {_probe(source, tag)}"
    table, register = address_of(str(tag.register), None)
    makers = f'is {tag.register} the maker\'s number? Then write: register = {register}, table = "{table}". '
    return (makers if register != tag.register else "") + f"Look for the right one: {_probe(source, tag)}"


def _probe(source: ModbusSource, tag: ModbusTag) -> str:
    """The command that shows this register."""
    link = source.link
    register = tag.register if tag.register < 10_000 else hex(tag.register)  # else it is taken for a maker's
    words = f"linetally-agent probe {link.words} {register}"
    words += f" --table {tag.table}" if tag.table != "holding" else ""
    words += f" --device-id {tag.device_id}" if tag.device_id != 1 else ""
    words += " --rtu" if link.transport == "rtu-over-tcp" else ""
    return words + (f" --baud-rate {link.baud_rate} --parity {link.parity}" if link.device else "")


def _meaning(about: str, line: LineSettings, role: SignalRole, number: int | str | None) -> list[Finding]:
    """A value that can be measured, and of which the configuration does not say what it means."""
    mapping, products = line.configuration.mapping, line.configuration.products
    about = f"{about}, {role.name.lower()}"
    if role is SignalRole.STATE and isinstance(mapping, StateValues) and number not in dict(mapping.values):
        mend = f'write what the machine does now, in [line.states]: {number} = "EXECUTE" (or STOPPED, …)'
        return [warn(about, f"it says {number}, which is not in [line.states]: unknown time", mend)]
    if role is SignalRole.PRODUCT and number is not None and number not in {each.code for each in products}:
        mend = f"add a [[line.product]] with code = {number}, its name and ideal_cycle_s"
        return [warn(about, f"it says {number}, which is no product of the configuration: OEE is undefined", mend)]
    return []


def _clock(about: str, plc_ms: int) -> list[Finding]:
    off_s = (plc_ms - time.time() * 1000) / 1000
    if abs(off_s) * 1000 <= CLOCK_TOLERANCE_MS:
        return [ok(f"{about}, clock", f"the PLC's clock is {abs(off_s):.1f} s {_side(off_s)} this gateway's")]
    words = f"the PLC's clock is {abs(off_s):,.1f} s {_side(off_s)} this gateway's; the gateway's time is used"
    return [warn(f"{about}, clock", words, "set the PLC's clock by NTP")]


def _side(off_s: float) -> str:
    return "ahead of" if off_s > 0 else "behind"


async def _opcua(
    configuration: AgentConfiguration, line: LineSettings, source: OpcuaSource, about: str
) -> list[Finding]:
    tags: Sequence[OpcuaTag] = [tag for tag in line.tags if isinstance(tag, OpcuaTag)]
    out: list[Finding] = []
    if source.policy == "None":
        mend = 'if the server can: security_policy = "Basic256Sha256" (see docs/opcua.md)'
        out.append(warn(f"{about}, security", "is read unprotected: others on its network could alter it", mend))
    async with opcua_peer(source, configuration.state_folder, configuration.gateway_id) as client:
        session = client.uaclient.session
        limits = await read_limits(client)
        places = await resolve(session, limits, await read_namespaces(session), tags)
        found = [(tag, place) for tag, place in zip(tags, places, strict=True) if not isinstance(place, str)]
        values = await read_values(session, limits.read, [place for _, place in found])
        for tag, place in zip(tags, places, strict=True):
            if isinstance(place, str):
                mend = f"look for it: linetally-agent browse {source.endpoint}"
                out.append(fail(f"{about}, {tag.role.name.lower()}", f"{tag.words}: {place}", mend))
        good = 0
        for (tag, _), answer in zip(found, values, strict=True):
            text, trouble = told(tag, line, answer)
            good += not trouble
            if trouble:
                words, _, mend = f"{tag.words}{f' = {text}' if text else ''}: {trouble}".partition("; ")
                out.append(fail(f"{about}, {tag.role.name.lower()}", words, mend or "check the tag on the PLC"))
            else:
                out += _meaning(about, line, tag.role, number_of(tag, line.product_codes, answer.value))
        if configuration.simulation is None:
            (moment,) = await read_values(session, limits.read, [own(ObjectIds.Server_ServerStatus_CurrentTime)])
            out += _server_clock(about, moment)
    words = f"{source.endpoint} answers, {good} of {len(tags)} tags can be measured"
    return [ok(about, words) if good else fail(about, words), *out]


def _server_clock(about: str, found: Told) -> list[Finding]:
    return _clock(about, unix_ms(found.value)) if isinstance(found.value, datetime) else []
