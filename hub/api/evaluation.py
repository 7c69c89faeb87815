"""A project's outcome as the page shows it, computed from the index by the same code as the report.

Decides what is missing before there can be a verdict, and the weekly series of the chart. The method and the verdict
are `protocols.measurement.outcome`'s. A result is kept until a new window falls into the plan's periods.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from hub import database as db
from hub.api import catalogue, models
from hub.api.figures import Share, Undefined, figures, rate, share
from hub.projections.columns import LineColumns
from hub.projections.index import IndexedPlan
from hub.services import Services
from protocols.errors import Malformed
from protocols.measurement import ratios
from protocols.measurement.outcome import Figure, Finding, Outcome, outcome_of
from protocols.measurement.periods import WEEK_MS, PeriodSums, period_sums_of
from protocols.measurement.plan import Period, Plan
from protocols.measurement.rounding import rounded

KEPT: Final = 64

_WORD: Final = {
    Finding.IMPROVED: "improved",
    Finding.NOT_SHOWN: "not_shown",
    Finding.WORSENED: "worsened",
    Finding.INSUFFICIENT: "insufficient",
}


class Evaluations:
    """Computed outcomes, the newest of each project. Thread-safe; one project is computed once at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_project: dict[str, threading.Lock] = {}
        self._kept: dict[str, tuple[object, models.ProjectOutcome]] = {}

    def get(self, services: Services, project: models.Project) -> models.ProjectOutcome:
        """The outcome of a project. Takes seconds when windows are new: call it in a worker thread."""
        with self._lock:
            turn = self._of_project.setdefault(project.id, threading.Lock())
        with turn:
            plan = binding_plan(services, project.id)
            key = _state(services, plan)
            kept = self._kept.get(project.id)
            if kept is None or kept[0] != key:
                kept = (key, evaluate(services, project, plan))
                with self._lock:
                    if len(self._kept) >= KEPT:
                        self._kept.pop(next(iter(self._kept)))
                    self._kept[project.id] = kept
        return kept[1].model_copy(update={"as_of_log_size": services.index.size()})


def binding_plan(services: Services, project_id: str) -> tuple[IndexedPlan, Plan] | None:
    """The first plan that the log holds for a project: a later one could be chosen by its result.

    The rule is `hub.report.outcome.binding_plan`'s, which is not imported here because it brings the PDF maker along.
    """
    for found in services.index.plans(project_id):
        try:
            return found, Plan.from_data(found.data)
        except Malformed:
            continue
    return None


def _state(services: Services, plan: tuple[IndexedPlan, Plan] | None) -> object:
    if plan is None:
        return None
    t, rules = db.window.c, plan[1]
    query = select(func.count(), func.max(t.changed_index)).where(
        t.line_id.in_(rules.line_ids), t.start_ms >= rules.baseline.from_ms, t.start_ms < rules.reporting.to_ms
    )
    with services.engine.connect() as connection:
        return plan[0].hash, *connection.execute(query).one()


def evaluate(
    services: Services, project: models.Project, plan: tuple[IndexedPlan, Plan] | None
) -> models.ProjectOutcome:
    """Computes a project's outcome from every window of its plan's periods."""
    missing = [] if project.lines else ["lines"]
    if plan is None:
        return models.ProjectOutcome(
            project_id=project.id, as_of_log_size=0, plan_leaf_index=None, plan_hash=None,
            missing=[*missing, "plan"], timezone="UTC", installed_ms=None, baseline=None, reporting=None,
            verdict=None, weeks=[], definition_hashes=[], configuration_hashes=[],
        )  # fmt: skip
    registered, rules = plan
    lines = services.index.columns(rules.line_ids, rules.baseline.from_ms, rules.reporting.to_ms)
    baseline = _sums(rules, rules.baseline, lines)
    reporting = _sums(rules, rules.reporting, lines)
    missing += [name for name, sums in (("baseline", baseline), ("reporting", reporting)) if not sums.account.length_ms]
    return models.ProjectOutcome(
        project_id=project.id,
        as_of_log_size=0,
        plan_leaf_index=registered.leaf_index,
        plan_hash=registered.hash.hex(),
        missing=missing,
        timezone=rules.timezone,
        installed_ms=rules.baseline.to_ms,
        baseline=_side(rules, baseline),
        reporting=_side(rules, reporting),
        verdict=None if missing else _verdict(rules, outcome_of(rules, baseline, reporting)),
        weeks=_weeks(rules, baseline, reporting, lines),
        definition_hashes=[rules.definition.hash.hex()],
        configuration_hashes=catalogue.configurations_used(
            services, list(rules.line_ids), rules.baseline.from_ms, rules.reporting.to_ms
        ),
    )


def _sums(rules: Plan, period: Period, lines: Mapping[str, LineColumns]) -> PeriodSums:
    return period_sums_of(rules, period, [lines[line_id].tally(period) for line_id in rules.line_ids])


def _side(rules: Plan, sums: PeriodSums) -> models.Side:
    return models.Side(
        start_ms=sums.period.from_ms, end_ms=sums.period.to_ms, planned_ms=sums.planned_ms,
        coverage=_coverage(sums), gap_count=sums.gap_count, figures=figures(sums.account, rules.definition),
    )  # fmt: skip


def _coverage(sums: PeriodSums) -> Share:
    """With the time that has no window at all, which an account cannot know of."""
    known, planned = sums.account.known_planned_ms, sums.planned_ms
    return share(Fraction(known, planned) if planned else None, Undefined.NO_PLANNED_TIME)


def _verdict(rules: Plan, result: Outcome) -> models.Verdict:
    primary = result.primary
    return models.Verdict(
        word=_WORD[result.finding],
        change_percent=_percent(primary.change_ppm),
        low_percent=_percent(primary.low_ppm),
        high_percent=_percent(primary.high_ppm),
        level_percent=rules.confidence_permille / 10,
        reasons=[models.VerdictReason(code=reason.code, words=reason.words) for reason in result.reasons],
        figures=[_compared(figure, withheld=result.withholds_changes) for figure in result.figures],
    )


def _percent(ppm: int | None) -> float | None:
    return None if ppm is None else rounded(Fraction(ppm, 10_000), 1) / 10


def _compared(figure: Figure, *, withheld: bool) -> models.Compared:
    def value(exact: Fraction | None) -> float | None:
        return None if exact is None else rounded(exact * (100 if figure.unit == "share" else 1), 1) / 10

    change, low, high = (
        None if withheld else _percent(ppm) for ppm in (figure.change_ppm, figure.low_ppm, figure.high_ppm)
    )
    return models.Compared(
        name=figure.name, unit=figure.unit, relative=figure.relative, baseline=value(figure.baseline),
        reporting=value(figure.reporting), change=change, low=low, high=high,
    )  # fmt: skip


def _weeks(
    rules: Plan, baseline: PeriodSums, reporting: PeriodSums, lines: Mapping[str, LineColumns]
) -> list[models.Week]:
    base = _theta(baseline.frozen.standard_good_ns, baseline.frozen.known_ms)
    sides: list[tuple[str, PeriodSums]] = [("baseline", baseline)]
    between = Period(baseline.period.to_ms, reporting.period.from_ms)
    if between.length_ms:
        sides.append(("commissioning", _sums(rules, between, lines)))
    sides.append(("reporting", reporting))
    zone = ZoneInfo(rules.timezone)
    out = []
    for name, sums in sides:
        for number, account, frozen in sums.by_week:
            start_ms = sums.period.from_ms + number * WEEK_MS
            theta = _theta(frozen.standard_good_ns, frozen.known_ms)
            out.append(
                models.Week(
                    start_ms=start_ms,
                    day=datetime.fromtimestamp(start_ms / 1000, UTC).astimezone(zone).date().isoformat(),
                    period=name,
                    index=None if not base or theta is None else rounded(100 * theta / base, 1) / 10,
                    good_per_hour=rate(ratios.good_per_hour(account, rules.definition), Undefined.NO_PLANNED_TIME),
                    coverage=share(ratios.coverage(account), Undefined.NO_PLANNED_TIME),
                )
            )
    return out


def _theta(standard_good_ns: int, known_ms: int) -> Fraction | None:
    return Fraction(standard_good_ns, known_ms * ratios.NS_PER_MS) if known_ms else None
