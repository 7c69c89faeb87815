"""`linetally-agent amend`: what came late, put into the queue of the running agent (or of the next start).

Decides how a person says it: times on the line's clock, who and why always. What it changes is shown before it is
queued, and it is signed with the old value and the new one; nothing is overwritten.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from protocols.errors import Refused

if TYPE_CHECKING:
    from agent.spool import Spool
    from protocols.measurement.amendment import Amendment
    from protocols.measurement.configuration import LineConfiguration

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
    from agent.amend_input import line_of, queue
    from agent.amend_words import change_words
    from agent.config import load
    from agent.spool import Spool

    configuration = load(options.config)
    line = line_of((each.configuration for each in configuration.lines), options.line)
    with Spool.open_beside(configuration.state_folder) as spool:
        amendment: Amendment = options.make(options, line, spool)
        number = queue(spool, amendment)
    for words in change_words(amendment):
        print(words)
    print(f"amendment {number} is queued: a running agent signs it now, a stopped one when it starts")
    return 0


def _reason(options: argparse.Namespace, line: LineConfiguration, spool: Spool) -> Amendment:
    from agent.amend_input import Said, reason_amendment
    from agent.stops import find_stop

    stop = find_stop(spool, options.line, options.stop, _zone(line))
    said = Said(options.who, options.why)
    return reason_amendment(spool, options.line, stop, options.reason, said, options.old)


def _window(options: argparse.Namespace, line: LineConfiguration, spool: Spool) -> Amendment:
    from agent import amendments
    from agent.amend_input import KEPT
    from agent.restate import restated_window
    from agent.stops import time_ms
    from protocols.measurement.amendment import Amendment, AmendmentKind

    given: dict[str, int] = {}
    for text in options.sums:
        name, _, value = text.partition("=")
        try:
            given[name.strip()] = int(value)
        except ValueError:
            raise Refused("bad-value", f"--set {text}: write NAME=INTEGER, e.g. good_count=48") from None
    at_ms = time_ms("--window", options.window, _zone(line))
    stated = amendments.standing(spool, options.line, at_ms, at_ms + 1, waiting=True).stated
    if not stated:
        raise Refused("unknown-window", f"this gateway has no signed window of {options.line} at that time. {KEPT}")
    change = restated_window(stated[0], given, line.ideal_cycle_ns.get(stated[0].window.product))
    return Amendment(options.line, AmendmentKind.WINDOW, (change,), options.who, options.why)


def _reject(options: argparse.Namespace, line: LineConfiguration, spool: Spool) -> Amendment:
    from agent.amend_input import Said, reject_amendment
    from agent.stops import time_ms

    if (options.counted_from is None) != (options.counted_to is None):
        raise Refused("not-whole", "--counted-from and --counted-to are needed both, or neither")
    zone = _zone(line)
    lot = (time_ms("--from", options.start, zone), time_ms("--to", options.end, zone))
    counted = None
    if options.counted_from is not None:
        counted = (
            time_ms("--counted-from", options.counted_from, zone), time_ms("--counted-to", options.counted_to, zone)
        )  # fmt: skip
    said = Said(options.who, options.why)
    return reject_amendment(spool, options.line, lot, options.count, said, options.product, counted)


def _list(options: argparse.Namespace) -> int:
    from agent import amendments
    from agent.amend_words import change_words, utc
    from agent.config import load
    from agent.spool import Spool

    with Spool.open_read_only(load(options.config).state_folder) as spool:
        queue = spool.amendments()
    for queued in queue:
        amendment = amendments.from_bytes(queued.body)
        state = f"record {queued.sequence}" if queued.state == "signed" else queued.state
        print(f"{queued.id}: {state}, {utc(queued.queued_ms)}, {amendment.who}: {amendment.why}")
        for words in [*change_words(amendment), *([queued.words] if queued.words else [])]:
            print(f"   {words}")
    if not queue:
        print("nothing was amended on this gateway")
    return 1 if any(queued.state == "refused" for queued in queue) else 0


def _zone(line: LineConfiguration) -> ZoneInfo:
    return ZoneInfo(line.calendar.timezone)
