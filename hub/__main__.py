"""`linetally-hub`: the hub's commands.

Decides which commands there are and what an exit code means: 0 good, 1 the answer is no, 2 used wrongly. What each
does is decided in `hub.commands` and, for report, Grafana and demo, beside the thing itself.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import OperationalError

from hub.commands import entries, operation, trust
from hub.commands.terminal import CONFIG_FILE, common_options
from hub.config import HubConfig, load_config
from hub.log.store import LogFailed, LogRefused, LogUnavailable
from hub.projections.projector import IndexBehindLog
from hub.root import NotLogged
from protocols.errors import ConfigurationError, LinetallyError, Malformed, Refused

_DESCRIPTION: Final = """\
The hub of linetally: collects signed measurements of production lines in a transparency log, shows them, and writes
outcome reports that anybody can verify.

examples:
  linetally-hub demo                     a whole plant on this machine, in a minute
  linetally-hub init                     a new hub in this folder
  linetally-hub serve                    run it
  linetally-hub gateway token P-7        let a gateway of project P-7 in
  linetally-hub report P-7               write the outcome of project P-7
  linetally-hub audit challenge P-7      demand the raw samples of random minutes of project P-7
"""
# Modules that bring their own parsers. Imported when the command is named: typst and Grafana's SDK take a second.
_LAZY: Final = {
    "report": ("hub.report.command", "write a project's outcome: PDF, JSON and the bundle to verify"),
    "grafana": ("hub.grafana.provision", "put the line dashboard into Grafana, or write its files"),
    "witness": ("hub.witness.command", "run a witness of other people's logs"),
    "audit": ("hub.commands.audit", "replay raw samples and compare with what was signed"),
    "demo": ("hub.demo", "run a simulated plant, agent and hub on this machine"),
}


def parser_for(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only a command that is among `words` is imported if it is slow to import."""
    parser = argparse.ArgumentParser(
        prog="linetally-hub", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = common_options()
    operation.add_parsers(subparsers, common)
    entries.add_parsers(subparsers, common)
    trust.add_parsers(subparsers, common)
    for name, (module_name, help_text) in _LAZY.items():
        if name in words:
            module = importlib.import_module(module_name)
            module.add_parser(subparsers)
            run = module.run
            if name == "report":
                subparsers.choices[name].add_argument("--config", type=Path, default=CONFIG_FILE, metavar="FILE")
                run = partial(_with_config, module.run)
            subparsers.choices[name].set_defaults(run=run)
        else:
            subparsers.add_parser(name, help=help_text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Errors go to stderr with what to do; never a stack trace for what a person can mend."""
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser_for(words).parse_args(words)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        code = run(args)
        sys.stdout.flush()
    except (ConfigurationError, Malformed) as error:
        return _say(args, str(error), 2)
    except Refused as error:
        return _say(args, error.words, 1, error.code)
    except LogRefused as error:
        mend = ""
        if error.file.endswith("lock"):
            mend = "\n  a hub is serving this data folder: stop it first, or use the command on the serving hub"
        return _say(args, f"the log cannot be used: {error}{mend}", 1)
    except (LogUnavailable, LogFailed, IndexBehindLog, NotLogged) as error:
        return _say(args, str(error), 1)
    except LinetallyError as error:
        return _say(args, str(error), 1)
    except OperationalError as error:
        return _say(args, f"the database cannot be used: {error.orig}\n  check database.url and that it is running", 1)
    except BrokenPipeError:  # whoever reads has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _say(args, f"{error.filename or 'a file'}: {error.strerror}", 1)
    except KeyboardInterrupt:
        return 130
    return code


def _with_config(run: Callable[[argparse.Namespace, HubConfig], int], args: argparse.Namespace) -> int:
    return run(args, load_config(args.config))


def _say(args: Any, words: str, exit_code: int, code: str = "error") -> int:
    if getattr(args, "json", False):
        print(json.dumps({"error": code, "words": words}, ensure_ascii=False), file=sys.stderr)
    else:
        print(words, file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
