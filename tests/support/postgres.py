"""A PostgreSQL server in a folder, for the tests that the database must pass on both engines."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_USER = "linetally"


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        pytest.skip("PostgreSQL's server is not on this machine (Debian: postgresql)")
    return found[-1].parent


def _as_user(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root; then it runs as the user that its package made."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("as root, a PostgreSQL server needs the user postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["runuser", "-u", "postgres", "--"]


@contextmanager
def postgres_in(folder: Path, port: int) -> Iterator[str]:
    """The address of a server that listens on 127.0.0.1:port until the end. `folder` must be reachable for others."""
    pytest.importorskip("psycopg", reason="the psycopg driver is not installed")
    # pytest's folders are closed to other users, and the server may run as another one.
    home = _home(port)
    home.mkdir(mode=0o755)
    prefix = _as_user(home)
    try:
        data = str(home / "data")
        words = [str(_programs() / "initdb"), "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*prefix, *words], check=True, capture_output=True, cwd=home, timeout=60)
        start(port)
        try:
            yield f"postgresql+psycopg://{_USER}@127.0.0.1:{port}/postgres"
        finally:
            stop(port)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def start(port: int) -> None:
    """Starts the server of `postgres_in` again, after `stop`."""
    home = _home(port)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    _control(port, "-l", str(home / "log"), "-o", options, "start")


def stop(port: int) -> None:
    """At once: open connections are cut."""
    _control(port, "-m", "immediate", "stop")


def _home(port: int) -> Path:
    return Path(f"/tmp/linetally-postgres-{port}")


def _control(port: int, *words: str) -> None:
    home = _home(port)
    command = [*_as_user(home), str(_programs() / "pg_ctl"), "-D", str(home / "data"), "-w", *words]
    subprocess.run(command, check=True, capture_output=True, cwd=home, timeout=60)
