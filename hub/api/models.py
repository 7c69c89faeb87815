"""The answers of the API: what each route gives, so that OpenAPI tells it.

Decides names and shapes. Every figure comes with its numerator and denominator, its coverage, and the hash of the
definition and configuration that it was measured under.
"""

from __future__ import annotations

from pydantic import Field

from hub.api.figures import Figures, Frozen, NamedFigure, Rate, Share


class Me(Frozen):
    """Who the caller is. A limit of null means: all."""

    name: str
    role: str
    schemes: list[str] | None
    enterprises: list[str] | None
    expires_ms: int | None


class Line(Frozen):
    """A registered line. `definition` and the hashes are null until its configuration is in the log."""

    id: str
    name: str
    timezone: str
    enterprise_id: str
    project_id: str | None
    simulated: bool
    site: str = Field(default="", description="where it stands in its enterprise; empty where nobody told")
    area: str = Field(default="", description="of the site")
    part_of: str | None = Field(default=None, description="of a machine that is measured apart: its line")
    machines: list[str] = Field(default=[], description="the machines that are part of it, measured apart")
    definition: str | None = None
    definition_hash: str | None = None
    configuration_hash: str | None = None
    first_ms: int | None = Field(default=None, description="start of the first window in the log")
    last_ms: int | None = Field(default=None, description="end of the last window in the log")


class FiguresRow(Frozen):
    """The figures of one line over the windows that begin in a stretch, e.g. one shift."""

    line_id: str
    key: list[str]
    start_ms: int
    end_ms: int
    figures: Figures
    every: list[NamedFigure] | None = Field(default=None, description="all figures, where they were asked for")


class LineFigures(Frozen):
    """`definition_hash` and `configuration_hash` are of the newest configuration; `configurations` names them all."""

    line_id: str
    definition: str | None
    definition_hash: str | None
    configuration_hash: str | None
    configurations: list[str]
    rows: list[FiguresRow]


class Amended(Frozen):
    """One change that came late. `change`: [[field, old, new], …]; of a stop's reason [old, new]."""

    leaf_index: int = Field(description="the record of the log that says so")
    start_ms: int = Field(description="of the window; of a reason when its stop began")
    end_ms: int
    kind: str
    change: list[str | list[str | int]]
    version: int = Field(description="of the window after it; 0 for a reason, or without effect")
    refusal: str = Field(description="why it has no effect; empty where it has")
    who: str
    why: str


class Milestone(Frozen):
    title: str
    planned: str | None = None
    done: str | None = None
    evidence: str | None = None


class ProjectSummary(Frozen):
    id: str
    title: str
    scheme_id: str
    scheme_name: str
    scheme_name_zh: str
    enterprise_id: str
    enterprise_name: str
    agreement_number: str | None
    approved_grant_hkd: int | None
    project_cost_hkd: int | None
    lines: list[str]


class Project(ProjectSummary):
    milestones: list[Milestone]
    gateways: list[str]
    plan_leaf_index: int | None = Field(default=None, description="where the evaluation plan stands in the log")
    plan_hash: str | None = None


class Gateway(Frozen):
    """A gateway and what the log last heard of it. `state`: pending, active or revoked."""

    id: str
    state: str
    fingerprint: str
    enterprise_id: str
    project_id: str
    lines: list[str]
    created_ms: int
    approved_ms: int | None
    last_sequence: int | None
    last_leaf_index: int | None
    last_receipt_ms: int | None


class Auditor(Frozen):
    """A key that signs audits and measures nothing. `audit_count`: its audits of its project that are in the log."""

    id: str
    state: str
    fingerprint: str
    enterprise_id: str
    project_id: str
    created_ms: int
    approved_ms: int | None
    audit_count: int


class Enrolled(Frozen):
    """The answer to an enrolment: pending until a person has compared the fingerprint and approved."""

    gateway_id: str
    state: str
    fingerprint: str
    log_key: str


class Sparkplug(Frozen):
    """Sparkplug messages since the start that were not used, gaps in their numbers, rebirths that were asked for."""

    malformed_count: int
    foreign_count: int
    gap_count: int
    rebirth_count: int


class HubState(Frozen):
    """How the hub is. `alarms` are whole sentences with what to do."""

    now_ms: int
    started_ms: int
    log_origin: str
    log_size: int
    log_vkey: str
    broker_connected: bool
    last_record_ms: int | None
    admitted_count: int
    duplicate_count: int
    refused_count: int
    fork_count: int
    alarms: list[str]
    sparkplug: Sparkplug | None = Field(None, description="null: the hub does not listen to it")


class Week(Frozen):
    """168 hours of the project's lines together, counted from their period's start.

    `period`: baseline, commissioning or reporting.
    """

    start_ms: int
    day: str = Field(description="the first day, in the plan's zone")
    period: str
    index: float | None = Field(description="good output in baseline standard time an hour; the baseline's is 100")
    good_per_hour: Rate
    coverage: Share


class Side(Frozen):
    """One side of the comparison."""

    start_ms: int
    end_ms: int
    planned_ms: int
    coverage: Share = Field(description="over all planned time, also where there is no window at all")
    gap_count: int
    figures: Figures


class Compared(Frozen):
    """A figure of the evaluation on both sides, as the report and the verdict tell it.

    `unit`: share (then in percent) or pieces/h. `change` and its interval are percent where `relative`, else points;
    null where a side is undefined or too much of it went unseen. One decimal each.
    """

    name: str
    unit: str
    relative: bool
    baseline: float | None
    reporting: float | None
    change: float | None
    low: float | None
    high: float | None


class VerdictReason(Frozen):
    """A stable code for machines and translations, and English words that tell the numbers."""

    code: str
    words: str


class Verdict(Frozen):
    """The outcome in numbers. Percentages of change; `word`: improved, not_shown, worsened or insufficient."""

    word: str
    change_percent: float | None
    low_percent: float | None
    high_percent: float | None
    level_percent: float
    reasons: list[VerdictReason]
    figures: list[Compared] = Field(description="the primary one first")


class ProjectOutcome(Frozen):
    """A project before and after. `missing` lists what there must be before a verdict: plan, lines, baseline …"""

    project_id: str
    as_of_log_size: int
    plan_leaf_index: int | None
    plan_hash: str | None
    missing: list[str]
    timezone: str
    installed_ms: int | None = Field(default=None, description="end of the baseline: the upgrade begins")
    baseline: Side | None
    reporting: Side | None
    verdict: Verdict | None
    weeks: list[Week]
    definition_hashes: list[str]
    configuration_hashes: list[str]


class ReportJob(Frozen):
    """A report under way or made. `state`: none, making, ready or failed. `log_size`: of the log that it covers."""

    state: str
    project_id: str
    log_size: int
    started_ms: int
    words: str = ""
    bundle: str | None = Field(default=None, description="where to download the ZIP")
    pdf: str | None = None
    sha256: str | None = None
