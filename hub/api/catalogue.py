"""What is registered, as one caller may see it.

Decides the queries over the registry, each with the caller's scope in its WHERE clause. An id outside the scope is
not found, and looks no different from one that does not exist.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import HTTPException
from sqlalchemy import Row, func, select

from hub import database as db
from hub.api import models
from hub.api.access import Identity
from hub.projections.index import IndexedConfiguration
from hub.services import Services
from protocols.errors import Malformed
from protocols.measurement.amendment import AmendmentKind
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.definition import Definition

SHOWN_STOPS_MS: Final = 3 * 86_400_000
"""How old the stops of a live message may be: those of a shift, and a day or two of grace."""
NOT_FOUND: Final = "there is no such thing, or it is not yours to see"


def not_found() -> HTTPException:
    return HTTPException(404, NOT_FOUND)


def zones(services: Services) -> dict[str, str]:
    """The time zone of every registered line."""
    with services.engine.connect() as connection:
        return {row.id: row.timezone for row in connection.execute(select(db.line.c.id, db.line.c.timezone))}


def amended_reasons(services: Services) -> dict[str, dict[int, str]]:
    """By line, the reasons that were given afterwards to stops of the last days, by when each began."""
    t = db.amendment.c
    query = (
        select(t.line_id, t.start_ms, t.change)
        .where(t.kind == AmendmentKind.REASON.value, t.refusal == "", t.start_ms >= services.now_ms() - SHOWN_STOPS_MS)
        .order_by(t.leaf_index)
    )
    out: dict[str, dict[int, str]] = {}
    with services.engine.connect() as connection:
        for row in connection.execute(query):
            out.setdefault(row.line_id, {})[row.start_ms] = row.change[1]
    return out


def line_ids(services: Services, who: Identity) -> frozenset[str]:
    with services.engine.connect() as connection:
        return frozenset(connection.scalars(select(db.line.c.id).where(who.lines_in())))


def lines(services: Services, who: Identity, line_id: str | None = None) -> list[models.Line]:
    """The lines in scope, by id; only `line_id` when it is given."""
    query = select(db.line).where(who.lines_in()).order_by(db.line.c.id)
    if line_id is not None:
        query = query.where(db.line.c.id == line_id)
    spans = (
        select(db.window.c.line_id, func.min(db.window.c.start_ms), func.max(db.window.c.end_ms))
        .group_by(db.window.c.line_id)
    )  # fmt: skip
    with services.engine.connect() as connection:
        rows = connection.execute(query).all()
        if line_id is not None:
            spans = spans.where(db.window.c.line_id == line_id)
        seen = {row[0]: (row[1], row[2]) for row in connection.execute(spans)} if rows else {}
        parts: dict[str, list[str]] = {}
        for part in connection.execute(select(db.line).where(who.lines_in(), db.line.c.part_of.is_not(None))):
            parts.setdefault(part.part_of, []).append(part.id)
    newest = newest_configurations(services, [row.id for row in rows])
    return [_line(row, newest.get(row.id), seen.get(row.id), sorted(parts.get(row.id, []))) for row in rows]


def line(services: Services, who: Identity, line_id: str) -> models.Line:
    """One line. Raises 404."""
    found = lines(services, who, line_id)
    if not found:
        raise not_found()
    return found[0]


def newest_configurations(services: Services, ids: list[str]) -> dict[str, IndexedConfiguration]:
    return {found.line_id: found for found in services.index.configurations(ids)}


def definition_of(newest: IndexedConfiguration | None) -> Definition | None:
    """The definition in a configuration; None for one of another version of linetally: its hash can still be named."""
    try:
        return None if newest is None else LineConfiguration.from_data(newest.data).definition
    except Malformed:
        return None


def _line(
    row: Row[Any], newest: IndexedConfiguration | None, span: tuple[int, int] | None, machines: list[str]
) -> models.Line:
    definition = definition_of(newest)
    return models.Line(
        id=row.id,
        name=row.name,
        timezone=row.timezone,
        enterprise_id=row.enterprise_id,
        project_id=row.project_id,
        simulated=row.simulated,
        site=row.site,
        area=row.area,
        part_of=row.part_of,
        machines=machines,
        definition=None if definition is None else definition.words,
        definition_hash=None if definition is None else definition.hash.hex(),
        configuration_hash=None if newest is None else newest.hash.hex(),
        first_ms=None if span is None else span[0],
        last_ms=None if span is None else span[1],
    )


def configurations_used(services: Services, ids: list[str], from_ms: int, to_ms: int) -> list[str]:
    """The hashes of every configuration that windows of these lines in [from_ms, to_ms) were measured under."""
    t = db.window.c
    query = (
        select(t.configuration_hash)
        .where(t.line_id.in_(ids), t.start_ms >= from_ms, t.start_ms < to_ms)
        .distinct()
    )  # fmt: skip
    with services.engine.connect() as connection:
        return sorted(bytes(found).hex() for found in connection.scalars(query))


def projects(services: Services, who: Identity, project_id: str | None = None) -> list[models.ProjectSummary]:
    """The projects in scope, by id."""
    return [models.ProjectSummary(**common) for common, _ in _projects(services, who, project_id)]


def project(services: Services, who: Identity, project_id: str) -> models.Project:
    """One project. Raises 404."""
    found = _projects(services, who, project_id)
    if not found:
        raise not_found()
    common, row = found[0]
    with services.engine.connect() as connection:
        gateways = connection.scalars(
            select(db.gateway.c.id).where(db.gateway.c.project_id == project_id).order_by(db.gateway.c.id)
        ).all()
    plans = services.index.plans(project_id)
    return models.Project(
        **common,
        milestones=[
            models.Milestone(**{key: entry.get(key) for key in models.Milestone.model_fields if key in entry})
            for entry in row.milestones
        ],
        gateways=list(gateways),
        plan_leaf_index=plans[0].leaf_index if plans else None,
        plan_hash=plans[0].hash.hex() if plans else None,
    )


def _projects(services: Services, who: Identity, project_id: str | None) -> list[tuple[dict[str, Any], Row[Any]]]:
    query = (
        select(
            db.project,
            db.scheme.c.name_en.label("scheme_name"),
            db.scheme.c.name_zh.label("scheme_name_zh"),
            db.enterprise.c.name.label("enterprise_name"),
        )
        .join(db.scheme, db.scheme.c.id == db.project.c.scheme_id)
        .join(db.enterprise, db.enterprise.c.id == db.project.c.enterprise_id)
        .where(who.projects_in())
        .order_by(db.project.c.id)
    )
    if project_id is not None:
        query = query.where(db.project.c.id == project_id)
    with services.engine.connect() as connection:
        rows = connection.execute(query).all()
        of_lines: dict[str, list[str]] = {row.id: [] for row in rows}
        owned = select(db.line.c.id, db.line.c.project_id).where(db.line.c.project_id.in_(list(of_lines)))
        for found in connection.execute(owned.order_by(db.line.c.id)):
            of_lines[found.project_id].append(found.id)
    names = [name for name in models.ProjectSummary.model_fields if name != "lines"]
    return [({name: row._mapping[name] for name in names} | {"lines": of_lines[row.id]}, row) for row in rows]


def gateways(
    services: Services, who: Identity, gateway_id: str | None = None, project_id: str | None = None
) -> list[models.Gateway]:
    """The gateways in scope with the newest receipt that each was sent; no auditors."""
    query = (
        select(db.gateway, db.receipt.c.sequence, db.receipt.c.leaf_index, db.receipt.c.time_ms)
        .outerjoin(db.receipt, db.receipt.c.kid == db.gateway.c.kid)
        .where(who.gateways_in())
        .order_by(db.gateway.c.id)
    )
    if gateway_id is not None:
        query = query.where(db.gateway.c.id == gateway_id)
    if project_id is not None:
        query = query.where(db.gateway.c.project_id == project_id)
    with services.engine.connect() as connection:
        rows = connection.execute(query).all()
    return [
        models.Gateway(
            id=row.id,
            state=row.state,
            fingerprint=row.fingerprint,
            enterprise_id=row.enterprise_id,
            project_id=row.project_id,
            lines=list(row.lines),
            created_ms=row.created_ms,
            approved_ms=row.approved_ms,
            last_sequence=row.sequence,
            last_leaf_index=row.leaf_index,
            last_receipt_ms=row.time_ms,
        )
        for row in rows
        if row.lines  # a key without lines is an auditor's
    ]


def auditors(services: Services, who: Identity, project_id: str | None = None) -> list[models.Auditor]:
    """The auditors' keys in scope. They stand among the gateways' keys, and are enrolled for no line."""
    count = select(func.count()).where(
        db.audit.c.auditor == db.gateway.c.id, db.audit.c.project_id == db.gateway.c.project_id
    )
    query = (
        select(db.gateway, count.scalar_subquery().label("audit_count"))
        .where(who.gateways_in())
        .order_by(db.gateway.c.id)
    )
    if project_id is not None:
        query = query.where(db.gateway.c.project_id == project_id)
    with services.engine.connect() as connection:
        rows = connection.execute(query).all()
    fields = models.Auditor.model_fields
    return [models.Auditor(**{name: getattr(row, name) for name in fields}) for row in rows if not row.lines]
