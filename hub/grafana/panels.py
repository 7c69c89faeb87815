"""The kinds of panel of linetally's dashboards: how a figure, a trend, the states and the losses look in Grafana.

Decides looks, colours and units. Undefined is shown as "–", never as 0; state by colour and word. The queries are
`hub.grafana.flux`'s; which panels there are and what their words say, `hub.grafana.dashboards`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hub.grafana import flux
from hub.grafana.sdk import Builder, Dataquery, stat, statetimeline, timeseries
from hub.grafana.sdk import common as c
from hub.grafana.sdk import common_model as cm
from hub.grafana.sdk import dashboard as d
from hub.grafana.sdk import dashboard_model as dm

DATA_SOURCE_TYPE: Final = "influxdb"
UNDEFINED: Final = "–"
# Okabe and Ito's palette, which colour-blind people can tell apart, and greys for time that is nobody's loss.
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "producing_ms": ("Producing", "#009E73"),
    "setup_ms": ("Set-up", "#56B4E9"),
    "failure_ms": ("Failure", "#D55E00"),
    "minor_stop_ms": ("Minor stop", "#E69F00"),
    "restraint_ms": ("Blocked or starved", "#CC79A7"),
    "held_ms": ("Held", "#F0E442"),
    "unassigned_ms": ("Stopped or idle", "#0072B2"),
    "no_order_ms": ("No order", "#B0B0B0"),
    "planned_down_ms": ("Planned down", "#D9D9D9"),
    "not_scheduled_ms": ("Not scheduled", "#E8E8E8"),
    "unknown_ms": ("Not observed", "#6E6E6E"),
}
LOSS_COLOURS: Final[Mapping[str, str]] = {
    "Failure": "#D55E00",
    "Set-up": "#56B4E9",
    "Minor stops": "#E69F00",
    "Blocked or starved": "#CC79A7",
    "Held": "#F0E442",
    "Stopped or idle": "#0072B2",
    "No order": "#B0B0B0",
    "Breaks and planned downtime": "#D9D9D9",
    "Reduced speed": "#8C6D31",
    "Rejects": "#7B3294",
    "Not observed": "#6E6E6E",
}


class FluxQuery(Dataquery):
    """A query of Grafana's InfluxDB data source in Flux, for which the SDK has no type."""

    def __init__(self, query: str, data_source_uid: str) -> None:
        self.query = query
        self.data_source = cm.DataSourceRef(type_val=DATA_SOURCE_TYPE, uid=data_source_uid)

    def to_json(self) -> dict[str, object]:
        return {"refId": "A", "datasource": self.data_source, "query": self.query}


class _Built(Builder[Dataquery]):
    def __init__(self, query: FluxQuery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


class Panels:
    """Makes the panels of one data source."""

    def __init__(self, data_source_uid: str) -> None:
        self._uid = data_source_uid
        self.ref = cm.DataSourceRef(type_val=DATA_SOURCE_TYPE, uid=data_source_uid)

    def query(self, text: str) -> _Built:
        return _Built(FluxQuery(text, self._uid))

    def number(
        self, title: str, text: str, words: str, query: str, *, unit: str, decimals: int, width: int
    ) -> stat.Panel:
        return (
            stat.Panel()
            .title(title)
            .description(words)
            .datasource(self.ref)
            .with_target(self.query(query))
            .unit(unit)
            .decimals(decimals)
            .no_value(UNDEFINED)
            .color_scheme(d.FieldColor().mode(dm.FieldColorModeId.FIXED).fixed_color(text))
            .graph_mode(cm.BigValueGraphMode.NONE)
            .color_mode(cm.BigValueColorMode.VALUE)
            .reduce_options(c.ReduceDataOptions().calcs(["last"]).fields("").values(False))
            .span(width)
            .height(4)
        )

    def ratio(self, title: str, words: str, ratio: flux.Ratio, *, width: int = 4) -> stat.Panel:
        query = flux.ratios_over_range(title, ratio)
        return self.number(title, "text", words, query, unit="percentunit", decimals=1, width=width)

    def trend(self, title: str, words: str, query: str, *, unit: str, decimals: int) -> timeseries.Panel:
        return (
            timeseries.Panel()
            .title(title)
            .description(words)
            .datasource(self.ref)
            .with_target(self.query(query))
            .unit(unit)
            .decimals(decimals)
            # From zero, but a negative figure (reduced speed, see `flux.LOSSES`) is not cut off.
            .axis_soft_min(0)
            .no_value(UNDEFINED)
            .line_width(2)
            .fill_opacity(0)
            .span_nulls(False)
            .show_points(cm.VisibilityMode.AUTO)
            # Wide enough intervals that each holds some windows; the queries divide sums, so any width is right.
            .interval("5m")
            .max_data_points(200)
            .legend(_legend())
            .tooltip(c.VizTooltipOptions().mode(cm.TooltipDisplayMode.MULTI))
            .span(24)
            .height(8)
        )

    def states(self) -> statetimeline.Panel:
        mapping = dm.ValueMap(
            options={
                name: dm.ValueMappingResult(text=text, color=colour, index=i)
                for i, (name, (text, colour)) in enumerate(STATES.items())
            }
        )
        return (
            statetimeline.Panel()
            .title("State that took most of each interval")
            .description("White is time without a window. The exact share of each state is in the losses below.")
            .datasource(self.ref)
            .with_target(self.query(flux.largest_category_over_time()))
            .mappings([mapping])
            .merge_values(True)
            .show_value(cm.VisibilityMode.AUTO)
            .row_height(0.9)
            .interval("1m")
            .max_data_points(400)
            .legend(_legend())
            .span(24)
            .height(5)
        )

    def losses(self) -> timeseries.Panel:
        panel = self.trend(
            "Losses, in minutes",
            "What each loss cost, in minutes of planned time. Reduced speed and rejects are in time at the ideal "
            "cycle; they are undefined while a product without an ideal cycle was made.",
            flux.losses_over_time(),
            unit="m",
            decimals=1,
        )
        panel = (
            panel.draw_style(cm.GraphDrawStyle.BARS)
            .fill_opacity(80)
            .line_width(0)
            .stacking(c.StackingConfig().mode(cm.StackingMode.NORMAL).group("A"))
            .interval("15m")
            .max_data_points(100)
        )
        for name, colour in LOSS_COLOURS.items():
            fixed = {"mode": "fixed", "fixedColor": colour}
            panel = panel.override_by_name(name, [dm.DynamicConfigValue("color", fixed)])
        return panel


def _legend() -> c.VizLegendOptions:
    return (
        c.VizLegendOptions()
        .display_mode(cm.LegendDisplayMode.LIST)
        .placement(cm.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
