"""Live values as server-sent events (WHATWG HTML, 9.2): one `line` event a line and second, one `hub` event a beat.

Decides the stream's form and its limits: a reader that does not read is dropped after SEND_WITHIN_S, every stream
ends after STREAM_S (the browser opens it again, and is asked again who it is).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from fastapi import APIRouter, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.api import catalogue, models
from hub.api.access import Identity, Reading, Watching
from hub.api.board import Board, Reader
from hub.api.state import BoardOf, ServicesOf
from hub.services import Services

router = APIRouter(prefix="/api/v1", tags=["live"])

BEAT_S: Final = 2.0
SEND_WITHIN_S: Final = 20.0
STREAM_S: Final = 900.0


def hub_state(services: Services) -> models.HubState:
    status = services.status()
    return models.HubState(
        now_ms=services.now_ms(),
        started_ms=status.started_ms,
        log_origin=services.config.log.origin,
        log_size=status.log_size,
        log_vkey=services.log_vkey,
        broker_connected=status.broker_connected,
        last_record_ms=status.last_record_ms,
        admitted_count=status.admitted_count,
        duplicate_count=status.duplicate_count,
        refused_count=status.refused_count,
        fork_count=status.fork_count,
        alarms=list(status.alarms),
        sparkplug=None if status.sparkplug is None else models.Sparkplug(**asdict(status.sparkplug)),
    )


def beat(services: Services) -> str:
    """The `hub` event's data: what any page needs to know that the hub lives and where its log stands."""
    status = services.status()
    return json.dumps(
        {"now_ms": services.now_ms(), "log_size": status.log_size, "broker_connected": status.broker_connected}
    )


class EventStream(Response):
    """A stream of events to one reader. Memory is bounded by the reader's mailbox and the socket's buffer."""

    media_type = "text/event-stream"

    def __init__(self, board: Board, reader: Reader, services: Services) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._board = board
        self._reader = reader
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                pump = group.create_task(self._pump(send), name="events")
                group.create_task(_until_gone(receive, pump), name="events-disconnect")
        finally:
            self._board.leave(self._reader)

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(STREAM_S):
                async for chunk in self._chunks():
                    async with asyncio.timeout(SEND_WITHIN_S):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        yield b"retry: 2000\n\n" + await self._beat()
        beat_at = loop.time() + BEAT_S
        while True:
            views = await self._reader.take(max(0.0, beat_at - loop.time()))
            if views is None:
                return
            if views:
                yield "".join(f"event: line\ndata: {view}\n\n" for view in views).encode()
            if loop.time() >= beat_at:
                yield await self._beat()
                beat_at = loop.time() + BEAT_S

    async def _beat(self) -> bytes:
        text = await run_in_threadpool(beat, self._services)
        return f"event: hub\ndata: {text}\n\n".encode()


async def _until_gone(receive: Receive, pump: asyncio.Task[None]) -> None:
    """Ends the pump when the client has left, or itself when the pump has ended."""
    waiting = asyncio.ensure_future(receive())
    try:
        while not pump.done():
            await asyncio.wait({waiting, pump}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                if (await waiting)["type"] == "http.disconnect":
                    pump.cancel()
                    return
                waiting = asyncio.ensure_future(receive())
    finally:
        waiting.cancel()


@router.get(
    "/live",
    summary="Live values as server-sent events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def live(who: Watching, services: ServicesOf, board: BoardOf, line: str | None = None) -> EventStream:
    """Events `line` (data: a LineView) for the lines that you may see, or only `line`; events `hub` every 2 s."""
    sees = await run_in_threadpool(visible_lines, services, who, line)
    reader = board.open(sees.__contains__)
    if reader is None:
        raise HTTPException(503, "too many pages are open at this hub", {"Retry-After": "30"})
    return EventStream(board, reader, services)


def visible_lines(services: Services, who: Identity, line_id: str | None) -> frozenset[str]:
    """What a stream shows. A line that is registered later shows when the stream opens again. Raises 404."""
    sees = catalogue.line_ids(services, who)
    if line_id is None:
        return sees
    if line_id not in sees:
        raise catalogue.not_found()
    return frozenset({line_id})


@router.get("/status", summary="How the hub is", tags=["hub"])
def status(who: Reading, services: ServicesOf) -> models.HubState:
    state = hub_state(services)
    # Alarms may name gateways of others.
    return state if who.unlimited else state.model_copy(update={"alarms": []})


@router.get("/me", summary="Who you are", tags=["hub"])
def me(who: Reading) -> models.Me:
    return models.Me(
        name=who.name,
        role=who.role.value,
        schemes=None if who.schemes is None else sorted(who.schemes),
        enterprises=None if who.enterprises is None else sorted(who.enterprises),
        expires_ms=who.expires_ms,
    )
