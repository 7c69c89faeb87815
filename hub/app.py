"""The serving hub: starts the parts in order, watches them, stops them in the opposite order.

Decides order and lifetimes, and what the hub says of itself. Everything it starts ends with it, also after SIGTERM;
after SIGKILL the embedded broker ends by itself and the next start recovers log and index.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from hub import api, enrolment
from hub.audit.challenger import Challenger
from hub.audit.store import RawStore
from hub.broker import EmbeddedBroker
from hub.clock import now_ms
from hub.config import HubConfig
from hub.cosigning import CosignedLog, Cosigner
from hub.database import migrate, open_database
from hub.influx_thread import InfluxThread
from hub.ingest import Writer, calm_collector
from hub.link import Link
from hub.live import LiveBus
from hub.log.sequencer import Log
from hub.log.store import LogUnavailable
from hub.projections.index import Index
from hub.registry import Gateway, Registry
from hub.root import load_log_key
from hub.services import HubStatus, Services
from hub.sparkplug import SparkplugEar
from protocols.errors import ConfigurationError, Refused
from protocols.evidence.note import SignerKey
from protocols.wire.topics import Channel

logger = logging.getLogger("hub.app")

LOG_RETRY_S: Final = 10.0
SHUTDOWN_S: Final = 5


def serve(config: HubConfig, ready: Callable[[str], None]) -> int:
    """Serves until SIGTERM or SIGINT; 0 after a clean stop, 1 when a part failed. `ready(url)` once it answers.

    Raises ConfigurationError, LogRefused or IndexBehindLog for what a person must mend first.
    """
    signer = load_log_key(config)
    engine = open_database(config.database_url)
    calm_collector()
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        migrate(engine)
        log = stack.enter_context(_open_log(config, signer))
        # Bound before anything is started: a port in use is said at once, and nothing has to be undone.
        listening = stack.enter_context(_listen(config))
        bus, registry = LiveBus(), Registry(engine)

        def may_speak_for(gateway_id: str, line_id: str) -> bool:
            return writer.may_speak_for(gateway_id, line_id)

        sparkplug = SparkplugEar(config.live, bus, may_speak_for, now_ms) if config.live.sparkplug else None
        link = Link(
            config.broker,
            receive_maximum=config.ingest.queue_records,
            bus=bus,
            may_speak_for=may_speak_for,
            now_ms=now_ms,
            sparkplug=sparkplug,
        )
        writer = Writer(engine, log, config.ingest, now_ms, link.publish, config.log.disbelieve)
        broker = None
        if config.broker.embedded:
            broker = EmbeddedBroker(config.broker.port, config.data)
            stack.callback(broker.stop)
            broker.start()
        stack.callback(writer.stop)
        writer.start()
        challenger = Challenger(
            engine,
            log,
            RawStore(config.raw_folder, config.audit.keep_megabytes * 1_000_000),
            lambda gateway_id, payload: link.publish(gateway_id, payload, Channel.CHALLENGE),
            lambda: link.is_connected,
            now_ms,
        )
        stack.callback(challenger.stop)
        stack.callback(link.stop)
        link.start(writer.offer, challenger.offer)
        challenger.start()
        cosigner = None
        if config.witness:
            cosigner = Cosigner(log, config.log_folder, config.witness, config.quorum)
            stack.callback(cosigner.stop)
            cosigner.start()
        influx = None
        if config.influx is not None:
            influx = InfluxThread(config.influx, engine)
            stack.callback(influx.stop)
            influx.start()
        started_ms = now_ms()
        services = Services(
            config=config,
            engine=engine,
            registry=registry,
            log=log if cosigner is None else CosignedLog(log, cosigner),
            index=Index(engine),
            live=bus,
            status=lambda: _status(started_ms, log, writer, link, broker, influx, cosigner, challenger, sparkplug),
            enrol=lambda request: _enrol(engine, request),
            write_report=lambda project_id: _write_report(services, project_id),
            log_vkey=str(signer.verifier),
            now_ms=now_ms,
        )
        _run(api.create_app(services), listening, lambda: writer.is_running, lambda: ready(_url(config)))
    if writer.fatal is not None:
        logger.error("The hub stopped because its writer did: %s", writer.fatal)
        return 1
    return 0


class _Server(uvicorn.Server):
    """Ends when a part does, and lets event streams end before it waits for connections."""

    def __init__(self, app: FastAPI, alive: Callable[[], bool], ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=SHUTDOWN_S, server_header=False
            )
        )
        self._app = app
        self._alive = alive
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or not self._alive()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.board.close()
        await super().shutdown(sockets)


def _run(app: FastAPI, listening: socket.socket, alive: Callable[[], bool], ready: Callable[[], None]) -> None:
    """Answers until told to stop. uvicorn raises the signal again when it has ended: ours then does nothing."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
    _Server(app, alive, ready).run(sockets=[listening])


@contextmanager
def _listen(config: HubConfig) -> Iterator[socket.socket]:
    host, port = config.server.host, config.server.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigurationError(f"server.host {host!r} is no address of this machine: {error.strerror}") from error
    with socket.socket(family, kind, protocol) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError as error:
            raise ConfigurationError(
                f"the hub cannot listen on {host}:{port}: {error.strerror}",
                mend="give another port with --port, or write it as port in [server]",
            ) from error
        listening.listen(128)
        yield listening


def _open_log(config: HubConfig, signer: SignerKey) -> Log:
    """The log, recovered. A full disk is waited for, in words; what contradicts itself is refused (LogRefused)."""
    while True:
        try:
            return Log.open(config.log_folder, signer)
        except LogUnavailable as error:
            logger.error("%s. Free some space; next try in %.0f s.", error, LOG_RETRY_S)
            time.sleep(LOG_RETRY_S)


def _enrol(engine: Engine, request: Mapping[str, Any]) -> Gateway:
    return enrolment.enrol(engine, request, now_ms())


def _write_report(services: Services, project_id: str) -> Path:
    # Imported when the first report is made: typst and the spreadsheet writer take a second that no start needs.
    from hub.report.outcome import write_bundle

    if services.registry.project(project_id) is None:  # before the id becomes part of a file's name
        raise Refused("not-found", f"there is no project {project_id!r}")
    folder = services.config.reports_folder
    folder.mkdir(parents=True, exist_ok=True)
    return write_bundle(services, project_id, folder / f"{project_id}-{services.log.size}.zip")


def _status(
    started_ms: int,
    log: Log,
    writer: Writer,
    link: Link,
    broker: EmbeddedBroker | None,
    influx: InfluxThread | None,
    cosigner: Cosigner | None,
    challenger: Challenger,
    sparkplug: SparkplugEar | None,
) -> HubStatus:
    counts = writer.counts()
    alarms = [counts.alarm, link.alarm, influx and influx.alarm, challenger.alarm]
    if cosigner is not None:
        alarms += cosigner.alarms
    if broker is not None and not broker.is_running:
        alarms.append("The embedded broker has stopped. Restart the hub; agents keep their records meanwhile.")
    if counts.fork_count:
        alarms.append(
            f"{counts.fork_count} statements fork their gateway's chain: two agents share a key, or a spool was "
            "restored from an old copy. Both statements are in quarantine."
        )
    return HubStatus(
        started_ms=started_ms,
        log_size=log.size,
        broker_connected=link.is_connected,
        last_record_ms=counts.last_record_ms,
        admitted_count=counts.admitted_count,
        duplicate_count=counts.duplicate_count,
        refused_count=counts.refused_count,
        fork_count=counts.fork_count,
        alarms=tuple(alarm for alarm in alarms if alarm),
        sparkplug=None if sparkplug is None else sparkplug.counts,
    )


def _url(config: HubConfig) -> str:
    host = config.server.host
    return f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}/"
