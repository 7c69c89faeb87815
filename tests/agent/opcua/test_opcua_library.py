"""The agent loads asyncua's client without its server; who wants the server has it afterwards."""

from __future__ import annotations

import subprocess
import sys

_LOAD = """
import sys
from agent.sources.opcua_library import load
load("agent.sources.opcua_shared")
print(sorted(name for name in sys.modules if name.startswith(("asyncua.server", "asyncua.pubsub"))))
from asyncua import Server
import asyncua.server.server
print(Server is asyncua.server.server.Server is asyncua.server.Server)
load("agent.sources.opcua_shared")
print(hasattr(asyncua, "nothing"))
"""


def test_the_server_is_loaded_only_where_it_is_wanted() -> None:
    """Of a process of its own: here it is loaded already. It fails when asyncua's client begins to need more of it."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", _LOAD], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "True", "False"], done.stderr


def test_a_module_that_is_not_there_leaves_nothing_behind() -> None:
    lines = (
        "import sys",
        "from agent.sources.opcua_library import load",
        "try: load('agent.sources.no_such_module')",
        "except ModuleNotFoundError: pass",
        "print('asyncua.server' in sys.modules)",
        "from asyncua import Server",
        "print(Server.__module__)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "asyncua.server.server"], done.stderr
