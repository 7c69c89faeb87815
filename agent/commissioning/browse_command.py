"""`linetally-agent browse`: the tree of an OPC UA server with live values, and tags picked from it.

Decides the options, and the plain printed form for pipes and scripts. On a terminal the tree can be walked by the
keyboard (`browse_screen`). It only reads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.errors import ConfigurationError

if TYPE_CHECKING:
    from agent.commissioning.tree import Node, Space
    from agent.config_opcua import OpcuaSource

_DESCRIPTION = """\
Show what an OPC UA server has, with live values, and pick tags from it. On a terminal: arrows walk, r gives a role,
w writes. Otherwise, or with --plain, the tree is printed. Nothing on the server is ever changed.

examples:
  linetally-agent browse opc.tcp://192.168.0.10:4840
  linetally-agent browse opc.tcp://192.168.0.10:4840 --plain --below Machine1/Status
  linetally-agent browse opc.tcp://192.168.0.10:4840 --plain --find count
      only variables whose path has "count" in it
  linetally-agent browse --config agent.toml --line filling
      the server of a line, with its security and login; w writes the picked tags into the file
  linetally-agent browse --config agent.toml --line filling --pick total=Line/Admin/Count --pick state=Line/State
      the same without a keyboard
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "browse", help="look through an OPC UA server, and pick tags", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("endpoint", nargs="?", metavar="OPC.TCP-URL", help="default: the line's, of --config")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the gateway's TOML file")
    parser.add_argument("--line", metavar="ID", help="a line of it (needed where there are several)")
    parser.add_argument("--below", default="", metavar="PATH", help="begin there: names with / between them")
    parser.add_argument("--depth", type=int, default=8, metavar="N", help="levels to print (8)")
    parser.add_argument("--find", metavar="TEXT", help="only variables whose path has this in it")
    parser.add_argument("--pick", action="append", default=[], metavar="ROLE=PATH", help="write it into --config")
    parser.add_argument("--plain", action="store_true", help="print, also on a terminal")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    source, folder, gateway_id = _source(options)
    return asyncio.run(_browse(options, source, folder, gateway_id))


def _source(options: argparse.Namespace) -> tuple[OpcuaSource, Path, str]:
    from agent.commissioning.peers import opcua_source
    from agent.config import load
    from agent.config_opcua import OpcuaSource

    if options.config is None:
        if options.endpoint is None:
            raise ConfigurationError("which server?", mend="give its address, opc.tcp://192.168.0.10:4840, or --config")
        if options.pick:
            raise ConfigurationError("--pick needs --config FILE, into which it writes")
        return opcua_source(options.endpoint), Path("state"), "GW-01"
    configuration = load(options.config)
    lines = [each for each in configuration.lines if isinstance(each.source, OpcuaSource)]
    found = [each for each in lines if options.line in (None, each.line_id)]
    if len(found) != 1:
        ids = ", ".join(each.line_id for each in lines) or "none"
        raise ConfigurationError("which line?", file=str(options.config), mend=f"--line is one of: {ids}")
    options.line = found[0].line_id
    source = found[0].source
    assert isinstance(source, OpcuaSource)
    if options.endpoint not in (None, source.endpoint):
        raise ConfigurationError("--config has another endpoint", mend=f"leave the address out: {source.endpoint}")
    return source, configuration.state_folder, configuration.gateway_id


async def _browse(options: argparse.Namespace, source: OpcuaSource, folder: Path, gateway_id: str) -> int:
    from agent.commissioning.peers import opcua_peer
    from agent.commissioning.tree import Space
    from agent.sources.opcua_client import LINK_ERRORS

    interactive = sys.stdin.isatty() and sys.stdout.isatty() and not options.plain and not options.json
    async with opcua_peer(source, folder, gateway_id) as client:
        space = await Space.of(client)
        below = await space.find(options.below)
        if options.pick:
            return await _pick(options, space)
        if interactive and not options.find:
            from agent.commissioning.browse_screen import Screen

            screen = Screen(space, source.endpoint, below, can_write=options.config is not None)
            try:
                picked = await screen.run()
            except LINK_ERRORS:
                print_tags(screen.picked, "the connection broke; what was picked so far, to be written by hand:")
                raise
            return _written(options, picked)
        await space.walk(max(options.depth, 1), below)
    nodes = space.all(below)
    if options.find:
        wanted = options.find.lower()
        nodes = [node for node in nodes if node.is_variable and wanted in node.path.lower()]
    if options.json:
        print(json.dumps([_data(space, node) for node in nodes if node.is_variable], indent=2, ensure_ascii=False))
    elif options.find:
        for node in nodes:
            print(f"{node.path} = {node.value or node.trouble}\n    {space.tag(node)}")
    else:
        print_tree(space, below, source.endpoint)
    if space.is_cut:
        print(f"only the first {space.count:,} nodes are shown; give --below PATH to see others", file=sys.stderr)
    return 0 if nodes else 1


def _data(space: Space, node: Node) -> dict[str, Any]:
    return {"path": node.path, "value": node.value, "trouble": node.trouble, "tag": space.tag(node)}


def print_tree(space: Space, below: Node, title: str) -> None:
    """The tree with its values, as far as it was walked."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(title + (f"  {below.path}" if below.names else ""), "bold"), guide_style="dim")

    def grow(tree: Tree, node: Node) -> None:
        for child in node.children:
            text = Text(child.name, "" if child.is_variable else "bold")
            if child.is_variable:
                text.append(f" = {child.value}" if not child.trouble else f"   {child.trouble}",
                            "cyan" if not child.trouble else "red")  # fmt: skip
            grow(tree.add(text), child)

    grow(root, below)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(root)
    variables = sum(node.is_variable for node in space.all(below))
    console.print(f"\n{variables:,} variables. --find TEXT shows the line to write for those that fit", style="dim")


async def _pick(options: argparse.Namespace, space: Space) -> int:
    picked: dict[str, str] = {}
    for text in options.pick:
        role, sign, path = text.partition("=")
        if not sign or role not in roles():
            mend = f"write ROLE=PATH; the roles: {', '.join(roles())}"
            raise ConfigurationError(f"--pick {text}: this is no role and path", mend=mend)
        node = await space.find(path)
        if not node.is_variable:
            raise ConfigurationError(f"{path} is no variable", mend=f"look below it: browse --below {path} --plain")
        await space.read([node])
        print(f"{role}: {node.path} = {node.value or node.trouble}")
        picked[role] = space.tag(node, role)
    return _written(options, picked)


def _written(options: argparse.Namespace, picked: dict[str, str]) -> int:
    from agent.commissioning.toml_edit import put_tags

    if not picked:
        return 0
    if options.config is None:
        print_tags(picked, "")
        return 0
    try:
        kept = put_tags(options.config, options.line, picked)
    except ConfigurationError:
        print_tags(picked, f"{options.config} stays as it was; what was picked, to be written by hand:")
        raise
    print(f"wrote {', '.join(picked)} into {options.config}; as it was before: {kept}")
    print(f"look at it: linetally-agent doctor --config {options.config}")
    return 0


def print_tags(picked: Mapping[str, str], words: str) -> None:
    """What to write in the file."""
    if picked:
        print(
            "\n".join(
                [*([words] if words else []), "[line.tags]", *(f"{name} = {tag}" for name, tag in picked.items())]
            )
        )


def roles() -> tuple[str, ...]:
    """The roles that a tag may have."""
    from agent.config_tags import ROLE_NAMES

    return ROLE_NAMES
