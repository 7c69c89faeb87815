"""Commands for whoever runs the hub: init, serve, rebuild, fsck.

Decides what a new hub consists of. `init` may run again: what is there stays, and is said.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hub import root
from hub.commands.terminal import progress_bar, show
from hub.commands.workplace import opened
from hub.config import load_config
from hub.database import migrate, open_database
from hub.ingest import calm_collector
from hub.log.sequencer import CHECKPOINT, Log
from hub.projections import projector
from hub.registry import Registry
from protocols.errors import ConfigurationError, Malformed
from protocols.evidence.note import check_name

_TEMPLATE: Final = """\
# linetally hub. Every key, its default and its limits: docs/hub.md

data = "data"                  # relative to this file

[server]
host = "127.0.0.1"
port = {port}
access = "{access}"            # "token", or "loopback": everybody on this machine, nobody else

[broker]
embedded = true                # on this machine, in memory; for production run mosquitto and write false
port = {broker_port}

[log]
origin = "{origin}"
"""


def add_parsers(subparsers: Any, common: argparse.ArgumentParser) -> None:
    init = subparsers.add_parser(
        "init", parents=[common], help="make a new hub: configuration, keys, log and database",
        description="Makes what is missing of a hub and leaves the rest. The root key is the scheme's, not the hub's: "
        "in production make it on the secretariat's machine and give only its public half (--root-vkey).",
        epilog="example: linetally-hub init --origin hub.example.org/linetally --root-key /media/safe/root.key",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    init.add_argument("--origin", default="localhost/linetally", help="the log's name; default: %(default)s")
    init.add_argument("--root-key", type=Path, metavar="FILE", help="default: root.key beside the configuration")
    init.add_argument("--root-vkey", metavar="VKEY", help="the root key's public half, if the key is kept elsewhere")
    init.add_argument("--port", type=int, default=8080, help="of the pages; default: %(default)s")
    init.add_argument("--broker-port", type=int, default=1883, help="of the embedded broker; default: %(default)s")
    init.add_argument("--access", choices=["token", "loopback"], default="token", help="default: %(default)s")
    init.set_defaults(run=run_init)

    serve = subparsers.add_parser(
        "serve", parents=[common], help="run the hub until Ctrl-C",
        description="Runs everything: broker (if embedded), ingest, log, pages and API. A full disk stops receipts, "
        "never records: gateways hold theirs, and the hub says so and goes on when there is space.",
        epilog="example: linetally-hub serve --config /etc/linetally/hub.toml",
    )  # fmt: skip
    serve.add_argument("--port", type=int, help="instead of the configuration's server.port")
    serve.set_defaults(run=run_serve)

    rebuild = subparsers.add_parser(
        "rebuild", parents=[common], help="fill the index again from the log",
        description="Empties every projection in the database and fills it from the log, which is the truth. Stop the "
        "hub before. Registry, tokens and quarantine stay. Safe to interrupt: run it again.",
        epilog="example: linetally-hub rebuild",
    )  # fmt: skip
    rebuild.set_defaults(run=run_rebuild)

    fsck = subparsers.add_parser(
        "fsck", parents=[common], help="check every byte of the log",
        description="Reads the whole log, computes its tree again and compares it with what was signed. Exit code 1 "
        "names the first wrong byte.",
        epilog="example: linetally-hub fsck --json",
    )  # fmt: skip
    fsck.set_defaults(run=run_fsck)


def run_init(args: argparse.Namespace) -> int:
    """Exit code 0, or 2 through ConfigurationError."""
    try:
        check_name(args.origin)
    except Malformed:
        raise ConfigurationError(
            f"--origin {args.origin!r} cannot name a log", mend="write one like hub.example.org/linetally"
        ) from None
    made: list[str] = []
    if not args.config.exists():
        args.config.parent.mkdir(parents=True, exist_ok=True)
        text = _TEMPLATE.format(origin=args.origin, port=args.port, broker_port=args.broker_port, access=args.access)
        args.config.write_text(text, encoding="utf-8")
        made.append(str(args.config))
    config = load_config(args.config)
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if config.log.key_file.exists():
        signer = root.load_log_key(config)
    else:
        signer = root.make_key(config.log.key_file, config.log.origin)
        made.append(str(config.log.key_file))
    if not (config.log_folder / CHECKPOINT).exists():
        Log.create(config.log_folder, config.log.origin, signer).close()
        made.append(str(config.log_folder))
    engine = open_database(config.database_url)
    try:
        migrate(engine)
        Registry(engine).seed()
        root_vkey = _root(args, config.log.origin, made)
        root.register(engine, root_vkey)
    finally:
        engine.dispose()
    data = {"made": made, "log_vkey": str(signer.verifier), "root_vkey": str(root_vkey), "config": str(args.config)}
    words = "".join(f"made {path}\n" for path in made) or "everything is there already\n"
    words += f"log key   {signer.verifier}\nroot key  {root_vkey}\n"
    words += f"next: linetally-hub serve --config {args.config}"
    show(data, args.json, words)
    return 0


def _root(args: argparse.Namespace, origin: str, made: list[str]) -> Any:
    if args.root_vkey is not None:
        from protocols.evidence.note import VerifierKey

        return VerifierKey.parse(args.root_vkey)
    path = args.root_key or args.config.parent / "root.key"
    if path.exists():
        return root.load_key(path, "the root key", "name another with --root-key").verifier
    made.append(str(path))
    return root.make_key(path, f"{origin}/root").verifier


def run_serve(args: argparse.Namespace) -> int:
    """Exit code 0 after Ctrl-C or SIGTERM, 1 where a part failed, 2 for a configuration that cannot work."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    from hub import app  # FastAPI and its kin take seconds on a small machine; only `serve` needs them

    config = load_config(args.config)
    if args.port is not None:
        config = replace(config, server=replace(config.server, port=args.port))
    if not config.log_folder.exists():
        raise ConfigurationError(
            f"there is no hub in {config.data}", mend=f"make one with `linetally-hub init --config {args.config}`"
        )
    return app.serve(
        config,
        lambda url: print(f'{{"url": "{url}"}}' if args.json else f"The hub is at {url} (Ctrl-C stops it)", flush=True),
    )


def run_rebuild(args: argparse.Namespace) -> int:
    """Exit code 0; LogRefused where a hub is serving."""
    calm_collector()
    with (
        opened(args) as (config, engine),
        Log.open(config.log_folder, root.load_log_key(config)) as log,
        progress_bar("rebuilding the index") as progress,
    ):
        count = projector.rebuild(engine, log, progress)
    show({"entries": count}, args.json, f"the index is filled from {count:,} entries of the log")
    return 0


def run_fsck(args: argparse.Namespace) -> int:
    """Exit code 0 for a sound log, 1 with the first wrong byte."""
    config = load_config(args.config)
    checked = 0
    with Log.open(config.log_folder, root.load_log_key(config)) as log, progress_bar("checking the log") as progress:
        for step in log.fsck():
            checked = step.checked
            progress(step.checked, step.total)
            if step.fault is not None:
                data = {"sound": False, "checked": checked, "fault": str(step.fault)}
                show(data, args.json, f"the log is NOT sound: {step.fault}\nbring back a good copy of this file")
                return 1
    show({"sound": True, "checked": checked}, args.json, f"the log is sound: {checked:,} entries checked")
    return 0
