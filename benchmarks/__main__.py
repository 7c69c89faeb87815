"""`python -m benchmarks [NAME ...]`: runs them, prints a table with goals, writes the results.

Decides the goals (design: every one a ratio measured in one run on one machine). A goal that is missed is shown as
such and is no error: the exit code is 1 only when two ways of doing a task do not give the same sums.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import machine
from benchmarks.agent import agent
from benchmarks.audit import audit
from benchmarks.ingest import ingest
from benchmarks.measures import MEASURES as KERNEL_MEASURES
from benchmarks.measures import Disagreement, Figure, LeftOut, Sizes
from benchmarks.modbus import modbus
from benchmarks.opcua import opcua
from benchmarks.thingsboard import thingsboard
from benchmarks.verify import verify

MEASURES = {
    **KERNEL_MEASURES, "verify": verify, "ingest": ingest, "audit": audit,
    "modbus": modbus, "opcua": opcua, "agent": agent, "thingsboard": thingsboard,
}  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main(words: list[str] | None = None) -> int:
    options = _options(words)
    console = Console()
    described = machine.description()
    console.print(f"{described['cpu']}, {described['cores']} cores, Python {described['python']}")
    if described["load_before"] > 0.5:
        console.print(f"[yellow]The machine is busy (load {described['load_before']}): figures will be low.[/yellow]")
    figures: list[Figure] = []
    sizes = Sizes.small() if options.small else Sizes(rounds=options.rounds)
    try:
        for name in options.names or MEASURES:
            with console.status(f"{name} ..."):
                try:
                    measured = MEASURES[name](sizes)
                except LeftOut as error:
                    console.print(f"[yellow]{name} is left out:[/yellow] {escape(str(error))}")
                    continue
            figures += measured
            console.print(_table(name, measured))
    except Disagreement as error:
        console.print(f"[red]Sums differ:[/red] {error}")
        return 1
    goals = [figure for figure in figures if figure.goal is not None]
    console.print(f"Goals reached: {sum(bool(figure.reached) for figure in goals)} of {len(goals)}.")
    if not options.small or options.output:
        file = options.output or RESULTS / f"{machine.file_name(described)}.json"
        file.parent.mkdir(exist_ok=True)
        content = {"machine": described, "small": options.small, "figures": [figure.to_data() for figure in figures]}
        file.write_text(json.dumps(content, indent=1) + "\n")
        console.print(f"Written to {file}")
    return 0


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench", description="Benchmarks against peers and limits.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones; all by default: {', '.join(MEASURES)}")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured; medians are shown")
    parser.add_argument("--output", type=Path, help="the JSON file to write instead of benchmarks/results/<machine>")
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in MEASURES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; there are: {', '.join(MEASURES)}")
    return options


def _table(name: str, figures: list[Figure]) -> Table:
    table = Table(title=name, title_justify="left")
    for column, justify in (("what", "left"), ("median", "right"), ("unit", "left"), ("goal", "left"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for figure in figures:
        verdict = {None: "", True: "[green]reached[/green]", False: "[red]missed[/red]"}[figure.reached]
        table.add_row(figure.name, figure.words, figure.unit, figure.goal_words, verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
