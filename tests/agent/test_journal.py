"""Lines of the log, as a person sees them on a terminal and in systemd's journal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_SAY = """
import logging
from agent import app
app.configure_logging()
log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "filling"})
log.info("connected")
log.warning("the PLC's clock is off")
log.error("no tag \\x1b[31m\\n12:00:00 filling    all is well\\n  mend: look")
"""


def said(folder: Path, *words: str, journal: bool, stream: str = "") -> list[str]:
    path = folder / "log"
    with path.open("w") as file:
        found = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": stream or f"{found.st_dev}:{found.st_ino}"} if journal else {}
        subprocess.run([sys.executable, *words], stderr=file, env={**os.environ, **named}, timeout=60)
    return path.read_text("utf-8").splitlines()


def test_each_line_in_the_journal_has_its_weight(tmp_path: Path) -> None:
    assert said(tmp_path, "-c", _SAY, journal=True) == [
        "<6>filling    connected",
        "<4>filling    the PLC's clock is off",
        "<3>filling    error: no tag \\x1b[31m",
        "<3>  12:00:00 filling    all is well",
        "<3>  mend: look",
    ]
    lines = said(tmp_path, "-m", "agent", "run", "--config", str(tmp_path / "none"), journal=True)
    assert lines and all(line.startswith("<3>") for line in lines)


def test_elsewhere_a_line_has_the_time_and_no_weight(tmp_path: Path) -> None:
    for stream in ("", "8:1"):  # a desktop's terminal names the journal too
        lines = said(tmp_path, "-c", _SAY, journal=bool(stream), stream=stream)
        assert [line[8:] for line in lines[:2]] == [" filling    connected", " filling    the PLC's clock is off"]
        assert lines[2].endswith("error: no tag \\x1b[31m") and lines[3].startswith("  12:00:00")
