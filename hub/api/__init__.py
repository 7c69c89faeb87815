"""The hub's HTTP face: the API with its OpenAPI, live events, the static log, and the pages.

Decides which routes there are, and the headers that every answer carries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.api import catalogue, gateways, lines, live, log, outcomes, pages, rollup
from hub.api.access import find_identity
from hub.api.board import Board
from hub.api.evaluation import Evaluations
from hub.api.reports import Reports
from hub.config import Access
from hub.database import DATABASE_ERRORS, fault_words
from hub.services import Services
from hub.web.words import TABLES

logger = logging.getLogger("hub.api")

MAX_BODY_BYTES: Final = 65_536
RETRY_S: Final = 10

# plotly writes style attributes into its SVG; scripts come from here only.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def create_app(services: Services) -> FastAPI:
    """The application. Its lifespan runs the live board; `app.state.board.close()` ends every event stream, to be
    called on the loop before the server waits for its connections."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(app.state.board.run(services.live), name="board")
        try:
            yield
        finally:
            app.state.board.close()
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await asyncio.to_thread(app.state.reports.close)

    # The interactive documentation would load its scripts from another site; the description itself is served.
    app = FastAPI(
        title="linetally hub",
        version="1",
        description="A production line's tally that both sides can trust.",
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    app.state.loopback = services.config.server.access is Access.LOOPBACK
    app.state.board = Board(lambda: catalogue.zones(services), lambda: catalogue.amended_reasons(services))
    app.state.reports = Reports(services)
    app.state.evaluations = Evaluations()
    for module in (lines, outcomes, gateways, rollup, live, log, pages):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=pages.WEB / "static"), name="static")
    app.add_exception_handler(StarletteHTTPException, _failed)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, _database_away)
    app.add_middleware(_Guard)
    return app


def _wants_page(request: Request) -> bool:
    programs = request.url.path.startswith(("/api/", "/log/", "/static/"))
    return "text/html" in request.headers.get("accept", "") and not programs


async def _failed(request: Request, error: Exception) -> Response:
    """A page for people, JSON for programs. The words are ours; nothing of the request is repeated."""
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 404 and _wants_page(request):
        who = await asyncio.to_thread(find_identity, request)
        return pages.problem(request, who, 404, "not_found")
    return await http_exception_handler(request, HTTPException(error.status_code, error.detail, error.headers))


async def _database_away(request: Request, error: Exception) -> Response:
    """The writer's alarm says what is wrong with the database (`hub.ingest`); who asks is told to wait."""
    logger.warning("%s is not answered: %s", request.url.path, fault_words(error))
    if _wants_page(request):
        answer: Response = pages.problem(request, None, 503, "database_away")
    else:
        answer = JSONResponse({"detail": TABLES["en"]["database_away"]}, 503)
    answer.headers["Retry-After"] = str(RETRY_S)
    return answer


class _Guard:
    """Puts HEADERS on every answer, and refuses bodies over MAX_BODY_BYTES before anything reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > MAX_BODY_BYTES:
                    return {"type": "http.disconnect"}
            return message

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            await JSONResponse({"detail": f"a body is at most {MAX_BODY_BYTES} bytes"}, 413)(scope, receive, guarded)
            return
        await self._app(scope, limited, guarded)
