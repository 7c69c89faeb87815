"""`linetally-agent`: the command line of the gateway.

Decides the commands, their options and exit codes: 0 good, 1 the answer is no, 2 used or configured wrongly.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from protocols.errors import ConfigurationError, LinetallyError

_DESCRIPTION = """\
Reads the PLCs of production lines, measures OEE and throughput, signs what it measured and sends it to the hub.
It only reads: it can never write to a PLC.

examples:
  linetally-agent init
      begin here: asks, tries, and writes the configuration
  linetally-agent check --config agent.toml
      is the configuration right, and what would be measured?
  linetally-agent doctor --config agent.toml
      is everything well that a gateway needs, and if not, how is it mended?
  linetally-agent enrol --hub https://hub.example.org --token TOKEN --config agent.toml
      once: make this gateway's key and show it to the hub
  linetally-agent run --config agent.toml
      measure, until Ctrl-C
  linetally-agent status --config agent.toml
      what was measured, and what the hub has not confirmed yet
  linetally-agent amend --help
      correct a stop's reason or the rejects of a lot, afterwards
  linetally-agent raw --help
      raw samples of some minutes, for an audit
  linetally-agent simulate --plant plant.toml
      a simulated plant, to try all this without a PLC

A configuration to begin with: deploy/examples/agent.toml. Its reference: docs/agent.md.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command in `arguments` (those of the process when None)."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser(words[0] if words else "").parse_args(words)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except ConfigurationError as error:
        _say(error)
        return 2
    except LinetallyError as error:
        _say(error)
        return 1
    except PermissionError as error:  # as whoever looks after the gateway sees it who is not the agent's user
        _say(_forbidden(error, words[0]))
        return 2
    except BrokenPipeError:  # whoever reads has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    return code


def _forbidden(error: PermissionError, command: str) -> ConfigurationError:
    from agent.keys import owner_of

    owner = owner_of(Path(error.filename)) if error.filename else "linetally-agent"
    mend = f"run it as the agent's user: sudo -u {owner} linetally-agent {command} …"
    return ConfigurationError("this user may not open it", file=error.filename, mend=mend)


def _say(error: LinetallyError) -> None:
    import logging

    from agent.journal import is_journal, shown

    print(shown(f"linetally-agent: {error}", logging.ERROR, journal=is_journal()), file=sys.stderr)


def _parser(command: str) -> argparse.ArgumentParser:
    """What a command line may be that begins with `command`."""
    parser = _Parser("linetally-agent", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    _add(commands, "run", "measure, until Ctrl-C", _RUN, _run)
    _add(commands, "check", "check the configuration, and say what it would measure", _CHECK, _check)
    enrol = _add(commands, "enrol", "make this gateway's key and show it to the hub, once", _ENROL, _enrol)
    enrol.add_argument("--hub", metavar="URL", help="the hub's address (hub.url of the configuration)")
    enrol.add_argument("--token", required=True, help="the one-time token from the secretariat")
    rotate = _add(commands, "rotate", "give this gateway a new key", _ROTATE, _rotate)
    rotate.add_argument("--request", type=Path, metavar="FILE", help="write the request there (default: ID.rotation)")
    rotate.add_argument("--finish", action="store_true", help="the scheme has signed it: use the new key from now on")
    status = _add(commands, "status", "what was measured, and what waits for a receipt", _STATUS, _status)
    status.add_argument("--json", action="store_true", help="for scripts")
    if command not in commands.choices:  # theirs are modules of their own: a gateway that starts loads what it runs
        _add_others(commands)
    return parser


def _add_others(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from agent import amend, certificates_command, commissioning, definition_command, raw_command
    from agent.simulator import command as simulate

    amend.add_parser(commands)
    raw_command.add_parser(commands)
    certificates_command.add_parser(commands)
    definition_command.add_parser(commands)
    commissioning.add_parsers(commands)
    simulate.add_parser(commands)


_RUN = """\
Measure every line of the configuration, and send signed records to the hub. Without broker or hub it measures on
and keeps the records; a PLC that is off becomes unknown time. Ctrl-C or SIGTERM ends it, nothing is lost.

examples:
  linetally-agent run --config agent.toml
  linetally-agent run --config history.toml      (protocol = "replay": a simulated history, then it ends)
"""
_CHECK = """\
Check a configuration without running it.

examples:
  linetally-agent check --config agent.toml
"""
_ENROL = """\
Make this gateway's key, if it has none, and show it to the hub with the token that the secretariat gave. Then
compare the fingerprint with the one that the hub shows, by telephone if need be; a person there approves it.

examples:
  linetally-agent enrol --hub https://hub.example.org --token 4f1c… --config agent.toml
"""
_ROTATE = """\
Give this gateway a new key. It is made here; the request carries the signatures of both keys, and the scheme signs it
into the log with `linetally-hub gateway rotate`. Then stop the agent, run --finish, and start it again.

examples:
  linetally-agent rotate --config agent.toml --request GW-07.rotation
  linetally-agent rotate --config agent.toml --finish
"""
_STATUS = """\
What the spool says; works beside a running agent. Exit 1 when the hub refuses records, or its log
contradicts what this gateway has verified.

examples:
  linetally-agent status --config agent.toml
  linetally-agent status --config agent.toml --json
"""


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    description: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=help_text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    parser.set_defaults(run=run)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}\n  see: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _run(options: argparse.Namespace) -> int:
    gc.disable()  # until `app` has started: to look through what is only just loaded is a tenth of a start
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads for matrices; there are none here
    from agent import app
    from agent.config import load

    app.configure_logging()
    return asyncio.run(app.run(load(options.config)))


def _check(options: argparse.Namespace) -> int:
    from agent.config import load
    from agent.config_opcua import OpcuaSource
    from agent.keys import KEY_FILE, load_key
    from protocols.wire.topics import operator_topic

    configuration = load(options.config)
    print(f"gateway {configuration.gateway_id}, {configuration.site}")
    broker = configuration.broker
    print(f"broker {broker.host}:{broker.port}{' with TLS' if broker.tls else ''}")
    window_s, interval_s = configuration.window_ms // 1000, configuration.interval_ms // 1000
    print(f"windows of {window_s} s, a signed statement every {interval_s} s")
    if configuration.operator.mqtt:
        print(f"operators are heard on {operator_topic(configuration.gateway_id)}: the broker's ACL decides who may")
    for line in configuration.lines:
        measured = line.configuration
        tags = ", ".join(tag.role.name.lower() for tag in line.tags)
        print(f"\nline {measured.line_id}: {measured.name}")
        print(f"  {measured.source['protocol']}: {tags}")
        if isinstance(line.source, OpcuaSource):
            print(f"  {line.source.endpoint}: {line.source.security_words}")
            if line.source.security_warning:
                print(f"  warning: {line.source.security_warning}")
        products = ", ".join(
            f"{p.name} ({f'{p.ideal_cycle_ns / 1e9:g} s' if p.ideal_cycle_ns else 'no ideal cycle'})"
            for p in measured.products
        )
        print(f"  products: {products}")
        shifts = ", ".join(shift.name for shift in measured.calendar.shifts) or "none: all time is planned"
        print(f"  shifts ({measured.calendar.timezone}): {shifts}")
        print(f"  {measured.definition.words}")
    if (configuration.state_folder / KEY_FILE).exists():
        load_key(configuration.state_folder)
        print("\nthe gateway's key is there")
    else:
        print("\nthis gateway has no key yet: linetally-agent enrol --help")
    return 0


def _enrol(options: argparse.Namespace) -> int:
    from agent.config import load
    from agent.enrol import enrol

    configuration = load(options.config)
    url = options.hub or configuration.hub_url
    if url is None:
        raise ConfigurationError("no hub is given", file=str(options.config), mend="add --hub URL, or hub.url")
    enrolled = enrol(configuration, url, options.token)
    print(f"gateway {enrolled.gateway_id} is enrolled, {enrolled.state}")
    print(f"fingerprint of its key: {enrolled.fingerprint}")
    if enrolled.state != "active":
        print("compare it with the one that the hub shows; until someone there approves it, records wait here")
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from agent import rotate
    from agent.config import load

    configuration = load(options.config)
    if options.finish:
        print(f"the new key is in use: {rotate.finish(configuration)}")
        return 0
    file = options.request or Path(f"{configuration.gateway_id}.rotation")
    print(f"fingerprint of the new key: {rotate.request(configuration, file)}")
    print(f"wrote {file}. Hand it to the scheme: linetally-hub gateway rotate --request {file}")
    print("every record must have its receipt before that; then stop the agent and run this with --finish")
    return 0


def _status(options: argparse.Namespace) -> int:
    from agent.config import load
    from agent.status import read_status, status_words

    status = read_status(load(options.config))
    print(json.dumps(status, indent=2, ensure_ascii=False) if options.json else status_words(status))
    return 1 if status["refused"] or status["log_alarm"] else 0


if __name__ == "__main__":
    sys.exit(main())
