"""`linetally-agent tags`: a line's tags to a spreadsheet and back.

Decides the options and what is printed. The configuration is changed as a whole or not at all.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

from protocols.errors import ConfigurationError

_DESCRIPTION = """\
Tag lists as CSV or XLSX (which needs the extra xlsx): a row for each tag, columns as the keys of [line.tags].

examples:
  linetally-agent tags export --config agent.toml --line filling --output tags.csv
  linetally-agent tags import tags.csv --config agent.toml --line filling
      puts the rows into the file; tags that the list does not name stay. The old file is kept as .bak
  linetally-agent tags import tags.csv --config agent.toml --line filling --dry-run
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("tags", help="tag lists to and from a spreadsheet", description=_DESCRIPTION,
                                 formatter_class=raw)  # fmt: skip
    kinds = parser.add_subparsers(title="what", required=True, metavar="WHAT")
    out = kinds.add_parser("export", help="write a line's tags to a file")
    out.add_argument("--output", type=Path, metavar="FILE", help="ends in .csv or .xlsx (default: CSV to the screen)")
    out.set_defaults(run=_export)
    into = kinds.add_parser("import", help="put a list into the configuration")
    into.add_argument("file", type=Path, metavar="FILE", help="ends in .csv or .xlsx")
    into.add_argument("--dry-run", action="store_true", help="check it and print what would be written")
    into.set_defaults(run=_import)
    for each in (out, into):
        each.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
        each.add_argument("--line", metavar="ID", help="a line of it (needed where there are several)")


def _line(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from agent.commissioning.toml_edit import line_index

    index, _ = line_index(options.config, options.line)
    line: dict[str, Any] = tomllib.loads(options.config.read_text("utf-8"))["line"][index]
    protocol = line.get("source", {}).get("protocol", "")
    if protocol not in ("modbus", "opcua"):
        mend = "tag lists are for lines read by opcua or modbus"
        raise ConfigurationError(f'its protocol is "{protocol}"', file=str(options.config), mend=mend)
    return line, protocol


def _export(options: argparse.Namespace) -> int:
    from agent.commissioning.tag_list import rows_of, write_csv, write_xlsx

    line, protocol = _line(options)
    rows = rows_of(line.get("tags", {}), protocol)
    if options.output is None:
        sys.stdout.write(write_csv(rows, protocol).lstrip("\ufeff").replace("\r\n", "\n"))
        return 0
    if options.output.suffix.lower() not in (".csv", ".xlsx"):
        mend = "write: --output tags.csv (or tags.xlsx)"
        raise ConfigurationError("ends in neither .csv nor .xlsx", file=str(options.output), mend=mend)
    try:
        if options.output.suffix.lower() == ".xlsx":
            write_xlsx(rows, protocol, options.output)
        else:
            options.output.write_text(write_csv(rows, protocol), "utf-8", newline="")
    except OSError as error:
        mend = "choose a folder where you may write"
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=str(options.output), mend=mend) from error
    print(f"wrote {len(rows)} tags to {options.output}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from agent.commissioning.tag_list import read_rows, tags_of
    from agent.commissioning.toml_edit import put_tags

    _, protocol = _line(options)
    try:
        tags = tags_of(read_rows(options.file), protocol)
    except ConfigurationError as error:
        raise ConfigurationError(error.what, file=error.file or str(options.file), mend=error.mend) from None
    if not tags:
        raise ConfigurationError("has no tags", file=str(options.file), mend="write a row for each tag, with its role")
    if options.dry_run:
        for role, tag in tags.items():
            print(f"{role} = {tag}")
        return 0
    kept = put_tags(options.config, options.line, tags)
    print(f"put {', '.join(tags)} into {options.config}; as it was before: {kept}")
    print(f"look at it: linetally-agent doctor --config {options.config}")
    return 0
