"""Routes of lines: what they are, their newest live view, and their figures from the log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from hub.api import catalogue, models
from hub.api.access import Reading, Watching
from hub.api.figures import every_figure, figures
from hub.api.live_message import LineView
from hub.api.state import BoardOf, ServicesOf
from hub.projections.index import Group
from protocols.measurement.definition import ISO

router = APIRouter(prefix="/api/v1/lines", tags=["lines"])

DAY_MS = 86_400_000
MAX_SPAN_MS = 400 * DAY_MS
Time = Annotated[int, Query(ge=0, le=2**53 - 1, description="milliseconds since the Unix epoch, UTC")]


@router.get("", summary="The lines that you may see")
def list_lines(who: Reading, services: ServicesOf) -> list[models.Line]:
    return catalogue.lines(services, who)


@router.get("/{line_id}", summary="One line")
def one_line(line_id: str, who: Reading, services: ServicesOf) -> models.Line:
    return catalogue.line(services, who, line_id)


@router.get("/{line_id}/live", summary="What the line said last, unsigned")
def live_line(line_id: str, who: Watching, services: ServicesOf, board: BoardOf) -> LineView:
    catalogue.line(services, who, line_id)
    view = board.views().get(line_id)
    if view is None:
        raise HTTPException(404, "no live data from this line since the hub started")
    return view


@router.get("/{line_id}/amendments", summary="What was put right afterwards, in windows and stops of [from_ms, to_ms)")
def line_amendments(
    line_id: str, who: Reading, services: ServicesOf, from_ms: Time, to_ms: Time
) -> list[models.Amended]:
    """The newest first, at most 500. Both values stay; one without effect is told with the reason why."""
    catalogue.line(services, who, line_id)
    found = services.index.amendments([line_id], from_ms, to_ms)
    fields = models.Amended.model_fields
    return [models.Amended(**{name: getattr(each, name) for name in fields}) for each in reversed(found[-500:])]


@router.get("/{line_id}/figures", summary="Figures from the signed windows that begin in [from_ms, to_ms)")
def line_figures(
    line_id: str,
    who: Reading,
    services: ServicesOf,
    from_ms: Time,
    to_ms: Time,
    by: Annotated[list[Group] | None, Query(max_length=5)] = None,
    every: Annotated[bool, Query(description="also all figures, each with its formula and source")] = False,
) -> models.LineFigures:
    found = catalogue.line(services, who, line_id)
    if not from_ms < to_ms <= from_ms + MAX_SPAN_MS:
        raise HTTPException(422, f"to_ms must be after from_ms, by {MAX_SPAN_MS // DAY_MS} days at the most")
    newest = catalogue.newest_configurations(services, [line_id]).get(line_id)
    definition = catalogue.definition_of(newest) or ISO
    rows = services.index.totals([line_id], from_ms, to_ms, list(dict.fromkeys(by or [])))
    return models.LineFigures(
        line_id=line_id,
        definition=found.definition,
        definition_hash=found.definition_hash,
        configuration_hash=found.configuration_hash,
        configurations=catalogue.configurations_used(services, [line_id], from_ms, to_ms),
        rows=[
            models.FiguresRow(
                line_id=row.line_id,
                key=list(row.key),
                start_ms=row.start_ms,
                end_ms=row.end_ms,
                figures=figures(row.account, definition),
                every=every_figure(row.account, definition) if every else None,
            )
            for row in rows
        ],
    )
