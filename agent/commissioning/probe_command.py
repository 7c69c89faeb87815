"""`linetally-agent probe`: a Modbus register read in every type and byte and word order, the plausible ones marked.

Decides the options and what is printed; what is plausible is decided in `readings`. It only reads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from protocols.errors import ConfigurationError

if TYPE_CHECKING:
    from agent.commissioning.readings import Reading

_DESCRIPTION = """\
Read a Modbus register several times, in every type and byte and word order, and mark what makes sense. Let the machine
run meanwhile: a counter is known by its rising. Nothing is ever written.

examples:
  linetally-agent probe 192.168.0.11 1
      holding register 1 (counted from 0; what some makers call 40002)
  linetally-agent probe 192.168.0.11:5020 40002
      a number of five digits is the maker's: 4xxxx is holding register xxxx less 1, 3xxxx an input register
  linetally-agent probe 192.168.0.12 0x4a38
      register 19000 as the protocol counts it, which 19000 would not be
  linetally-agent probe /dev/ttyUSB0 1 --baud-rate 9600 --device-id 7
      a device on a serial line
  linetally-agent probe 192.168.0.11 1 --samples 20 --every 0.5 --all
"""
_MAKERS: Final = {"4": "holding", "3": "input", "1": "discrete", "0": "coil"}
_MARKS: Final = {2: "●", 1: "○", 0: "·"}
_WORDS: Final = {2: "likely", 1: "possible", 0: "no"}
_STYLES: Final = {2: "bold green", 1: "", 0: "dim"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "probe", help="read a Modbus register in every type and order", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("host", metavar="HOST[:PORT]", help="or a serial device such as /dev/ttyUSB0")
    parser.add_argument(
        "register", metavar="REGISTER", help="counted from 0 (0x4a38 always is), or as the maker writes it (40001)"
    )
    parser.add_argument("--table", choices=("holding", "input", "coil", "discrete"), help="default: holding")
    parser.add_argument("--device-id", type=int, default=1, metavar="N", help="unit or slave id (1)")
    parser.add_argument("--rtu", action="store_true", help="RTU frames over TCP (some converters)")
    parser.add_argument("--baud-rate", type=int, default=19_200, metavar="N", help="of a serial device (19200)")
    parser.add_argument("--parity", choices=("even", "odd", "none"), default="even", help="of a serial device (even)")
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="how often it is read (5)")
    parser.add_argument("--every", type=float, default=1.0, metavar="S", help="seconds between two (1)")
    parser.add_argument("--all", action="store_true", help="show the readings that make no sense, too")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_run)


def address_of(text: str, table: str | None) -> tuple[str, int]:
    """(table, register from 0) of what a person wrote: 7, the maker's 40008, 30008, 400008, or 0x4a38, which is never
    a maker's. Raises ConfigurationError."""
    if re.fullmatch("0x[0-9a-f]{1,4}", text, re.IGNORECASE):
        return table or "holding", int(text, 16)
    if text.isdecimal():
        # Five or six digits that begin with the table's digit; above 65535 nothing else is meant.
        if len(text) in (5, 6) and text[0] in _MAKERS and (table is None or _MAKERS[text[0]] == table):
            number = int(text[1:])
            if 1 <= number <= 65_536:
                return _MAKERS[text[0]], number - 1
        if int(text) <= 65_535:
            return table or "holding", int(text)
    mend = "write the register as the protocol counts it, from 0 (7), or as the maker writes it (40008)"
    mend += "; 0x4a38 is always as the protocol counts it"
    raise ConfigurationError(f'"{text}" is no register', mend=mend)


def taken_words(text: str, table: str, register: int) -> str:
    """What is to be said where a number was taken for the maker's, and could be meant otherwise; "" for nothing."""
    if not text.isdecimal() or int(text) == register:
        return ""
    words = f"{text} is taken for the maker's number: {table} register {register}"
    return words + (f". Counted from 0 it is written {int(text):#x}" if int(text) <= 65_535 else "")


async def take_samples(
    place: object, table: str, register: int, count: int, every_s: float, most: int = 4
) -> list[list[int]]:
    """`count` samples of up to `most` registers from a `ModbusPeer`. Raises Refusal, Unreachable."""
    from agent.commissioning.peers import ModbusPeer

    assert isinstance(place, ModbusPeer)
    bits = table in ("coil", "discrete")
    first = await place.read_most(table, register, 1 if bits else most)
    out = [first]
    for _ in range(count - 1):
        await asyncio.sleep(every_s)
        out.append(await place.read(table, register, len(first)))
    return out


def _run(options: argparse.Namespace) -> int:
    from agent.commissioning.readings import Verdict, readings

    table, register = address_of(options.register, options.table)
    if not 2 <= options.samples <= 1000 or not 0.05 <= options.every <= 3600:
        raise ConfigurationError("--samples is from 2 to 1000, --every from 0.05 to 3600 s")
    if not 300 <= options.baud_rate <= 4_000_000:
        raise ConfigurationError(f"--baud-rate {options.baud_rate} is none", mend="such as 9600 or 19200")
    if note := taken_words(options.register, table, register):
        print(note, file=sys.stderr)
    samples = asyncio.run(_read(options, table, register))
    seconds = options.every * (options.samples - 1)
    where = f"{table} {register} of {options.host}, device {options.device_id}"
    if table in ("coil", "discrete"):
        bits = [sample[0] for sample in samples]
        print(json.dumps({"table": table, "register": register, "bits": bits}) if options.json else
              f"{where}: {' '.join(map(str, bits))}")  # fmt: skip
        return 0
    found = readings(samples, seconds, time.time())
    if options.json:
        data = [
            asdict(each) | {"verdict": each.verdict.name.lower(), "keys": each.keys, "order": each.order}
            for each in found
        ]
        head = {"table": table, "register": register, "device_id": options.device_id, "samples": samples}
        print(json.dumps(head | {"readings": data}, indent=2))
    else:
        show(found, samples, where, register, table, show_all=options.all)
    return 0 if found and found[0].verdict is not Verdict.NO else 1


async def _read(options: argparse.Namespace, table: str, register: int) -> list[list[int]]:
    from agent.commissioning.peers import ModbusPeer, Unreachable, modbus_link
    from agent.sources.modbus_frames import Refusal

    link = modbus_link(options.host, rtu=options.rtu, baud_rate=options.baud_rate, parity=options.parity)
    least, most = link.devices
    if not least <= options.device_id <= most:
        raise ConfigurationError(f"--device-id {options.device_id} is none", mend=f"from {least} to {most}")
    if sys.stderr.isatty() and not options.json:
        print(f"reading {options.samples} times, one each {options.every:g} s …", file=sys.stderr)
    async with ModbusPeer(link, options.device_id) as peer:
        try:
            return await take_samples(peer, table, register, options.samples, options.every)
        except Refusal as refusal:
            mend = "is it counted from 0 (what some makers call 40001 is 0)? In another table (--table input)?"
            if refusal.code not in (2, 3):
                mend = f"is its device id {options.device_id} (--device-id)? Does it know the table {table} (--table)?"
            raise Unreachable(f"{link.words}, {table} register {register}: {refusal}\n  {mend}") from refusal


def show(
    found: Sequence[Reading], samples: Sequence[Sequence[int]], where: str, register: int, table: str,
    *, show_all: bool = False,
) -> None:  # fmt: skip
    """The readings as a table for a person, and the tag to write for the best."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from agent.commissioning.readings import Verdict

    console = Console(highlight=False)
    console.print(f"[bold]{where}[/bold], {len(samples)} samples")
    words = " ".join(f"{word:04x}" for word in samples[-1])
    console.print(f"the newest, as it came: {words} (hexadecimal, register {register} first)\n")
    shown = [each for each in found if show_all or each.verdict is not Verdict.NO]
    rows = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "type", "order", "first", "newest", "why"):
        rows.add_column(name, justify="right" if name in ("first", "newest") else "left", no_wrap=name != "why")
    for each in shown:
        style = _STYLES[each.verdict]
        cells = (
            f"{_MARKS[each.verdict]} {_WORDS[each.verdict]}", each.type, each.order, _number(each.values[0]),
            _number(each.values[-1]), each.why,
        )  # fmt: skip
        rows.add_row(*(Text(cell, style) for cell in cells))
    if shown:
        console.print(rows)
        console.print("order: AB is the register asked for, CD the next; A is its high byte", style="dim")
    if hidden := len(found) - len(shown):
        console.print(f"{hidden} readings make no sense and are not shown (--all shows them)", style="dim")
    likely = [each for each in found if each.verdict is Verdict.LIKELY]
    if not shown:
        console.print("\nNothing here makes sense. Is it the right register? Does the machine run?")
    elif not likely:
        console.print("\nNothing can be told for sure. Probe again while the machine makes pieces, or ask its maker.")
    else:
        told = "" if table == "holding" else f', table = "{table}"'
        console.print("\nwrite in [line.tags]:", markup=False)
        for each in likely[:2]:
            keys = f", {each.keys}" if each.keys else ""
            shows = f"# shows {_number(each.values[-1])}"
            print(f"  {{ register = {register}{told}{keys} }}   {shows}")  # not cut, to be copied
        which = "Which of the two, the machine's own display tells." if len(likely) > 1 else "It is a hint; compare it."
        console.print(f"{which} See what the display shows, and probe again later.", style="dim")


def _number(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, int) and abs(value) >= 10**13:
        return f"{value:.3e}"
    return f"{value:,}" if isinstance(value, int) else f'"{value}"'
