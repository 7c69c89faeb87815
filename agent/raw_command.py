"""`linetally-agent raw`: the raw samples of some time, with the paths to their records, as a file for an auditor.

Decides its options and words. The file holds the same pieces as an answer over MQTT: nothing in it must be believed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.errors import ConfigurationError, LinetallyError

if TYPE_CHECKING:
    from agent.config import AgentConfiguration
    from protocols.evidence.raw import Piece

_HELP = """\
Write the raw samples of a line to a file: every chunk from --from to --to that this gateway holds, each with the path
to the signed record that committed to it. Whoever has the log can check it, and measure it again
(linetally-hub audit replay --raw FILE). Works beside a running agent, and without hub or broker.

Windows are decided only by what comes after them: ask for some minutes more than the minute in question.

examples:
  linetally-agent raw --config agent.toml --line filling --from 2026-11-03T14:00 --to 2026-11-03T14:30 --output f.raw
  linetally-agent raw --config agent.toml --line filling --from 2026-11-03T06:00Z --to 2026-11-04T06:00Z --output f.raw
      a time without a zone is local time of the line; Z or +08:00 says which it is
  linetally-agent status --config agent.toml
      how far back raw samples are held
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "raw", help="write raw samples to a file, for an audit", description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    parser.add_argument("--line", required=True, metavar="ID", help="the line's id")
    parser.add_argument("--from", dest="start", required=True, metavar="TIME", help="such as 2026-11-03T14:00")
    parser.add_argument("--to", dest="end", required=True, metavar="TIME")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from agent.config import load  # here: what only lists commands needs none of it
    from agent.spool import Spool
    from protocols.evidence.raw import write_pieces

    configuration = load(options.config)
    from_ms, to_ms = (_time(configuration, options.line, text) for text in (options.start, options.end))
    if to_ms <= from_ms:
        raise ConfigurationError("--to is not after --from", mend="give the earlier time first")
    with Spool.open_read_only(configuration.state_folder) as spool:
        places = spool.shelf.overlapping(options.line, from_ms, to_ms)
        chained = [place.id for place in places if place.chained]
        if not chained:
            held = next((each for each in spool.shelf.held() if each.line_id == options.line), None)
            words = "nothing at all" if held is None else f"what ends from {_say(held.oldest_ms)} on"
            raise LinetallyError(f"no raw samples of that time are held and in a signed record; there is {words}")
        partial = options.output.with_name(options.output.name + ".part")
        try:
            with partial.open("wb") as file:
                count = write_pieces(_shown(spool.shelf.pieces(chained), len(chained)), file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(options.output)
        except OSError as error:
            mend = "choose a folder where you may write, with room"
            raise ConfigurationError(f"{options.output} cannot be written: {error.strerror}", mend=mend) from error
    seconds = sum(min(p.end_ms, to_ms) - max(p.start_ms, from_ms) for p in places if p.chained) / 1000
    print(f"wrote {count} chunks, {seconds / 60:.1f} of the {(to_ms - from_ms) / 60_000:.1f} min asked for")
    print(f"{options.output}, {options.output.stat().st_size:,} bytes")
    if waiting := len(places) - len(chained):
        print(f"{waiting} chunks more are in no signed record yet; ask again after the next statement")
    return 0


def _time(configuration: AgentConfiguration, line_id: str, text: str) -> int:
    line = next((line for line in configuration.lines if line.line_id == line_id), None)
    if line is None:
        known = ", ".join(each.line_id for each in configuration.lines)
        raise ConfigurationError(f'there is no line "{line_id}"', mend=f"this gateway has: {known}")
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f'"{text}" is not a time', mend="write 2026-11-03T14:00") from error
    if found.tzinfo is None:
        from zoneinfo import ZoneInfo

        found = found.replace(tzinfo=ZoneInfo(line.configuration.calendar.timezone))
    return round(found.timestamp() * 1000)


def _say(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")


def _shown(pieces: Iterator[Piece], total: int) -> Iterator[Piece]:
    """The pieces, with a bar on a terminal."""
    if not sys.stderr.isatty():
        yield from pieces
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(pieces, "raw", total=total, console=Console(stderr=True))
