"""The pages people open: overview, line, project, sign-in.

Decides what each template is given. Data goes into a page as JSON that its script draws; the words of the reader's
language go with it.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

import jinja2
import plotly
from fastapi import APIRouter, Form, HTTPException, Request
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from hub.api import catalogue, models
from hub.api.access import COOKIE, Action, Identity, find_identity, identity_of, same_origin
from hub.api.live import hub_state
from hub.api.state import BoardOf, ServicesOf
from hub.web.words import LANGUAGES, TABLES, language_of

WEB: Final = Path(__file__).resolve().parent.parent / "web"
LANGUAGE_COOKIE: Final = "linetally_language"
YEAR_S: Final = 31_536_000
PAST_MS: Final = 86_400_000
"""A line without live data whose last window is older than this is no longer measured."""
_JSON_IN_HTML: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})

router = APIRouter(include_in_schema=False)
_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(WEB / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def as_json(data: object) -> Markup:
    """JSON for a script element: nothing in it can end the element or begin another."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(_JSON_IN_HTML)
    return Markup(text)  # noqa: S704 (every character that HTML gives a meaning to was escaped on the line above)


def render(
    request: Request, name: str, who: Identity | None, *, data: dict[str, Any], status: int = 200, **context: Any
) -> HTMLResponse:
    """A page in the reader's language. `data` is for its script."""
    wanted = request.query_params.get("lang")
    language = language_of(wanted, request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"))
    words = TABLES[language]
    text = _templates.get_template(name).render(
        w=words,
        language=language,
        languages=LANGUAGES,
        who=who,
        path=request.url.path,
        page_data=as_json({"language": language, "words": words} | data),
        hub_name=request.app.state.services.config.name,
        **context,
    )
    response = HTMLResponse(text, status)
    if wanted in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, wanted, max_age=YEAR_S, samesite="lax", httponly=True)
    response.headers["Cache-Control"] = "no-store"
    return response


def problem(request: Request, who: Identity | None, status: int, words: str) -> HTMLResponse:
    """A page that says why there is none."""
    return render(request, "problem.html", who, data={"page": "problem"}, status=status, code=status, problem=words)


def _caller(request: Request) -> Identity | None:
    return find_identity(request)


def _to_sign_in(request: Request) -> RedirectResponse:
    return RedirectResponse(f"/sign-in?next={quote(request.url.path, safe='/')}", 303)


@router.get("/")
def overview(request: Request, services: ServicesOf, board: BoardOf) -> Response:
    who = _caller(request)
    if who is None:
        return _to_sign_in(request)
    lines = catalogue.lines(services, who) if who.may(Action.READ) else []
    sees = {line.id for line in lines} if who.may(Action.LIVE) else set()
    views = [view.model_dump(mode="json") for name, view in board.views().items() if name in sees]
    past = _past_lines(services, [line for line in lines if line.id not in {view["line"] for view in views}])
    lines = [line for line in lines if line.id not in {each.id for each, _ in past}]
    data = {
        "page": "overview",
        "lines": [line.model_dump(mode="json") for line in lines],
        "views": views,
        "hub": hub_state(services).model_dump(mode="json", exclude={"alarms"}),
        "live": who.may(Action.LIVE),
    }
    alarms = hub_state(services).alarms if who.unlimited else []
    projects = catalogue.projects(services, who)
    live = who.may(Action.LIVE)
    return render(
        request, "overview.html", who, data=data, lines=lines, past=past, projects=projects, alarms=alarms, live=live
    )


def _past_lines(services: ServicesOf, silent: list[models.Line]) -> list[tuple[models.Line, str]]:
    """Lines whose measuring is over, with their last day: they are no trouble, and do not belong on the wall."""
    out = []
    for line in silent:
        span = services.index.span(line.id)
        if span is not None and services.now_ms() - span[1] > PAST_MS:
            out.append((line, f"{datetime.fromtimestamp(span[1] / 1000, ZoneInfo(line.timezone)):%Y-%m-%d}"))
    return out


OF_A_LINE: Final = ("none", "shift", "shift_of_day", "day", "product", "order")
OF_LINES: Final = ("line", "area", "site")
OF_ALL: Final = ("enterprise", "project", "scheme")


def _losses(lines: list[models.Line], **only: str) -> dict[str, Any]:
    """What the losses' script is told: which sums to ask for, until when there are any, and in whose time."""
    ends = [line.last_ms for line in lines if line.last_ms is not None]
    zones = {line.timezone for line in lines}
    return {"last_ms": max(ends, default=None), "timezone": zones.pop() if len(zones) == 1 else "UTC", **only}


@router.get("/losses")
def losses(request: Request, services: ServicesOf) -> Response:
    who = _caller(request)
    if who is None:
        return _to_sign_in(request)
    lines = catalogue.lines(services, who)
    return render(
        request, "all_losses.html", who, data={"page": "losses", "losses": _losses(lines)}, lines=lines,
        simulated=any(each.simulated for each in lines), groups=(*OF_LINES, *OF_ALL, *OF_A_LINE), group_shown="line",
        days_shown=7, amended=False, machines=[],
    )  # fmt: skip


@router.get("/lines/{line_id}")
def line(line_id: str, request: Request, services: ServicesOf, board: BoardOf) -> Response:
    who = _caller(request)
    if who is None:
        return _to_sign_in(request)
    found = catalogue.line(services, who, line_id)
    view = board.views().get(line_id) if who.may(Action.LIVE) else None
    data = {
        "page": "line",
        "lines": [found.model_dump(mode="json")],
        "views": [] if view is None else [view.model_dump(mode="json")],
        "hub": hub_state(services).model_dump(mode="json", exclude={"alarms"}),
        "live": who.may(Action.LIVE),
    }
    gateways = [g.id for g in catalogue.gateways(services, who) if line_id in g.lines]
    data |= {"gateways": gateways, "losses": _losses([found], line=line_id)}
    return render(
        request, "line.html", who, data=data, line=found, live=who.may(Action.LIVE), groups=OF_A_LINE,
        group_shown="none", days_shown=7, amended=True, machines=found.machines,
    )  # fmt: skip


@router.get("/projects/{project_id}")
def project(project_id: str, request: Request, services: ServicesOf) -> Response:
    who = _caller(request)
    if who is None:
        return _to_sign_in(request)
    found = catalogue.project(services, who, project_id)
    gateways = catalogue.gateways(services, who, project_id=project_id)
    auditors = catalogue.auditors(services, who, project_id)
    lines = [line for line in catalogue.lines(services, who) if line.project_id == project_id]
    zone = lines[0].timezone if lines else "Asia/Hong_Kong"
    data = {
        "page": "project",
        "project": found.model_dump(mode="json"),
        "gateways": [gateway.model_dump(mode="json") for gateway in gateways],
        "auditors": [auditor.model_dump(mode="json") for auditor in auditors],
        "timezone": zone,
        "hub": hub_state(services).model_dump(mode="json", exclude={"alarms"}),
        "may_report": who.may(Action.REPORT),
        "losses": _losses(lines, project=project_id),
    }
    return render(
        request, "project.html", who, data=data, project=found, lines=lines, gateways=gateways, auditors=auditors,
        may_report=who.may(Action.REPORT), groups=(*OF_A_LINE, *OF_LINES), group_shown="none", days_shown=30,
        amended=False, machines=[],
    )  # fmt: skip


@router.get("/sign-in")
def sign_in(request: Request) -> Response:
    return render(request, "sign_in.html", None, data={"page": "sign-in"}, wrong=False, next_path=_next(request))


@router.post("/sign-in")
async def signed_in(
    request: Request, services: ServicesOf, token: Annotated[str, Form(max_length=400)], next_path: str = "/"
) -> Response:
    if not same_origin(request):
        raise HTTPException(403, "this form was sent from another site")
    who = await run_in_threadpool(identity_of, token.strip(), services.registry, services.now_ms())
    if who is None:
        return render(
            request, "sign_in.html", None, data={"page": "sign-in"}, status=401, wrong=True, next_path=_next(request)
        )
    response = RedirectResponse(_next(request), 303)
    assert who.expires_ms is not None
    lasts_s = max(0, (who.expires_ms - services.now_ms()) // 1000)
    response.set_cookie(
        COOKIE, token.strip(), max_age=lasts_s, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    if not same_origin(request):
        raise HTTPException(403, "this form was sent from another site")
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE)
    return response


@router.get("/static/plotly.min.js")
def plotly_script() -> Response:
    """From the plotly package on this machine: the pages load nothing from elsewhere."""
    file = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return FileResponse(file, media_type="text/javascript", headers={"Cache-Control": "public, max-age=86400"})


def _next(request: Request) -> str:
    """Where to go after signing in: a path of our own pages only, never another site."""
    wanted = request.query_params.get("next", "/")
    return wanted if wanted in ("/", "/losses") or wanted.startswith(("/lines/", "/projects/")) else "/"
