"""What a command works on: the configuration, the database and, if no hub is serving, the log itself.

Decides who may append: one process at a time holds the log's lock. A command that has something to log leaves it in
the database and asks here; either the serving hub takes it, or the command does what the hub would do at its start.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from hub import root
from hub.clock import now_ms
from hub.config import HubConfig, load_config
from hub.database import is_current, migrate, open_database
from hub.ingest import Writer
from hub.judge import LOG_BEHIND
from hub.log.sequencer import Log
from hub.log.store import LogRefused
from protocols.errors import ConfigurationError, Refused
from protocols.evidence.bodies import Body
from protocols.evidence.note import SignerKey


@contextmanager
def opened(args: Namespace) -> Iterator[tuple[HubConfig, Engine]]:
    """The configuration of --config and its database. Raises ConfigurationError."""
    config = load_config(args.config)
    if not config.database.url and not (config.data / "hub.sqlite").exists():
        raise ConfigurationError(
            f"there is no hub in {config.data}", mend=f"make one with `linetally-hub init --config {args.config}`"
        )
    engine = open_database(config.database_url)
    try:
        if not is_current(engine):
            migrate(engine)
        yield config, engine
    finally:
        engine.dispose()


def load_root_key(path: Path) -> SignerKey:
    """The scheme's root key from its holder's file. Raises ConfigurationError."""
    return root.load_key(path, "the root key", "name its file with --root-key; `linetally-hub init` has made one")


def log_body(config: HubConfig, engine: Engine, signer: SignerKey, body: Body, time_ms: int | None = None) -> int:
    """Signs `body` with the root key and sees it into the log; gives its leaf index.

    `time_ms`: of a simulated plant, whose records say that their clock is simulated. Raises Refused or NotLogged.
    """
    source = "none" if time_ms is None else "simulated"
    submission_id = root.submit(engine, signer, body, now_ms() if time_ms is None else time_ms, source)
    return root.wait(engine, submission_id, lambda: append_here(config, engine))


def append_here(config: HubConfig, engine: Engine) -> bool:
    """Logs what waits in the database, unless another process has the log: then False, and that one does it."""
    try:
        log = Log.open(config.log_folder, root.load_log_key(config))
    except LogRefused as refused:
        if refused.file.endswith("lock"):
            return False
        raise
    with log:
        nobody = lambda _gateway_id, _payload: None  # noqa: E731 (receipts are the serving hub's)
        writer = Writer(engine, log, config.ingest, now_ms, nobody, config.log.disbelieve)
        if writer.halted is not None:
            raise Refused(LOG_BEHIND, writer.halted)
        writer.recover()
        writer.take_submissions()
    return True
