"""The guided start's questions about a Modbus device: where it is, and which register is what.

Decides what is proposed: the type and order in which a register makes sense, as `probe` sees it.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Final

from agent.commissioning.answers import number
from agent.commissioning.ask import Asker, Wrong
from agent.commissioning.init_opcua import ROLES
from agent.commissioning.peers import ModbusPeer, Unreachable, modbus_link
from agent.commissioning.plan import Plan
from agent.commissioning.probe_command import address_of, take_samples, taken_words
from agent.commissioning.readings import Reading, Verdict, as_told, readings
from agent.commissioning.tree import quoted
from agent.config_modbus import BIT_TABLES, ModbusLink
from agent.sources.modbus_frames import Refusal
from protocols.errors import ConfigurationError

_SAMPLES: Final = 4
_EVERY_S: Final = 0.7
_WHY_HOST: Final = "The PLC's address, HOST or HOST:PORT; a serial device such as /dev/ttyUSB0."
_WHY_DEVICE: Final = "The device's number on its line (unit or slave id); 1 on most PLCs, 255 on some with Modbus TCP."


def ask_modbus(asker: Asker, plan: Plan) -> ModbusPeer | None:
    """Asks and tries until the device answers, or somebody says to go on without."""
    asker.heading("The PLC's Modbus")
    default: str | None = "192.168.0.11"
    while True:
        link = asker.ask("host", "Host", _WHY_HOST, default, _link)
        default = link.words
        device_id = asker.ask("device-id", "Device id", _WHY_DEVICE, "1", number(*link.devices))
        plan.source = _source(link, device_id)
        peer = ModbusPeer(link, device_id)
        try:
            asyncio.run(_hello(peer))
        except Unreachable as error:
            asker.say(f"  {error}", "yellow")
            why = "The file can be written now, and the address put right later."
            if not asker.interactive or asker.yes("go-on", "Go on without it", why, False):
                return None
        else:
            asker.say(f"  {link.words} answers", "green")
            return peer


def _link(text: str) -> ModbusLink:
    try:
        return modbus_link(text)
    except ConfigurationError as error:
        raise Wrong(error.mend) from None


def _source(link: ModbusLink, device_id: int) -> dict[str, str]:
    keys = {"protocol": '"modbus"'}
    if link.device:
        keys |= {"transport": '"serial"', "device": quoted(link.device)}
    else:
        keys |= {"host": quoted(link.host), "port": str(link.port)}
    return keys | {"device_id": str(device_id), "poll_interval_ms": "1000"}


async def _hello(peer: ModbusPeer) -> None:
    async with peer:
        try:
            await peer.read("holding", 0, 1)
        except Refusal as refusal:
            # That the register is not there is an answer (1 to 3); what it has is asked for later.
            if refusal.code > 3:
                words = f"{peer.link.words}: {refusal}; is its device id (unit, slave) {peer.device_id}?"
                raise Unreachable(words) from refusal


@dataclass(frozen=True, slots=True)
class _Place:
    """A register as somebody named it; `told`: the type and order that were named with it, `bit`: or one bit of it."""

    table: str
    register: int
    told: Reading | None = None
    bit: int | None = None
    note: str = ""


def ask_registers(
    asker: Asker, plan: Plan, peer: ModbusPeer | None, needed: list[str], wanted: list[str]
) -> dict[str, int]:
    """A register for each role; those of `wanted` may be left out. Fills the plan's tags; gives the values seen."""
    values: dict[str, int] = {}
    for role in [*needed, *wanted]:
        why = f"{ROLES[role][0].upper()}{ROLES[role][1:]}. The register from 0, or as the maker writes it (40001)"
        why += "; one bit of it: 40001.3" if role in ("running", "order") else ""
        why += "; or none." if role in wanted else "."
        default = "none" if role in wanted else None
        while True:
            place = asker.ask(f"tag {role}", f"Register of “{role}”", why, default, _register)
            if place is None:
                if role in wanted:
                    break
                asker.say("  an answer is needed here", "yellow")
                continue
            if place.note:
                asker.say(f"  {place.note}", "yellow")
            found = _found(asker, peer, place)
            if isinstance(found, str):
                asker.say(f"  {found}", "yellow")
                why_keep = "The file can be written with it, and be put right later."
                if asker.interactive and not asker.yes("keep", "Keep it all the same", why_keep, False):
                    continue
                found = []
            reading = _choose(asker, role, found, place)
            keys = [f"register = {place.register}"]
            keys += [f'table = "{place.table}"'] if place.table != "holding" else []
            keys += [f"bit = {place.bit}"] if place.bit is not None else [reading.keys if reading else ""]
            plan.tags[role] = f"{{ {', '.join(filter(None, keys))} }}"
            seen = reading.values[-1] if reading and reading.values else None
            if isinstance(seen, int):
                values[role] = seen if place.bit is None else seen >> place.bit & 1
            break
    return values


def _register(text: str) -> _Place | None:
    """Of `40002`, `1:uint32`, `1:uint32:CDAB` or `1.3`; None for none."""
    if text == "none":
        return None
    where, _, told = text.partition(":")
    where, dot, bit = where.partition(".")
    try:
        table, register = address_of(where, None)
    except ConfigurationError as error:
        raise Wrong(error.mend) from None
    note = taken_words(where, table, register)
    if not told and not dot:
        return _Place(table, register, note=note)
    if table in BIT_TABLES:
        raise Wrong(f"a {table} is one bit, it has no type and no bits: {where}")
    if dot:
        if told or not re.fullmatch(r"\d|1[0-5]", bit):
            raise Wrong("one bit of a register is written 1.3 or 40002.3 (bit 0 to 15)")
        return _Place(table, register, bit=int(bit), note=note)
    name, _, order = told.partition(":")
    reading = as_told(name, order)
    if reading is None:
        raise Wrong("write 1, 40002, 1:uint32, or 1:uint32:CDAB (a type and an order as probe shows them)")
    return _Place(table, register, reading, note=note)


def _found(asker: Asker, peer: ModbusPeer | None, place: _Place) -> list[Reading] | str:
    if peer is None or place.table in BIT_TABLES:
        return []

    async def sample(peer: ModbusPeer) -> list[list[int]]:
        async with peer:
            return await take_samples(peer, place.table, place.register, _SAMPLES, _EVERY_S)

    asker.say(f"  reading {place.table} register {place.register} {_SAMPLES} times …", "dim")
    try:
        samples = asyncio.run(sample(peer))
    except (Unreachable, Refusal) as error:
        return str(error)
    return readings(samples, _EVERY_S * (_SAMPLES - 1), time.time())


def _choose(asker: Asker, role: str, found: list[Reading], place: _Place) -> Reading | None:
    """The reading that is meant: as told, else the likeliest, which a person may change."""
    usable = [each for each in found if each.type != "string"]
    if (told := place.told) is not None:
        return next((each for each in usable if (each.type, each.keys) == (told.type, told.keys)), told)
    if not usable:
        return None
    plain = next((each for each in usable if each.type == "uint16" and each.byte_order == "big"), usable[0])
    if place.bit is not None:
        word = plain.values[-1]
        asker.say(f"  bit {place.bit}: {word >> place.bit & 1 if isinstance(word, int) else word}", "green")
        return plain
    # A state is small and stands still, as most registers do: only what rises tells more than the usual type.
    counting = role in ("total", "good", "reject")
    likely = [each for each in usable if each.verdict is Verdict.LIKELY and each.type[:5] != "float"]
    best = likely[0] if counting and likely else plain
    offered = list({id(each): each for each in [best, *likely[:3], plain]}.values())
    if len(offered) == 1 or not counting or not asker.interactive:
        asker.say(f"  {best.type}: {best.values[-1]} ({best.why})", "green")
        return best
    choices = [(f"{each.type} {each.order}", f"= {each.values[-1]}   {each.why}") for each in offered]
    name = asker.choose(
        f"type of {role}", "Which of them", "The same bits, read in several ways.", choices, choices[0][0]
    )
    return offered[[choice for choice, _ in choices].index(name)]
