"""`linetally-hub witness`: a witness for a secretariat or committee that has none.

Decides the words. It belongs on another machine than the hub's, in other hands: a witness of the hub's operator tells
nobody anything.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any, Final

from hub import root
from hub.commands.terminal import show
from hub.log.store import no_failpoint, replace_file
from hub.witness.state import KEY_FILE, LOGS_FILE, Witness, read_logs
from protocols.errors import ConfigurationError, Malformed, Refused
from protocols.evidence.note import Algorithm, VerifierKey

_DEFAULT_FOLDER: Final = Path("witness")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "witness", help="run a witness of other people's logs",
        description="A witness cosigns a log's checkpoints as long as the log only grows (c2sp.org/tlog-witness). Run "
        "it on another machine than the hub's, in other hands. The hub's operator enters its url and vkey as "
        "[[witness]] in hub.toml; `linetally-hub policy --quorum K` then makes verifiers demand it.",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--folder", type=Path, default=_DEFAULT_FOLDER, help="of its key and state; default: %(default)s"
    )
    common.add_argument("--json", action="store_true", help="answer as JSON, for scripts")
    init = actions.add_parser(
        "init", parents=[common], help="make its key, and name the logs that it watches",
        epilog="example: linetally-hub witness init --name witness.example.org/w1 --log 'hub.example.org/linetally+…'",
    )  # fmt: skip
    init.add_argument("--name", help="the witness's name, a URL without https:// (needed the first time)")
    init.add_argument("--log", action="append", default=[], metavar="VKEY", help="a log's vkey; may be repeated")
    init.set_defaults(run_action=_init)
    serve = actions.add_parser(
        "serve", parents=[common], help="run it until Ctrl-C",
        epilog="example: linetally-hub witness serve --listen 0.0.0.0:8090",
    )  # fmt: skip
    serve.add_argument("--listen", default="127.0.0.1:8090", metavar="HOST:PORT", help="default: %(default)s")
    serve.set_defaults(run_action=_serve)
    return parser


def run(args: argparse.Namespace) -> int:
    code: int = args.run_action(args)
    return code


def _init(args: argparse.Namespace) -> int:
    folder: Path = args.folder
    new = []
    for text in args.log:
        try:
            key = VerifierKey.parse(text)
        except (Malformed, Refused) as error:
            raise ConfigurationError(f"--log {text!r}: {error}", mend="copy the vkey as the log published it") from None
        if key.algorithm is not Algorithm.ED25519:
            raise ConfigurationError(f"--log {text!r} is a witness's key", mend="give the log's")
        new.append(key)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / KEY_FILE
    if path.exists():
        signer = root.load_key(path, "the witness's key", "put back the saved copy")
        if args.name not in (None, signer.name):
            raise ConfigurationError(
                f"this witness is {signer.name}", mend="leave out --name, or give another --folder"
            )
    else:
        if args.name is None:
            raise ConfigurationError("a new witness needs a name", mend="add --name witness.example.org/w1")
        signer = root.make_key(path, args.name, Algorithm.COSIGNATURE)
    known = read_logs(folder) if (folder / LOGS_FILE).exists() else {}
    keys = dict.fromkeys([*(key for keys in known.values() for key in keys), *new])
    replace_file(folder / LOGS_FILE, "".join(f"{key}\n" for key in keys).encode(), no_failpoint, "logs")
    words = f"vkey  {signer.verifier}\n" + "".join(f"log   {key.name}\n" for key in keys)
    data = {"vkey": str(signer.verifier), "logs": [key.name for key in keys]}
    show(data, args.json, words + f"next: linetally-hub witness serve --folder {folder}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from hub.witness.server import serve

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    host, _, port = args.listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigurationError(f"--listen {args.listen!r}", mend="write HOST:PORT, like 127.0.0.1:8090")
    with Witness.open(args.folder, lambda: int(time.time())) as witness:
        url = f"http://{host}:{port}"
        data = {"url": url, "vkey": str(witness.signer.verifier), "logs": witness.origins}
        words = (
            f"The witness {witness.signer.name} is at {url} (Ctrl-C stops it); it watches: {', '.join(witness.origins)}"
        )
        started = serve(witness, host.strip("[]"), int(port), lambda: _say(data, args.json, words))
    return 0 if started else 1


def _say(data: dict[str, Any], as_json: bool, words: str) -> None:
    show(data, as_json, words)
    sys.stdout.flush()
