"""The demo's cast: whose lines, under which schemes, with which plan and gateways.

Decides the content of the demo's folder. Everything goes in as a user's would: by registry, root key and token.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from hub import enrolment
from hub.clock import now_ms
from hub.commands.workplace import load_root_key, log_body
from hub.config import load_config
from hub.database import open_database
from hub.registry import Enterprise, GatewayState, Line, Project, Registry
from protocols.errors import ConfigurationError, LinetallyError
from protocols.evidence.bodies import PlanStatement
from protocols.measurement.plan import Period, Plan

ZONE: Final = "Asia/Hong_Kong"
ENTERPRISE: Final = Enterprise(
    "harbour-foods", "Harbour Foods Ltd", "海港食品有限公司", "food manufacturing and processing"
)


def _milestone(title: str, planned: str, done: str, evidence: str) -> dict[str, str]:
    return {"title": title, "planned": planned, "done": done, "evidence": evidence}


PROJECTS: Final = (
    Project(
        id="NIFS-2026-031",
        scheme_id="nifs",
        enterprise_id=ENTERPRISE.id,
        title="Smart filling and packing lines",
        agreement_number="NIFS/031/26",
        approved_grant_hkd=4_800_000,
        project_cost_hkd=14_400_000,
        milestones=(_milestone("Gateway installed", "2026-10-15", "2026-10-12", "enrolment record"),),
    ),
    Project(
        id="MP-2026-014",
        scheme_id="manufacturing-plus",
        enterprise_id=ENTERPRISE.id,
        title="Servo upgrade of the moulding line",
        agreement_number="MP/014/26",
        approved_grant_hkd=250_000,
        project_cost_hkd=750_000,
        milestones=(
            _milestone("Baseline measured", "2026-08-24", "2026-08-24", "windows in the log"),
            _milestone("Servo drives installed", "2026-09-04", "2026-09-04", "acceptance sheet"),
            _milestone("Outcome measured", "2026-11-02", "2026-11-02", "windows in the log"),
        ),
    ),
)
LINES: Final = (
    Line("filling", ENTERPRISE.id, PROJECTS[0].id, "Filling line", ZONE, True, "Tai Po", "Bottling hall"),
    Line("packing", ENTERPRISE.id, PROJECTS[0].id, "Packing line", ZONE, True, "Tai Po", "Packing hall"),
    Line("moulding", ENTERPRISE.id, PROJECTS[1].id, "Injection moulding", ZONE, True, "Yuen Long", "Moulding"),
)
_PLAN_DAY: Final = "2026-06-22"
_HUB: Final = """\
# Made by `linetally-hub demo`. Every key, its default and its limits: docs/hub.md
data = "data"

[server]
port = {page}
access = "loopback"            # whoever is on this machine, and nobody else

[broker]
embedded = true
port = {broker}

[log]
origin = "localhost/linetally-demo"
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A demo's folder, ready to play."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "hub.toml"

    @property
    def history_done(self) -> bool:
        return (self.folder / "history-done").exists()

    def mark_history(self) -> None:
        (self.folder / "history-done").touch()


def prepare(folder: Path, fresh: bool, examples: Path, page: int, broker: int, opcua: int, modbus: int) -> Stage:
    """The folder with configurations, keys and registry; what a former run left stays. Raises ConfigurationError."""
    folder = folder.resolve()
    stage = Stage(folder)
    if fresh and stage.config.exists():
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not stage.config.exists() and any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty, and no demo's", mend="choose another: --folder DIR")
        stage.config.write_text(_HUB.format(page=page, broker=broker), "utf-8")
        shutil.copy(examples / "plant.toml", folder)
        for name in ("agent.toml", "history.toml"):
            text = (examples / name).read_text("utf-8")
            (folder / name).write_text(_adapted(text, page, broker, opcua, modbus), "utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the demo's folder cannot be written: {error}", mend="choose another: --folder DIR"
        ) from error
    _command("linetally-hub", "init", "--config", stage.config)
    engine = open_database(load_config(stage.config).database_url)
    try:
        registry = Registry(engine)
        if registry.enterprise(ENTERPRISE.id) is None:
            registry.add_enterprise(ENTERPRISE)
            for project in PROJECTS:
                registry.add_project(project)
            for line in LINES:
                registry.add_line(line)
            # The plan is in the log before anything is measured: nobody can choose the rules afterwards.
            signer = load_root_key(folder / "root.key")
            log_body(load_config(stage.config), engine, signer, PlanStatement(plan().to_data()), _ms(_PLAN_DAY))
    finally:
        engine.dispose()
    _command("linetally-hub", "policy", "--config", stage.config, "--output", folder / "policy.txt")
    return stage


def plan() -> Plan:
    """The history's plan: eight weeks before the upgrade, a commissioning week, eight weeks after it."""
    return Plan(
        project_id=PROJECTS[1].id,
        scheme=PROJECTS[1].scheme_id,
        title=PROJECTS[1].title,
        enterprise=ENTERPRISE.name,
        line_ids=(LINES[2].id,),
        baseline=Period(_ms("2026-06-29"), _ms("2026-08-24")),
        commissioning=Period(_ms("2026-08-24"), _ms("2026-09-07")),
        reporting=Period(_ms("2026-09-07"), _ms("2026-11-02")),
        ideal_cycles_ns={"Cap 38 mm": 7_500_000_000, "Cap 28 mm": 6_800_000_000, "Handle": 9_200_000_000},
        minimum_effect_permille=50,
        timezone=ZONE,
    )


def enrol_gateway(stage: Stage, gateway_id: str, agent_file: str, project_id: str, url: str) -> None:
    """Token, enrolment, approval: as three people would, once. The hub must be serving."""
    config = load_config(stage.config)
    engine = open_database(config.database_url)
    try:
        registry = Registry(engine)
        known = registry.gateway(gateway_id)
        if known is not None and known.state is GatewayState.ACTIVE:
            return
        token = enrolment.issue_token(engine, project_id, now_ms())
        _command("linetally-agent", "enrol", "--config", stage.folder / agent_file, "--hub", url, "--token", token)
        log_body(config, engine, load_root_key(stage.folder / "root.key"), enrolment.approval(registry, gateway_id))
    finally:
        engine.dispose()


def _adapted(text: str, page: int, broker: int, opcua: int, modbus: int) -> str:
    """An example with the demo's ports, and statements every few seconds, so that receipts can be watched."""
    text = text.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{page}")
    text = text.replace("port = 1883", f"port = {broker}").replace("127.0.0.1:4840", f"127.0.0.1:{opcua}")
    text = text.replace("port = 5020", f"port = {modbus}")
    text = re.sub(r"^poll_ms = 1000", "poll_ms = 5000", text, flags=re.M)
    text = re.sub(r"^window_s = 60 .*$", "window_s = 10", text, flags=re.M)
    return re.sub(r"^interval_s = 900.*$", "interval_s = 10", text, flags=re.M)


def _ms(day: str) -> int:
    return round(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


def _command(name: str, *arguments: object) -> None:
    argv = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if done.returncode:
        raise LinetallyError(f"{name} {arguments[0]} failed:\n{done.stderr.strip() or done.stdout.strip()}")
