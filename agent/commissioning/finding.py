"""One finding of `linetally-agent doctor`: what was looked at, how it is, and how to mend it.

Decides the levels; what is looked at is decided in `doctor`, `doctor_spool` and `doctor_peers`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from protocols.errors import ConfigurationError, LinetallyError


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """`about`: what was looked at; `mend`: what to do, "" where nothing is to be done."""

    about: str
    level: Level
    words: str
    mend: str = ""

    def for_file(self, file: Path) -> Finding:
        """With commands that can be copied: the configuration's own name where they say FILE."""
        words, mend = (text.replace("--config FILE", f"--config {file}") for text in (self.words, self.mend))
        return replace(self, words=words, mend=mend)

    def to_data(self) -> dict[str, Any]:
        return {key: str(value) for key, value in asdict(self).items()}


def ok(about: str, words: str) -> Finding:
    return Finding(about, Level.OK, words)


def warn(about: str, words: str, mend: str) -> Finding:
    return Finding(about, Level.WARN, words, mend)


def fail(about: str, words: str, mend: str = "") -> Finding:
    return Finding(about, Level.FAIL, words, mend)


def failed(about: str, error: LinetallyError) -> Finding:
    """An error of ours: its mend is already in its words."""
    if isinstance(error, ConfigurationError):
        place = f"{error.file}: " if error.file else ""
        return fail(about, place + error.what, error.mend)
    words, _, mend = str(error).partition("\n")
    return fail(about, words, mend.strip())
