"""`linetally-hub report PROJECT --out FILE.zip`: a project's outcome bundle from the terminal.

Decides words and exit codes: 0 written, 1 it cannot be made (and why), 2 used wrongly (argparse).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from hub.audit.store import RawStore
from hub.config import HubConfig
from hub.report.outcome import write_bundle
from hub.report.reading import opened
from protocols.errors import LinetallyError

NAME: Final = "report"
_EXAMPLES: Final = """\
examples:
  linetally-hub report mp-2026-017 --out mp-2026-017.zip
  linetally-hub report mp-2026-017 --out mp-2026-017.zip --pdf mp-2026-017.pdf
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the hub's parser; `run` does it. Config and the like are the hub's own options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        NAME,
        help="write a project's outcome bundle: PDF, workbook, JSON and the signed records",
        description="Writes a project's outcome bundle, which anybody can verify offline with linetally-verify.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("project", metavar="PROJECT", help="the project's id")
    parser.add_argument("--out", metavar="FILE.zip", type=Path, help="where to (default: PROJECT.zip, here)")
    parser.add_argument("--pdf", metavar="FILE", type=Path, help="write the report's PDF there as well")
    parser.add_argument(
        "--raw", action="store_true", help="put the raw samples that the hub holds into the bundle, for an audit"
    )
    return parser


def run(arguments: argparse.Namespace, config: HubConfig, out: TextIO | None = None) -> int:
    """Writes the bundle, with progress on stderr when it is a terminal, and says how to verify it."""
    path = arguments.out or Path(f"{arguments.project}.zip")
    try:
        raw = RawStore(config.raw_folder, 0) if arguments.raw else None
        with opened(config) as sources:
            write_bundle(sources, arguments.project, path, _progress, arguments.pdf, raw)
    except LinetallyError as error:
        _end_line()
        print(f"linetally-hub: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        _end_line()
        print(f"linetally-hub: {path} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"Wrote {path} ({path.stat().st_size:,} bytes).", file=out or sys.stdout)
    if arguments.pdf is not None:
        print(f"Wrote {arguments.pdf}.", file=out or sys.stdout)
    print(f"Verify it: linetally-verify {path} --policy POLICY-FILE", file=out or sys.stdout)
    return 0


def _progress(words: str, done: int, total: int) -> None:
    if not sys.stderr.isatty():
        return
    bar = "#" * (20 * done // total)
    end = "\r\x1b[K" if done == total else ""
    print(f"\r\x1b[K[{bar:<20}] {words}{end}", end="", file=sys.stderr, flush=True)


def _end_line() -> None:
    """Clears the progress, so that an error stands on a line of its own."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
