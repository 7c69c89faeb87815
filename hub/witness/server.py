"""The witness over HTTP: one path, POST /add-checkpoint.

Decides limits: the size and the time of a request, and how many at once. What is answered is decided in `state`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvicorn

from hub.witness.state import Answer, Witness
from protocols.wire.add_checkpoint import MAX_BYTES, PATH

BODY_S: Final = 10.0
MAX_CONNECTIONS: Final = 64

Message = dict[str, Any]


class WitnessApp:
    """An ASGI application."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        assert scope["type"] == "http", "lifespan and websockets are switched off"
        if scope["path"] != PATH:
            answer = Answer(404, b"this is a witness: POST /add-checkpoint (c2sp.org/tlog-witness)\n")
        elif scope["method"] != "POST":
            answer = Answer(405, b"POST\n")
        else:
            body = await _body(receive)
            # fsync blocks: it has a thread.
            answer = body if isinstance(body, Answer) else await asyncio.to_thread(self._witness.add_checkpoint, body)
        headers = [(b"content-type", answer.content_type.encode()), (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes | Answer:
    body: bytes = b""
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > MAX_BYTES:
                    return Answer(413, b"the request is too long\n")
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        return Answer(408, b"the request came too slowly\n")


def serve(witness: Witness, host: str, port: int, ready: Callable[[], None]) -> bool:
    """Serves until SIGTERM or Ctrl-C; False where the port cannot be had."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    config = uvicorn.Config(
        WitnessApp(witness), host=host, port=port, lifespan="off", ws="none", log_config=None, access_log=False,
        server_header=False, limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=60, timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = Server(config)
    server.run()
    return server.started
