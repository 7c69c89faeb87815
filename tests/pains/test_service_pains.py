"""What users of gateways suffer when a network is bad for long, and what they get here: pains 6, 16 and 17."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.backoff import FIRST_S, LONGEST_S, Backoff
from agent.clock import ManualClock
from agent.held import DISK_FULL, HELD_WINDOWS
from agent.publisher import Publisher
from agent.recorder import Recorder
from agent.spool import SPOOL_FILE, LineBatch, Spool, SpoolFull
from benchmarks.soak import Soaked, slope_an_hour, soak
from protocols.evidence.bodies import Gap, Measurement
from protocols.evidence.record import SignedRecord
from protocols.measurement.configuration import LineConfiguration
from tests.agent import factory
from tests.agent.test_publisher import KEY, KID, until
from tests.simulators.broker import running_broker
from tests.simulators.receipt_hub import ReceiptHub

MINUTE = 60_000
START = 1_767_225_600_000
MINUTES = 7 * 24 * 60


def test_row_6_no_wait_is_absurd() -> None:
    """Between one second and thirty, whatever happened before; spread, so that gateways do not come back at once."""
    for seed in range(50):
        random.seed(seed)
        backoff = Backoff()
        waits = [backoff.next_s() for _ in range(200)]
        assert all(FIRST_S <= wait <= LONGEST_S for wait in waits)
        assert all(wait >= LONGEST_S / 2 for wait in waits[5:])
        assert len({round(wait, 6) for wait in waits[5:]}) > 150
        backoff.reset()
        assert backoff.next_s() <= 2 * FIRST_S


def test_row_6_a_gateway_tries_for_ever_and_goes_on_at_once(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    real = Backoff.next_s

    def noted(self: Backoff) -> float:
        waits.append(real(self))
        return 0.01  # the wait is what is tested; it need not be waited for

    monkeypatch.setattr(Backoff, "next_s", noted)
    monkeypatch.setattr("agent.publisher.STEADY_S", 0.0)
    port = free_port()

    async def scenario() -> None:
        with Spool.open(tmp_path) as spool:
            configuration = factory.configuration(tmp_path, broker_port=port)
            publisher = Publisher(
                configuration, spool, KID, ReceiptHub(port).signer.verifier, lambda: 5, lambda _: None
            )
            task = asyncio.create_task(publisher.run())
            await until(lambda: len(waits) >= 30)
            assert max(waits) <= LONGEST_S and min(waits[6:]) >= LONGEST_S / 2
            with running_broker(tmp_path, port):
                await until(lambda: publisher.connected)
                before = len(waits)  # none is drawn while the connection holds
            await until(lambda: len(waits) > before)
            assert waits[before] <= 2 * FIRST_S, "it was connected in between"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def a_week(folder: Path, spool: Spool) -> None:
    """Seven days of minutes of two lines, measured and sealed in accelerated time."""
    configuration = factory.configuration(folder)
    clock = ManualClock(START, b"\1" * 16)
    recorder = Recorder(configuration, spool, KEY, clock)
    recorder.start()
    for hour in range(MINUTES // 60):
        minutes = range(hour * 60, hour * 60 + 60)
        spool.commit([
            batch(line.configuration, [START + minute * MINUTE for minute in minutes]) for line in configuration.lines
        ])  # fmt: skip
        clock.advance_to(START + (minutes[-1] + 1) * MINUTE)
        assert recorder.seal_due(clock.now_ms()) == 4


def batch(configuration: LineConfiguration, starts_ms: list[int]) -> LineBatch:
    windows = tuple(factory.window(start_ms) for start_ms in starts_ms)
    carry = {"closed_ms": windows[-1].end_ms}
    return LineBatch(configuration.line_id, configuration.hash, windows, carry)


def test_row_16_a_week_without_a_broker_is_all_delivered_and_live_data_come_first(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.05)
    port = free_port()
    behind: list[int] = []

    async def scenario(spool: Spool, hub: ReceiptHub) -> None:
        depth = spool.depth()
        assert depth == MINUTES // 15 + 1  # and the configuration
        publisher = Publisher(
            factory.configuration(tmp_path, broker_port=port),
            spool,
            KID,
            hub.signer.verifier,
            lambda: 5,
            lambda _: None,
        )
        task = asyncio.create_task(publisher.run())
        await until(lambda: len(hub.records) > 10, 20)
        publisher.publish_live(b"now")
        await until(lambda: hub.live == [b"now"])
        behind.append(spool.depth())
        await until(lambda: spool.depth() == 0, 90)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with Spool.open(tmp_path) as spool:
        a_week(tmp_path, spool)
        size = (tmp_path / SPOOL_FILE).stat().st_size
        assert size < 20_000_000, "a week must fit on any card"
        with running_broker(tmp_path, port), ReceiptHub(port) as hub:
            asyncio.run(scenario(spool, hub))
        assert behind[0] > MINUTES // 30, "what is now does not wait for what was"
        assert max(hub.copies.values()) == 1 and list(hub.records) == sorted(hub.records)
        measured = [
            window
            for signed in hub.payloads()
            if isinstance(signed.record.body, Measurement)
            for line in signed.record.body.lines
            for window in line.windows
        ]
        assert len(measured) == 2 * MINUTES
        assert len({w.start_ms for w in measured}) == MINUTES


def test_row_16_what_a_full_disk_cannot_keep_becomes_a_signed_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool is bounded by the disk, and memory by a week of minutes: what is dropped is said, to the minute."""
    with Spool.open(tmp_path) as spool:
        configuration = factory.configuration(tmp_path, factory.modbus())
        clock = ManualClock(START, b"\1" * 16)
        recorder = Recorder(configuration, spool, KEY, clock)
        meter = recorder.start()["packing"].meter
        keep = spool.commit

        def full(*_: object) -> None:
            raise SpoolFull("the disk is full")

        monkeypatch.setattr(spool, "commit", full)
        for minute in range(HELD_WINDOWS + 100):
            clock.advance_to(START + (minute + 1) * MINUTE)
            recorder.keep([(meter, [factory.window(START + minute * MINUTE)])])
            assert recorder.seal_due(clock.now_ms()) == 0
        monkeypatch.setattr(spool, "commit", keep)
        recorder.keep([(meter, [])])
        recorder.seal_due(clock.now_ms(), all_of_it=True)
        records = [SignedRecord(each.raw).record for each in spool.open_records(0, 10_000)]
    gaps = [record.body for record in records if isinstance(record.body, Gap)]
    assert gaps == [Gap("packing", START, START + 100 * MINUTE, DISK_FULL)]
    windows = [w for r in records if isinstance(r.body, Measurement) for line in r.body.lines for w in line.windows]
    assert (windows[0].start_ms, len(windows)) == (START + 100 * MINUTE, HELD_WINDOWS)


@pytest.mark.alone
def test_row_17_memory_threads_and_files_do_not_grow() -> None:
    """The short form of `./run soak --minutes N`: PLCs and broker are taken away in turn, and come back."""
    found = soak(float(os.environ.get("LINETALLY_SOAK_MINUTES", "0.2")), 1.0, 2.0)
    assert found.holds, found.words
    assert found.faults >= 2


@pytest.mark.parametrize(
    "grown",
    [
        {"reading": False}, {"records": 0}, {"memory_mb": (85.0, 90.0, 101.0)}, {"memory_slope_mb": 6.0},
        {"most_threads": 13}, {"most_files": 121},
    ],
)  # fmt: skip
def test_a_soak_in_which_something_grows_does_not_hold(grown: dict[str, Any]) -> None:
    calm = Soaked(60.0, 50, 300, True, (85.0, 90.0, 91.0), 15.0, 0.5, 0.0, 0.0, 4, 20)
    assert calm.holds and not replace(calm, **grown).holds


def test_a_slope_is_seen() -> None:
    assert slope_an_hour([(0, 10.0), (60, 11.0), (120, 12.0)]) == pytest.approx(60)
    assert slope_an_hour([(0, 10.0), (60, 10.0)]) == 0
    assert slope_an_hour([(0, 10.0)]) is None
    found = Soaked(20, 9, 80, True, (80.0, 90.0, 91.0), 15, 2.0, 0.0, None, 5, 43)
    assert "first 15 min" in found.words
    assert "80.0 MB at first, 90.0 MB warm, 91.0 MB at the end, slope +2.00 MB an hour" in found.words
    assert "files    at most 43, slope not known, the soak was too short" in found.words
