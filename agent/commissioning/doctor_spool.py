"""What `linetally-agent doctor` sees of the agent itself: whether it runs, and whether what it measured arrives.

Decides when waiting is too long. Reads the spool beside a running agent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from agent.commissioning.finding import Finding, fail, failed, ok, warn
from agent.config import AgentConfiguration
from agent.glance import is_running, seen_ms
from agent.log_watch import read_alarm
from agent.spool import Spool
from agent.spool_file import SPOOL_FILE
from protocols.errors import LinetallyError

_RECEIPT_LATE: Final = 3
"""Statement intervals after which a record without a receipt is worth a word."""


def spool_findings(configuration: AgentConfiguration) -> Iterator[Finding]:
    """Does the agent measure, and does the hub confirm it?"""
    try:
        with Spool.open_read_only(configuration.state_folder) as spool:
            depth, alarm, refused = spool.depth(), read_alarm(spool), (spool.meta("refused") or b"").decode()
            receipt = spool.meta("last_receipt")
            raw_full = (spool.meta("raw_full") or b"").decode()
    except LinetallyError as error:
        if (configuration.state_folder / SPOOL_FILE).exists():
            yield failed("spool", error)
        else:
            yield ok("spool", "there is none yet: the agent has not run")
        return
    if not configuration.is_replay:
        yield running_finding(configuration)
    if alarm is not None:
        yield fail("hub's log", alarm["words"])
    if refused:
        yield fail("receipts", f"the hub refuses record {refused}", "tell the scheme; nothing is lost meanwhile")
    if raw_full:
        yield warn("raw samples", f"new ones are not kept: {raw_full}", "see receipts; or raise raw.max_megabytes")
    age_s = time.time() - int(receipt.decode().split()[1]) / 1000 if receipt else None
    last = "none came yet" if age_s is None else f"the last came {_ago(age_s)} ago"
    mend = "see broker and hub, below; records wait here and are sent when both are there"
    if depth and (age_s is None or age_s > _RECEIPT_LATE * configuration.interval_ms / 1000):
        yield warn("receipts", f"{depth} records wait for a receipt; {last}", mend)
    else:
        yield ok("receipts", f"{depth} records wait for a receipt; {last}")


def running_finding(configuration: AgentConfiguration) -> Finding:
    """Does an agent measure, now that one has?"""
    seen = seen_ms(configuration.state_folder)
    ago = "" if seen is None else f" for {_ago(time.time() - seen / 1000)}"
    if is_running(configuration.state_folder):
        return ok("agent", "runs")
    mend = "run: sudo systemctl start linetally-agent (why it ended: journalctl -u linetally-agent), or by hand: "
    mend += f"linetally-agent run --config {configuration.file}"
    return fail("agent", f"does not run, or cannot write: none has been seen{ago}", mend)


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
