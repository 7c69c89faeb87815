"""`linetally-hub audit`: ask for the raw samples of random minutes, replay them, and sign what came out.

Decides options, defaults and exit codes (0 everything asked for came out equal, 1 it did not, 2 used wrongly). What is
drawn, believed and compared is decided in `hub.audit`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, select

from hub import database as db
from hub import root
from hub.audit import auditor, challenges
from hub.audit.evidence import BundleEvidence, Evidence, LogEvidence
from hub.audit.examination import examine
from hub.audit.gone import gone
from hub.audit.store import RawStore
from hub.audit.verdict import AuditVerdict, times, zone_of
from hub.clock import now_ms
from hub.commands.audit_minutes import asked_for, decide_times, drawn_windows, given_seed, named_windows
from hub.commands.terminal import common_options, progress_bar, show, show_rows
from hub.commands.workplace import append_here, opened
from hub.config import HubConfig
from hub.registry import Registry
from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence.policy import Trust
from protocols.evidence.raw import Piece, read_pieces

NAME: Final = "audit"
_EXAMPLES: Final = """\
examples, for a committee member at the hub:
  linetally-hub audit challenge P-7 --days 2026-11-01..2026-11-20 --minutes 3
      draw three minutes of each day of every line, and ask the gateways for their raw samples
  linetally-hub audit status P-7
      what was asked for, and how far it was answered
  linetally-hub audit replay P-7
      measure these minutes again from the raw samples, and compare every integer with what was signed
  linetally-hub audit replay P-7 --record --key auditor.key --who 'Ms Chan'
      the same, and the result goes into the log under the auditor's key

and anywhere else, without a hub:
  linetally-hub audit replay --bundle P-7.zip --policy scheme.policy --raw filling.raw

docs/audit.md explains each step with an example.
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        NAME, help="replay raw samples and compare with what was signed",
        description="Demands the raw samples of random minutes and measures them again.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = common_options()

    init = actions.add_parser(
        "init", parents=[common], help="make an auditor's key and ask for its enrolment",
        description="Makes a key that may sign audits and nothing else. The scheme's root key approves it like a "
        "gateway's: `linetally-hub gateway approve ID`, after the fingerprints were compared.",
        epilog="example: linetally-hub audit init auditor-chan --project P-7 --key /media/safe/auditor.key",
    )  # fmt: skip
    init.add_argument("id", help="the auditor's id in the log: letters, digits, - and _")
    init.add_argument("--project", required=True)
    init.add_argument("--key", type=Path, default=Path("auditor.key"), metavar="FILE", help="default: %(default)s")
    init.set_defaults(act=run_init)

    drawing = argparse.ArgumentParser(add_help=False)
    drawing.add_argument("--days", metavar="DAY..DAY", help="business days, 2026-11-01..2026-11-20")
    drawing.add_argument("--minutes", type=int, default=3, help="of each day and line; default: %(default)s")
    drawing.add_argument("--seed", metavar="HEX", help="draw with this, up to 64 bytes")
    drawing.add_argument("--line", action="append", default=[], help="only this line; may be repeated")

    challenge = actions.add_parser(
        "challenge", parents=[common, drawing], help="ask gateways for the raw samples of random minutes",
        description="Draws minutes of every day, and asks the gateways for their raw samples through the serving hub. "
        "The seed is the log's root hash, which nobody could know when the minutes were measured; with --seed it is "
        "what a committee threw itself, which the hub's operator could not choose either.",
        epilog="example: linetally-hub audit challenge P-7 --days 2026-11-01..2026-11-20 --minutes 3",
    )  # fmt: skip
    challenge.add_argument("project")
    challenge.add_argument(
        "--at", action="append", default=[], metavar="TIME", help="this minute instead of drawn ones, "
        "2026-11-03T10:15+08:00; may be repeated",
    )  # fmt: skip
    challenge.set_defaults(act=run_challenge)

    status = actions.add_parser("status", parents=[common], help="what was asked for, and how far it was answered")
    status.add_argument("project")
    status.set_defaults(act=run_status)

    replay = actions.add_parser(
        "replay", parents=[common, drawing], help="measure raw samples again and compare every integer",
        description="Measures raw samples again with the logged configuration. Asked for are, of these, the first that "
        "is given: --from and --to (every minute in between), --seed (minutes drawn with it, so that anybody can check "
        "a draw), the challenges of the project, or simply all that the raw samples cover.",
        epilog="exit codes: 0 all that was asked for came out equal, 1 it did not, 2 used wrongly",
    )  # fmt: skip
    replay.add_argument("project", nargs="?", help="of this hub; not with --bundle")
    replay.add_argument("--raw", action="append", type=Path, default=[], metavar="FILE", help="raw samples of a file")
    replay.add_argument("--bundle", type=Path, metavar="FILE", help="compare with this bundle instead of a hub")
    replay.add_argument("--policy", type=Path, metavar="FILE", help="whom to trust; needed with --bundle")
    replay.add_argument("--from", dest="from_time", metavar="TIME", help="2026-11-03T00:00+08:00")
    replay.add_argument("--to", dest="to_time", metavar="TIME")
    replay.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: %(default)s")
    replay.add_argument("--record", action="store_true", help="sign the result into the log")
    replay.add_argument("--key", type=Path, default=Path("auditor.key"), metavar="FILE", help="default: %(default)s")
    replay.add_argument("--who", default="", help="the auditor's name, for the record")
    replay.set_defaults(act=run_replay)

    listed = actions.add_parser("list", parents=[common], help="the audits that are in the log")
    listed.add_argument("project")
    listed.set_defaults(act=run_list)
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs the action that was named."""
    exit_code: int = args.act(args)
    return exit_code


def run_init(args: argparse.Namespace) -> int:
    auditor.checked_id(args.id)
    key = auditor.load_key(args.key) if args.key.exists() else root.make_key(args.key, args.id)
    if key.name != args.id:
        raise Refused("bad-value", f"{args.key} is the key of {key.name}: name another file with --key")
    with opened(args) as (_, engine):
        asked = auditor.ask_for_enrolment(engine, key, args.project, now_ms())
    words = f"the key of {asked.auditor_id} is {args.key}; fingerprint {asked.fingerprint}\n"
    words += f"next: linetally-hub gateway approve {asked.auditor_id} --fingerprint '{asked.fingerprint}'"
    show({"auditor": asked.auditor_id, "fingerprint": asked.fingerprint, "key": args.key}, args.json, words)
    return 0


def run_challenge(args: argparse.Namespace) -> int:
    with opened(args) as (config, engine):
        evidence = _log_evidence(config, engine, args)
        seed = given_seed(args) or (b"" if args.at else evidence.checkpoint.root)
        drawn = named_windows(evidence, args.at) if args.at else drawn_windows(evidence, seed, args)
        decide = decide_times(evidence, drawn)
        for line_id, spans in drawn.items():
            challenges.ask(engine, args.project, line_id, spans, decide, seed, evidence.checkpoint, now_ms())
        zones = _zones(evidence)
    count = sum(map(len, drawn.values()))
    if not count:
        raise Refused("nothing", "the log has no scheduled minutes on these days; see --days")
    words = f"asked for {count:,} minutes, drawn with {seed.hex() or 'no seed'} at entry {evidence.checkpoint.size:,}\n"
    words += "".join(
        f"  {line_id} ({zones[line_id]}): {times([start for start, _ in spans], zone_of(zones[line_id]))}\n"
        for line_id, spans in drawn.items()
    )
    words += f"next, when the gateways have answered: linetally-hub audit replay {args.project}"
    data = {"seed": seed, "log_size": evidence.checkpoint.size, "minutes": drawn}
    show(data, args.json, words)
    return 0


def run_status(args: argparse.Namespace) -> int:
    with opened(args) as (config, engine):
        known = challenges.listed(engine, args.project)
        evidence = _log_evidence(config, engine, args) if known else None
        rows = [
            {
                "line": each.line_id, "minutes": len(each.windows), "state": each.state, "pieces": each.pieces,
                "gone, said so": _said_gone(evidence, each) or None, "not held": each.words or None,
                "refused": each.refused or None,
                "asked": datetime.fromtimestamp(each.asked_ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ"),
                "sent_ms": each.sent_ms, "seed": each.seed.hex(), "log_size": each.log_size, "id": each.id.hex(),
                "windows": each.windows,
            }
            for each in known
        ]  # fmt: skip
    columns = ("asked", "line", "minutes", "state", "pieces", "gone, said so", "not held", "refused")
    show_rows(rows, columns, args.json, "nothing was asked for yet: `linetally-hub audit challenge`")
    return 0


def run_list(args: argparse.Namespace) -> int:
    t = db.audit.c
    with opened(args) as (_, engine), engine.connect() as connection:
        found = connection.execute(select(db.audit).where(t.project_id == args.project).order_by(t.leaf_index)).all()
    rows = [
        {
            "entry": row.leaf_index, "auditor": row.auditor, "who": row.data["who"],
            "time": datetime.fromtimestamp(row.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ"),
            "asked": sum(line[3] for line in row.data["lines"]), "equal": sum(line[5] for line in row.data["lines"]),
            "verdict": "all equal" if row.equal else "different" if row.data["difference"] else "incomplete",
            "data": row.data,
        }
        for row in found
    ]  # fmt: skip
    columns = ("entry", "time", "auditor", "who", "asked", "equal", "verdict")
    show_rows(rows, columns, args.json, "no audits are in the log yet: `linetally-hub audit replay --record`")
    return 0


def run_replay(args: argparse.Namespace) -> int:
    if (args.bundle is None) == (args.project is None) or (args.bundle is None) != (args.policy is None):
        raise Malformed("name a project of this hub, or --bundle and --policy")
    if args.record and (args.bundle is not None or not args.who):
        raise Malformed("--record needs a hub's project, and --who")
    if args.jobs < 1:
        raise Malformed("--jobs must be 1 or more")
    with ExitStack() as stack:
        evidence: Evidence
        engine: Engine | None = None
        files: list[Path] = []
        held: Iterable[Piece] = ()
        known: list[challenges.Asked] = []
        if args.bundle is not None:
            trust = Trust.parse(args.policy.read_bytes(), str(args.policy))
            try:
                bundled = BundleEvidence(stack.enter_context(args.bundle.open("rb")), trust)
            except Unverified as error:
                show({"verdict": "FAIL", "ok": False, "words": str(error)}, args.json, f"FAIL  {error}")
                return 1
            evidence, held = bundled, bundled.raw_pieces()
        else:
            config, engine = stack.enter_context(opened(args))
            evidence = _log_evidence(config, engine, args)
            files = RawStore(config.raw_folder, 0).files(evidence.line_ids)
            known = [c for c in challenges.listed(engine, args.project) if c.line_id in evidence.line_ids]
        seed, asked = asked_for(evidence, known, args)
        files += args.raw
        with progress_bar("replaying") as progress:
            total = sum(path.stat().st_size for path in files) // 1000
            pieces = _pieces(files, held, lambda done: progress(done // 1000, total))
            found = examine(evidence, pieces, asked, args.jobs)
        verdict = AuditVerdict.of(evidence.project_id, seed, asked, _zones(evidence), found)
        verdict = verdict.explained(
            {
                each.line_id: gone(evidence, each.line_id, each.missing, _asked_sizes(known, each.line_id))
                for each in verdict.lines
            }
        )
        data, words = verdict.to_data(), verdict.words()
        if args.record:
            assert engine is not None, "checked above"
            if not any(line.asked for line in verdict.lines):
                raise Refused("nothing", "nothing was asked for: there is nothing to record")
            key = auditor.load_key(args.key)
            audit = verdict.record(args.who)
            submission = auditor.submit(engine, key, audit, evidence.checkpoint, now_ms())
            leaf = root.wait(engine, submission, lambda: append_here(config, engine))
            data["leaf_index"] = leaf
            words.append(f"This is entry {leaf} of the log, signed by {key.name}.")
    show(data, args.json, "\n".join(words))
    return 0 if verdict.ok else 1


def _log_evidence(config: HubConfig, engine: Engine, args: argparse.Namespace) -> LogEvidence:
    """Raises Refused for an unknown project or line."""
    registry = Registry(engine)
    if registry.project(args.project) is None:
        raise Refused("not-found", f"there is no project {args.project!r}; see `linetally-hub project list`")
    there = {line.id for line in registry.lines(project_id=args.project)}
    lines = set(getattr(args, "line", ()))
    if foreign := sorted(lines - there):
        raise Refused("not-found", f"{', '.join(foreign)} is no line of {args.project}: {', '.join(sorted(there))}")
    return LogEvidence(config, engine, args.project, tuple(sorted(lines or there)))


def _said_gone(evidence: Evidence | None, asked: challenges.Asked) -> int:
    """Of how many minutes signed records say that their raw samples are not held."""
    starts = [start for start, _ in asked.windows]
    return 0 if evidence is None else len(gone(evidence, asked.line_id, starts, {}))


def _asked_sizes(known: Iterable[challenges.Asked], line_id: str) -> dict[int, int]:
    """By a line's window, the log's size when it was first asked for."""
    sizes: dict[int, int] = {}
    for each in known:
        for start_ms, _ in each.windows if each.line_id == line_id else ():
            sizes[start_ms] = min(each.log_size, sizes.get(start_ms, each.log_size))
    return sizes


def _zones(evidence: Evidence) -> dict[str, str]:
    zones = {str(data["line_id"]): str(data["calendar"]["timezone"]) for data in evidence.configurations.values()}
    return {line_id: zones.get(line_id, "UTC") for line_id in evidence.line_ids}


def _pieces(files: Iterable[Path], held: Iterable[Piece], done: Any) -> Iterator[Piece]:
    """All pieces, files in their order. Raises Malformed with the file's name."""
    yield from held
    read = 0
    for path in files:
        with path.open("rb") as file:
            try:
                yield from read_pieces(file)
            except Malformed as error:
                raise Malformed(f"{path}: {error}") from error
        read += path.stat().st_size
        done(read)
