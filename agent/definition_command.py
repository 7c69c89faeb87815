"""`linetally-agent definition`: the definitions of OEE that there are, and what one says.

Decides what is printed; the words are `protocols.measurement.explain`'s.
"""

from __future__ import annotations

import argparse
import json

from protocols.measurement.definition import ISO, PRESET_NAMES, PRESETS

_DESCRIPTION = """\
The definitions of OEE that a line can be measured by, each with its hash. With --explain: what counts as what.

examples:
  linetally-agent definition
  linetally-agent definition smrp --explain
  linetally-agent definition tpm --explain --json
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "definition",
        help="what the definitions of OEE say",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", nargs="?", choices=tuple(PRESETS), metavar="PRESET", help=", ".join(PRESETS))
    parser.add_argument("--explain", action="store_true", help="what counts as what (of ISO's when none is named)")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.explain:
        from protocols.measurement.explain import explain, explain_text  # numpy's, and only for this

        definition = PRESETS[options.preset or ISO.preset]
        print(_json(explain(definition)) if options.json else explain_text(definition))
        return 0
    listed = [PRESETS[options.preset]] if options.preset else list(PRESETS.values())
    if options.json:
        print(_json([{"preset": d.preset, "hash": d.hash.hex(), "words": d.words, **d.to_data()} for d in listed]))
        return 0
    for definition in listed:
        print(f"{definition.preset:<22} {PRESET_NAMES[definition.preset]}")
        print(f"  {definition.hash.hex()}")
        print(f"  {definition.words}")
    print("\nwhat counts as what: linetally-agent definition PRESET --explain")
    return 0


def _json(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False)
