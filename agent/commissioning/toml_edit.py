"""Tags put into a configuration that a person has written, without touching the rest of it.

Decides where a line of text goes. The changed file is read as the agent would read it before it takes the old one's
place, and the old one is kept beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from agent.config import load
from agent.toml_table import key_lines, read_toml
from protocols.errors import ConfigurationError


def with_tags(text: str, line_index: int, tags: Mapping[str, str]) -> str:
    """`text` with these tags in `[line.tags]` of the nth `[[line]]`; `tags`: name -> inline table.

    A tag that is there is replaced in its line. Raises ConfigurationError where it spans a table of its own.
    """
    lines = text.split("\n")
    where = key_lines(text)
    table = ("line", line_index, "tags")
    head = lines[where[table] - 1] if table in where else ""
    if not head.lstrip().startswith("["):
        if any(path[:3] == table for path in where):
            mend = "write the line [line.tags], and below it a line for each tag"
            raise ConfigurationError("the tags stand in one line, or outside of [line.tags]", mend=mend)
        raise ConfigurationError("there is no [line.tags]", mend="add the line [line.tags] below its [line.source]")
    end = "\r" if head.endswith("\r") else ""
    width = max(map(len, tags), default=0)
    added = []
    for name, value in tags.items():
        own = (*table, name)
        at = where.get(own)
        mend = f"write it as: {name} = {value}"
        if any(path[: len(own)] == own and path != own for path in where):
            raise ConfigurationError(f"{name} has a table of its own, which is not changed here", line=at, mend=mend)
        if at is None:
            added.append(f"{name:<{width}} = {value}{end}")
            continue
        comment = _comment(lines[at - 1].rstrip("\r"))
        if comment is None:
            raise ConfigurationError(f"{name} goes over several lines, which is not changed here", line=at, mend=mend)
        lines[at - 1] = f"{name} = {value}{comment}{end}"
    lines[where[table] : where[table]] = added
    return "\n".join(lines) + ("" if lines[-1] == "" else "\n")


def _comment(line: str) -> str | None:
    """What stands behind the value of a key in one line, with the spaces before it; None if the value ends later."""
    marks = [at for at, letter in enumerate(line) if letter == "#"]
    for at in [*marks, len(line)]:
        with contextlib.suppress(tomllib.TOMLDecodeError):
            tomllib.loads(line[:at])
            return line[len(line[:at].rstrip()) :]
    return None


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
    try:
        text = with_tags(path.read_bytes().decode("utf-8"), index, tags)
    except ConfigurationError as error:
        raise ConfigurationError(error.what, file=str(path), line=error.line, mend=error.mend) from None
    kept = write_checked(path, text)
    assert kept is not None
    return kept


def write_checked(path: Path, text: str) -> Path | None:
    """Writes a configuration that the agent takes; gives where the one before is kept, None if there was none.

    Raises ConfigurationError, then nothing changed. Owner and mode stay: the agent's user must be able to read it.
    """
    real = path.resolve()
    beside, kept = (real.with_name(f"{real.name}.{end}") for end in ("new", "bak"))
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        load(beside)
        was_there = real.exists()
        if was_there:
            shutil.copy2(real, kept)
            shutil.copymode(real, beside)
            if os.geteuid() == 0:
                owner = real.stat()
                os.chown(beside, owner.st_uid, owner.st_gid)
        beside.replace(real)
    except OSError as error:
        mend = "choose a folder where you may write"
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=str(path), mend=mend) from error
    except ConfigurationError as error:
        raise ConfigurationError(error.what, file=str(path), line=error.line, mend=error.mend) from error
    finally:
        beside.unlink(missing_ok=True)
    return kept if was_there else None
