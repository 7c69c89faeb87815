"""`linetally-verify`: the offline verdict on a bundle, for a committee member's terminal.

Decides how a verdict reads on a terminal. The verification itself is `protocols.evidence.verify`, the page for people
`hub.verdict_page`; nothing else of the hub is imported, no network and no database, so that `pip install '.[verify]'`
is all it needs.

Exit codes: 0 the bundle passes, 1 it fails, 2 the command was used wrongly (no such file, no usable policy).
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import BinaryIO, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from hub.verdict_page import Circumstances, page
from protocols.errors import ConfigurationError
from protocols.evidence.bodies import RawGap
from protocols.evidence.policy import Trust
from protocols.evidence.testimony import Swift
from protocols.evidence.verdict import Coverage, GapFound, Result, Verdict
from protocols.evidence.verify import verify

GAPS_SHOWN: Final = 12
_PASSED, _FAILED, _USAGE = 0, 1, 2
_MARKS: Final = {Result.PASSED: ("✓", "green"), Result.FAILED: ("✗", "bold red"), Result.NOT_FINISHED: ("·", "dim")}

EXAMPLES: Final = """\
examples:
  linetally-verify outcome.zip --policy manufacturing-plus.policy
      check a report's bundle; the first word is the verdict
  linetally-verify outcome.zip --policy manufacturing-plus.policy --json > verdict.json
      the same for a program
  linetally-verify outcome.zip --policy manufacturing-plus.policy --html verdict.html
      the verdict as a page to read, print and file
  linetally-verify outcome.zip --policy manufacturing-plus.policy --quiet && echo accepted
      only the exit code: 0 passes, 1 fails, 2 used wrongly

Get the policy file from the scheme itself, never from whoever gave you the bundle: it names the log's key and
the scheme's root key, and everything else rests on these two. No network is used.
"""

PROVES: Final = (
    "the enrolled gateways signed these numbers, and nobody has changed, added or left out any since",
    "the rules of the evaluation were in the log before the reporting period's first record",
    "every figure of the report follows from the signed records",
)
CANNOT: Final = (
    "that the machine told the gateway the truth: who owns both can feed it fiction while it happens",
    "what was made while nothing was observed: see the gaps",
    "that the PDF shows the same: it is only a view; the figures that count are in report.json",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code; argparse ends the process itself for wrong arguments (code 2)."""
    options = _parser().parse_args(arguments)
    errors = Console(stderr=True)
    try:
        trust = Trust.parse(options.policy.read_bytes(), str(options.policy))
        with options.bundle.open("rb") as file:
            verdict = _verify(
                file, trust, errors, show=not (options.quiet or options.json), one_by_one=options.one_by_one
            )
            if options.html is not None:
                _write_page(verdict, options, file)
    except ConfigurationError as error:
        return _wrong(errors, f"The policy file cannot be used: {error}")
    except OSError as error:
        verb = "write" if options.html is not None and str(error.filename) == str(options.html) else "read"
        return _wrong(errors, f"Cannot {verb} {error.filename}: {error.strerror}. Check the path and its permissions.")
    if options.json:
        json.dump(verdict.to_data(), sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    elif not options.quiet:
        show(verdict, Console(highlight=False), options.bundle.name)
    return _PASSED if verdict.ok else _FAILED


def _write_page(verdict: Verdict, options: argparse.Namespace, file: BinaryIO) -> None:
    """Raises OSError where the page cannot be written."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    of = Circumstances(
        bundle_name=options.bundle.name,
        bundle_sha256=digest.hexdigest(),
        policy_name=options.policy.name,
        policy_sha256=hashlib.sha256(options.policy.read_bytes()).hexdigest(),
        who=_who(),
        now=datetime.now().astimezone(),
        zone=_zone(str((verdict.plan or {}).get("timezone", "UTC"))),
        proves=PROVES,
        cannot=CANNOT,
    )
    options.html.write_text(page(verdict, of), encoding="utf-8")


def _who() -> str:
    """The user and the machine, as far as they tell."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in a container
        user = "somebody"
    return f"{user} on {platform.node() or 'this machine'}"


def show(verdict: Verdict, console: Console, name: str) -> None:
    """The verdict for a person: the word first, then why."""
    plan = verdict.plan or {}
    zone = _zone(str(plan.get("timezone", "UTC")))
    word = Text("PASS", "bold green") if verdict.ok else Text("FAIL", "bold red")
    console.print(word, Text(name), soft_wrap=True)
    if verdict.first_failure is not None:
        console.print(Text(f"  {verdict.first_failure.words}"), soft_wrap=True)
        if verdict.first_failure.place:
            console.print(Text(f"  Where: {verdict.first_failure.place}"), soft_wrap=True)
        console.print(Text("  Nothing in this bundle should be relied on."))
    elif verdict.figures is not None:
        console.print(Text(f"  {plan['title']} – {plan['enterprise']} – outcome: {verdict.figures['finding']}"))
    if verdict.evidence_sha256:
        console.print(
            Text(f"  Evidence SHA-256 {verdict.evidence_sha256.hex()}, as the PDF must show it"), soft_wrap=True
        )
    console.print()
    console.print(_checks_table(verdict))
    if verdict.coverage:
        console.print()
        console.print(_coverage_table(verdict.coverage, zone))
        _show_gaps(verdict.gaps, console, zone)
        _show_raw_gaps(verdict.raw_gaps, console, zone)
    for note in verdict.notes:
        console.print(Text(f"\nNote: {note}", "yellow"))
    if verdict.ok:
        for title, sentences in (("This proves", PROVES), ("It cannot prove", CANNOT)):
            console.print(Text(f"\n{title}:"))
            for sentence in sentences:
                console.print(Padding(Text(f"- {sentence}"), (0, 0, 0, 2)))


def _checks_table(verdict: Verdict) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    table.add_column()
    table.add_column(ratio=3)
    table.add_column(ratio=2, style="dim")
    for check in verdict.checks:
        mark, style = _MARKS[check.result]
        question = Text(check.step.value, "dim" if check.result is Result.NOT_FINISHED else "")
        words = {Result.PASSED: check.words, Result.FAILED: "no", Result.NOT_FINISHED: "not finished"}[check.result]
        table.add_row(Text(f"  {mark}", style), question, words)
    return table


def _coverage_table(coverage: Sequence[Coverage], zone: tzinfo) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("Line", "Period", f"From ({zone})", "To"):
        table.add_column(title)
    table.add_column("Observed", justify="right")
    for each in coverage:
        share = f"{each.permille / 10:.1f} %"
        times = _time(each.from_ms, zone), _time(each.to_ms, zone)
        table.add_row(Text(each.line_id), each.period, *times, share)
    return table


def _show_gaps(gaps: Sequence[GapFound], console: Console, zone: tzinfo) -> None:
    if not gaps:
        console.print(Text("\nNo gaps: every minute of both periods was observed."))
        return
    console.print(Text(f"\nGaps: {len(gaps)}, {_duration(sum(gap.missing_ms for gap in gaps))} of line time in all"))
    longest = sorted(gaps, key=lambda gap: -gap.missing_ms)[:GAPS_SHOWN]
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for gap in sorted(longest, key=lambda gap: (gap.from_ms, gap.line_id)):
        span = f"{_time(gap.from_ms, zone)} to {_time(gap.to_ms, zone)}"
        reason = gap.reason or "no reason given"
        table.add_row(Text(gap.line_id), span, _duration(gap.missing_ms), gap.kind.value, Text(reason))
    console.print(table)
    if len(gaps) > GAPS_SHOWN:
        console.print(Text(f"  and {len(gaps) - GAPS_SHOWN} shorter ones (--json lists all)"))


def _show_raw_gaps(gaps: Sequence[RawGap], console: Console, zone: tzinfo) -> None:
    if not gaps:
        return
    chunks = sum(gap.chunks for gap in gaps)
    console.print(
        Text(
            f"\nRaw samples not held: {chunks:,} chunks in {_stretches(len(gaps))}. The figures do not depend on them; "
            "an audit cannot replay them."
        )
    )
    longest = sorted(gaps, key=lambda gap: gap.from_ms - gap.to_ms)[:GAPS_SHOWN]
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for gap in sorted(longest, key=lambda gap: (gap.from_ms, gap.line_id)):
        span = f"{_time(gap.from_ms, zone)} to {_time(gap.to_ms, zone)}"
        table.add_row(Text(gap.line_id), span, f"{gap.chunks:,} chunks", Text(gap.reason))
    console.print(table)
    if len(gaps) > GAPS_SHOWN:
        console.print(Text(f"  and {len(gaps) - GAPS_SHOWN} shorter ones (--json lists all)"))


def _stretches(count: int) -> str:
    return "one stretch" if count == 1 else f"{count:,} stretches"


def _verify(file: BinaryIO, trust: Trust, errors: Console, *, show: bool, one_by_one: bool) -> Verdict:
    """Verify, with a progress bar on a terminal."""
    if one_by_one:
        return _with_progress(file, trust, errors, None, show=show)
    from protocols.evidence.swift import SwiftHearing  # numpy, which the slow way does without

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return _with_progress(file, trust, errors, SwiftHearing(pool.map), show=show)


def _with_progress(file: BinaryIO, trust: Trust, errors: Console, swift: Swift | None, *, show: bool) -> Verdict:
    if not (show and errors.is_terminal):
        return verify(file, trust, swift=swift)
    columns = (TextColumn("Verifying"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("records", total=None)
        return verify(file, trust, lambda done, total: progress.update(task, completed=done, total=total), swift)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="linetally-verify",
        description=EXAMPLES + "\nVerify an outcome bundle offline.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the ZIP file that came with the report")
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="the scheme's published policy file")
    parser.add_argument("--json", action="store_true", help="print the whole verdict as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the verdict as a page of HTML as well")
    parser.add_argument("--quiet", action="store_true", help="print nothing; the exit code is the verdict")
    parser.add_argument(
        "--one-by-one",
        action="store_true",
        help="check each record by itself, without numpy: the same verdict, some ten times slower",
    )
    return parser


def _wrong(errors: Console, words: str) -> int:
    errors.print(Text(words), soft_wrap=True)
    return _USAGE


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):  # no zone data on this machine: UTC is named beside every time
        return UTC


def _time(at_ms: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at_ms / 1000, zone).strftime("%Y-%m-%d %H:%M")


def _duration(length_ms: int) -> str:
    minutes, rest = divmod(length_ms, 60_000)
    return f"{rest / 1000:.0f} s" if minutes == 0 else f"{minutes // 60}:{minutes % 60:02d} h"


if __name__ == "__main__":
    sys.exit(main())
