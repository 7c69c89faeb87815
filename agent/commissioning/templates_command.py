"""`linetally-agent templates`: configurations to begin with, for the ways in which machines speak.

Decides which there are. They are files beside this one, so that an installed agent has them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from protocols.errors import ConfigurationError

FOLDER: Final = Path(__file__).parent / "templates"
TEMPLATES: Final = {
    "packml-opcua": "PackML over OPC UA (OPC 30050)",
    "machinery-40001": "OPC UA for Machinery (OPC 40001-1): MachineryItemState",
    "machinetool-40501": "OPC UA for Machine Tools (OPC 40501-1): the active program's state",
    "counter-modbus": "nothing but a counter of pieces, over Modbus",
    "running-bit-modbus": "a bit “running” and a fault word, over Modbus",
}
_DESCRIPTION = """\
Configurations to begin with. Each is whole and commented; what must be changed is said at its top.

examples:
  linetally-agent templates
      which there are
  linetally-agent templates packml-opcua > agent.toml
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "templates", help="configurations to begin with", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this one")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.name is not None:
        print(text(options.name), end="")
        return 0
    width = max(map(len, TEMPLATES))
    for name, words in TEMPLATES.items():
        print(f"{name:<{width}}  {words}")
    print("\nprint one: linetally-agent templates NAME > agent.toml")
    return 0


def text(name: str) -> str:
    """The template's TOML. Raises ConfigurationError for a name that there is not."""
    if name not in TEMPLATES:
        raise ConfigurationError(f'there is no template "{name}"', mend=f"one of: {', '.join(TEMPLATES)}")
    return (FOLDER / f"{name}.toml").read_text("utf-8")
