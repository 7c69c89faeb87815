"""`linetally-agent operator`: a small page on the gateway where people say why a line stood, and what was bad.

Decides the options, and how the page reaches the spool. A process of its own beside the agent: it can neither stop
measuring nor read a PLC.
"""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protocols.errors import ConfigurationError, Refused
from protocols.measurement.account import ACCOUNT_FIELDS

if TYPE_CHECKING:
    from agent.commissioning.operator_page import LineView, SentView
    from agent.commissioning.operator_server import Desk
    from agent.config import AgentConfiguration
    from agent.spool import Sender

_STOPS: Final = 20
_SENT: Final = 10
_REJECTS: Final = ACCOUNT_FIELDS.index("reject_count")
_DESCRIPTION = """\
Serve a page for operators, in English and Traditional Chinese: the last stops of each line, a reason for each, and
rejects that were found later. What is said becomes an amendment with the person's name; nothing measured is changed.

examples:
  linetally-agent operator --config agent.toml
      on this machine only: http://127.0.0.1:8480
  linetally-agent operator --config agent.toml --listen 192.168.0.5 --pin-file operator.pin
      for phones in the factory's network; everybody gives the PIN first. The file: 6 digits or more, chmod 600
  linetally-agent operator --config agent.toml --reasons reasons.txt
      a line for each reason that is offered for choice; others can be typed
All this can stand under [operator] of the configuration; as a service: linetally-operator.service (docs/deploy.md).
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "operator", help="a page for reasons and late rejects", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    parser.add_argument("--listen", metavar="ADDRESS", help="operator.listen (127.0.0.1); others need a PIN")
    parser.add_argument("--port", type=int, metavar="N", help="operator.port (8480); 0 takes a free one")
    parser.add_argument("--pin-file", type=Path, metavar="FILE", help="operator.pin_file: its first line is the PIN")
    parser.add_argument("--reasons", type=Path, metavar="FILE", help="operator.reasons_file: one a line")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from agent.commissioning.operator_server import OperatorServer
    from agent.config import load

    configuration = load(options.config)
    settings = configuration.operator
    listen = settings.listen if options.listen is None else options.listen
    port = settings.port if options.port is None else options.port
    pin_file = options.pin_file or settings.pin_file
    try:
        loopback = ipaddress.ip_address(listen).is_loopback
    except ValueError:
        raise ConfigurationError(f"--listen {listen}", mend="an IP address of this machine") from None
    pin = None if pin_file is None else read_pin(pin_file)
    if pin is None and not loopback:
        mend = "give --pin-file FILE (6 digits or more, chmod 600), or leave --listen out"
        raise ConfigurationError(f"{listen} can be reached by others, and there is no PIN", mend=mend)
    try:
        server = OperatorServer((listen, port), desk(configuration, options.reasons or settings.reasons_file), pin)
    except (OSError, OverflowError) as error:
        mend = "choose another --port, or stop what listens there"
        raise ConfigurationError(f"{listen}:{port} cannot be used: {error}", mend=mend) from error
    with server:
        host = f"[{listen}]" if ":" in listen else listen
        print(f"the operator's page: http://{host}:{server.server_port}   (Ctrl-C ends it)", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def read_pin(path: Path) -> str:
    """The first line of a file that nobody else may read. Raises ConfigurationError."""
    from agent.certificates import read_private_file

    lines = read_private_file(path).decode("utf-8", "replace").splitlines()
    if not lines or len(lines[0].strip()) < 6:
        raise ConfigurationError("is too short for a PIN", file=str(path), mend="6 digits or more in the first line")
    return lines[0].strip()


def desk(configuration: AgentConfiguration, reasons: Path | None) -> Desk:
    """What the page sees and does at this gateway's spool."""
    from zoneinfo import ZoneInfo

    from agent.amend_input import Said, line_of, queue, reason_amendment, reject_amendment
    from agent.commissioning.operator_server import Desk
    from agent.spool import KEPT_STOPS, Spool
    from agent.stops import meant, time_ms

    lines = [line.configuration for line in configuration.lines]

    def view() -> tuple[list[LineView], list[SentView]]:
        with Spool.open_read_only(configuration.state_folder) as spool:
            return _view(configuration, spool)

    def take(form: str, fields: Mapping[str, str]) -> None:
        if form not in ("/reason", "/rejects"):
            raise Refused("no-form", "there is no such form")

        def get(key: str) -> str:
            return fields.get(key, "")

        line = line_of(lines, get("line"))
        said = Said(get("who"), get("why"))
        with Spool.open_beside(configuration.state_folder) as spool:
            sender = _sender(fields)
            if spool.amendment_of(sender.id) is not None:
                return  # the button was pressed twice, or the browser sent it again
            if form == "/reason":
                stop = next((s for s in spool.stops(line.line_id, KEPT_STOPS) if str(s.start_ms) == get("stop")), None)
                if stop is None:
                    raise Refused("unknown-stop", "this gateway knows no such stop any more")
                amendment = reason_amendment(spool, line.line_id, meant(stop), get("reason"), said)
            else:
                zone = ZoneInfo(line.calendar.timezone)
                span = (time_ms("from", get("from"), zone), time_ms("to", get("to"), zone))
                amendment = reject_amendment(spool, line.line_id, span, _count(get("count")), said)
            queue(spool, amendment, sender)

    return Desk(view, take, _reasons(reasons))


def _view(configuration: AgentConfiguration, spool: object) -> tuple[list[LineView], list[SentView]]:
    from agent import amendments
    from agent.amend_input import standing_reason
    from agent.commissioning.operator_page import LineView, SentView
    from agent.spool import Spool
    from agent.stops import meant
    from protocols.measurement.amendment import ReasonChange

    assert isinstance(spool, Spool)
    lines = []
    for line in configuration.lines:
        stops = spool.stops(line.line_id, _STOPS)
        views = [(stop, standing_reason(spool, line.line_id, meant(stop))) for stop in stops]
        lines.append(LineView(line.line_id, line.configuration.name, line.configuration.calendar.timezone, views))
    zones = {line.line_id: line.configuration.calendar.timezone for line in configuration.lines}
    sent = []
    for queued in reversed(spool.amendments(_SENT)):
        found = amendments.from_bytes(queued.body)
        if isinstance(found.change, ReasonChange):
            span, reason, pieces = (found.change.stop_ms, found.change.stop_ms), found.change.new, None
        else:
            span, reason = (found.change[0].start_ms, found.change[-1].end_ms), ""
            pieces = sum(max(0, f.new - f.old) for w in found.change for f in w.fields if f.field == _REJECTS)
        zone = zones.get(found.line_id, "UTC")
        sent.append(SentView(found.line_id, zone, *span, reason, pieces, found.who, queued.state, queued.words))
    return lines, sent


def _sender(fields: Mapping[str, str]) -> Sender:
    """By what a form is known: the page that it came from, and all that was typed."""
    from agent.spool import Sender

    said = json.dumps({key: value for key, value in fields.items() if key != "token"}, sort_keys=True)
    digest = hashlib.sha256(said.encode()).digest()
    return Sender(f"page:{digest.hex()}", digest)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < len(text) < 9 or not int(text):
        raise Refused("bad-count", "the count is a whole number above 0")
    return int(text)


def _reasons(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line.strip()[:200] for line in path.read_text("utf-8").splitlines() if line.strip()][:200]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", file=str(path), mend="one reason a line, UTF-8") from error
