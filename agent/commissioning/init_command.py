"""`linetally-agent init`: the guided start. Asks, tries, shows what it sees, and writes the configuration.

Decides the order of the questions, and that nothing is written before it was shown. Every question has a default and
says why it is asked, and can be answered on the command line instead.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protocols.errors import ConfigurationError

if TYPE_CHECKING:
    from agent.commissioning.ask import Asker
    from agent.commissioning.plan import Plan
    from agent.config import AgentConfiguration

_DESCRIPTION = """\
Set this gateway up: some twenty questions, each with a default. It connects to the PLC (it only reads), shows live
values, proposes what is what, and writes a configuration with comments.

examples:
  linetally-agent init
      ask everything; writes agent.toml
  linetally-agent init --file /etc/linetally/agent.toml
  linetally-agent init --no-input --gateway-id GW-07 --site "Tai Po plant" --endpoint opc.tcp://192.168.0.10:4840 \\
      --product "Cola 500 ml=1.2"
      without a question, for many gateways alike: defaults, and what names propose
  linetally-agent init --no-input --protocol modbus --host 192.168.0.11 --machine values --tag state=0 \\
      --tag total=1:uint32:CDAB --states "2=EXECUTE,1=STOPPED" --product "Carton=0.68"
"""
_OPTIONS: Final = {
    "gateway-id": "the gateway's name at the hub", "site": "enterprise and site", "hub": "the hub's address, or none",
    "broker": "HOST[:PORT] of the MQTT broker", "line": "the line's id", "name": "the line's name",
    "timezone": "such as Asia/Hong_Kong", "protocol": "opcua or modbus", "endpoint": "of OPC UA",
    "security": "of OPC UA: a policy, or None", "username": "of OPC UA, or none",
    "password-file": "of OPC UA: its first line is the password", "host": "of Modbus: HOST[:PORT] or a serial device",
    "device-id": "of Modbus", "machine": "packml, values, running or pieces",
    "states": "of the status word: 2=EXECUTE,1=STOPPED", "max-pieces-per-hour": "the line's physical limit",
    "shifts": "06:00-14:00,14:00-22:00 or none",
}  # fmt: skip


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "init", help="begin here: asks, tries, and writes the configuration", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [--file FILE] [OPTIONS]",
    )  # fmt: skip
    parser.add_argument("--file", type=Path, default=Path("agent.toml"), help="what to write (agent.toml)")
    parser.add_argument("--no-input", action="store_true", help="ask nothing; so it is without a terminal")
    parser.add_argument("--force", action="store_true", help="overwrite the file without asking (it is kept as .bak)")
    for name, words in _OPTIONS.items():
        parser.add_argument(f"--{name}", metavar="ANSWER", help=words)
    parser.add_argument("--tag", action="append", default=[], metavar="ROLE=WHERE",
                        help="a path of names (OPC UA), a register (Modbus): 40002 or 1:uint32:CDAB")  # fmt: skip
    parser.add_argument("--product", action="append", default=[], metavar="NAME=SECONDS",
                        help="a product and its ideal cycle; the first is the one made now")  # fmt: skip
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from agent.commissioning.ask import Asker, somebody_is_there
    from agent.commissioning.plan import roles
    from agent.commissioning.toml_edit import write_checked

    given = {name: getattr(options, name.replace("-", "_")) for name in _OPTIONS}
    told = {name: value for name, value in given.items() if value is not None}
    for text in options.tag:
        role, sign, where = text.partition("=")
        if not sign:
            raise ConfigurationError(f"--tag {text}", mend="write ROLE=WHERE, such as total=40002")
        told[f"tag {role}"] = where
    asker = Asker(told, interactive=somebody_is_there() and not options.no_input)
    if not _may_write(asker, options.file, force=options.force):
        return 1
    plan = _ask(asker, options)
    if asker.left:
        words = ", ".join(f"--{option}" for option in asker.left)
        mend = f"leave it out; the roles of tags here: {', '.join(roles(plan.machine))}"
        if not asker.interactive:
            raise ConfigurationError(f"{words}: not asked for here", mend=mend)
        asker.say(f"  {words}: not asked for here, and not used", "yellow")
    text = plan.text(str(options.file))
    try:
        write_checked(options.file, text)
    except ConfigurationError as error:
        raise _kept(options.file, text, error) from error
    _finish(asker, options.file)
    return 0


def _kept(file: Path, text: str, error: ConfigurationError) -> ConfigurationError:
    """The error with what was answered kept in a file, so that nobody has to answer it all again."""
    draft = file.with_name(f"{file.name}.draft")
    try:
        draft.write_text(text, "utf-8")
    except OSError:
        return error
    mend = f"{error.mend}. What was answered is kept there: mend it, then: mv {draft} {file}"
    return ConfigurationError(error.what, file=str(draft), line=error.line, mend=mend)


def _may_write(asker: Asker, file: Path, *, force: bool) -> bool:
    if not file.parent.is_dir():
        raise ConfigurationError("there is no such folder", file=str(file.parent), mend="make it, or choose another")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        mend = "begin with sudo, or choose another --file"
        raise ConfigurationError("this user may not write here", file=str(file.parent), mend=mend)
    if not file.exists() or force:
        return True
    if not asker.interactive:
        raise ConfigurationError("is there already", file=str(file), mend="give --force, or another --file")
    why = "It is kept beside the new one, as .bak."
    return asker.yes("overwrite", f"{file} is there already. Write it anew", why, default=False)


def _ask(asker: Asker, options: argparse.Namespace) -> Plan:
    from agent.commissioning import answers
    from agent.commissioning.init_machine import ask_products, ask_states
    from agent.commissioning.plan import SERVICE_FOLDER, Plan, is_of_service

    if asker.interactive:
        asker.say("Set up this gateway. Enter takes what stands in [brackets]; Ctrl-C ends it, nothing is written.")
    asker.heading("This gateway")
    gateway = asker.ask("gateway-id", "Gateway's name", "The hub knows it by this; the scheme may have given one.",
                        answers.this_name(), answers.name)  # fmt: skip
    site = asker.ask("site", "Site", "Enterprise and place. It stands in every signed record.", "my plant",
                     answers.words)  # fmt: skip
    hub = asker.ask("hub", "Hub's address", "Where this gateway enrols, once. The scheme gives it; none for now.",
                    "", answers.hub_url)  # fmt: skip
    host, port, tls = asker.ask("broker", "MQTT broker", "Where signed records are sent; port 8883 is with TLS.",
                                "127.0.0.1:1883", answers.broker)  # fmt: skip
    asker.heading("The line")
    line = asker.ask("line", "Line's short name", "It stands in topics and records.", "line1", answers.name)
    name = asker.ask("name", "Line's name", "As people call it, on pages and reports.", line, answers.words)
    zone = asker.ask("timezone", "Time zone", "Shifts and days are counted in it.", answers.this_zone(), answers.zone)
    plan = Plan(gateway, site, hub, host, port, tls, line, name, zone)
    if is_of_service(options.file):
        plan.state_folder = SERVICE_FOLDER
    default = "modbus" if options.host else "opcua"
    choices = [("opcua", "OPC UA, opc.tcp://…"), ("modbus", "Modbus TCP or RTU")]
    protocol = asker.choose("protocol", "The PLC speaks", "Both are only ever read.", choices, default)
    values = _opcua(asker, plan, options) if protocol == "opcua" else _modbus(asker, plan)
    if plan.machine == "values":
        ask_states(asker, plan, values.get("state"))
    ask_products(asker, plan, options.product, values.get("product"))
    fastest = min((Decimal(cycle) for _, _, cycle in plan.products if cycle), default=None)
    limit = math.ceil(3600 / fastest * Decimal("1.25") / 100) * 100 if fastest else 10_000
    why = "More than the line can ever make. It tells a counter's roll-over from a reset."
    plan.max_pieces_per_hour = asker.ask("max-pieces-per-hour", "Most pieces an hour", why, str(limit),
                                         answers.number(1, 10_000_000))  # fmt: skip
    why = "When the line is meant to run, on every day. Days, breaks and holidays can be added in the file."
    plan.shifts = asker.ask("shifts", "Shifts", why, "06:00-14:00,14:00-22:00,22:00-06:00", answers.shifts)
    return plan


def _opcua(asker: Asker, plan: Plan, options: argparse.Namespace) -> dict[str, int | str]:
    """What the picked nodes say now, by role: whole numbers and texts."""
    from agent.commissioning.guess import guesses
    from agent.commissioning.init_machine import ask_machine
    from agent.commissioning.init_opcua import ask_nodes, ask_opcua
    from agent.commissioning.plan import needed, roles
    from agent.commissioning.tree import plain

    space = ask_opcua(asker, plan, options.file.resolve().parent)
    likely = guesses(space.all())
    default = "pieces"
    if likely.get("state"):
        default = "packml" if likely["state"][0].name == "StateCurrent" else "values"
    elif likely.get("running"):
        default = "running"
    ask_machine(asker, plan, default)
    first = needed(plan.machine)
    picked = ask_nodes(asker, plan, space, first, [role for role in roles(plan.machine) if role not in first])
    said = {role: plain(node.raw) for role, node in picked.items()}
    return {role: value for role, value in said.items() if isinstance(value, int | str)}


def _modbus(asker: Asker, plan: Plan) -> dict[str, int | str]:
    from agent.commissioning.init_machine import ask_machine
    from agent.commissioning.init_modbus import ask_modbus, ask_registers
    from agent.commissioning.plan import needed, roles

    peer = ask_modbus(asker, plan)
    ask_machine(asker, plan, "values")
    first = needed(plan.machine)
    return {**ask_registers(asker, plan, peer, first, [role for role in roles(plan.machine) if role not in first])}


def _finish(asker: Asker, file: Path) -> None:
    from agent.commissioning.look import look
    from agent.commissioning.plan import is_of_service
    from agent.config import load

    asker.heading("What it sees now")
    configuration = load(file)
    show_seen(asker, configuration, asyncio.run(look(configuration)))
    asker.say(f"\nwrote {file}", "bold green")
    asker.say("next (the scheme gives the token):")
    # The service's files must belong to its user: what root makes it cannot read.
    service = is_of_service(file)
    user = "sudo -u linetally-agent " if service else ""
    asker.say(f"  {user}linetally-agent enrol --token TOKEN --config {file}")
    asker.say(f"  {user}linetally-agent doctor --config {file}")
    asker.say("  sudo systemctl enable --now linetally-agent" if service else f"  linetally-agent run --config {file}")


def show_seen(asker: Asker, configuration: AgentConfiguration, seen: object) -> None:
    """Each tag with its value now."""
    from rich.table import Table
    from rich.text import Text

    from agent.commissioning.look import Seen

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    assert isinstance(seen, list)
    for each in seen:
        assert isinstance(each, Seen)
        if each.role:
            value = Text(each.trouble or each.value, "red" if each.trouble else "bold")
            table.add_row(each.role, value, Text(each.where, "dim"))
        else:
            table.add_row("", Text(each.trouble, "yellow"), "")
    asker.console.print(table)
