"""The static log: the published layout and caching, and nothing beside it."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.hub.web.plant import CHECKPOINT, Plant


@pytest.fixture
def tiles(plant: Plant) -> Path:
    folder = plant.services.config.log_folder / "tile"
    for path in ("0/000", "0/x001/234", "1/000.p/3", "entries/000", "entries/001.p/7"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    (folder.parent / "secret").write_text("the secret")
    (folder / "0" / "999").symlink_to(folder.parent / "secret")
    return folder


def test_checkpoint_is_never_cached(address: str) -> None:
    answer = httpx.get(address + "/log/checkpoint")
    assert answer.content == CHECKPOINT
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


def test_full_tiles_are_immutable_and_open(tiles: Path, address: str) -> None:
    for path in ("0/000", "0/x001/234"):
        answer = httpx.get(f"{address}/log/tile/{path}")
        assert answer.content == path.encode()
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"] == "application/octet-stream"
    assert "immutable" not in httpx.get(f"{address}/log/tile/1/000.p/3").headers["cache-control"]


def test_entries_are_for_those_who_may_see_everything(plant: Plant, tiles: Path, address: str) -> None:
    for role, status in (
        (None, 401), ("manufacturer", 403), ("committee", 403), ("auditor", 403), ("secretariat", 403),
        ("chief-auditor", 200), ("operator", 200),
    ):  # fmt: skip
        headers = {"Authorization": f"Bearer {plant.tokens[role]}"} if role else {}
        answer = httpx.get(address + "/log/tile/entries/000", headers=headers)
        assert answer.status_code == status, role
        assert "public" not in answer.headers.get("cache-control", "")


OUTSIDE = [
    "../secret", "..%2fsecret", "%2e%2e/secret", "0/../../secret", "0/%2e%2e/%2e%2e/secret", "/etc/passwd",
    "%2fetc%2fpasswd", "0/000%00", "0/000/", "0//000", "64/000", "00/000", "0/00", "0/1000", "0/x00/000",
    "0/000.p/0", "0/000.p/256", "0/000.p/01", "entries", "0/000.p", "x/000", "0/999", "..\\secret", "0/001",
]  # fmt: skip


def test_nothing_beside_the_tiles_is_reachable(tiles: Path, address: str) -> None:
    assert tiles.is_dir()
    for path in OUTSIDE:
        status, body = by_hand(address, path)
        assert status in (400, 404), path
        assert b"secret" not in body and b"root:" not in body, path


def by_hand(address: str, path: str) -> tuple[int, bytes]:
    """An HTTP client would tidy the path up before sending it."""
    where = urlsplit(address)
    assert where.hostname and where.port
    with socket.create_connection((where.hostname, where.port), timeout=5) as link:
        link.sendall(f"GET /log/tile/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body
