"""The raw chunks are checked for damage while the agent is at work, not before it begins.

Decides when, and that it is a process of its own: it takes half a minute for a gigabyte, gives way to all others, and
takes its memory with it. What counts as damage is decided in `spool_file`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Final

from agent.spool_file import SPOOL_FILE, SpoolDamaged

BEGIN_S: Final = 30.0
"""After the start, when all lines are known."""
DAMAGED: Final = 3
"""The exit code for it. What else goes wrong, no memory say, is said and no reason to end."""
_CHECKER: Final = f"""  # it imports from where this process does, and from nowhere else
import json, os, pathlib, sys
sys.path[:] = json.loads(sys.argv[1])
os.nice(19)
from agent.spool_file import SpoolDamaged, check_raw_chunks
try:
    check_raw_chunks(pathlib.Path(sys.argv[2]))
except SpoolDamaged as error:
    print(error, file=sys.stderr)
    sys.exit({DAMAGED})
"""
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "spool"})


async def check_raw_chunks(folder: Path, begin_s: float = BEGIN_S) -> None:
    """Of the spool in `folder`, which is open. Raises SpoolDamaged: the agent is to end, and salvages at its start."""
    await asyncio.sleep(begin_s)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", _CHECKER, json.dumps(sys.path), str(folder / SPOOL_FILE),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, words = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    last = words.decode(errors="replace").strip().rpartition("\n")[2]
    if process.returncode == DAMAGED:
        raise SpoolDamaged(last)
    if process.returncode:
        _log.warning("the raw samples could not be checked for damage: %s", last or f"code {process.returncode}")
