"""How the commands speak: tables for people, JSON for scripts, progress bars for what takes long.

Decides only the form. What goes to stdout is the answer; errors and progress go to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

CONFIG_FILE: Final = Path("hub.toml")


def common_options() -> argparse.ArgumentParser:
    """The options that every command has."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--config", type=Path, default=CONFIG_FILE, metavar="FILE", help="default: %(default)s")
    parent.add_argument("--json", action="store_true", help="answer as JSON, for scripts")
    return parent


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool, nothing: str) -> None:
    """A table of `columns`, or all of each row as a JSON array. `nothing`: what to say of no rows."""
    if as_json:
        print(json.dumps(list(rows), ensure_ascii=False, indent=2, default=_plain))
        return
    if not rows:
        print(nothing)
        return
    table = [list(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(_width(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def show(data: Mapping[str, Any], as_json: bool, words: str) -> None:
    """One answer: `words` for people, `data` for scripts."""
    print(json.dumps(data, ensure_ascii=False, default=_plain) if as_json else words)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with the time left; gives `progress(done, total)`. Silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def _width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
