"""The log as static files: c2sp.org/tlog-tiles, to be read by any client and mirrored by any tool.

Decides who may read what, types and caching. The checkpoint and the hash tiles tell hashes only and are open to all;
entries are everybody's production figures, and no scope can filter them, so they need a role that may see all.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import FileResponse, Response

from hub.api.access import Action, find_identity
from hub.api.state import ServicesOf
from hub.services import Services

router = APIRouter(prefix="/log", tags=["log"])

# tlog-tiles, "Merkle Tree": <L> is 0 to 63 without leading zeroes; <N> is groups of three digits, all but the last
# beginning with x; partial tiles end in .p/<W> with W from 1 to 255.
_TILE: Final = re.compile(
    r"(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?:x[0-9]{3}/)*[0-9]{3}(?P<partial>\.p/(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9][0-9]?))?"
)
FULL: Final = "public, max-age=31536000, immutable"
PARTIAL: Final = "public, max-age=3600"


@router.get("/checkpoint", summary="The newest signed checkpoint", response_class=Response)
def checkpoint(services: ServicesOf) -> Response:
    return Response(
        services.log.checkpoint(), media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-cache"}
    )


@router.get("/tile/{path:path}", summary="A tile of hashes, or a bundle of entries", response_class=FileResponse)
def tile(path: str, request: Request, services: ServicesOf) -> Response:
    found = _TILE.fullmatch(path)
    if found is None:
        raise HTTPException(404, "not a tile's path")
    secret = found["level"] == "entries"
    if secret:
        identity = find_identity(request)
        if identity is None:
            raise HTTPException(401, "sign in, or send a bearer token", {"WWW-Authenticate": "Bearer"})
        if not identity.may(Action.ENTRIES):
            raise HTTPException(403, "entries are open to those who may see every project")
    file = tile_file(services, path)
    caching = PARTIAL if found["partial"] else FULL
    if secret:
        caching = caching.replace("public", "private")
    return FileResponse(file, media_type="application/octet-stream", headers={"Cache-Control": caching})


def tile_file(services: Services, path: str) -> Path:
    """The file of a tile whose path has the one allowed form. Raises 404."""
    folder = (services.config.log_folder / "tile").resolve()
    file = (folder / path).resolve()
    # The pattern leaves no room for "..": this is against a symbolic link in the log's folder.
    if not file.is_relative_to(folder) or not file.is_file():
        raise HTTPException(404, "there is no such tile")
    return file
