"""Offline verification of half a year of ten lines: the command as a committee member runs it, a fresh process.

Decides that a verdict counts only if it is PASS, and that the way of one record after the other is timed on a smaller
bundle, where both ways must give the same verdict to the last byte.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measures import Disagreement, Figure, Sizes
from benchmarks.season import Season, kept

GOAL_S, GOAL_MB = 10.0, 512.0
_ROUNDS = 3


class Run(NamedTuple):
    """One verification: its verdict, its seconds, and the most memory that its process held, in MB."""

    verdict: dict[str, Any]
    seconds: float
    megabytes: float


def verify(sizes: Sizes) -> list[Figure]:
    """Seconds and memory of `linetally-verify`, and how far it is from checking each record by itself."""
    season = Season(days=sizes.season_days, lines=sizes.season_lines)
    whole, trust = kept(season)
    runs = [_run(whole, trust) for _ in range(min(sizes.rounds, _ROUNDS))]
    small, _ = kept(Season(days=min(14, sizes.season_days), lines=sizes.season_lines))
    swift, slow = _run(small, trust), _run(small, trust, "--one-by-one")
    if swift.verdict != slow.verdict:
        raise Disagreement("verify: the verdicts of the two ways differ")
    words = f"{season.lines} lines, {season.days} days ({season.windows:,} windows)"
    seconds = statistics.median(run.seconds for run in runs)
    return [
        Figure(f"verify {words}", seconds, "s", GOAL_S, at_most=True),
        Figure("its memory, at most", max(run.megabytes for run in runs), "MB", GOAL_MB, at_most=True),
        Figure(
            f"one record after the other over many at once, {min(14, sizes.season_days)} days",
            slow.seconds / swift.seconds,
            "x",
        ),
    ]


def _run(bundle: Path, trust: Path, *options: str) -> Run:
    command = [sys.executable, "-m", "hub.verify", str(bundle), "--policy", str(trust), "--json", *options]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        verdict = json.load(process.stdout)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if not verdict["ok"]:
        raise Disagreement(f"verify: {verdict['first_failure']}")
    return Run(verdict, seconds, used.ru_maxrss / 1024)
