"""The tables behind the log: receipts do not wait for them, nothing is missed, and what holds them up is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from hub import database as db
from hub import enrolment
from hub.ingest import Arrival
from hub.projections import follower, projector
from protocols.evidence.bodies import Heartbeat
from protocols.wire.receipt import Receipt, Refusal
from tests.support.evidence import GATEWAY, record, signed
from tests.support.hub import HubInFolder, hub_in, measurements, table_rows


class Gate:
    """Stands before `projector.apply`: shut, the database is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.tried = threading.Event()
        self.error: Exception = OperationalError("insert", {}, Exception("database or disk is full"))
        self._apply = projector.apply
        monkeypatch.setattr(projector, "apply", self)
        monkeypatch.setattr(follower, "RETRY_S", (0.01,))

    def __call__(self, *args: object) -> None:
        self.tried.set()
        if not self.open.is_set():
            raise self.error
        self._apply(*args)  # type: ignore[arg-type]


@contextmanager
def serving(hub: HubInFolder) -> Iterator[None]:
    hub.writer.start()
    try:
        yield
    finally:
        hub.writer.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def offer(hub: HubInFolder, *raws: bytes) -> list[Receipt | Refusal]:
    """The answers to statements, which the running writer gives."""
    before = len(hub.sent)
    for raw in raws:
        hub.writer.offer(Arrival(raw, GATEWAY))
    until(lambda: len(hub.sent) == before + len(raws))
    return [answer for _, answer in hub.sent[before:]]


def window_count(hub: HubInFolder) -> int:
    with hub.engine.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(db.window)) or 0)


def test_receipts_do_not_wait_for_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Duplicates and forks of what the tables do not have yet are known all the same."""
    records = measurements(6)
    with hub_in(tmp_path) as hub:
        gate = Gate(monkeypatch)
        with serving(hub):
            first = offer(hub, *(r.raw for r in records[:4]))
            assert all(isinstance(answer, Receipt) for answer in first)
            assert gate.tried.wait(20) and window_count(hub) == 0 and hub.writer.indexed_size == 1 < hub.log.size
            (again,) = offer(hub, records[2].raw)
            assert isinstance(again, Receipt) and again.sequence == 2
            forked = signed(record(Heartbeat(), sequence=2, previous=records[1].hash)).raw
            (told,) = offer(hub, forked)
            assert isinstance(told, Refusal) and told.code == "fork"
            with hub.engine.connect() as connection:
                assert connection.execute(select(db.quarantine.c.logged_index)).scalar_one() == 3
            monkeypatch.setattr(follower, "SLOW_S", 0.0)
            until(lambda: "disk is full" in str(hub.writer.counts().alarm))
            assert "4 records behind the log" in str(hub.writer.counts().alarm)
            gate.open.set()
            until(lambda: hub.writer.indexed_size == hub.log.size)
            assert hub.writer.counts().alarm is None
            offer(hub, *(r.raw for r in records[4:]))
        assert window_count(hub) == 6 * 30, "a stop waits for the tables"
        before = table_rows(hub.engine, (*db.PROJECTIONS, db.cursor))
        projector.rebuild(hub.engine, hub.log)
        assert table_rows(hub.engine, (*db.PROJECTIONS, db.cursor)) == before


def test_what_is_not_kept_is_read_from_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "KEPT_BYTES", 1)
    monkeypatch.setattr(follower, "STEP_RECORDS", 3)
    records = measurements(20, windows=1)
    with hub_in(tmp_path) as hub:
        gate = Gate(monkeypatch)
        with serving(hub):
            for i in range(0, 20, 5):
                offer(hub, *(r.raw for r in records[i : i + 5]))
            assert len(hub.writer._follower._kept) == 5, "one batch, and no more"
            gate.open.set()
            until(lambda: hub.writer.indexed_size == 21)
        assert window_count(hub) == 40


def test_the_writer_waits_when_the_tables_are_too_far_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.ingest.MAX_BEHIND", 4)
    records = measurements(10, windows=1)
    with hub_in(tmp_path) as hub:
        gate = Gate(monkeypatch)
        with serving(hub):
            for made in records[:5]:
                offer(hub, made.raw)
            hub.writer.offer(Arrival(records[5].raw, GATEWAY))
            time.sleep(0.3)
            assert len(hub.sent) == 5 and hub.log.size == 6
            gate.open.set()
            until(lambda: len(hub.sent) == 6)
    with hub_in(tmp_path) as hub:
        gate = Gate(monkeypatch)
        with serving(hub):
            for made in records[6:]:
                hub.writer.offer(Arrival(made.raw, GATEWAY))
            until(lambda: hub.log.size == 11)
        assert hub.writer.indexed_size == 7, "told to stop, it does not wait for a database that is away"
    gate.open.set()
    with hub_in(tmp_path) as hub:
        assert window_count(hub) == 20


def test_a_root_signed_record_waits_for_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it changes is in force when its command is told so, and for the next statement."""
    with hub_in(tmp_path) as hub, serving(hub):
        offer(hub, *(r.raw for r in measurements(3)))
        from hub import root
        from tests.support.hub import NOW_MS, ROOT_SIGNER

        body = enrolment.revocation(hub.registry, GATEWAY, 2, "stolen")
        submitted = root.submit(hub.engine, ROOT_SIGNER, body, NOW_MS)
        assert root.wait(hub.engine, submitted, lambda: False) == 4
        gateway = hub.registry.gateway(GATEWAY)
        assert gateway is not None and gateway.state.value == "revoked"
        until(lambda: not hub.writer.may_speak_for(GATEWAY, "filling"))
        (told,) = offer(hub, measurements(4)[3].raw)
        assert isinstance(told, Refusal) and told.code == "revoked"


def test_a_defect_of_the_projection_ends_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda args: None)  # the thread re-raises, by design
    with hub_in(tmp_path) as hub:
        gate = Gate(monkeypatch)
        gate.error = KeyError("a defect")
        with serving(hub):
            offer(hub, measurements(1)[0].raw)
            until(lambda: not hub.writer.is_running)
        assert isinstance(hub.writer.fatal, KeyError)
    gate.open.set()
    with hub_in(tmp_path) as hub:
        assert window_count(hub) == 30
