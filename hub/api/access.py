"""Who asks, and what they may see and do.

Decides which role may do what, and the scope of each; tokens are the registry's. The scope
filter is part of each query (`lines_in`, `projects_in`, `gateways_in`), so another's id is simply not found: 404.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from sqlalchemy import ColumnElement, and_, false, select, true

from hub.database import gateway, line, project
from hub.registry import Registry, Role

COOKIE: Final = "linetally_token"
MAX_TOKEN: Final = 200


class Action(StrEnum):
    """What a route does. The table below says which roles may."""

    READ = "read"  # lines, projects, gateways and outcomes in scope
    LIVE = "live"  # unsigned telemetry of the shop floor
    REPORT = "report"  # have an outcome bundle made
    ENTRIES = "entries"  # the log's entries, which nobody can filter by scope


ALLOWED: Final[dict[Action, frozenset[Role]]] = {
    Action.READ: frozenset(Role),
    Action.LIVE: frozenset(Role) - {Role.AUDITOR},
    Action.REPORT: frozenset(Role) - {Role.COMMITTEE},
    Action.ENTRIES: frozenset({Role.AUDITOR, Role.SECRETARIAT, Role.OPERATOR}),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody signed in. None for `schemes` or `enterprises` means not limited by it; both limits hold together."""

    name: str
    role: Role
    schemes: frozenset[str] | None
    enterprises: frozenset[str] | None
    expires_ms: int | None
    local: bool = False

    def may(self, action: Action) -> bool:
        if action is Action.ENTRIES and not self.unlimited:
            return False
        return self.role in ALLOWED[action]

    @property
    def unlimited(self) -> bool:
        return self.schemes is None and self.enterprises is None

    def projects_in(self) -> ColumnElement[bool]:
        """The projects within scope, as a condition on table `project`."""
        limits: list[ColumnElement[bool]] = []
        if self.schemes is not None:
            limits.append(project.c.scheme_id.in_(self.schemes) if self.schemes else false())
        if self.enterprises is not None:
            limits.append(project.c.enterprise_id.in_(self.enterprises) if self.enterprises else false())
        return and_(true(), *limits)

    def lines_in(self) -> ColumnElement[bool]:
        """The lines within scope, as a condition on table `line`. A line of no project belongs to no scheme."""
        return self._by_project(line.c.enterprise_id, line.c.project_id)

    def gateways_in(self) -> ColumnElement[bool]:
        """The gateways within scope, as a condition on table `gateway`."""
        return self._by_project(gateway.c.enterprise_id, gateway.c.project_id)

    def _by_project(self, enterprise_id: Any, project_id: Any) -> ColumnElement[bool]:
        limits: list[ColumnElement[bool]] = []
        if self.enterprises is not None:
            limits.append(enterprise_id.in_(self.enterprises) if self.enterprises else false())
        if self.schemes is not None:
            limits.append(project_id.in_(select(project.c.id).where(project.c.scheme_id.in_(self.schemes))))
        return and_(true(), *limits)


LOCAL_OPERATOR: Final = Identity("local", Role.OPERATOR, None, None, None, local=True)


def identity_of(token: str, registry: Registry, now_ms: int) -> Identity | None:
    """Whose token this is; None when it is unknown or has expired."""
    found = registry.check_api_token(token, now_ms) if 0 < len(token) <= MAX_TOKEN else None
    if found is None:
        return None
    schemes, enterprises = found.scope.get("schemes"), found.scope.get("enterprises")
    if found.role is Role.MANUFACTURER and enterprises is None:
        enterprises = []  # fails closed: a manufacturer's token that names no enterprise sees nothing
    return Identity(
        found.label,
        found.role,
        None if schemes is None else frozenset(schemes),
        None if enterprises is None else frozenset(enterprises),
        found.expires_ms,
    )


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def local_request(request: Request) -> bool:
    """A request of this machine itself, made to this machine by name.

    The Host must be loopback as well: a page of another site can point its own name at 127.0.0.1 (DNS rebinding).
    A forwarded request came through a proxy, and from anybody.
    """
    if request.headers.get("forwarded") or request.headers.get("x-forwarded-for"):
        return False
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    return _is_loopback(request.client.host if request.client else None) and _is_loopback(host)


def same_origin(request: Request) -> bool:
    """Whether a changing request comes from our own page (or from no page at all, as a script's does)."""
    origin = request.headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.headers.get("host")
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def find_identity(request: Request) -> Identity | None:
    """The caller by bearer token, else by cookie, else by standing at the machine itself; None for a stranger."""
    services = request.app.state.services
    now_ms = services.now_ms()
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        return identity_of(token.strip(), services.registry, now_ms) if scheme.lower() == "bearer" else None
    # A cookie travels with requests that other sites caused; those may look, as the user may, but change nothing.
    if request.method not in ("GET", "HEAD") and not same_origin(request):
        return None
    cookie = request.cookies.get(COOKIE)
    if cookie and (found := identity_of(cookie, services.registry, now_ms)):
        return found
    if request.app.state.loopback and local_request(request):
        return LOCAL_OPERATOR
    return None


def require(action: Action) -> Any:
    """A dependency that gives the caller's identity, or answers 401 (who are you?) or 403 (not your role's)."""

    def check(request: Request) -> Identity:
        identity = find_identity(request)
        if identity is None:
            raise HTTPException(401, "sign in, or send a bearer token", {"WWW-Authenticate": "Bearer"})
        if not identity.may(action):
            raise HTTPException(403, f"the role {identity.role} may not do this")
        return identity

    return Depends(check)


Reading = Annotated[Identity, require(Action.READ)]
Watching = Annotated[Identity, require(Action.LIVE)]
Reporting = Annotated[Identity, require(Action.REPORT)]
ReadingEntries = Annotated[Identity, require(Action.ENTRIES)]
