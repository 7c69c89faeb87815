"""The health endpoint: `/healthz` and `/metrics` over HTTP, on the loopback address only.

Decides what is answered to whom. It reads, and nothing can be changed through it; a port that is taken is said, and the
agent measures on without it. What the figures are is decided in `health_metrics`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from agent.health_metrics import Facts, health_json, metrics_text

HOST: Final = "127.0.0.1"
_ANSWER_S: Final = 5.0
_MAX_REQUEST: Final = 8192
_MAX_PEERS: Final = 8
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "health"})


async def serve_health(port: int, facts: Callable[[], Facts]) -> None:
    """Serves until it is cancelled; at once done where `port` is 0 or taken."""
    if not port:
        return
    peers = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal peers
        peers += 1
        try:
            if peers <= _MAX_PEERS:
                async with asyncio.timeout(_ANSWER_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(request, facts))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a peer that is slow, gone or no HTTP client is none of our business
        finally:
            peers -= 1
            writer.close()

    try:
        server = await asyncio.start_server(answer, HOST, port, limit=_MAX_REQUEST)
    except OSError as error:
        _log.warning("http://%s:%d cannot be served (%s); give health.port another", HOST, port, error.strerror)
        return
    _log.info("health and figures: http://%s:%d/healthz and /metrics", HOST, port)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()


def _response(request: bytes, facts: Callable[[], Facts]) -> bytes:
    method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
    path = rest.split(b" ")[0].partition(b"?")[0]
    kind = "text/plain; charset=utf-8"
    if method not in (b"GET", b"HEAD"):
        status, body = HTTPStatus.METHOD_NOT_ALLOWED, "only GET\n"
    elif path == b"/healthz":
        ok, body = health_json(facts())
        status = HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
        kind = "application/json"
    elif path == b"/metrics":
        status, body = HTTPStatus.OK, metrics_text(facts())
        kind = "text/plain; version=0.0.4; charset=utf-8"
    else:
        status, body = HTTPStatus.NOT_FOUND, "there are /healthz and /metrics\n"
    data = body.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else data)
