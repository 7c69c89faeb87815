"""A report's context by hand, and a hub's folder with a real log and index, for the report's tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from hub.config import HubConfig
from hub.database import migrate, open_database
from hub.log.sequencer import Log
from hub.projections.projector import catch_up
from hub.registry import Enterprise, Line, Project, Registry
from hub.report.context import Chain, ConfigurationUsed, Evidence, GapReason, ReportContext
from protocols.evidence.record import Configurations, Measurement
from protocols.measurement.account import Window
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import LineConfiguration, Product
from protocols.measurement.outcome import Outcome, outcome
from protocols.measurement.plan import Plan
from tests.reference.outcome_windows import plan, windows
from tests.support.bundle import LOG, PROJECT, SCHEME, Site


def context(
    the_plan: Plan | None = None, line: list[Window] | None = None, *, simulated: bool = False
) -> tuple[ReportContext, dict[str, list[Window]]]:
    """A finished report's content, with its windows."""
    if the_plan is None:
        result, by_line = _ordinary()
        the_plan = result.plan
    else:
        by_line = {"filling": windows(the_plan) if line is None else line}
        result = outcome(the_plan, by_line)
    evidence = Evidence(
        origin="hub.example.org/linetally",
        size=12_345,
        root=bytes(range(32)),
        sha256=bytes(range(32, 64)),
        chains=[Chain("gw-07", b"12345678", 0, 8063, 12, 12_344)],
        proof_count=300,
        plan_index=11,
        first_reporting_index=5001,
        configurations=[ConfigurationUsed("filling", bytes(32), 3, the_plan.definition.words, True)],
        gap_reasons=[GapReason("filling", 0, 2**42, "link to the PLC was lost", 77)],
    )
    made = ReportContext(
        outcome=result,
        scheme_name="Manufacturing+: Pilot Manufacturing and Production Line Upgrade Support Scheme",
        scheme_name_zh="「製造+」：製造及生產線升級支援先導計劃",
        committee="Manufacturing+ Committee",
        secretariat="Hong Kong Productivity Council",
        enterprise="Harbour Foods Ltd",
        enterprise_zh="海港食品有限公司",
        agreement_number="MP/2026/017",
        approved_grant_hkd=250_000,
        project_cost_hkd=750_000,
        milestones=[{"title": "Installation", "planned": "2026-04-01", "done": None, "evidence": "photo"}],
        line_names={"filling": "Filling line 1"},
        simulated=["Filling line 1"] if simulated else [],
        evidence=evidence,
        made_ms=the_plan.reporting.to_ms,
    )
    return made, by_line


@cache
def _ordinary() -> tuple[Outcome, dict[str, list[Window]]]:
    by_line = {"filling": windows(plan())}
    return outcome(plan(), by_line), by_line


def hostile(text: str) -> tuple[ReportContext, dict[str, list[Window]]]:
    """A context in which every text that a person or a PLC can choose is `text`."""
    the_plan = plan(2, title=text, enterprise=text, ideal_cycles_ns={text: 500_000_000})
    line = [replace(w, product=text if w.product else "") for w in windows(the_plan)]
    made, by_line = context(the_plan, line)
    evidence = replace(made.evidence, gap_reasons=[GapReason("filling", 0, 2**42, text, 77)])
    words = {"scheme_name": text, "scheme_name_zh": text, "enterprise": text, "agreement_number": text}
    milestones = [{"title": text, "planned": text, "done": text, "evidence": text}]
    changed = replace(made, evidence=evidence, milestones=milestones, line_names={"filling": text}, **words)
    return changed, by_line


def site() -> Site:
    """`Site.ordinary` with whole configurations: the index reads them."""
    calendar = Calendar("Asia/Hong_Kong")
    whole = {
        line_id: LineConfiguration(line_id, line_id.title(), calendar, (Product(1, "Cola 330 ml", 500_000_000),), ())
        for line_id in Site.plan.line_ids
    }
    made = Site.ordinary()
    for i, (start_ms, end_ms, body) in enumerate(made.bodies):
        changed = body
        if isinstance(body, Configurations):
            changed = Configurations(tuple(line.to_data() for line in whole.values()))
        elif isinstance(body, Measurement):
            lines = (replace(line, configuration_hash=whole[line.line_id].hash) for line in body.lines)
            changed = Measurement(tuple(lines))
        made.bodies[i] = (start_ms, end_ms, changed)
    return made


def hub_folder(folder: Path, told: Site | None = None) -> HubConfig:
    """A hub that has taken in the records of `told` and is not running."""
    told = told or site()
    config = HubConfig(data=folder)
    engine = open_database(config.database_url)
    migrate(engine)
    registry = Registry(engine)
    registry.seed()
    registry.add_enterprise(Enterprise("acme", "Acme Foods", "頂峰食品"))
    registry.add_project(Project(PROJECT, SCHEME, "acme", "A faster filler", "MP/1", 250_000, 750_000))
    for line_id in told.plan.line_ids:
        registry.add_line(Line(line_id, "acme", PROJECT, line_id.title(), "Asia/Hong_Kong"))
    with Log.create(config.log_folder, LOG.name, LOG) as log:
        entries = [record.raw for record in (*told.root_chain(), *told.chain())]
        for first in range(0, len(entries), 7):
            log.append(entries[first : first + 7])
        catch_up(engine, log)
    engine.dispose()
    return config
