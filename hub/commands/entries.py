"""Commands for whoever keeps the registry: scheme, enterprise, project, line and API tokens.

Decides names of options and the words of the help. What may be entered is decided in `registry`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any, Final

from hub.clock import now_ms
from hub.commands.terminal import show, show_rows
from hub.commands.workplace import opened
from hub.registry import ApiToken, Enterprise, Line, Project, Registry, Role, Scheme
from protocols.errors import Refused

DAY_MS: Final = 86_400_000


def add_parsers(subparsers: Any, common: argparse.ArgumentParser) -> None:
    scheme = _group(subparsers, "scheme", "funding schemes (NIFS, NIAS and Manufacturing+ are there from the start)")
    _list(scheme, common, list_schemes)
    add = _add(scheme, common, add_scheme, "linetally-hub scheme add pilot --name 'Pilot scheme' --secretariat HKPC")
    add.add_argument("id")
    add.add_argument("--name", required=True)
    add.add_argument("--name-zh", default="")
    add.add_argument("--committee", default="")
    add.add_argument("--secretariat", default="")

    enterprise = _group(subparsers, "enterprise", "the companies whose lines are measured")
    _list(enterprise, common, list_enterprises)
    add = _add(
        enterprise, common, add_enterprise, "linetally-hub enterprise add acme --name 'Acme Foods' --name-zh 宏味食品"
    )
    add.add_argument("id")
    add.add_argument("--name", required=True)
    add.add_argument("--name-zh")
    add.add_argument("--sector", help="e.g. 'food manufacturing and processing'")

    project = _group(subparsers, "project", "funded projects: one enterprise under one scheme")
    _list(project, common, list_projects)
    add = _add(
        project, common, add_project,
        "linetally-hub project add P-7 --scheme manufacturing-plus --enterprise acme --title 'Upgrade of line 3' "
        "--grant 250000 --cost 750000 --milestone 'Robot installed=2026-09-01'",
    )  # fmt: skip
    add.add_argument("id")
    add.add_argument("--scheme", required=True)
    add.add_argument("--enterprise", required=True)
    add.add_argument("--title", required=True)
    add.add_argument("--agreement-number")
    add.add_argument("--grant", type=int, metavar="HKD", help="the approved grant in whole HK$")
    add.add_argument("--cost", type=int, metavar="HKD", help="the project's cost in whole HK$")
    add.add_argument("--milestone", action="append", default=[], metavar="TITLE=DATE", help="may be repeated")

    line = _group(subparsers, "line", "the production lines that may be measured")
    _list(line, common, list_lines)
    add = _add(
        line, common, add_line,
        "linetally-hub line add filling --enterprise acme --project P-7 --name 'Filling line 3' --site 'Tai Po' "
        "--area 'Hall 2'",
    )  # fmt: skip
    add.add_argument("id", help="the id that the gateway's configuration uses")
    add.add_argument("--enterprise", required=True)
    add.add_argument("--project")
    add.add_argument("--name", required=True)
    add.add_argument("--timezone", default="Asia/Hong_Kong", help="default: %(default)s")
    add.add_argument("--simulated", action="store_true", help="its numbers come from a model; every page says so")
    _place_options(add)
    place = line.add_parser(
        "place", parents=[common], help="tell where a line stands",
        description="Sets the site and area of a line that is there already, or the line that a machine is part of. "
        "Roll-ups by site and area follow at once, also for the past. An empty name takes one away.",
        epilog="example: linetally-hub line place filling --site 'Tai Po' --area 'Hall 2'",
    )  # fmt: skip
    place.add_argument("id")
    _place_options(place)
    place.set_defaults(run=place_line)

    token = subparsers.add_parser(
        "token", parents=[common], help="make a token for the API",
        description="Makes a token and shows it once; the hub keeps only its SHA-256.",
        epilog="example: linetally-hub token --role secretariat --scheme nifs --label 'Ms Chan' --days 90",
    )  # fmt: skip
    token.add_argument("--role", required=True, choices=[role.value for role in Role])
    token.add_argument("--label", required=True, help="whose it is")
    token.add_argument("--scheme", action="append", default=[], help="only these schemes; may be repeated")
    token.add_argument("--enterprise", action="append", default=[], help="only these enterprises; may be repeated")
    token.add_argument("--days", type=int, default=90, help="until it expires; default: %(default)s")
    token.set_defaults(run=make_token)


def _place_options(parser: Any) -> None:
    parser.add_argument("--site", help="the site where it stands")
    parser.add_argument("--area", help="the area of the site")
    parser.add_argument("--part-of", metavar="LINE", help="it is a machine of this line, measured apart")


def _group(subparsers: Any, name: str, help_text: str) -> Any:
    parser = subparsers.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def _list(actions: Any, common: argparse.ArgumentParser, run: Any) -> None:
    actions.add_parser("list", parents=[common], help="show all").set_defaults(run=run)


def _add(actions: Any, common: argparse.ArgumentParser, run: Any, example: str) -> Any:
    add = actions.add_parser("add", parents=[common], help="enter one", epilog=f"example: {example}")
    add.set_defaults(run=run)
    return add


def list_schemes(args: argparse.Namespace) -> int:
    with opened(args) as (_, engine):
        rows = [asdict(each) for each in Registry(engine).schemes()]
    show_rows(rows, ("id", "name_en", "name_zh", "secretariat"), args.json, "no schemes")
    return 0


def list_enterprises(args: argparse.Namespace) -> int:
    with opened(args) as (_, engine):
        rows = [asdict(each) for each in Registry(engine).enterprises()]
    show_rows(rows, ("id", "name", "name_zh", "sector"), args.json, "none yet: `linetally-hub enterprise add`")
    return 0


def list_projects(args: argparse.Namespace) -> int:
    with opened(args) as (_, engine):
        rows = [asdict(each) for each in Registry(engine).projects()]
    columns = ("id", "scheme_id", "enterprise_id", "title", "approved_grant_hkd")
    show_rows(rows, columns, args.json, "no projects yet: `linetally-hub project add`")
    return 0


def list_lines(args: argparse.Namespace) -> int:
    with opened(args) as (_, engine):
        rows = [asdict(each) for each in Registry(engine).lines()]
    columns = ("id", "name", "enterprise_id", "site", "area", "part_of", "project_id", "timezone")
    show_rows(rows, columns, args.json, "no lines yet: `linetally-hub line add`")
    return 0


def add_scheme(args: argparse.Namespace) -> int:
    scheme = Scheme(args.id, args.name, args.name_zh, args.committee, args.secretariat)
    return _enter(args, lambda registry: registry.add_scheme(scheme))


def add_enterprise(args: argparse.Namespace) -> int:
    enterprise = Enterprise(args.id, args.name, args.name_zh, args.sector)
    return _enter(args, lambda registry: registry.add_enterprise(enterprise))


def add_project(args: argparse.Namespace) -> int:
    milestones = []
    for text in args.milestone:
        title, _, planned = text.rpartition("=")
        if not title:
            raise Refused("bad-value", f"--milestone {text!r}: write TITLE=DATE, e.g. 'Robot installed=2026-09-01'")
        milestones.append({"title": title, "planned": planned, "done": None, "evidence": None})
    project = Project(
        args.id, args.scheme, args.enterprise, args.title, args.agreement_number, args.grant, args.cost, milestones,
        now_ms(),
    )  # fmt: skip
    return _enter(args, lambda registry: registry.add_project(project))


def add_line(args: argparse.Namespace) -> int:
    line = Line(
        args.id, args.enterprise, args.project, args.name, args.timezone, args.simulated, args.site or "",
        args.area or "", args.part_of,
    )  # fmt: skip
    return _enter(args, lambda registry: registry.add_line(line))


def place_line(args: argparse.Namespace) -> int:
    if args.site is None and args.area is None and args.part_of is None:
        raise Refused("bad-value", "name at least one of --site, --area and --part-of")
    with opened(args) as (_, engine):
        line = Registry(engine).place_line(args.id, args.site, args.area, args.part_of)
    where = ", ".join(filter(None, [line.site, line.area])) or "no site"
    words = f"{line.id}: {where}" + (f"; a machine of {line.part_of}" if line.part_of else "")
    show({"id": line.id, "site": line.site, "area": line.area, "part_of": line.part_of}, args.json, words)
    return 0


def make_token(args: argparse.Namespace) -> int:
    scope = {name: ids for name, ids in (("schemes", args.scheme), ("enterprises", args.enterprise)) if ids}
    if not 1 <= args.days <= 3_650:
        raise Refused("bad-value", "--days must be from 1 to 3650")
    token = ApiToken(args.label, Role(args.role), scope, now_ms() + args.days * DAY_MS)
    with opened(args) as (_, engine):
        text = Registry(engine).issue_api_token(token)
    show({"token": text, "expires_ms": token.expires_ms}, args.json, text)
    return 0


def _enter(args: argparse.Namespace, enter: Any) -> int:
    with opened(args) as (_, engine):
        enter(Registry(engine))
    show({"id": args.id}, args.json, f"entered {args.id}")
    return 0
