"""The line dashboard for Grafana 12 and later, as typed code.

Decides which panels there are, their order and their words. The queries are `hub.grafana.flux`'s, the looks
`hub.grafana.panels`'; where it is sent is decided in `hub.grafana.provision`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, cast

from hub.grafana import flux
from hub.grafana.panels import Panels
from hub.grafana.sdk import JSONEncoder
from hub.grafana.sdk import common_model as cm
from hub.grafana.sdk import dashboard as d
from hub.grafana.sdk import dashboard_model as dm
from protocols.measurement.definition import ISO, PRESET_NAMES, PRESETS

_KNOWN: Final = "planned busy time (observed) of the definition"


@dataclass(frozen=True, slots=True)
class Uids:
    """The stable names that make provisioning idempotent. Grafana allows 40 characters."""

    folder: str
    data_source: str
    dashboard: str


def uids(enterprise: str | None) -> Uids:
    """One set for each enterprise, so that several fit in one Grafana; None for the provisioning files."""
    end = "" if enterprise is None else "-" + hashlib.sha256(enterprise.encode()).hexdigest()[:12]
    return Uids(f"linetally{end}", f"linetally-influx{end}", f"linetally-line{end}")


def _variable(name: str, label: str, query: str, ref: cm.DataSourceRef) -> d.QueryVariable:
    return (
        d.QueryVariable(name)
        .label(label)
        .datasource(ref)
        .query({"refId": f"variable-{name}", "query": query})
        .refresh(dm.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(dm.VariableSort.NATURAL_ASC)
        .include_all(False)
        .multi(False)
    )


def _definition() -> d.CustomVariable:
    """Under which preset the figures are read; minor stops are those that were measured as such."""
    choices = [dm.VariableOption(text=PRESET_NAMES[name], value=name, selected=name == ISO.preset) for name in PRESETS]
    return (
        d.CustomVariable("definition")
        .label("Definition")
        .values(", ".join(f"{choice.text} : {choice.value}" for choice in choices))
        .options(choices)
        .current(choices[0])
        .include_all(False)
        .multi(False)
    )


def line_dashboard(names: Uids, enterprise: str | None) -> dict[str, Any]:
    """The dashboard model of one line, chosen by a variable, as Grafana's API and provisioning files take it.

    With an `enterprise` the dashboard is fixed to it (what a person may see is decided by Grafana's organisations
    and InfluxDB's tokens, not by this); with None it is chosen by a second variable.
    """
    panels = Panels(names.data_source)
    count = {"unit": "locale", "decimals": 0, "width": 3}
    board = (
        d.Dashboard("Line" if enterprise is None else f"Line – {enterprise}")
        .uid(names.dashboard)
        .description(
            "OEE and throughput from signed windows. Every figure is a sum of the log's integers, divided once."
        )
        .tags(["linetally"])
        .timezone("browser")
        .time("now-8h", "now")
        .refresh("30s")
        .tooltip(dm.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    if enterprise is None:
        choice = flux.tag_values("enterprise", of_enterprise=False)
        board.with_variable(_variable("enterprise", "Enterprise", choice, panels.ref))
    else:
        board.with_variable(d.ConstantVariable("enterprise").value(enterprise))
    board.with_variable(_variable("line", "Line", flux.tag_values("line", of_enterprise=True), panels.ref))
    board.with_variable(_definition())
    for panel in (
        panels.ratio("OEE", f"Good pieces at the ideal cycle / {_KNOWN}. Undefined without an ideal cycle.", flux.OEE),
        panels.ratio("Availability", f"Production time / {_KNOWN}.", flux.AVAILABILITY),
        panels.ratio(
            "Effectiveness",
            "Pieces at the ideal cycle / production time. Above 100 %: pieces of time that was not observed (see "
            "Estimated pieces and Coverage); else the ideal cycle is too slow.",
            flux.EFFECTIVENESS,
        ),
        panels.ratio("Quality", "Good pieces / pieces.", flux.QUALITY),
        panels.ratio(
            "Coverage", "Observed / planned time. Under 95 % read the figures as indicative, under 80 % not at all.",
            flux.COVERAGE,
        ),
        panels.number(
            "Throughput", "text", f"Pieces an hour of {_KNOWN}.", flux.ratios_over_range("Throughput", flux.THROUGHPUT),
            unit="locale", decimals=0, width=4,
        ),
        panels.states(),
        panels.trend(
            "OEE, Availability, Effectiveness and Quality",
            "Each point divides the sums of its own interval. A gap is an interval in which the figure is undefined.",
            flux.ratios_over_time(
                {
                    "OEE": flux.OEE, "Availability": flux.AVAILABILITY,
                    "Effectiveness": flux.EFFECTIVENESS, "Quality": flux.QUALITY,
                }
            ),
            unit="percentunit", decimals=1,
        ),
        panels.losses(),
        panels.trend(
            "Throughput, pieces an hour", f"Pieces and good pieces an hour of {_KNOWN}.",
            flux.ratios_over_time({"All pieces": flux.THROUGHPUT, "Good pieces": flux.GOOD_THROUGHPUT}),
            unit="locale", decimals=0,
        ),
        panels.trend(
            "Coverage", "How much of the planned time was observed. What is missing is neither running nor stopped.",
            flux.ratios_over_time({"Coverage": flux.COVERAGE}), unit="percentunit", decimals=1,
        ).max(1),
        *(
            panels.number(title, "text", words, flux.over_range({title: f"r.{field}"}, [field]), **count)  # type: ignore[arg-type]
            for title, field, words in (
                ("Good pieces", "good_count", "In the range shown."),
                ("Rejects", "reject_count", "In the range shown."),
                ("Stops", "stop_count", "Stops longer than the minor-stop threshold, counted where they began."),
                ("Minor stops", "minor_stop_count", "Stops up to the minor-stop threshold."),
                ("State changes", "transition_count", "Many with few stops: a signal that flaps."),
                ("Estimated pieces", "estimated_count", "Of all pieces: read after a gap, and counted there."),
                ("Counter resets", "lower_bound_count", "What came before each of them is lost."),
                ("Without ideal cycle", "without_ideal_count", "Pieces whose product has none: no OEE while any."),
            )
        ),
    ):  # fmt: skip
        board.with_panel(panel)
    model = board.build()
    if enterprise is not None and model.templating is not None and model.templating.list_val:
        fixed = model.templating.list_val[0]
        fixed.hide = dm.VariableHide.HIDE_VARIABLE
        fixed.current = dm.VariableOption(text=enterprise, value=enterprise)
    for number, panel_model in enumerate(model.panels or [], 1):
        panel_model.id_val = number
    return cast(dict[str, Any], json.loads(json.dumps(model, cls=JSONEncoder)))
