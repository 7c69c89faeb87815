"""A hub for tests: its database, log and writer in a folder, with one enrolled gateway. Real parts, fixed keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from hub import enrolment, root
from hub.config import IngestConfig
from hub.database import migrate, open_database
from hub.ingest import Arrival, Writer
from hub.log.sequencer import Log
from hub.registry import Enterprise, Gateway, Line, Project, Registry
from protocols.evidence.bodies import Body, Measurement
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.record import NO_PREVIOUS, SignedRecord
from protocols.wire.enrolment import EnrolmentRequest
from protocols.wire.receipt import Receipt, Refusal, decode_receipt
from tests.support.evidence import GATEWAY, GATEWAY_KEY, START_MS, WINDOW_MS, line_statement, record, signed

ORIGIN = "log.test/hub"
NOW_MS = START_MS + 86_400_000
LINES = ("filling", "packing")


def signer(name: str) -> SignerKey:
    return SignerKey(name, Algorithm.ED25519, hashlib.sha256(name.encode()).digest())


LOG_SIGNER = signer(ORIGIN)
ROOT_SIGNER = signer(f"{ORIGIN}/root")


def raw_public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def enrolment_request(token: str, gateway: str = GATEWAY, key: Ed25519PrivateKey = GATEWAY_KEY) -> dict[str, object]:
    return EnrolmentRequest.make(token, gateway, "Tai Po", (), raw_public(key), key.sign).to_json()


def fill_registry(engine: Engine) -> Registry:
    """One enterprise with one project of two lines."""
    registry = Registry(engine)
    registry.seed()
    registry.add_enterprise(Enterprise("acme", "Acme Foods", "宏味食品"))
    registry.add_project(Project("P-7", "manufacturing-plus", "acme", "Upgrade of line 3", created_ms=NOW_MS))
    for line_id in LINES:
        registry.add_line(Line(line_id, "acme", "P-7", line_id.title(), "Asia/Hong_Kong"))
    return registry


def enrolled(engine: Engine, gateway: str = GATEWAY, key: Ed25519PrivateKey = GATEWAY_KEY) -> Gateway:
    """A gateway that has enrolled and waits for its approval."""
    token = enrolment.issue_token(engine, "P-7", NOW_MS)
    return enrolment.enrol(engine, enrolment_request(token, gateway, key), NOW_MS)


def measurements(count: int, windows: int = 15, first: int = 0, **options: object) -> list[SignedRecord]:
    """A chain of `count` measurement records of both lines, each of `windows` minutes, from sequence 0."""
    records: list[SignedRecord] = []
    for i in range(count):
        start_ms = START_MS + (first + i) * windows * WINDOW_MS
        body = Measurement(tuple(line_statement(line_id, start_ms, windows) for line_id in LINES))
        previous = records[-1].hash if records else NO_PREVIOUS
        made = record(body, sequence=i, previous=previous, start_ms=start_ms, end_ms=start_ms + windows * WINDOW_MS)
        records.append(signed(made))
    return records


@dataclass
class HubInFolder:
    """`sent`: what the hub published, as (gateway id, answer)."""

    engine: Engine
    log: Log
    writer: Writer
    registry: Registry
    sent: list[tuple[str, Receipt | Refusal]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    def take(self, *raws: bytes, topic: str = GATEWAY) -> list[Receipt | Refusal]:
        """Commits these statements as one batch; gives the answers to them."""
        before = len(self.sent)
        self.writer.commit(
            [Arrival(raw, topic, lambda i=i: self.acknowledged.append(i)) for i, raw in enumerate(raws)]  # type: ignore[misc]
        )
        return [answer for _, answer in self.sent[before:]]

    def root_signed(self, *bodies: Body) -> list[int]:
        """Submits and logs root-signed records; gives their submission ids."""
        ids = [root.submit(self.engine, ROOT_SIGNER, body, NOW_MS) for body in bodies]
        self.writer.take_submissions()
        return ids


@contextmanager
def hub_in(
    folder: Path, url: str | None = None, *, enrol: bool = True, config: IngestConfig | None = None
) -> Iterator[HubInFolder]:
    """A hub whose writer is driven by the test, not by its thread. The second time it opens what is there."""
    engine = open_database(url or f"sqlite:///{folder / 'hub.sqlite'}")
    migrate(engine)
    registry = Registry(engine)
    if (folder / "log").exists():
        log = Log.open(folder / "log", LOG_SIGNER)
    else:
        fill_registry(engine)
        root.register(engine, ROOT_SIGNER.verifier)
        log = Log.create(folder / "log", ORIGIN, LOG_SIGNER)
    sent: list[tuple[str, Receipt | Refusal]] = []
    writer = Writer(
        engine, log, config or IngestConfig(), lambda: NOW_MS,
        lambda gateway_id, payload: sent.append((gateway_id, decode_receipt(payload))),
    )  # fmt: skip
    hub = HubInFolder(engine, log, writer, registry, sent)
    try:
        writer.recover()
        if enrol and registry.gateway(GATEWAY) is None:
            enrolled(engine)
            hub.root_signed(enrolment.approval(registry, GATEWAY))
        yield hub
    finally:
        log.close()
        engine.dispose()


def table_rows(engine: Engine, tables: Sequence[object]) -> dict[str, list[tuple[object, ...]]]:
    """All rows of tables, sorted, to compare two of their states."""
    from sqlalchemy import Table, select

    rows: dict[str, list[tuple[object, ...]]] = {}
    with engine.connect() as connection:
        for table in tables:
            assert isinstance(table, Table)
            rows[table.name] = sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
    return rows
