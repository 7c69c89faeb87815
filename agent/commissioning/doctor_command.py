"""`linetally-agent doctor`: what is right here, what is not, and how to mend it.

Decides what is printed and the exit code: 0 when nothing failed, 1 when something did, 2 when the configuration itself
cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.commissioning.finding import Finding

_DESCRIPTION = """\
Look at everything that a gateway needs: clock, folders, keys, certificates, disk, broker, hub, receipts, and each PLC
with each of its tags. Each is ok, a warning or a failure; what is not ok comes with its mend. Only looks and reads;
works beside a running agent. Run it as the agent's user.

examples:
  linetally-agent doctor --config agent.toml
  sudo -u linetally-agent linetally-agent doctor --config /etc/linetally/agent.toml
  linetally-agent doctor --config agent.toml --json      (exit code 1 when something failed)
  linetally-agent doctor --config agent.toml --offline   (nothing over the network)
"""
_MARKS: Final = {"ok": ("✓ ok", "green"), "warn": ("! warn", "bold yellow"), "fail": ("✗ FAIL", "bold red")}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor", help="look at everything a gateway needs, and say how to mend it", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    parser.add_argument("--offline", action="store_true", help="ask nobody over the network")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from agent.commissioning.doctor import local_findings
    from agent.commissioning.finding import Level
    from agent.config import load

    configuration = load(options.config)
    findings = list(local_findings(configuration))
    if not options.offline:
        from agent.commissioning.doctor_peers import peer_findings

        findings += asyncio.run(peer_findings(configuration))
    findings = [finding.for_file(options.config) for finding in findings]
    if options.json:
        data = {"gateway": configuration.gateway_id, "findings": [finding.to_data() for finding in findings]}
        print(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        show(findings)
    return 1 if any(finding.level is Level.FAIL for finding in findings) else 0


def show(findings: Sequence[Finding]) -> None:
    """One row for each, the mend below it, and the sum at the end."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for finding in findings:
        mark, style = _MARKS[finding.level]
        words = Text(finding.words)
        if finding.mend:
            words.append(f"\n→ {finding.mend}", "bold")
        table.add_row(Text(mark, style), Text(finding.about), words)
    console.print(table)
    failed = sum(finding.level == "fail" for finding in findings)
    warned = sum(finding.level == "warn" for finding in findings)
    if failed:
        console.print(f"\n{failed} of {len(findings)} failed; mend from the top, then ask again", style="bold red")
    elif warned:
        console.print(f"\nthe gateway can work; {warned} of {len(findings)} should be looked at", style="yellow")
    else:
        console.print(f"\nall {len(findings)} are well", style="green")
