"""PostgreSQL ends under the running hub and comes back: nothing is receipted meanwhile, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.ingest import Arrival
from tests.support import postgres
from tests.support.evidence import GATEWAY
from tests.support.hub import HubInFolder, hub_in, measurements


def until(hub: HubInFolder, condition: Callable[[], bool]) -> None:
    """Waits for it, at most 20 s, as long as the writer runs."""
    deadline = time.monotonic() + 20
    while not condition() and hub.writer.is_running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert hub.writer.is_running and condition()


@pytest.mark.parametrize("waiting", [True, False], ids=["with-a-record", "idle"])
def test_the_writer_holds_up_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int], waiting: bool
) -> None:
    monkeypatch.setattr("hub.ingest.RETRY_S", (0.1,))
    monkeypatch.setattr("hub.ingest.POLL_S", 0.05)
    monkeypatch.setattr("hub.judge.KEYS_MAX_AGE_S", 0.0)  # each batch asks whom to believe
    port = free_port()
    first, second = measurements(2)
    with postgres.postgres_in(tmp_path, port) as url, hub_in(tmp_path, url) as hub:
        hub.writer.start()
        try:
            hub.writer.offer(Arrival(first.raw, GATEWAY))
            until(hub, lambda: len(hub.sent) == 1)
            postgres.stop(port)
            if waiting:
                hub.writer.offer(Arrival(second.raw, GATEWAY))
            until(hub, lambda: "The database does not work" in str(hub.writer.counts().alarm))
            assert "Start it again" in str(hub.writer.counts().alarm) and len(hub.sent) == 1
            postgres.start(port)
            if not waiting:
                hub.writer.offer(Arrival(second.raw, GATEWAY))
            until(hub, lambda: len(hub.sent) == 2 and hub.writer.indexed_size == hub.log.size)
            until(hub, lambda: hub.writer.counts().alarm is None)
        finally:
            hub.writer.stop()
        assert [answer.sequence for _, answer in hub.sent] == [0, 1]
        assert list(hub.log.entries(1, hub.log.size)) == [first.raw, second.raw]


def test_a_batch_waits_for_the_database_and_is_answered_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """From the first question of a batch (whom to believe) on: no thread but the one that brings the server back."""
    monkeypatch.setattr("hub.ingest.RETRY_S", (0.1,))
    monkeypatch.setattr("hub.judge.KEYS_MAX_AGE_S", 0.0)
    port = free_port()
    first, second = measurements(2)
    with postgres.postgres_in(tmp_path, port) as url, hub_in(tmp_path, url) as hub:
        hub.take(first.raw)
        postgres.stop(port)
        mend = threading.Timer(0.5, postgres.start, [port])
        mend.start()
        try:
            assert [answer.sequence for answer in hub.take(first.raw, second.raw)] == [0, 1]
        finally:
            mend.join()
        assert hub.log.size == 3 and hub.writer.counts().alarm is None


def test_told_to_stop_while_the_database_is_away_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setattr("hub.ingest.POLL_S", 0.05)
    monkeypatch.setattr("hub.projections.follower.STOP_S", 0.5)
    port = free_port()
    with postgres.postgres_in(tmp_path, port) as url, hub_in(tmp_path, url) as hub:
        hub.writer.start()
        postgres.stop(port)
        try:
            until(hub, lambda: hub.writer.counts().alarm is not None)
        finally:
            hub.writer.stop()
            postgres.start(port)
        assert hub.writer.fatal is None and not hub.writer.is_running
