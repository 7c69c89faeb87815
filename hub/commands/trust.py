"""Commands for whoever holds the root key: gateways, plans, and the policy that verifiers trust.

Decides what is asked before the root key signs. The signed records go to the log by `workplace.log_body`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from hub import enrolment, root
from hub.clock import now_ms
from hub.commands.plan_file import read_plan
from hub.commands.terminal import show, show_rows
from hub.commands.workplace import load_root_key, log_body, opened
from hub.config import load_config
from hub.projections.index import Index
from hub.projections.projector import fingerprint
from hub.registry import Registry
from protocols.errors import Refused
from protocols.evidence import policy
from protocols.evidence.bodies import PlanStatement
from protocols.evidence.note import VerifierKey
from protocols.evidence.rotation import check_rotation, rotation_from_json

HOUR_MS: Final = 3_600_000


def add_parsers(subparsers: Any, common: argparse.ArgumentParser) -> None:
    signing = argparse.ArgumentParser(add_help=False)
    signing.add_argument("--root-key", type=Path, metavar="FILE", help="default: root.key beside the configuration")
    signing.add_argument(
        "--simulated-time", metavar="TIME", help="for simulated plants only: the record's time, 2026-03-01T00:00:00Z; "
        "the record then says that its clock is simulated",
    )  # fmt: skip

    gateway = subparsers.add_parser(
        "gateway", help="let a gateway in, or shut it out",
        description="How a gateway gets in: `gateway token PROJECT` makes a one-time token; the gateway enrols with it "
        "(`linetally-agent enrol`); compare the fingerprint that it shows with `gateway list`; `gateway approve ID` "
        "signs it into the log with the root key.",
    )  # fmt: skip
    actions = gateway.add_subparsers(dest="action", required=True, metavar="ACTION")
    token = actions.add_parser(
        "token", parents=[common], help="make a one-time enrolment token",
        epilog="example: linetally-hub gateway token P-7",
    )  # fmt: skip
    token.add_argument("project")
    token.add_argument("--hours", type=int, default=24, help="until it expires; default: %(default)s")
    token.set_defaults(run=make_token)
    actions.add_parser("list", parents=[common], help="show all with fingerprints, auditors last").set_defaults(
        run=list_gateways
    )
    approve = actions.add_parser(
        "approve", parents=[common, signing], help="sign a pending gateway into the log",
        epilog="example: linetally-hub gateway approve GW-07 --fingerprint '3f2a 99…'",
    )  # fmt: skip
    approve.add_argument("id")
    approve.add_argument("--fingerprint", help="approve only if it is this one, as the gateway shows it")
    approve.set_defaults(run=approve_gateway)
    rotate = actions.add_parser(
        "rotate", parents=[common, signing], help="sign a gateway's new key into the log",
        description="Takes the request that `linetally-agent rotate` wrote: signed by the gateway's old key and by its "
        "new one. From then on only the new key's records are taken, so let the gateway send what it has before.",
        epilog="example: linetally-hub gateway rotate --request GW-07.rotation --fingerprint '3f2a 99…'",
    )  # fmt: skip
    rotate.add_argument("--request", type=Path, required=True, metavar="FILE")
    rotate.add_argument("--fingerprint", help="of the new key: sign only if it is this one, as the gateway shows it")
    rotate.set_defaults(run=rotate_gateway)
    revoke = actions.add_parser(
        "revoke", parents=[common, signing], help="nothing of its key counts any more",
        epilog="example: linetally-hub gateway revoke GW-07 --reason 'stolen' --from-index 81234",
    )  # fmt: skip
    revoke.add_argument("id")
    revoke.add_argument("--reason", required=True)
    revoke.add_argument("--from-index", type=int, help="first log entry that does not count; default: the next one")
    revoke.set_defaults(run=revoke_gateway)

    plan = subparsers.add_parser(
        "plan", parents=[common, signing], help="register a project's evaluation plan in the log",
        description="Registers the rules of an evaluation before its result exists. The file is TOML; docs/hub.md has "
        "an example with every key.",
        epilog="example: linetally-hub plan P-7 --file plan.toml",
    )  # fmt: skip
    plan.add_argument("project")
    plan.add_argument("--file", type=Path, required=True)
    plan.set_defaults(run=register_plan)

    policy_parser = subparsers.add_parser(
        "policy", parents=[common], help="write the policy file that verifiers need",
        description="Writes the keys of the log and of the scheme's root as a tlog-policy. Publish it outside the "
        "hub: whoever verifies must not have it from the hub that is verified.",
        epilog="example: linetally-hub policy --output policy.txt && linetally-verify BUNDLE --policy policy.txt",
    )  # fmt: skip
    policy_parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    policy_parser.add_argument(
        "--quorum", type=int, metavar="K", help="demand cosignatures of K of the witnesses in the configuration; "
        "default: log.quorum, or more than half of them",
    )  # fmt: skip
    policy_parser.set_defaults(run=write_policy)


def make_token(args: argparse.Namespace) -> int:
    if not 1 <= args.hours <= 168:
        raise Refused("bad-value", "--hours must be from 1 to 168")
    time_ms = now_ms()
    with opened(args) as (_, engine):
        text = enrolment.issue_token(engine, args.project, time_ms, args.hours * HOUR_MS)
    show({"token": text, "expires_ms": time_ms + args.hours * HOUR_MS}, args.json, text)
    return 0


def list_gateways(args: argparse.Namespace) -> int:
    with opened(args) as (_, engine):
        # An auditor's key is approved and revoked in the same way; it is enrolled for no line.
        keys = sorted(Registry(engine).gateways(), key=lambda each: not each.lines)
    rows = [asdict(key) | {"kind": "gateway" if key.lines else "auditor"} for key in keys]
    columns = ("id", "kind", "state", "project_id", "lines", "fingerprint")
    show_rows(rows, columns, args.json, "no gateways yet: `linetally-hub gateway token PROJECT`")
    return 0


def approve_gateway(args: argparse.Namespace) -> int:
    with opened(args) as (config, engine):
        registry = Registry(engine)
        body = enrolment.approval(registry, args.id)
        gateway = registry.gateway(args.id)
        assert gateway is not None, "approval has found it"
        if args.fingerprint is not None and _bare(args.fingerprint) != _bare(gateway.fingerprint):
            raise Refused("other-key", f"the hub has {gateway.fingerprint}: this is another key. Do not approve it")
        leaf = log_body(config, engine, _root_key(args), body, _simulated_ms(args))
    words = f"{args.id} is active ({gateway.fingerprint}), entry {leaf} of the log"
    show({"gateway": args.id, "leaf_index": leaf, "fingerprint": gateway.fingerprint}, args.json, words)
    return 0


def rotate_gateway(args: argparse.Namespace) -> int:
    body = rotation_from_json(args.request.read_bytes())
    shown = fingerprint(body.public_key)
    if args.fingerprint is not None and _bare(args.fingerprint) != _bare(shown):
        raise Refused("other-key", f"the request is for {shown}: this is another key. Do not sign it")
    with opened(args) as (config, engine):
        gateway = Registry(engine).gateway_by_kid(body.old_kid)
        if gateway is None or gateway.id != body.gateway_id:
            raise Refused("not-found", f"key {body.old_kid.hex()} is not the present key of {body.gateway_id}")
        check_rotation(body, gateway.public_key)
        leaf = log_body(config, engine, _root_key(args), body, _simulated_ms(args))
    words = f"{body.gateway_id} has a new key ({shown}), entry {leaf} of the log"
    show({"gateway": body.gateway_id, "leaf_index": leaf, "fingerprint": shown}, args.json, words)
    return 0


def revoke_gateway(args: argparse.Namespace) -> int:
    with opened(args) as (config, engine):
        first = Index(engine).size() if args.from_index is None else args.from_index
        if first < 0:
            raise Refused("bad-value", "--from-index cannot be negative")
        body = enrolment.revocation(Registry(engine), args.id, first, args.reason)
        leaf = log_body(config, engine, _root_key(args), body, _simulated_ms(args))
    words = f"{args.id} is revoked from entry {first} on; the revocation is entry {leaf}"
    show({"gateway": args.id, "leaf_index": leaf, "first_invalid_index": first}, args.json, words)
    return 0


def register_plan(args: argparse.Namespace) -> int:
    with opened(args) as (config, engine):
        plan = read_plan(args.file, Registry(engine), args.project)
        leaf = log_body(config, engine, _root_key(args), PlanStatement(plan.to_data()), _simulated_ms(args))
    words = f"the plan of {args.project} is entry {leaf} of the log, hash {plan.hash.hex()}"
    show({"project": args.project, "leaf_index": leaf, "hash": plan.hash}, args.json, words)
    return 0


def write_policy(args: argparse.Namespace) -> int:
    config = load_config(args.config)
    log_key = root.load_log_key(config).verifier
    with opened(args) as (_, engine):
        root_keys = tuple(root.registered(engine))
        revoked = tuple(Index(engine).revoked())
    witnesses = tuple((each.name, VerifierKey.parse(each.vkey)) for each in config.witness)
    urls = tuple((key, each.url) for (_, key), each in zip(witnesses, config.witness, strict=True))
    whole = policy.Policy(logs=(log_key,), witnesses=witnesses, root_keys=root_keys, urls=urls, revoked=revoked)
    quorum = config.quorum if args.quorum is None else args.quorum
    data = policy.format(policy.with_quorum(whole, quorum) if quorum or args.quorum is not None else whole)
    if args.output is None:
        show({"policy": data.decode()}, args.json, data.decode().rstrip("\n"))
    else:
        args.output.write_bytes(data)
        show({"file": args.output}, args.json, f"wrote {args.output}")
    return 0


def _root_key(args: argparse.Namespace) -> Any:
    return load_root_key(args.root_key or args.config.parent / "root.key")


def _simulated_ms(args: argparse.Namespace) -> int | None:
    if args.simulated_time is None:
        return None
    try:
        instant = datetime.fromisoformat(args.simulated_time)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Refused("bad-value", f"--simulated-time {args.simulated_time!r}: write 2026-03-01T00:00:00Z")
    return round(instant.timestamp() * 1000)


def _bare(fingerprint: str) -> str:
    return "".join(fingerprint.split()).lower()
