"""Setting a gateway up: what a maintenance engineer runs once, and again when something is wrong.

Decides which commands there are. Each only reads PLCs, and imports their libraries only when it runs.
"""

from __future__ import annotations

import argparse


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-commands of commissioning."""
    from agent.commissioning import (
        browse_command,
        doctor_command,
        init_command,
        operator_command,
        probe_command,
        tags_command,
        templates_command,
    )

    init_command.add_parser(commands)
    browse_command.add_parser(commands)
    doctor_command.add_parser(commands)
    probe_command.add_parser(commands)
    tags_command.add_parser(commands)
    operator_command.add_parser(commands)
    templates_command.add_parser(commands)
