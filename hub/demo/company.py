"""Child processes that end with their parent.

Decides how they are started, watched and stopped, by process id. Each writes to a log file of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from protocols.errors import LinetallyError

STOP_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class Ended(LinetallyError):
    """A part ended that should have gone on; the words say which and why."""


class Company:
    """The processes of a play, in the order of their start. `folder`: where their logs are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._may_end: set[str] = set()

    def start(self, name: str, command: str, *arguments: object, may_end: bool = False) -> None:
        """Starts one of linetally's commands, beside this interpreter."""
        argv = [str(Path(sys.executable).parent / command), *map(str, arguments)]
        with (self.folder / f"{name}.log").open("wb") as log:
            # A session of its own: Ctrl-C reaches the parent alone, which then stops all in good order.
            self._running[name] = subprocess.Popen(  # noqa: S603
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        if may_end:
            self._may_end.add(name)

    def check(self) -> None:
        """Raises Ended, with the last lines of its log, when a process has ended that should not have."""
        for name, process in self._running.items():
            code = process.poll()
            if code is None or (code == 0 and name in self._may_end):
                continue
            raise Ended(f"{name} ended with code {code}; the end of {self.folder / name}.log:\n{self._tail(name)}")

    def ended(self, name: str) -> bool:
        return self._running[name].poll() is not None

    def percent(self, name: str) -> int:
        """The newest "NN %" in a process's log; 0 before the first."""
        found = re.findall(rb"(\d+) %", (self.folder / f"{name}.log").read_bytes())
        return int(found[-1]) if found else 0

    def stop(self) -> None:
        """SIGTERM in the opposite order of the start; SIGKILL to whoever has not ended in time."""
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._running.clear()

    def _tail(self, name: str) -> str:
        time.sleep(0.1)
        lines = (self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-8:])


def _end_with_parent() -> None:
    """Linux: the child gets SIGTERM when its parent dies in any way, kill -9 included."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os._exit(1)
