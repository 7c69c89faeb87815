"""Where machine code is kept between starts: a folder for each build.

Decides the folder's name (a hash of everything that machine code depends on) and the form of a kept file: SHA-256
of the content, then the content. A file that is cut short or altered by a fault is made anew. Whoever can write the
folder can run code in this process, so it is made for its owner only, and refused when others can write it.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import stat
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

_log: Final = logging.getLogger(__name__)
DIGEST: Final = 32
"""Bytes of a kept file before its content."""
# Of /proc/cpuinfo: which CPU it is and what it can do, on x86-64 and AArch64.
_CPU: Final = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")


def folder() -> Path:
    """Where machine code is kept: a folder of this build. `LINETALLY_CACHE` moves it."""
    env = os.environ
    if "LINETALLY_CACHE" in env:
        base = Path(env["LINETALLY_CACHE"])
    elif "NUMBA_CACHE_DIR" in env:
        base = Path(env["NUMBA_CACHE_DIR"])
    elif "XDG_CACHE_HOME" in env:
        base = Path(env["XDG_CACHE_HOME"]) / "linetally"
    else:
        base = Path(os.path.expanduser("~")) / ".cache" / "linetally"  # noqa: PTH111 - Path.home may raise
    return base / f"kernels-{build()}"


@cache
def build() -> str:
    """A hash of all that machine code depends on: the kernels' sources, the compiler, Python and the CPU."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for source in [*sorted(here.glob("*.py")), here.parent.parent / "plc" / "roles.py"]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    parts = (*map(_version, ("numba", "llvmlite")), sys.version, os.uname().machine, _cpu())
    digest.update("\0".join(parts).encode())
    return digest.hexdigest()[:24]


def _version(package: str) -> str:
    """What a package says of its version, without loading it; "" where it is not there."""
    found = find_spec(package)
    if found is None or found.origin is None:
        return ""
    file = Path(found.origin).with_name("_version.py")
    if file.exists():
        return file.read_text("utf-8")
    from importlib import metadata  # 1 MB, for a form of these packages that is not known yet

    return metadata.version(package)


def _cpu() -> str:
    """Which CPU this is and what it can do. LLVM is asked only where the system's own words cannot be read: to load it
    takes 50 MB."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    found = sorted({line for line in lines if line.startswith(_CPU)})
    if found:
        return "\n".join(found)
    llvm: Any = importlib.import_module("llvmlite.binding")

    features = ",".join(f"{name}{on:d}" for name, on in sorted(llvm.get_host_cpu_features().items()))
    return f"{llvm.get_host_cpu_name()} {features}"


@cache
def usable_folder() -> Path | None:
    """The folder, or None with a word about why not."""
    path = folder()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        # A gateway has a user of its own. Code from a folder that others may write would run as that user.
        if found.st_uid not in (os.getuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError("other users can write it")
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        _log.warning("kernels are compiled anew at each start: %s cannot be used: %s", path, error.strerror or error)
        return None
    return path


def kept_file(name: str) -> Path | None:
    """The file of that name, there or not yet; None where nothing can be kept."""
    path = usable_folder()
    return None if path is None else path / f"{name}.bin"


def read(file: Path) -> bytes | None:
    """The content that was written, whole, or None."""
    try:
        kept = file.read_bytes()
    except OSError:
        return None
    code = kept[DIGEST:]
    if len(code) < 2 or hashlib.sha256(code).digest() != kept[:DIGEST]:
        _log.warning("%s is damaged; it is made anew", file)
        return None
    return code


def write(file: Path, code: bytes) -> None:
    """Keeps `code`, or says why not."""
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.stem)
        with os.fdopen(descriptor, "wb") as out:
            out.write(hashlib.sha256(code).digest() + code)
        Path(name).replace(file)  # another process may write the same file: both have the same content
    except OSError as error:
        _log.warning("machine code cannot be kept in %s: %s", file.parent, error.strerror or error)
