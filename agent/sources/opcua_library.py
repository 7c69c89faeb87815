"""Loads asyncua's client without its server.

Decides nothing of OPC UA. `import asyncua` loads a whole server with its history, tables and publishing: 2 MB and a
tenth of a second, which a client never uses. While the client is loaded another module stands in its place; whoever
asks for the server afterwards gets the real one.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final

_SERVER: Final = "asyncua.server"


def load(name: str) -> None:
    """Imports `name`, a module that uses asyncua's client; nothing more than that if asyncua is there already."""
    if "asyncua" in sys.modules:
        importlib.import_module(name)
        return
    stand_in = ModuleType(_SERVER)
    stand_in.Server = None  # type: ignore[attr-defined] # the one name that the package takes from it
    sys.modules[_SERVER] = stand_in
    try:
        importlib.import_module(name)
    finally:
        if sys.modules.get(_SERVER) is stand_in:
            del sys.modules[_SERVER]
        package = sys.modules.get("asyncua")
        if package is not None:
            vars(package).pop("Server", None)
            vars(package)["__getattr__"] = _missing


def _missing(name: str) -> Any:
    if name == "Server":
        return importlib.import_module(_SERVER).Server
    raise AttributeError(f"module 'asyncua' has no attribute {name!r}")
