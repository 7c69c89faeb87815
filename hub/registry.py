"""The registry: which schemes, enterprises, projects, lines and gateways the hub knows, and who may ask.

Decides what may be entered and how one entry depends on another. Not: what a gateway may put in the log
(`admission`), nor how a key gets in (`enrolment`). Refusals are `Refused` with the words for the person who typed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, Engine, Row, Select, Table, select
from sqlalchemy.exc import IntegrityError

from hub import database as db
from hub.schemes import SCHEMES
from protocols.errors import Refused

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_NAME: Final = 200
"""Characters: what fits on one line of a report."""


class GatewayState(StrEnum):
    PENDING = "pending"  # its key is known; a person has not yet compared the fingerprint
    ACTIVE = "active"
    REVOKED = "revoked"


class Role(StrEnum):
    MANUFACTURER = "manufacturer"  # own lines
    SECRETARIAT = "secretariat"  # projects of its schemes
    COMMITTEE = "committee"  # reads what the secretariat reads
    AUDITOR = "auditor"  # proofs
    OPERATOR = "operator"  # everything


@dataclass(frozen=True, slots=True)
class Scheme:
    """`rules`: [{"rule", "value", "unit", "from": ISO date or None, "words"}]; the newest in effect holds."""

    id: str
    name_en: str
    name_zh: str
    committee: str
    secretariat: str
    rules: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Enterprise:
    id: str
    name: str
    name_zh: str | None = None
    sector: str | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """Amounts in whole HK$. `milestones`: [{"title", "planned": ISO date, "done": ISO date or None, "evidence"}]."""

    id: str
    scheme_id: str
    enterprise_id: str
    title: str
    agreement_number: str | None = None
    approved_grant_hkd: int | None = None
    project_cost_hkd: int | None = None
    milestones: Sequence[Mapping[str, Any]] = ()
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """`simulated`: its numbers come from a model of a plant, and every page and report says so.

    `site`, `area`: where it stands in its enterprise (IEC 62264), by name; "" where nobody told. `part_of`: of a
    machine that is measured apart, the line in which it stands; what it makes is then in that line's sums, not beside
    them.
    """

    id: str
    enterprise_id: str
    project_id: str | None
    name: str
    timezone: str
    simulated: bool = False
    site: str = ""
    area: str = ""
    part_of: str | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway's key and what it may speak for. `fingerprint`: what two people compare, in groups of four."""

    id: str
    enterprise_id: str
    project_id: str
    kid: bytes
    public_key: bytes
    fingerprint: str
    state: GatewayState
    lines: tuple[str, ...]
    created_ms: int
    approved_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A machine's right to ask. `scope`: {"schemes": [...], "enterprises": [...]}; {} is everything."""

    label: str
    role: Role
    scope: Mapping[str, Any] = field(default_factory=dict)
    expires_ms: int = 0


_T = TypeVar("_T")


class Registry:
    """Reads and writes the registry's tables. Any thread or process may; each call is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # ------------------------------------------------------------ reading

    def schemes(self) -> list[Scheme]:
        return self._list(Scheme, select(db.scheme).order_by(db.scheme.c.id))

    def scheme(self, scheme_id: str) -> Scheme | None:
        return self._one(Scheme, select(db.scheme).where(db.scheme.c.id == scheme_id))

    def enterprises(self) -> list[Enterprise]:
        return self._list(Enterprise, select(db.enterprise).order_by(db.enterprise.c.id))

    def enterprise(self, enterprise_id: str) -> Enterprise | None:
        return self._one(Enterprise, select(db.enterprise).where(db.enterprise.c.id == enterprise_id))

    def projects(self, scheme_id: str | None = None, enterprise_id: str | None = None) -> list[Project]:
        query = select(db.project).order_by(db.project.c.id)
        if scheme_id is not None:
            query = query.where(db.project.c.scheme_id == scheme_id)
        if enterprise_id is not None:
            query = query.where(db.project.c.enterprise_id == enterprise_id)
        return self._list(Project, query)

    def project(self, project_id: str) -> Project | None:
        return self._one(Project, select(db.project).where(db.project.c.id == project_id))

    def lines(self, enterprise_id: str | None = None, project_id: str | None = None) -> list[Line]:
        query = select(db.line).order_by(db.line.c.id)
        if enterprise_id is not None:
            query = query.where(db.line.c.enterprise_id == enterprise_id)
        if project_id is not None:
            query = query.where(db.line.c.project_id == project_id)
        return self._list(Line, query)

    def line(self, line_id: str) -> Line | None:
        return self._one(Line, select(db.line).where(db.line.c.id == line_id))

    def gateways(self, enterprise_id: str | None = None, project_id: str | None = None) -> list[Gateway]:
        query = select(db.gateway).order_by(db.gateway.c.id)
        if enterprise_id is not None:
            query = query.where(db.gateway.c.enterprise_id == enterprise_id)
        if project_id is not None:
            query = query.where(db.gateway.c.project_id == project_id)
        with self._engine.connect() as connection:
            return [gateway_of(row) for row in connection.execute(query)]

    def gateway(self, gateway_id: str) -> Gateway | None:
        return self._gateway(select(db.gateway).where(db.gateway.c.id == gateway_id))

    def gateway_by_kid(self, kid: bytes) -> Gateway | None:
        return self._gateway(select(db.gateway).where(db.gateway.c.kid == kid))

    # ------------------------------------------------------------ writing

    def seed(self) -> None:
        """Enters the schemes that are not there yet."""
        with self._engine.begin() as connection:
            connection.execute(
                db.upsert(connection, db.scheme).values(list(SCHEMES)).on_conflict_do_nothing(index_elements=["id"])
            )

    def add_scheme(self, scheme: Scheme) -> None:
        self._add(db.scheme, scheme, scheme.name_en)

    def add_enterprise(self, enterprise: Enterprise) -> None:
        self._add(db.enterprise, enterprise, enterprise.name)

    def add_project(self, project: Project) -> None:
        self._need(self.scheme(project.scheme_id), "scheme", project.scheme_id, [s.id for s in self.schemes()])
        self._need(
            self.enterprise(project.enterprise_id), "enterprise", project.enterprise_id,
            [e.id for e in self.enterprises()],
        )  # fmt: skip
        for amount in (project.approved_grant_hkd, project.project_cost_hkd):
            if amount is not None and amount < 0:
                raise Refused("bad-value", "an amount cannot be negative")
        self._add(db.project, project, project.title)

    def add_line(self, line: Line) -> None:
        self._need(
            self.enterprise(line.enterprise_id), "enterprise", line.enterprise_id, [e.id for e in self.enterprises()]
        )
        if line.project_id is not None:
            project = self.project(line.project_id)
            project = self._need(project, "project", line.project_id, [p.id for p in self.projects()])
            if project.enterprise_id != line.enterprise_id:
                raise Refused("other-enterprise", f"project {project.id} is of enterprise {project.enterprise_id}")
        try:
            ZoneInfo(line.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise Refused("bad-value", f"{line.timezone!r} is no time zone: write one like Asia/Hong_Kong") from None
        self._check_place(line)
        self._add(db.line, line, line.name)

    def place_line(
        self, line_id: str, site: str | None = None, area: str | None = None, part_of: str | None = None
    ) -> Line:
        """Tells where a line stands; None leaves that as it is, "" takes it away. Past figures move with it."""
        line = self._need(self.line(line_id), "line", line_id, [each.id for each in self.lines()])
        line = replace(
            line,
            site=line.site if site is None else site,
            area=line.area if area is None else area,
            part_of=line.part_of if part_of is None else part_of or None,
        )
        self._check_place(line)
        with self._engine.begin() as connection:
            connection.execute(
                db.line.update().where(db.line.c.id == line_id)
                .values(site=line.site, area=line.area, part_of=line.part_of)
            )  # fmt: skip
        return line

    def _check_place(self, line: Line) -> None:
        for what, name in (("site", line.site), ("area", line.area)):
            if len(name) > MAX_NAME or not name.isprintable() or name != name.strip():
                raise Refused("bad-value", f"the name of the {what} has at most {MAX_NAME} printable characters")
        if line.area and not line.site:
            raise Refused("bad-value", "an area lies in a site: name the site too")
        if line.part_of is not None:
            whole = self._need(self.line(line.part_of), "line", line.part_of, [each.id for each in self.lines()])
            if whole.enterprise_id != line.enterprise_id:
                raise Refused("other-enterprise", f"line {whole.id} is of enterprise {whole.enterprise_id}")
            machines = [each.id for each in self.lines() if each.part_of == line.id]
            if whole.part_of is not None or whole.id == line.id or machines:
                raise Refused("bad-value", "a machine is part of a line, and a line is part of nothing")

    # ------------------------------------------------------------ tokens of the API

    def issue_api_token(self, token: ApiToken) -> str:
        """The token's text, shown once: only its SHA-256 is kept."""
        text = "lt_" + secrets.token_urlsafe(32)
        with self._engine.begin() as connection:
            connection.execute(
                db.api_token.insert().values(
                    token_sha256=token_hash(text), label=token.label, role=token.role.value,
                    scope=dict(token.scope), expires_ms=token.expires_ms,
                )
            )  # fmt: skip
        return text

    def check_api_token(self, text: str, now_ms: int) -> ApiToken | None:
        """Whose token this is; None for an unknown or expired one."""
        query = select(db.api_token).where(db.api_token.c.token_sha256 == token_hash(text))
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.expires_ms <= now_ms:
            return None
        return ApiToken(row.label, Role(row.role), row.scope, row.expires_ms)

    # ------------------------------------------------------------ inside

    def _add(self, table: Table, entry: Any, name: str) -> None:
        if not _ID.fullmatch(entry.id):
            raise Refused("bad-id", f"{entry.id!r} is no id: use 1 to 64 of the characters A-Z a-z 0-9 _ -")
        if not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise Refused("bad-value", f"a name or title needs 1 to {MAX_NAME} printable characters")
        try:
            with self._engine.begin() as connection:
                connection.execute(table.insert().values(**asdict(entry)))
        except IntegrityError:
            raise Refused("exists", f"there is already a {table.name} {entry.id!r}") from None

    @staticmethod
    def _need(found: _T | None, kind: str, wanted: str, known: Sequence[str]) -> _T:
        if found is None:
            there = f"there are: {', '.join(known)}" if known else f"add one with `linetally-hub {kind} add`"
            raise Refused("not-found", f"there is no {kind} {wanted!r}; {there}")
        return found

    def _list(self, kind: type[_T], query: Select[Any]) -> list[_T]:
        with self._engine.connect() as connection:
            return [kind(**row._mapping) for row in connection.execute(query)]

    def _one(self, kind: type[_T], query: Select[Any]) -> _T | None:
        found = self._list(kind, query)
        return found[0] if found else None

    def _gateway(self, query: Select[Any]) -> Gateway | None:
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else gateway_of(row)


def gateway_of(row: Row[Any]) -> Gateway:
    """The gateway of a row of `db.gateway`."""
    mapping = dict(row._mapping)
    mapping |= {"state": GatewayState(row.state), "lines": tuple(row.lines)}
    mapping |= {"kid": bytes(row.kid), "public_key": bytes(row.public_key)}
    return Gateway(**mapping)


def revoke(connection: Connection, gateway_id: str) -> None:
    """Marks a gateway revoked, within the caller's transaction."""
    connection.execute(db.gateway.update().where(db.gateway.c.id == gateway_id).values(state="revoked"))


def token_hash(text: str) -> bytes:
    """What is stored of a token. A fast hash is right here: a token has 256 random bits, so nobody guesses it."""
    return hashlib.sha256(text.encode()).digest()
