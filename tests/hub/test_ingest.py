"""The writer: exactly once in the log, an answer only after that, and a crash anywhere costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from hub import database as db
from hub import enrolment
from hub.config import IngestConfig
from hub.ingest import Arrival, Writer
from hub.log.store import LogUnavailable
from hub.projections import projector
from protocols.evidence.bodies import Heartbeat
from protocols.evidence.cose import key_id
from protocols.evidence.merkle import leaf_hash
from protocols.evidence.proof import parse as parse_proof
from protocols.evidence.proof import verify
from protocols.wire.receipt import Receipt, Refusal
from tests.support.evidence import GATEWAY, GATEWAY_KEY, record, signed
from tests.support.hub import LOG_SIGNER, NOW_MS, HubInFolder, enrolled, hub_in, measurements, raw_public

KID = key_id(raw_public(GATEWAY_KEY))


def _codes(answers: list[Receipt | Refusal]) -> list[str]:
    return ["receipt" if isinstance(answer, Receipt) else answer.code for answer in answers]


def test_a_receipt_proves_the_record_under_the_logs_key(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        records = measurements(3)
        answers = hub.take(*(r.raw for r in records))
        assert hub.log.size == 4  # the enrolment first
        for made, answer in zip(records, answers, strict=True):
            assert isinstance(answer, Receipt)
            assert answer.record_hash == made.hash
            found = verify(parse_proof(answer.proof.encode()), leaf_hash(made.raw), LOG_SIGNER.verifier)
            assert found.size == 4
        assert hub.acknowledged == [0, 1, 2]


def test_duplicates_in_any_order_are_logged_once_and_receipted_again(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        a, b, c = (r.raw for r in measurements(3))
        assert _codes(hub.take(a, a, b, a)) == ["receipt"] * 4
        assert _codes(hub.take(b, c, a)) == ["receipt"] * 3
        assert [bytes(raw) for raw in hub.log.entries(1, hub.log.size)] == [a, b, c]


def test_what_comes_too_early_is_told_from_where_to_send(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        a, b, c = (r.raw for r in measurements(3))
        (early,) = hub.take(c)
        assert isinstance(early, Refusal) and early.code == "out-of-order" and early.expected_sequence == 0
        assert _codes(hub.take(a, c, b, c)) == ["receipt", "out-of-order", "receipt", "receipt"]


def test_a_fork_is_quarantined_with_its_bytes_and_reported(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        a, b = (r.raw for r in measurements(2))
        forked = signed(record(Heartbeat(), sequence=1, previous=measurements(1)[0].hash)).raw
        assert _codes(hub.take(a, b, forked, forked)) == ["receipt", "receipt", "fork", "fork"]
        with hub.engine.connect() as connection:
            row = connection.execute(select(db.quarantine)).one()
        assert (row.code, bytes(row.raw), row.logged_index) == ("fork", forked, 2)
        assert hub.writer.counts().fork_count == 2
        # The gateway's true chain goes on.
        assert _codes(hub.take(measurements(3)[2].raw)) == ["receipt"]


def test_a_strangers_flood_is_bounded_and_does_not_push_out_a_fork(tmp_path: Path) -> None:
    with hub_in(tmp_path, config=IngestConfig(quarantine_records=100)) as hub:
        a, b = (r.raw for r in measurements(2))
        forked = signed(record(Heartbeat(), sequence=1, previous=measurements(1)[0].hash)).raw
        hub.take(a, b, forked)
        for i in range(3):
            hub.take(*(b"junk %d %d" % (i, j) for j in range(90)))
        with hub.engine.connect() as connection:
            codes = [row.code for row in connection.execute(select(db.quarantine.c.code))]
        assert codes.count("malformed") == 100 and codes.count("fork") == 1


def test_a_pending_gateway_is_told_to_wait_and_admitted_after_approval(tmp_path: Path) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        gateway = enrolled(hub.engine)
        hub.writer.recover()
        (first,) = measurements(1)
        assert _codes(hub.take(first.raw)) == ["not-approved"]
        hub.root_signed(enrolment.approval(hub.registry, gateway.id))
        assert _codes(hub.take(first.raw)) == ["receipt"]


def test_revocation_stops_the_key_and_takes_back_its_windows_from_the_index(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        a, b, c = measurements(3)
        hub.take(a.raw, b.raw)
        hub.root_signed(enrolment.revocation(hub.registry, GATEWAY, 2, "stolen"))
        assert _codes(hub.take(c.raw)) == ["revoked"]
        with hub.engine.connect() as connection:
            leaves = set(connection.scalars(select(db.window.c.leaf_index)))
            hours = connection.scalars(select(db.hourly.c.total_count)).all()
        assert leaves == {1}
        assert hours == [1500, 1500]  # 15 windows of 100 pieces, on each line
        assert hub.log.size == 4


def test_two_root_signed_records_at_once_stand_in_one_chain(tmp_path: Path) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        from tests.support.evidence import private_key

        gateways = [enrolled(hub.engine, f"gw-{i}", private_key(f"gw-{i}")) for i in range(3)]
        hub.root_signed(*(enrolment.approval(hub.registry, gateway.id) for gateway in gateways))
        assert [g.state.value for g in hub.registry.gateways()] == ["active"] * 3
        assert hub.log.size == 3


@pytest.mark.parametrize("times", [1, 2])
def test_killed_between_log_and_index_the_next_start_catches_up(tmp_path: Path, times: int) -> None:
    records = measurements(4)
    with hub_in(tmp_path) as hub:
        hub.take(records[0].raw)
        for i in range(times):  # as if the process had died right after the append
            hub.log.append([records[1 + i].raw])
    with hub_in(tmp_path) as hub:
        assert _codes(hub.take(*(r.raw for r in records))) == ["receipt"] * 4
        assert list(hub.log.entries(1, hub.log.size)) == [r.raw for r in records]


def test_a_full_disk_holds_everything_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.ingest.RETRY_S", (0.01,))
    with hub_in(tmp_path) as hub:
        append = hub.log.append
        seen: list[str | None] = []

        def full(entries: object) -> range:
            if len(seen) < 3:
                seen.append(hub.writer.counts().alarm)
                assert not hub.sent
                raise LogUnavailable("the batch was not logged: No space left on device")
            return append(entries)  # type: ignore[arg-type]

        monkeypatch.setattr(hub.log, "append", full)
        assert _codes(hub.take(measurements(1)[0].raw)) == ["receipt"]
        assert seen[0] is None and "No space left" in str(seen[1]) and "receipted" in str(seen[2])
        assert hub.writer.counts().alarm is None
        assert hub.log.size == 2


def test_a_database_that_is_away_is_waited_for_and_the_log_is_not_appended_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.ingest.RETRY_S", (0.01,))
    apply, failures = projector.apply, [1, 2]

    def away(*args: object) -> None:
        if failures:
            failures.pop()
            raise OperationalError("insert", {}, Exception("database or disk is full"))
        apply(*args)  # type: ignore[arg-type]

    with hub_in(tmp_path) as hub:
        monkeypatch.setattr(projector, "apply", away)
        assert _codes(hub.take(measurements(1)[0].raw)) == ["receipt"]
        assert hub.log.size == 2


def test_told_to_stop_while_the_disk_is_full_it_answers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_in(tmp_path) as hub:

        def full(_entries: object) -> range:
            hub.writer.stop()
            raise LogUnavailable("no space")

        monkeypatch.setattr(hub.log, "append", full)
        assert hub.take(measurements(1)[0].raw) == []
        assert hub.acknowledged == []


def test_the_thread_takes_batches_and_drops_what_does_not_fit(tmp_path: Path) -> None:
    with hub_in(tmp_path, config=IngestConfig(queue_records=16)) as hub:
        records, acknowledged = measurements(30, windows=1), []
        for i, made in enumerate(records):
            hub.writer.offer(Arrival(made.raw, GATEWAY, lambda i=i: acknowledged.append(i)))  # type: ignore[misc]
        assert hub.writer.counts().overflow_count == 14
        _run_until(hub, 17)
        assert sorted(acknowledged) == list(range(30))
        assert [a.sequence for _, a in hub.sent] == list(range(16))


def _run_until(hub: HubInFolder, size: int) -> None:
    import time

    hub.writer.start()
    try:
        deadline = time.monotonic() + 20
        while (hub.log.size < size or len(hub.sent) < size - 1) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        hub.writer.stop()
    assert hub.log.size == size


def test_a_failing_writer_says_so_and_is_not_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda args: None)  # the thread re-raises, by design
    with hub_in(tmp_path) as hub:

        def broken(self: Writer, _batch: object) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(Writer, "commit", broken)
        hub.writer.offer(Arrival(measurements(1)[0].raw, GATEWAY))
        hub.writer.start()
        hub.writer._thread.join(10)
        assert not hub.writer.is_running
        assert isinstance(hub.writer.fatal, RuntimeError)


def test_who_may_speak_for_a_line(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        assert hub.writer.may_speak_for(GATEWAY, "filling")
        assert not hub.writer.may_speak_for(GATEWAY, "mixing")
        assert not hub.writer.may_speak_for("gateway-2", "filling")


def test_the_newest_receipt_of_each_key_is_remembered(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        hub.take(*(r.raw for r in measurements(3)))
        with hub.engine.connect() as connection:
            rows = {bytes(row.kid): row for row in connection.execute(select(db.receipt))}
        assert (rows[KID].sequence, rows[KID].leaf_index, rows[KID].time_ms) == (2, 3, NOW_MS)


def test_the_queue_is_bounded_in_bytes_and_so_is_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = measurements(12)
    each = len(records[0].raw)
    monkeypatch.setattr("hub.ingest.MAX_QUEUE_BYTES", 8 * each)
    monkeypatch.setattr("hub.ingest.MAX_BATCH_BYTES", 3 * each)
    with hub_in(tmp_path) as hub:
        append = hub.log.append
        appended: list[int] = []

        def counted(entries: list[bytes]) -> range:
            appended.append(len(entries))
            return append(entries)

        monkeypatch.setattr(hub.log, "append", counted)
        for made in records:
            hub.writer.offer(Arrival(made.raw, GATEWAY))
        assert hub.writer.counts().overflow_count == 3
        _run_until(hub, 10)
        assert sum(appended) == 9 and max(appended) <= 4
        hub.writer.offer(Arrival(records[9].raw, GATEWAY))
        assert hub.writer.counts().overflow_count == 3, "there is room again"
