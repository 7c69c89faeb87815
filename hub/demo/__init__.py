"""`linetally-hub demo`: the whole of linetally on this machine, as the real commands would run it.

Decides the cast (a plant, a gateway for its live lines, a gateway that replays a project's history, the hub), the order
of the start and that everything ends with it. What each part does is decided in the parts.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hub.demo.cast import LINES, PROJECTS, Stage, enrol_gateway, prepare
from hub.demo.company import Company, Ended
from protocols.errors import ConfigurationError

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "deploy" / "examples"
START_S: Final = 60.0

_DESCRIPTION = """\
Run everything on this machine: a simulated plant (one line over OPC UA, one over Modbus TCP), an agent that reads it,
an MQTT broker, the hub and its pages. A second agent replays eighteen weeks of a third line, before and after an
upgrade, so that an outcome report can be made. Nothing leaves this machine, and Ctrl-C ends all of it.

examples:
  ./run demo
  ./run demo --port 9000            another port for the pages
  ./run demo --folder /tmp/demo     keep its data elsewhere; a second run goes on where the first ended
  ./run demo --fresh                forget the last run
"""


def add_parser(subparsers: Any) -> None:
    """Adds `demo`; its `run` default is `run` of this module."""
    parser = subparsers.add_parser(
        "demo",
        help="everything on this machine, with a simulated plant",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="begin anew: what the folder holds is deleted")
    parser.add_argument("--no-history", action="store_true", help="without the third line's history")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop by itself after N seconds")
    for name, port, what in _PORTS:
        parser.add_argument(f"--{name}", type=_port, default=port, metavar="PORT", help=f"{what}; default: %(default)s")
    parser.set_defaults(run=run)


_PORTS: Final = (
    ("port", 8765, "the pages"),
    ("broker-port", 18830, "the MQTT broker"),
    ("opcua-port", 48400, "the plant's OPC UA server"),
    ("modbus-port", 50200, "the plant's Modbus server"),
)


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError("a port from 1 to 65535")
    return value


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens, all on 127.0.0.1."""

    page: int
    broker: int
    opcua: int
    modbus: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.page}"


def run(args: argparse.Namespace) -> int:
    """0 after Ctrl-C or --seconds, 1 when a part ended by itself, 2 when it could not start."""
    ports = Ports(args.port, args.broker_port, args.opcua_port, args.modbus_port)
    _check_ports(args)
    if not EXAMPLES.is_dir():
        raise ConfigurationError(
            "the demo runs from a checkout of the repository", mend="git clone it, then ./run demo"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    began = time.monotonic()
    stage = prepare(args.folder, args.fresh, EXAMPLES, ports.page, ports.broker, ports.opcua, ports.modbus)
    company = Company(stage.folder / "logs")
    try:
        _play(args, ports, stage, company, stop, began)
    except Ended as ended:
        if not stop.is_set():
            print(f"\n{ended}", file=sys.stderr)
            return 1
    finally:
        print("\nStopping ...", end="", flush=True)
        company.stop()
        print(" everything has stopped.")
    return 0


def _play(
    args: argparse.Namespace, ports: Ports, stage: Stage, company: Company, stop: threading.Event, began: float
) -> None:
    print("linetally demo: a simulated plant, its agents and the hub, all on this machine\n")
    folder = stage.folder
    company.start(
        "plant", "linetally-agent", "simulate", "--plant", folder / "plant.toml", "--clock-file", folder / "clock.json",
        "--opcua-port", ports.opcua, "--modbus-port", ports.modbus,
    )  # fmt: skip
    company.start("hub", "linetally-hub", "serve", "--config", folder / "hub.toml")
    _until(company, stop, lambda: _answers(ports.url), "the hub's page")
    print(f"  plant    OPC UA 127.0.0.1:{ports.opcua} (filling), Modbus TCP 127.0.0.1:{ports.modbus} (packing)")
    print(f"  hub      {ports.url}, broker 127.0.0.1:{ports.broker}, data in {folder}")
    enrol_gateway(stage, "GW-01", "agent.toml", PROJECTS[0].id, ports.url)
    company.start("agent", "linetally-agent", "run", "--config", folder / "agent.toml")
    live = [line.id for line in LINES if line.project_id == PROJECTS[0].id]
    _until(company, stop, lambda: all(_answers(f"{ports.url}/api/v1/lines/{id_}/live") for id_ in live), "live figures")
    print(f"  live     both lines are on the page, {time.monotonic() - began:.0f} s after the start\n")
    print(f"  Open {ports.url}      Ctrl-C ends everything\n", flush=True)
    history = not args.no_history and not stage.history_done
    if history:
        enrol_gateway(stage, "GW-HISTORY", "history.toml", PROJECTS[1].id, ports.url)
        company.start("history", "linetally-agent", "run", "--config", folder / "history.toml", may_end=True)
    elif stage.history_done:
        _say_report(ports, stage)
    end = None if args.seconds is None else time.monotonic() + args.seconds
    shown = -1
    while not stop.wait(0.25) and (end is None or time.monotonic() < end):
        company.check()
        if not history:
            continue
        done = company.percent("history")
        if done != shown:
            shown = done
            bar = "#" * (done // 5)
            print(f"\r  history  eighteen weeks of line moulding  [{bar:<20}] {done:3d} %", end="", flush=True)
        if company.ended("history"):
            history = False
            stage.mark_history()
            print(f"\r  history  eighteen weeks of line moulding are in the log{'':20}\n")
            _say_report(ports, stage)


def _say_report(ports: Ports, stage: Stage) -> None:
    print(f"  Outcome  {ports.url}/projects/{PROJECTS[1].id}   (Make outcome report), or:")
    print(f"    .venv/bin/linetally-hub report {PROJECTS[1].id} --config {stage.folder}/hub.toml --out outcome.zip")
    print(f"    .venv/bin/linetally-verify outcome.zip --policy {stage.folder}/policy.txt\n", flush=True)


def _until(company: Company, stop: threading.Event, true: Callable[[], bool], what: str) -> None:
    """Waits until `true()`. Raises Ended when a part ends, the user stops, or it takes too long."""
    deadline = time.monotonic() + START_S
    while not true():
        company.check()
        if stop.wait(0.1):
            raise Ended("stopped")
        if time.monotonic() > deadline:
            raise Ended(f"{what}: not there after {START_S:.0f} s; see {company.folder}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own address)
            answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError, json.JSONDecodeError):
        return False
    return True


def _check_ports(args: argparse.Namespace) -> None:
    for name, _, what in _PORTS:
        port = getattr(args, name.replace("-", "_"))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise ConfigurationError(
                    f"port {port} ({what}) cannot be used: {error.strerror}", mend=f"choose another: --{name} PORT"
                ) from error
