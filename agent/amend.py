"""`linetally-agent amend`: what came late, put into the queue of the running agent (or of the next start).

Decides how a person says it: times on the line's clock, who and why always. What it changes is shown before it is
queued, and it is signed with the old value and the new one; nothing is overwritten.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from protocols.errors import Refused

if TYPE_CHECKING:
    from agent.config import AgentConfiguration
    from agent.spool import Spool
    from protocols.measurement.configuration import LineConfiguration
    from protocols.measurement.revisions import Amendment, Stated

_DESCRIPTION = """\
Corrects what was signed already, by a further signed record: the old value, the new one, who and why. Both stay.

examples:
  linetally-agent amend --config agent.toml reason --line filling --stop "2026-11-21T14:03:20" \\
      --reason "film torn" --who "M. Chan, shift leader" --why "found at the shift's end"
  linetally-agent amend --config agent.toml reject --line filling --from "2026-11-20T08:00" --to "2026-11-20T10:00" \\
      --count 37 --who "QC lab" --why "sample 4711: leaking caps"
  linetally-agent amend --config agent.toml window --line filling --window "2026-11-20T08:14" \\
      --set good_count=48 --who "M. Chan, shift leader" --why "sensor tested with two caps"
  linetally-agent amend --config agent.toml list

Times are the line's local time, or have an offset: "2026-10-25T02:30+01:00".
"""
_REASON = """\
A stop's reason, given after it. The stop is named by the time at which it began, as `linetally-agent status` shows it,
by any time within it, or by the word last. The reason that was measured stays and is named beside the new one.
"""
_REJECT = """\
Rejects that quality inspection found later, given back to the windows in which their lot was made: shared out by the
good pieces of each. If the line's counter counted them when they were found, name that time with --counted-from and
--counted-to, and they are taken off there. A negative count: pieces of the lot that turned out to be good.
"""


_WINDOW = """\
Other integers for one window that is signed already: counts, or times by category. What follows from a count follows by
itself: the rejects (or the good pieces) and the ideal times. The categories must still add up to the window's length.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`amend` with its own commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "amend", help="correct a stop's reason, the rejects of a lot or a window, afterwards",
        description=_DESCRIPTION, formatter_class=raw,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    kinds = parser.add_subparsers(title="what", required=True, metavar="WHAT")
    reason = kinds.add_parser("reason", help="a stop's reason", description=_REASON, formatter_class=raw)
    _said_by(reason)
    reason.add_argument(
        "--stop", required=True, metavar="TIME", help="when the stop began, as status shows it; or: last"
    )
    reason.add_argument("--reason", required=True, metavar="TEXT", help="the reason as it is now known")
    reason.add_argument("--old", metavar="TEXT", help="the reason that stands (default: the last one given here)")
    reason.set_defaults(run=_run, make=_reason)
    reject = kinds.add_parser("reject", help="late rejects of a lot", description=_REJECT, formatter_class=raw)
    _said_by(reject)
    reject.add_argument("--from", dest="start", required=True, metavar="TIME", help="when the lot was begun")
    reject.add_argument("--to", dest="end", required=True, metavar="TIME", help="when it was done")
    reject.add_argument("--product", metavar="NAME", help="only the windows of this product")
    reject.add_argument("--count", type=int, required=True, help="pieces found bad (negative: found good)")
    reject.add_argument("--counted-from", metavar="TIME", help="where the reject counter counted them, if it did")
    reject.add_argument("--counted-to", metavar="TIME")
    reject.set_defaults(run=_run, make=_reject)
    window = kinds.add_parser("window", help="a window's integers", description=_WINDOW, formatter_class=raw)
    _said_by(window)
    window.add_argument("--window", required=True, metavar="TIME", help="a time within the window")
    window.add_argument(
        "--set", dest="sums", action="append", required=True, metavar="NAME=INTEGER",
        help="a sum of the account, e.g. good_count=48 or failure_ms=60000; may be repeated",
    )  # fmt: skip
    window.set_defaults(run=_run, make=_window)
    listed = kinds.add_parser("list", help="what was queued, signed and refused")
    listed.set_defaults(run=_list)


def _said_by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--line", required=True, metavar="ID")
    parser.add_argument("--who", required=True, metavar="NAME", help="who answers for it")
    parser.add_argument("--why", required=True, metavar="TEXT", help="what it rests on")


def _run(options: argparse.Namespace) -> int:
    from agent import amendments
    from agent.config import load
    from agent.spool import Spool

    configuration = load(options.config)
    with Spool.open_beside(configuration.state_folder) as spool:
        amendment: Amendment = options.make(options, _line(configuration, options.line), spool)
        body = amendments.to_bytes(amendment)
        if not amendments.must_wait(spool, amendment) and (words := amendments.refusal(spool, amendment)):
            raise Refused("no-effect", f"{words}. {_KEPT}")
        for words in _change_words(amendment):
            print(words)
        number = spool.queue_amendment(body, time.time_ns() // 1_000_000)
    print(f"amendment {number} is queued: a running agent signs it now, a stopped one when it starts")
    return 0


_KEPT = "This gateway knows what it signed in its newest records; older ones can no longer be amended here"


def _reason(options: argparse.Namespace, line: LineConfiguration, spool: Spool) -> Amendment:
    from agent import amendments
    from agent.stops import find_stop
    from protocols.measurement.revisions import Amendment, AmendmentKind, ReasonChange

    stop = find_stop(spool, options.line, options.stop, _zone(line))
    found = amendments.standing(spool, options.line, stop.start_ms, stop.start_ms + 1)
    stands = found.revisions.reason(found.key_id, stop.start_ms) or stop.measured_reason
    change = ReasonChange(stop.start_ms, stands if options.old is None else options.old, options.reason)
    return Amendment(options.line, AmendmentKind.REASON, change, options.who, options.why)


def _window(options: argparse.Namespace, line: LineConfiguration, spool: Spool) -> Amendment:
    from agent import amendments
    from agent.restate import restated_window
    from agent.stops import time_ms
    from protocols.measurement.revisions import Amendment, AmendmentKind

    given: dict[str, int] = {}
    for text in options.sums:
        name, _, value = text.partition("=")
        try:
            given[name.strip()] = int(value)
        except ValueError:
            raise Refused("bad-value", f"--set {text}: write NAME=INTEGER, e.g. good_count=48") from None
    at_ms = time_ms("--window", options.window, _zone(line))
    stated = amendments.standing(spool, options.line, at_ms, at_ms + 1).stated
    if not stated:
        raise Refused("unknown-window", f"this gateway has no signed window of {options.line} at that time. {_KEPT}")
    change = restated_window(stated[0], given, line.ideal_cycle_ns.get(stated[0].window.product))
    return Amendment(options.line, AmendmentKind.WINDOW, (change,), options.who, options.why)


def _reject(options: argparse.Namespace, line: LineConfiguration, spool: Spool) -> Amendment:
    from agent.stops import time_ms
    from protocols.measurement.lots import late_rejects
    from protocols.measurement.revisions import Amendment, AmendmentKind

    if (options.counted_from is None) != (options.counted_to is None):
        raise Refused("not-whole", "--counted-from and --counted-to are needed both, or neither")
    if not options.count:
        raise Refused("nothing", "--count 0 changes nothing")
    zone = _zone(line)
    span = (time_ms("--from", options.start, zone), time_ms("--to", options.end, zone))
    made = [s for s in _windows(spool, options.line, *span) if options.product in (None, s.window.product)]
    counted: Sequence[Stated] = ()
    if options.counted_from is not None:
        ends = (("--counted-from", options.counted_from), ("--counted-to", options.counted_to))
        counted = _windows(spool, options.line, *(time_ms(name, text, zone) for name, text in ends))
    changes = late_rejects(made, options.count, counted)
    if not changes:
        raise Refused("nothing", "the lot and the windows of the count are the same: nothing changes")
    return Amendment(options.line, AmendmentKind.REJECT, changes, options.who, options.why)


def _windows(spool: Spool, line_id: str, from_ms: int, to_ms: int) -> list[Stated]:
    """The signed windows that begin in [from_ms, to_ms). Raises Refused where there is none."""
    from agent import amendments

    stated = [s for s in amendments.standing(spool, line_id, from_ms, to_ms).stated if s.window.start_ms >= from_ms]
    if not stated:
        raise Refused("unknown-window", f"this gateway has no signed window of {line_id} that begins then. {_KEPT}")
    return stated


def _change_words(amendment: Amendment) -> list[str]:
    from protocols.measurement.account import ACCOUNT_FIELDS
    from protocols.measurement.revisions import ReasonChange

    if isinstance(amendment.change, ReasonChange):
        change = amendment.change
        return [f'{amendment.line_id}, stop at {_utc(change.stop_ms)}: reason "{change.old}" becomes "{change.new}"']
    words = []
    for window in amendment.change:
        counts = (f for f in window.fields if not ACCOUNT_FIELDS[f.field].startswith("standard_"))
        changes = ", ".join(f"{ACCOUNT_FIELDS[index]} {old} becomes {new}" for index, old, new in counts)
        words.append(f"{amendment.line_id}, window {_utc(window.start_ms)} to {_utc(window.end_ms)}: {changes}")
    return words


def _list(options: argparse.Namespace) -> int:
    from agent import amendments
    from agent.config import load
    from agent.spool import Spool

    with Spool.open_read_only(load(options.config).state_folder) as spool:
        queue = spool.amendments()
    for queued in queue:
        amendment = amendments.from_bytes(queued.body)
        state = f"record {queued.sequence}" if queued.state == "signed" else queued.state
        print(f"{queued.id}: {state}, {_utc(queued.queued_ms)}, {amendment.who}: {amendment.why}")
        for words in [*_change_words(amendment), *([queued.words] if queued.words else [])]:
            print(f"   {words}")
    if not queue:
        print("nothing was amended on this gateway")
    return 1 if any(queued.state == "refused" for queued in queue) else 0


def _line(configuration: AgentConfiguration, line_id: str) -> LineConfiguration:
    for line in configuration.lines:
        if line.line_id == line_id:
            return line.configuration
    known = ", ".join(line.line_id for line in configuration.lines)
    raise Refused("unknown-line", f"there is no line {line_id}; this gateway has: {known}")


def _zone(line: LineConfiguration) -> ZoneInfo:
    return ZoneInfo(line.calendar.timezone)


def _utc(at_ms: int) -> Any:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
