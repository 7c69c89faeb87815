"""The real commands as processes: started, killed and ended by their process id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


class Cast:
    """Processes of one test, each with a log in `folder`; all are gone when the block ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cast:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        for log in self.folder.glob("*.log"):
            require_no_write(log)

    def start(self, name: str, *argv: object) -> subprocess.Popen[bytes]:
        program = str(argv[0])
        words = [str(BIN / program) if program.startswith("linetally") else program, *map(str, argv[1:])]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self.running[name]

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.running.pop(name)
        assert process.poll() is None, f"{name} had ended before: {self.log(name)}"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def end(self, name: str, timeout_s: float = 20) -> int:
        process = self.running.pop(name)
        process.terminate()
        return process.wait(timeout_s)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def until(self, true: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            for name, process in self.running.items():
                assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.log(name)[-3000:]}"
            logs = "".join(f"\n--- {name}\n{self.log(name)[-1500:]}" for name in self.running)
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s{logs}"
            time.sleep(0.05)


def require_no_write(log: Path) -> None:
    """A simulated plant says it when somebody tries to write to it."""
    assert "tried to write to the plant" not in log.read_text("utf-8", "replace"), log


def command(*argv: object, ok: bool = True) -> str:
    """What a command printed; it must succeed."""
    words = [str(BIN / str(argv[0])), *map(str, argv[1:])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) is ok, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def json_of(*argv: object) -> Any:
    return json.loads(command(*argv, "--json"))


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True
