"""A hub's services over a temporary SQLite, and lines that speak: what the tests of API and pages stand on.

The registry, index, live bus, tables and the served log are the real ones; only the records behind the index are
not signed, since nothing here looks at signatures.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import FastAPI
from sqlalchemy import func, insert, select

from hub import database as db
from hub.api import create_app
from hub.config import Access, HubConfig, ServerConfig
from hub.live import LiveBus, LiveMessage
from hub.live_wire import parse_live
from hub.projections.index import Index
from hub.registry import ApiToken, Enterprise, Gateway, GatewayState, Line, Project, Registry, Role
from hub.services import HubStatus, Services
from protocols.errors import Refused
from protocols.measurement.account import ACCOUNT_FIELDS, CalendarKind, Category, TimeAccount, Window
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import LineConfiguration, Product
from protocols.measurement.definition import ISO
from protocols.measurement.plan import Period, Plan

NOW_MS = 1_795_240_800_000  # 2026-11-21 14:00 in Hong Kong
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ZONE = "Asia/Hong_Kong"
CHECKPOINT = (
    b"localhost/linetally\n3\nq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=\n\n\xe2\x80\x94 localhost/linetally AAAA\n"
)


class Clock:
    """The hub's wall clock; a test may hold it still or let it run."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


class ServedLog:
    """The reading side of a log of a fixed size."""

    def __init__(self) -> None:
        self.size = 3

    def checkpoint(self) -> bytes:
        return CHECKPOINT

    def entry(self, index: int) -> bytes:
        return b"entry %d" % index

    def inclusion_proof(self, index: int, size: int) -> Any:
        return []

    def consistency_proof(self, old_size: int, new_size: int) -> Any:
        return []


@dataclass
class Plant:
    """What a test holds: the services, and the tokens of everybody."""

    services: Services
    registry: Registry
    bus: LiveBus
    clock: Clock
    log: ServedLog
    tokens: dict[str, str]
    reports: list[str]
    app: FastAPI

    def say(self, message: Mapping[str, Any], gateway: str = "gw-07") -> None:
        self.bus.publish(spoken(message, gateway, self.clock()))


def make_plant(
    folder: Path, access: Access = Access.TOKEN, *, names: Mapping[str, str] | None = None, history: bool = False
) -> Plant:
    """Two enterprises, two schemes, two projects, three lines, two gateways, a token for each role."""
    engine = db.open_database(f"sqlite:///{folder / 'hub.sqlite'}")
    db.metadata.create_all(engine)
    registry = Registry(engine)
    registry.seed()
    config = HubConfig(data=folder, server=ServerConfig(access=access))
    clock, log, reports = Clock(), ServedLog(), list[str]()
    names = {"filling": "Filling", "packing": "Packing", "rival": "Rival line"} | dict(names or {})
    for owner, title in (("acme", "Acme Foods"), ("rival", "Rival Ltd")):
        registry.add_enterprise(Enterprise(owner, title))
    milestones = [
        {"title": "New filler installed", "planned": "2026-09-14", "done": "2026-09-20", "evidence": None},
        {"title": "Staff trained", "planned": "2026-10-01", "done": None, "evidence": None},
    ]
    registry.add_project(
        Project(
            "p-acme", "manufacturing-plus", "acme", "Faster filling line", "MP/2026/017", 250_000, 750_000, milestones
        )
    )
    registry.add_project(Project("p-rival", "nifs", "rival", "Rival project"))
    for line_id, owner in (("filling", "acme"), ("packing", "acme"), ("rival", "rival")):
        registry.add_line(Line(line_id, owner, f"p-{owner}", names[line_id], ZONE, simulated=owner == "acme"))
    with engine.begin() as connection:
        for number, (gateway, owner, lines) in enumerate(
            (("gw-07", "acme", ["filling", "packing"]), ("gw-99", "rival", ["rival"]))
        ):
            connection.execute(
                insert(db.gateway).values(
                    id=gateway, enterprise_id=owner, project_id=f"p-{owner}", kid=bytes([number]) * 8,
                    public_key=bytes([number]) * 32, fingerprint="9f3c 11ab 77e0 42d5", state="active", lines=lines,
                    created_ms=NOW_MS - DAY_MS, approved_ms=NOW_MS - DAY_MS,
                )
            )  # fmt: skip
            connection.execute(
                insert(db.receipt).values(kid=bytes([number]) * 8, sequence=411, leaf_index=2, time_ms=NOW_MS - 9_000)
            )
        configuration = LineConfiguration(
            "filling", "Filling", Calendar(ZONE), (Product(1, "A", 1_500_000_000), Product(2, "B", 1_500_000_000)), ()
        )
        connection.execute(
            insert(db.configuration).values(
                line_id="filling", hash=configuration.hash, data=configuration.to_data(), leaf_index=0
            )
        )
        if history:
            _history(connection, configuration.hash)
    scopes: dict[str, tuple[Role, dict[str, Any]]] = {
        "manufacturer": (Role.MANUFACTURER, {"enterprises": ["acme"]}),
        "rival": (Role.MANUFACTURER, {"enterprises": ["rival"]}),
        "lost": (Role.MANUFACTURER, {}),
        "secretariat": (Role.SECRETARIAT, {"schemes": ["manufacturing-plus"]}),
        "committee": (Role.COMMITTEE, {"schemes": ["manufacturing-plus"]}),
        "auditor": (Role.AUDITOR, {"schemes": ["manufacturing-plus"]}),
        "chief-auditor": (Role.AUDITOR, {}),
        "operator": (Role.OPERATOR, {}),
    }
    tokens = {
        name: registry.issue_api_token(ApiToken(name, role, scope, NOW_MS + DAY_MS))
        for name, (role, scope) in scopes.items()
    }
    tokens["expired"] = registry.issue_api_token(ApiToken("old", Role.OPERATOR, {}, NOW_MS))

    def write_report(project_id: str) -> Path:
        reports.append(project_id)
        config.reports_folder.mkdir(exist_ok=True)
        path = config.reports_folder / f"{project_id}-{len(reports)}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("report.json", json.dumps({"project": project_id}))
            archive.writestr("report.pdf", b"%PDF-1.7\n")
        return path

    def enrol(request: Mapping[str, Any]) -> Gateway:
        if request.get("token") != "once":
            raise Refused("token", "this enrolment token is not known, was used, or has expired")
        return Gateway("gw-10", "acme", "p-acme", b"k" * 8, b"p" * 32, "aaaa bbbb", GatewayState.PENDING, (), NOW_MS)

    services = Services(
        config=config, engine=engine, registry=registry, log=log, index=Index(engine), live=(bus := LiveBus()),
        status=lambda: HubStatus(NOW_MS - HOUR_MS, log.size, True, NOW_MS, 3, 0, 0, 0, ("Gateway gw-99 is silent.",)),
        enrol=enrol, write_report=write_report, log_vkey="localhost/linetally+00000000+AA==", now_ms=clock,
    )  # fmt: skip
    return Plant(services, registry, bus, clock, log, tokens, reports, create_app(services))


def window_row(line_id: str, window: Window, configuration_hash: bytes, *, leaf_index: int = 2) -> dict[str, Any]:
    """The row of `window` as the projector would write it."""
    day, _, shift = window.shift.rpartition("/")
    return {
        "line_id": line_id, "start_ms": window.start_ms, "end_ms": window.end_ms, "kind": int(window.kind),
        "product": window.product, "order_name": window.order, "shift": window.shift, "business_day": day,
        "shift_name": shift, "configuration_hash": configuration_hash, "leaf_index": leaf_index,
        "changed_index": leaf_index, "version": 1, **dict(zip(ACCOUNT_FIELDS, window.account.as_ints(), strict=True)),
    }  # fmt: skip


def fill_hours(connection: Any) -> None:
    """The table `hourly` from the table `window`, added up by the database."""
    w = db.window.c
    hour = (w.start_ms - w.start_ms % HOUR_MS).label("hour_ms")
    keys = [w.line_id, hour, *(w[name] for name in db.HOURLY_KEYS), w.configuration_hash]
    query = select(*keys, *(func.sum(w[name]).label(name) for name in ACCOUNT_FIELDS)).group_by(*keys)
    connection.execute(insert(db.hourly).from_select([column.name for column in query.selected_columns], query))


def _history(connection: Any, configuration_hash: bytes) -> None:
    """Eight weeks before and eight after an upgrade, two shifts a day of the line `filling`, and the plan."""
    luck = random.Random(7)
    first = NOW_MS - 126 * DAY_MS
    base, mid, end = first + 56 * DAY_MS, first + 70 * DAY_MS, first + 126 * DAY_MS
    origin = datetime.fromtimestamp(first / 1000, ZoneInfo(ZONE))
    rows = []
    for day in range(126):
        for shift in range(3):
            start = first + day * DAY_MS + shift * 8 * HOUR_MS
            after = start >= base
            length = 8 * HOUR_MS
            unknown = 20 * 60_000 if luck.random() < 0.1 else 0
            minor = int(length * luck.uniform(0.05, 0.08) * (0.6 if after else 1))
            failure = int(length * luck.uniform(0.02, 0.12) * (0.7 if after else 1))
            setup = int(length * 0.05)
            category = [0] * len(Category)
            category[Category.UNKNOWN], category[Category.MINOR_STOP] = unknown, minor
            category[Category.FAILURE], category[Category.SETUP] = failure, setup
            category[Category.PRODUCING] = length - sum(category)
            pieces = int(category[Category.PRODUCING] / 1500 * luck.uniform(0.86, 0.93) * (1.08 if after else 1))
            good = int(pieces * luck.uniform(0.975, 0.99))
            account = TimeAccount(
                tuple(category), length, pieces, good, pieces - good,
                standard_total_ns=pieces * 1_500_000_000, standard_good_ns=good * 1_500_000_000, transition_count=40,
            )  # fmt: skip
            name = f"{(origin + timedelta(days=day)):%Y-%m-%d}/{'ABC'[shift]}"
            product = "A" if day % 7 < 5 else "B"
            window = Window(start, start + length, CalendarKind.SCHEDULED, product, f"WO-{day // 7}", name, account)
            rows.append(window_row("filling", window, configuration_hash))
    connection.execute(insert(db.window), rows)
    fill_hours(connection)
    plan = Plan(
        "p-acme", "manufacturing-plus", "Faster filling line", "Acme Foods", ("filling",), Period(first, base),
        Period(base, mid), Period(mid, end), {"A": 1_500_000_000, "B": 1_500_000_000}, timezone=ZONE,
    )  # fmt: skip
    connection.execute(insert(db.plan).values(leaf_index=1, project_id="p-acme", data=plan.to_data(), hash=plan.hash))


def wire(*told: Mapping[str, Any], **changes: Any) -> bytes:
    """A gateway's live message of the lines in `told`, each as `live_message` gives it."""
    of_gateway = ("v", "time_ms", "interval_s", "simulated", "receipt", "spool_depth")
    brought = {"definition_words", "definition_data"}
    message = {name: told[0][name] for name in of_gateway if name in told[0]} | {
        "definitions": {
            each["definition"]: {"words": each["definition_words"], "data": each["definition_data"]} for each in told
        },
        "lines": [
            {name: value for name, value in each.items() if name not in {*of_gateway, *brought}} for each in told
        ],
    }
    return json.dumps(message | changes).encode()


def spoken(told: Mapping[str, Any], gateway: str, received_ms: int) -> LiveMessage:
    """What the hub makes of it."""
    (line,) = parse_live(wire(told), lambda _: True).lines
    return LiveMessage(gateway, received_ms, line)


def live_message(line: str = "filling", *, tick: int = 0, **changes: Any) -> dict[str, Any]:
    """What a gateway says of a line, 5 h 40 min into an eight-hour shift; `tick` seconds later."""
    now = NOW_MS + tick * 1000
    start = NOW_MS - 340 * 60_000
    runs = [
        (0, "SETUP"), (14, "PRODUCING"), (63, "MINOR_STOP"), (66, "PRODUCING"), (104, "FAILURE"), (121, "PRODUCING"),
        (168, "RESTRAINT"), (176, "PRODUCING"), (199, "UNKNOWN"), (203, "PRODUCING"), (240, "PLANNED_DOWN"),
        (270, "PRODUCING"), (301, "HELD"), (306, "PRODUCING"), (330, "MINOR_STOP"), (332, "PRODUCING"),
    ]  # fmt: skip
    ribbon = [(start + at * 60_000, what) for at, what in runs]
    ends = [at for at, _ in ribbon[1:]] + [now]
    category = [0] * len(Category)
    for (at, what), end in zip(ribbon, ends, strict=True):
        category[Category[what]] += end - at
    planned = sum(category) - category[Category.PLANNED_DOWN]
    good = 9_712 + tick
    shift = TimeAccount(
        tuple(category), planned, good + 148, good, 148, 0, 0,
        standard_total_ns=(good + 148) * 1_500_000_000, standard_good_ns=good * 1_500_000_000,
    )  # fmt: skip
    recent = TimeAccount(
        (0, 280_000, 0, 0, 20_000, 0, 0, 0, 0, 0, 0), 300_000, 178, 176, 2, 0, 0,
        standard_total_ns=178 * 1_500_000_000, standard_good_ns=176 * 1_500_000_000,
    )  # fmt: skip
    stops = [
        {"start_ms": start + a * 60_000, "end_ms": start + b * 60_000, "category": c, "reason": r}
        for a, b, c, r in (
            (330, 332, "MINOR_STOP", "Bottle fallen at infeed"), (301, 306, "HELD", "Operator hold"),
            (168, 176, "RESTRAINT", "Packing blocked"), (104, 121, "FAILURE", "Capper torque fault"),
            (63, 66, "MINOR_STOP", ""),
        )
    ]  # fmt: skip
    return {
        "v": 1, "line": line, "name": {"filling": "Filling", "packing": "Packing"}.get(line, line), "time_ms": now,
        "state": "EXECUTE", "category": "PRODUCING", "since_ms": start + 332 * 60_000, "product": "Lemon tea 500 ml",
        "order": "WO-20417", "shift": "2026-11-21/A", "shift_start_ms": start, "shift_end_ms": start + 8 * HOUR_MS,
        "shift_account": list(shift.as_ints()), "window_account": list(recent.as_ints()), "target_shift": 18_000,
        "target_now": 12_240, "pieces_per_hour": 2_112.0 + 60 * ((tick * 7919) % 11 - 5), "ribbon": ribbon,
        "stops": stops, "simulated": True, "receipt": {"sequence": 411, "time_ms": now - 9_000}, "spool_depth": 0,
        "definition": ISO.hash.hex(), "definition_words": ISO.words, "definition_data": ISO.to_data(),
    } | changes  # fmt: skip


@contextmanager
def serving(plant: Plant) -> Iterator[str]:
    """The real server on a free port of 127.0.0.1; gives its address, and ends it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(plant.app, log_level="warning", timeout_graceful_shutdown=2, ws="none"))

    def run() -> None:
        asyncio.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()
        plant.services.engine.dispose()
        assert not thread.is_alive(), "the server did not end"
