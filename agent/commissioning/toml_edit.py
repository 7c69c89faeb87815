"""Tags put into a configuration that a person has written, without touching the rest of it.

Decides where a line of text goes. The changed file is read as the agent would read it before it takes the old one's
place, and the old one is kept beside it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from agent.config import load
from agent.toml_table import key_lines, read_toml
from protocols.errors import ConfigurationError


def with_tags(text: str, line_index: int, tags: Mapping[str, str]) -> str:
    """`text` with these tags in `[line.tags]` of the nth `[[line]]`; `tags`: name -> inline table.

    A tag that is there is replaced in its line. Raises ConfigurationError where it spans a table of its own.
    """
    lines = text.splitlines()
    where = key_lines(text)
    table = ("line", line_index, "tags")
    if table not in where:
        raise ConfigurationError("there is no [line.tags]", mend="add the line [line.tags] below its [line.source]")
    width = max(map(len, tags), default=0)
    added = []
    for name, value in tags.items():
        own = (*table, name)
        at = where.get(own)
        if any(path[: len(own)] == own and path != own for path in where):
            mend = f"write it as: {name} = {value}"
            raise ConfigurationError(f"{name} has a table of its own, which is not changed here", line=at, mend=mend)
        if at is None:
            added.append(f"{name:<{width}} = {value}")
        else:
            comment = re.search(r"\}(\s*#.*)$", lines[at - 1])
            lines[at - 1] = f"{name} = {value}{comment[1] if comment else ''}"
    lines[where[table] : where[table]] = added
    return "\n".join(lines) + "\n"


def line_index(path: Path, line_id: str | None) -> tuple[int, str]:
    """(which of the lines, its id) in a file. Raises ConfigurationError."""
    ids = [table.text("id", example='"filling"') for table in read_toml(path).tables("line", required=True)]
    if line_id is None and len(ids) == 1:
        return 0, ids[0]
    if line_id not in ids:
        what = "which line?" if line_id is None else f'there is no line "{line_id}"'
        raise ConfigurationError(what, file=str(path), mend=f"--line is one of: {', '.join(ids)}")
    return ids.index(line_id), line_id


def put_tags(path: Path, line_id: str | None, tags: Mapping[str, str]) -> Path:
    """Writes the tags into the file; gives where the old one is kept. Raises ConfigurationError, then nothing changed.

    Atomic: the file is the old one or the new one.
    """
    index, _ = line_index(path, line_id)
    old = path.read_text("utf-8")
    write_checked(path, with_tags(old, index, tags))
    kept = path.with_name(f"{path.name}.bak")
    kept.write_text(old, "utf-8")
    return kept


def write_checked(path: Path, text: str) -> None:
    """Writes a configuration that the agent takes. Raises ConfigurationError, then nothing changed."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_text(text, "utf-8")
        load(beside)
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path)
    except OSError as error:
        mend = "choose a folder where you may write"
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=str(path), mend=mend) from error
    except ConfigurationError as error:
        raise ConfigurationError(error.what, file=str(path), line=error.line, mend=error.mend) from error
    finally:
        beside.unlink(missing_ok=True)
