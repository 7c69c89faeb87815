"""Ingest: the hub's real writer, log and database, fed by many gateways, next to the raw rate of signature checks.

Decides what is fed and where the clock stops. Every round has a fresh hub in a temporary folder; records are made by
the real signing code before the clock starts. Rates are of CPU time ("a core") and of the wall clock; the goals are of
CPU time, since the hub may use more than one core and the raw rate is of one.
"""

from __future__ import annotations

import gc
import hashlib
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select

from benchmarks.measures import Disagreement, Figure, Sizes
from hub import database as db
from hub.admission import Admitted, Head, Key, examine_all, place
from hub.chains import load_keys
from hub.config import IngestConfig
from hub.database import migrate, open_database
from hub.ingest import Arrival, Writer, calm_collector
from hub.log.sequencer import Log
from hub.projections import projector
from hub.registry import Enterprise, Line, Project, Registry
from protocols.evidence.bodies import Measurement
from protocols.evidence.cose import Kid, key_id, sig_structure
from protocols.evidence.keys import load_public_key
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.record import NO_PREVIOUS, Clock, Record, SignedRecord, sign_record
from protocols.evidence.statement import LineStatement, RawCommitment
from protocols.measurement.account import CalendarKind, TimeAccount, Window

START_MS = 1_780_272_000_000
WINDOW_MS = 60_000
ORIGIN = "log.bench/hub"
SIGNER = SignerKey(ORIGIN, Algorithm.ED25519, hashlib.sha256(ORIGIN.encode()).digest())
SHAPES = {1: (1, 1), 10: (1, 10), 60: (4, 15)}
"""Rows a statement: lines and windows of each. 60 is the usual one: a quarter of an hour of four lines."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Statements of all gateways in turn, in the order of each chain; `ids[i]` sent `records[i]`."""

    rows: int
    ids: Sequence[str]
    records: Sequence[SignedRecord]

    @property
    def total(self) -> int:
        return self.rows * len(self.records)


def ingest(sizes: Sizes) -> list[Figure]:
    """Raw signature checks, admission, log, receipts and projection; 1, 10 and 60 rows a statement."""
    threshold = gc.get_threshold()
    calm_collector()
    try:
        return _in_folder(sizes)
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()


def _in_folder(sizes: Sizes) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="linetally-bench-") as name:
        folder = Path(name)
        gateways = _gateways(sizes.gateways)
        _template(folder / "template", gateways)
        feeds = [_feed(gateways, rows, sizes.statements if rows < 60 else sizes.statements // 4) for rows in SHAPES]
        return _measure(folder, feeds, sizes)


Seconds = tuple[float, float]
"""Of CPU time and of the wall."""


def _measure(folder: Path, feeds: Sequence[Feed], sizes: Sizes) -> list[Figure]:
    found: dict[tuple[str, int], list[Seconds]] = {}
    for turn in range(sizes.rounds + 1):
        for feed in feeds:
            for way in (_raw, _admitted, _written, _rebuilt):
                shutil.rmtree(folder / "hub", ignore_errors=True)
                shutil.copytree(folder / "template", folder / "hub")
                for name, seconds in way(folder / "hub", feed, sizes).items():
                    if turn:
                        found.setdefault((name, feed.rows), []).append(seconds)
    figures = []
    cpu: dict[tuple[str, int], float] = {}
    for (name, rows), times in found.items():
        feed = next(each for each in feeds if each.rows == rows)
        cpu[name, rows] = feed.total / statistics.median(each[0] for each in times)
        wall = feed.total / statistics.median(each[1] for each in times)
        of = f"{name}, {rows} row{'s' if rows > 1 else ''} a statement"
        figures += [Figure(f"{of}, a core", cpu[name, rows], "rows/s"), Figure(f"{of}, wall", wall, "rows/s")]
    most = feeds[-1].rows
    for name, goals in ((RECEIPTED, (0.6, 12.0)), (PROJECTED, (None, None))):
        figures += [
            Figure(f"{name}: 1 row a statement over signatures alone", cpu[name, 1] / cpu[RAW, 1], "x", goals[0]),
            Figure(f"{name}: {most} rows a statement over 1", cpu[name, most] / cpu[name, 1], "x", goals[1]),
        ]
    return sorted(figures, key=lambda figure: figure.name)


RAW = "signatures alone"
ADMITTED = "admission alone"
RECEIPTED = "verified, logged, receipts made"
PROJECTED = "all that and in the tables"
REBUILT = "tables rebuilt"


@contextmanager
def _clock() -> Iterator[Callable[[], Seconds]]:
    """Gives the CPU seconds of the whole process and the seconds of the wall since it was made."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield lambda: (time.process_time() - cpu, time.perf_counter() - wall)


def _raw(_folder: Path, feed: Feed, _sizes: Sizes) -> dict[str, Seconds]:
    signed = [(r.message.signature, sig_structure(r.message.protected, r.message.payload)) for r in feed.records]
    keys = [load_public_key(_public(each)) for each in feed.ids]
    with _clock() as passed:
        for key, (signature, message) in zip(keys, signed, strict=True):
            key.verify(signature, message)
        return {RAW: passed()}


def _admitted(folder: Path, feed: Feed, _sizes: Sizes) -> dict[str, Seconds]:
    engine = open_database(f"sqlite:///{folder / 'hub.sqlite'}")
    keys: Mapping[Kid, Key] = load_keys(engine)
    engine.dispose()
    heads: dict[Kid, Head] = {}
    with _clock() as passed:
        arrived = [(made.raw, gateway_id) for gateway_id, made in zip(feed.ids, feed.records, strict=True)]
        for record in examine_all(arrived, keys):
            if not isinstance(record, SignedRecord):
                raise Disagreement(f"a record was refused: {record}")
            if not isinstance(place(record, heads.get(record.kid, Head()), None), Admitted):
                raise Disagreement("a record does not follow the one before it")
            heads[record.kid] = Head(record.record.sequence + 1, record.hash, record.subject)
        return {ADMITTED: passed()}


def _written(folder: Path, feed: Feed, sizes: Sizes) -> dict[str, Seconds]:
    """The whole writer with its threads. The CPU seconds of RECEIPTED are those of the thread that publishes."""
    engine = open_database(f"sqlite:///{folder / 'hub.sqlite'}")
    count, sent = len(feed.records), 0
    receipted, writer_cpu = threading.Event(), 0.0

    def publish(_gateway_id: str, _receipt: bytes) -> None:
        nonlocal sent, writer_cpu
        sent += 1
        if sent == count:
            writer_cpu = time.thread_time()
            receipted.set()

    with Log.open(folder / "log", SIGNER) as log:
        config = IngestConfig(batch_records=sizes.batch, queue_records=65_535)
        writer = Writer(engine, log, config, lambda: START_MS, publish)
        arrivals = [Arrival(made.raw, each) for each, made in zip(feed.ids, feed.records, strict=True)]
        with _clock() as passed:
            for arrival in arrivals:
                writer.offer(arrival)
            writer.start()
            try:
                if not receipted.wait(600):
                    raise Disagreement(f"{sent} answers to {count} statements; {writer.counts()}")
                wall = passed()[1]
                while writer.indexed_size < count:
                    time.sleep(0.002)
                projected = passed()
            finally:
                writer.stop()
        if writer.counts().admitted_count != count:
            raise Disagreement(f"{writer.counts()} of {count} statements")
    with engine.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(db.window))
    engine.dispose()
    if rows != feed.total:
        raise Disagreement(f"{rows} windows in the table, {feed.total} were stated")
    return {RECEIPTED: (writer_cpu, wall), PROJECTED: projected}


def _rebuilt(folder: Path, feed: Feed, _sizes: Sizes) -> dict[str, Seconds]:
    engine = open_database(f"sqlite:///{folder / 'hub.sqlite'}")
    with Log.open(folder / "log", SIGNER) as log:
        log.append([made.raw for made in feed.records])
        with _clock() as passed:
            projector.rebuild(engine, log)
            seconds = passed()
    engine.dispose()
    return {REBUILT: seconds}


# ---------------------------------------------------------------- what is fed


def _key(gateway_id: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(gateway_id.encode()).digest())


def _public(gateway_id: str) -> bytes:
    return _key(gateway_id).public_key().public_bytes_raw()


def _gateways(count: int) -> list[str]:
    return [f"gateway-{number}" for number in range(count)]


def _lines(gateway_id: str) -> list[str]:
    return [f"{gateway_id}-line-{number}" for number in range(max(lines for lines, _ in SHAPES.values()))]


def _template(folder: Path, gateways: Sequence[str]) -> None:
    """An empty hub in which all gateways are approved."""
    folder.mkdir()
    engine = open_database(f"sqlite:///{folder / 'hub.sqlite'}")
    migrate(engine)
    registry = Registry(engine)
    registry.seed()
    registry.add_enterprise(Enterprise("acme", "Acme Foods"))
    registry.add_project(Project("P-7", "manufacturing-plus", "acme", "Upgrade", created_ms=START_MS))
    rows = []
    for gateway_id in gateways:
        public = _public(gateway_id)
        registry.add_line(Line(_lines(gateway_id)[0], "acme", "P-7", "Filling", "Asia/Hong_Kong"))
        rows.append({
            "id": gateway_id, "enterprise_id": "acme", "project_id": "P-7", "kid": key_id(public), "state": "active",
            "public_key": public, "fingerprint": "", "lines": _lines(gateway_id), "created_ms": START_MS,
        })  # fmt: skip
    with engine.begin() as connection:
        connection.execute(db.gateway.insert(), rows)
    engine.dispose()
    Log.create(folder / "log", ORIGIN, SIGNER).close()


def _feed(gateways: Sequence[str], rows: int, count: int) -> Feed:
    lines, windows = SHAPES[rows]
    ids: list[str] = []
    records: list[SignedRecord] = []
    heads: dict[str, SignedRecord] = {}
    for number in range(count):
        gateway_id = gateways[number % len(gateways)]
        turn = number // len(gateways)
        start_ms = START_MS + turn * windows * WINDOW_MS
        end_ms = start_ms + windows * WINDOW_MS
        last = heads.get(gateway_id)
        record = Record(
            sequence=turn,
            previous=NO_PREVIOUS if last is None else last.hash,
            boot_id=bytes(range(16)),
            start_ms=start_ms,
            end_ms=end_ms,
            clock=Clock(1_000, 1_000 + end_ms - start_ms, "ntp", -3, 12, 64_000),
            body=Measurement(tuple(_statement(line, start_ms, windows, number) for line in _lines(gateway_id)[:lines])),
        )
        made = sign_record(_key(gateway_id), record, issuer=gateway_id, subject="Acme Foods/Tai Po")
        heads[gateway_id] = made
        ids.append(gateway_id)
        records.append(made)
    return Feed(rows, ids, records)


def _statement(line_id: str, start_ms: int, windows: int, seed: int) -> LineStatement:
    digest = hashlib.sha256(line_id.encode()).digest()
    made = tuple(_window(start_ms + i * WINDOW_MS, seed + i) for i in range(windows))
    return LineStatement(line_id, digest, RawCommitment(digest, windows, windows * 60), made)


def _window(start_ms: int, seed: int) -> Window:
    stopped, pieces, rejects = 1_000 + 7_919 * seed % 9_000, 100 + 31 * seed % 40, seed % 5
    account = TimeAccount(
        category_ms=(0, WINDOW_MS - stopped, stopped // 2, 0, stopped - stopped // 2, 0, 0, 0, 0, 0, 0),
        planned_ms=WINDOW_MS,
        total_count=pieces,
        good_count=pieces - rejects,
        reject_count=rejects,
        standard_total_ns=pieces * 500_000_000,
        standard_good_ns=(pieces - rejects) * 500_000_000,
        transition_count=4,
        minor_stop_count=1,
    )
    return Window(
        start_ms, start_ms + WINDOW_MS, CalendarKind.SCHEDULED, "Cola 330 ml", "PO-7", "2026-06-01/A", account
    )
