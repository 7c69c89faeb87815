"""Roll-up: what lines, areas, sites, enterprises, projects and schemes did, by shift, day, product and order.

Decides which sums may be asked for and over what time. The sums are `hub.projections.sums`', places the registry's,
figures and losses `protocols.measurement`'s. A machine that is part of a line is not added to it: what it made is in
the line's own sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, HTTPException, Query
from sqlalchemy import select
from starlette.responses import Response

from hub import database as db
from hub.api import catalogue
from hub.api.access import Reading
from hub.api.reading import PlacedLine, Wanted, definitions, placed_lines, read_under
from hub.api.rollup_models import (
    LineOfMachines,
    MachineOee,
    Rollup,
    RollupNote,
    figure_value,
    figure_words,
    row_of,
    titles,
)
from hub.api.state import ServicesOf
from hub.projections.sums import COLUMNS, Sum, sums
from hub.services import Services
from protocols.errors import Malformed
from protocols.measurement import ratios
from protocols.measurement.account import Category, total
from protocols.measurement.calendar import wall_ms
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.definition import Charge
from protocols.measurement.rollup import By, Row, key_of, line_oee, roll_up

router = APIRouter(prefix="/api/v1", tags=["roll-up"])

WEEK_MS: Final = 7 * 86_400_000
MAX_SPAN_MS: Final = 800 * 86_400_000
MAX_ROWS: Final = 5_000
MAX_TREES: Final = 1_000
_TIME: Final = "milliseconds UTC, or ISO 8601: 2026-11-01 or 2026-11-01T06:00, local to `zone`, or with an offset"
From = Annotated[str | None, Query(alias="from", description=f"{_TIME}; without it, seven days before `to`")]
To = Annotated[str | None, Query(description="the first moment that is out; the same forms; without it, now")]
Zone = Annotated[str | None, Query(description="IANA zone of local times; without it, the lines' own")]


@router.get(
    "/rollup", response_model=Rollup, summary="Sums, figures and losses over places, products, orders, shifts and days"
)
def rollup(
    who: Reading,
    services: ServicesOf,
    by: Annotated[list[By] | None, Query(description="what keeps rows apart; may be repeated", max_length=6)] = None,
    from_: From = None,
    to: To = None,
    zone: Zone = None,
    line: Annotated[list[str] | None, Query(description="only these lines", max_length=1000)] = None,
    project: Annotated[str | None, Query(description="only the lines of this project")] = None,
    definition: Annotated[Wanted, Query(description="under which definition of OEE")] = Wanted.LINE,
    tree: Annotated[bool, Query(description="each row with its tree of losses")] = True,
) -> Response:
    groups = list(dict.fromkeys(by or []))
    chosen = _chosen(placed_lines(services, who), line, project, groups)
    from_ms, to_ms, name = _span(services, chosen.values(), from_, to, zone)
    found = sums(services.engine, list(chosen), from_ms, to_ms, [each for each in groups if each in COLUMNS])
    reading = read_under(definition, definitions(services, {(s.line_id, s.configuration_hash) for s in found}))
    rows = [_row(each, chosen[each.line_id], groups) for each in found]
    added = roll_up(rows, groups)
    if len(added) > (MAX_TREES if tree else MAX_ROWS):
        raise HTTPException(422, f"{len(added)} rows: choose a shorter time, fewer of `by`, or tree=false")
    lines_of: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        lines_of.setdefault(key_of(row, groups), set()).add(row.place.line)
    whole = total(row.account for row in rows)
    doubts = [] if not reading.doubt else [RollupNote(code=reading.doubt, count=len(chosen), words=reading.words)]
    answer = Rollup(
        from_ms=from_ms,
        to_ms=to_ms,
        timezone=name,
        by=[each.value for each in groups],
        lines=list(chosen),
        simulated=any(each.simulated for each in chosen.values()),
        definition=reading.definition.words,
        definition_hash=reading.definition.hash.hex(),
        notes=doubts,
        words=figure_words(reading.definition),
        titles=titles(),
        names=_names(services, chosen, groups),
        rows=[
            row_of(_named(key, groups), account, reading.definition, len(lines_of[key]), tree)
            for key, account in added.items()
        ],
        total=row_of({}, whole, reading.definition, len({row.place.line for row in rows}), True),
    )
    # Written here: FastAPI would check each part of it again, which takes longer than making it.
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/lines/{line_id}/machines", summary="The OEE of a line by its bottleneck, and of each machine apart")
def machines(
    line_id: str,
    who: Reading,
    services: ServicesOf,
    from_: From = None,
    to: To = None,
    zone: Zone = None,
    definition: Annotated[Wanted, Query(description="under which definition of OEE")] = Wanted.LINE,
    waiting: Annotated[Charge, Query(description="availability: waiting is charged to a machine; or excluded")] = (
        Charge.EXCLUDED
    ),
) -> LineOfMachines:
    """`line add --part-of` says which machines a line has. Good pieces out are the line's own good count."""
    if waiting is Charge.PERFORMANCE:
        raise HTTPException(422, "waiting is availability or excluded")
    placed = placed_lines(services, who)
    if line_id not in placed:
        raise catalogue.not_found()
    parts = {name: each for name, each in placed.items() if each.part_of == line_id}
    from_ms, to_ms, _ = _span(services, [placed[line_id]], from_, to, zone)
    found = sums(services.engine, [line_id, *parts], from_ms, to_ms, [By.PRODUCT])
    used = {(each.line_id, each.configuration_hash) for each in found if each.line_id == line_id}
    under = read_under(definition, definitions(services, used)).definition
    accounts = {name: total(s.account for s in found if s.line_id == name) for name in (line_id, *parts)}
    good_out: dict[str, int] = {}
    for each in found:
        if each.line_id == line_id:
            good_out[each.key[0]] = good_out.get(each.key[0], 0) + each.account.good_count
    cycles = _cycles(services, list(parts) or [line_id])
    own = {name: accounts[name] for name in parts}
    apart = replace(under, restraint=waiting)
    result = line_oee(accounts[line_id], good_out, cycles, own, under, waiting=waiting)
    return LineOfMachines(
        line_id=line_id,
        from_ms=from_ms,
        to_ms=to_ms,
        definition=under.words,
        definition_hash=under.hash.hex(),
        waiting="excluded" if waiting is Charge.EXCLUDED else "charged",
        oee=figure_value(result.oee, result.undefined_because),
        bottlenecks={product: each.machine for product, each in result.constraints.items()},
        machines=[
            MachineOee(
                line_id=name,
                name=parts[name].name,
                oee=figure_value(result.machines[name], ratios.oee.undefined_because(own[name], apart)),
                waiting_ms=own[name].category_ms[Category.RESTRAINT],
                constrains=[product for product, each in result.constraints.items() if each.machine == name],
            )
            for name in parts
        ],
    )


def _cycles(services: Services, line_ids: list[str]) -> dict[str, dict[str, int | None]]:
    """Ideal cycles by machine and product, of each machine's newest configuration."""
    out: dict[str, dict[str, int | None]] = {}
    for line_id, newest in catalogue.newest_configurations(services, line_ids).items():
        try:
            out[line_id] = dict(LineConfiguration.from_data(newest.data).ideal_cycle_ns)
        except Malformed:
            continue
    return out


def _chosen(
    placed: Mapping[str, PlacedLine], line_ids: list[str] | None, project: str | None, by: Sequence[By]
) -> dict[str, PlacedLine]:
    """The lines whose sums are added: those that were named, else all of the caller's but machines of lines."""
    if project is not None:
        placed = {name: each for name, each in placed.items() if each.place.project == project}
        if not placed:
            raise catalogue.not_found()
    if not line_ids:
        return {name: each for name, each in placed.items() if each.part_of is None}
    if any(name not in placed for name in line_ids):
        raise catalogue.not_found()
    chosen = {name: placed[name] for name in sorted(set(line_ids))}
    twice = next((name for name, each in chosen.items() if each.part_of in chosen), None)
    if twice is not None and By.LINE not in by:
        words = f"{twice} is a machine of {chosen[twice].part_of}: its pieces would count twice; add by=line"
        raise HTTPException(422, words)
    return chosen


def _row(found: Sum, line: PlacedLine, by: Sequence[By]) -> Row:
    said = dict(zip((each for each in by if each in COLUMNS), found.key, strict=True))
    return Row(
        line.place, said.get(By.PRODUCT, ""), said.get(By.ORDER, ""), said.get(By.SHIFT, ""), said.get(By.DAY, ""),
        found.account,
    )  # fmt: skip


_PARTS: Final = {
    By.SITE: ("enterprise", "site"),
    By.AREA: ("enterprise", "site", "area"),
    By.PROJECT: ("scheme", "project"),
}
"""A site, an area and a project are named with what they are in."""


def _named(key: tuple[str, ...], by: Sequence[By]) -> dict[str, str]:
    names = [name for each in by for name in _PARTS.get(each, (each.value,))]
    return dict(zip(names, key, strict=True))


def _names(services: Services, chosen: Mapping[str, PlacedLine], by: Sequence[By]) -> dict[str, dict[str, str]]:
    wanted = {name for each in by for name in _PARTS.get(each, (each.value,))}
    out: dict[str, dict[str, str]] = {}
    if "line" in wanted:
        out["line"] = {name: each.name for name, each in chosen.items()}
    tables = (
        ("enterprise", db.enterprise.c.id, db.enterprise.c.name),
        ("project", db.project.c.id, db.project.c.title),
        ("scheme", db.scheme.c.id, db.scheme.c.name_en),
    )
    with services.engine.connect() as connection:
        for what, id_, name in tables:
            if what in wanted:
                ids = {getattr(each.place, what) for each in chosen.values()}
                found = connection.execute(select(id_, name).where(id_.in_(ids)))
                out[what] = {row[0]: row[1] for row in found}
    return out


def _span(
    services: Services, lines: Iterable[PlacedLine], from_: str | None, to: str | None, zone: str | None
) -> tuple[int, int, str]:
    """(from_ms, to_ms, the name of the zone). Raises 422 with what to write."""
    zones = sorted({line.timezone for line in lines})
    name = zone or (zones[0] if len(zones) == 1 else "UTC")
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise HTTPException(422, "zone: write one like Asia/Hong_Kong") from None
    sure = zone is not None or len(zones) <= 1
    to_ms = services.now_ms() if to is None else _moment("to", to, name, sure)
    from_ms = to_ms - WEEK_MS if from_ is None else _moment("from", from_, name, sure)
    if not from_ms < to_ms <= from_ms + MAX_SPAN_MS:
        raise HTTPException(422, f"`to` must be after `from`, by {MAX_SPAN_MS // 86_400_000} days at the most")
    return from_ms, to_ms, name


def _moment(what: str, text: str, zone: str, sure: bool) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        return int(text)
    try:
        moment = datetime.combine(date.fromisoformat(text), time()) if len(text) == 10 else datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return round(moment.timestamp() * 1000)
        if not sure:
            raise HTTPException(422, f"{what}: the lines are in several time zones; name one with `zone`")
        return wall_ms(ZoneInfo(zone), moment)
    except (ValueError, OverflowError):
        raise HTTPException(422, f"{what}: write {_TIME}") from None
