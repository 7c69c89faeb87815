"""The recorder: what stands in the chain, in which order, and what a full disk costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import app
from agent import recorder as module
from agent.clock import ManualClock
from agent.config import AgentConfiguration
from agent.held import DISK_FULL
from agent.line import Line
from agent.recorder import CHANGED, NOT_RUNNING, Recorder
from agent.spool import Spool, SpoolFull
from protocols.errors import ConfigurationError
from protocols.evidence.bodies import Configurations, Gap, Heartbeat, Measurement
from protocols.evidence.record import SignedRecord
from protocols.measurement.account import Window
from protocols.plc.roles import SignalRole
from tests.agent import factory

KEY = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000
MINUTE = 60_000


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path) as opened:
        yield opened


class Gateway:
    """A line whose machine runs, one piece a second."""

    def __init__(self, configuration: AgentConfiguration, spool: Spool, now_ms: int) -> None:
        self.clock = ManualClock(now_ms, b"\1" * 16)
        self.recorder = Recorder(configuration, spool, KEY, self.clock)
        started = self.recorder.start()
        self.line = Line(configuration.lines[0], started[configuration.lines[0].line_id].meter, self.clock)

    def run(self, until_ms: int) -> None:
        self.line.begin()
        while self.clock.now_ms() < until_ms:
            now = self.clock.now_ms() + 1000
            self.clock.advance_to(now)
            self.line.put(SignalRole.STATE, 6, now)
            self.line.put(SignalRole.TOTAL, now // 1000 % 2**31, now)
            self.line.put(SignalRole.REJECT, 0, now)
            self.line.alive()
            if now % 10_000 == 0:
                windows = self.line.close_windows(now)
                self.recorder.keep([(self.line.meter, windows)] if windows else [])
                self.recorder.seal_due(self.line.meter.closed_until_ms)


def bodies(spool: Spool) -> list[Any]:
    return [SignedRecord(record.raw).record.body for record in spool.open_records(0, 10_000)]


def windows(spool: Spool) -> list[Window]:
    return [w for body in bodies(spool) if isinstance(body, Measurement) for line in body.lines for w in line.windows]


def configuration(folder: Path, *changes: tuple[str, str]) -> AgentConfiguration:
    text = factory.opcua()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return factory.configuration(folder, text)


def test_configuration_then_measurements_then_nothing_twice(tmp_path: Path, spool: Spool) -> None:
    Gateway(configuration(tmp_path), spool, START).run(START + 31 * MINUTE)
    found = bodies(spool)
    assert [type(body) for body in found] == [Configurations, Measurement, Measurement]
    assert [(w.start_ms - START) // MINUTE for w in windows(spool)] == list(range(30))
    assert sum(w.account.total_count for w in windows(spool)) in range(1790, 1801)


def test_a_pause_is_a_gap_record_and_unknown_time(tmp_path: Path, spool: Spool) -> None:
    Gateway(configuration(tmp_path), spool, START).run(START + 5 * MINUTE)
    Gateway(configuration(tmp_path), spool, START + 10 * MINUTE).run(START + 16 * MINUTE)
    found = bodies(spool)
    assert [type(body) for body in found] == [Configurations, Gap, Measurement]
    gap = found[1]
    assert (gap.reason, gap.to_ms) == (NOT_RUNNING, START + 10 * MINUTE)
    unknown = [w.account.unknown_ms for w in windows(spool)]
    assert unknown[6:10] == [MINUTE] * 4
    assert sum(unknown[:4]) <= 1000
    assert [(w.start_ms - START) // MINUTE for w in windows(spool)] == list(range(15))


def test_another_configuration_seals_what_was_measured_under_the_old_one(tmp_path: Path, spool: Spool) -> None:
    old, new = configuration(tmp_path), configuration(tmp_path, ('"1.2"', '"1.1"'))
    Gateway(old, spool, START).run(START + 5 * MINUTE)
    Gateway(new, spool, START + 5 * MINUTE).run(START + 16 * MINUTE)
    found = bodies(spool)
    assert [type(body) for body in found] == [Configurations, Measurement, Configurations, Gap, Measurement]
    assert found[3].reason == CHANGED and found[3].to_ms - found[3].from_ms <= MINUTE
    hashes = [line.configuration_hash for body in found if isinstance(body, Measurement) for line in body.lines]
    assert hashes == [old.lines[0].configuration.hash, new.lines[0].configuration.hash]
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(windows(spool)))


def test_an_hour_of_nothing_is_a_heartbeat(tmp_path: Path, spool: Spool) -> None:
    gateway = Gateway(configuration(tmp_path), spool, START)
    gateway.clock.advance_to(START + module.HEARTBEAT_MS)
    gateway.recorder.seal_due(START)
    gateway.recorder.seal_due(START)
    assert [type(body) for body in bodies(spool)] == [Configurations, Heartbeat]


def test_a_full_disk_keeps_windows_in_memory_and_then_says_what_was_lost(
    tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agent.held.HELD_WINDOWS", 3)
    gateway = Gateway(configuration(tmp_path), spool, START)
    gateway.run(START + 4 * MINUTE)
    commit = spool.commit

    def full(*_: object) -> None:
        raise SpoolFull("the disk is full")

    monkeypatch.setattr(spool, "commit", full)
    gateway.run(START + 6 * MINUTE)
    assert gateway.recorder.disk_full_since_ms is not None
    monkeypatch.setattr(spool, "commit", commit)
    gateway.run(START + 8 * MINUTE)
    assert gateway.recorder.disk_full_since_ms is None
    monkeypatch.setattr(spool, "commit", full)
    with caplog.at_level("ERROR", "linetally"):
        gateway.run(START + 16 * MINUTE)
    assert caplog.text.count("the oldest windows go, and become a signed gap") == 1
    monkeypatch.setattr(spool, "commit", commit)
    gateway.run(START + 31 * MINUTE)
    gap = next(body for body in bodies(spool) if isinstance(body, Gap))
    assert gap.reason == DISK_FULL
    measured = [(w.start_ms - START) // MINUTE for w in windows(spool)]
    lost = set(range((gap.from_ms - START) // MINUTE, (gap.to_ms - START) // MINUTE))
    assert lost and set(measured) | lost == set(range(30)) and not set(measured) & lost
    assert {0, 1, 2, 3, 4, 5, 6} <= set(measured), "what fitted into memory was kept"


def test_a_disk_with_room_for_windows_and_none_for_the_chain_is_full_once(
    tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(configuration(tmp_path), spool, START)
    gateway.run(START + 4 * MINUTE)
    append = spool.append

    def full(*_: object, **__: object) -> None:
        raise SpoolFull("the disk is full; free some space")

    monkeypatch.setattr(spool, "append", full)
    with caplog.at_level("INFO", "linetally"):
        gateway.run(START + 34 * MINUTE)
        assert gateway.recorder.disk_full_since_ms is not None
        monkeypatch.setattr(spool, "append", append)
        gateway.run(START + 36 * MINUTE)
    assert gateway.recorder.disk_full_since_ms is None
    said = [record.getMessage() for record in caplog.records if "disk" in record.getMessage()]
    assert said == [
        "the disk is full; free some space. Nothing is lost: what is measured now waits in memory",
        "the disk takes data again; what waited in memory is safe now",
    ]
    assert [(w.start_ms - START) // MINUTE for w in windows(spool)] == list(range(30))


def test_what_waits_is_not_tried_at_each_tick(tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a week of windows, and a gateway has other things to do."""
    gateway = Gateway(configuration(tmp_path), spool, START)
    gateway.run(START + 4 * MINUTE)
    tried: list[str] = []

    def full(name: str) -> Any:
        def refuse(*_: object, **__: object) -> None:
            tried.append(name)
            raise SpoolFull("the disk is full")

        return refuse

    def ticks(count: int) -> None:
        for _ in range(count):
            gateway.clock.advance_to(gateway.clock.now_ms() + 1000)
            gateway.recorder.keep([])
            gateway.recorder.seal_due(gateway.line.meter.closed_until_ms, all_of_it=True)

    with monkeypatch.context() as patched:
        patched.setattr(spool, "append", full("append"))
        ticks(20)
        assert tried == ["append"] * 2
        patched.setattr(spool, "commit", full("commit"))
        gateway.run(gateway.clock.now_ms() + 3 * MINUTE)
        count = tried.count("commit")
        assert 3 <= count <= 4, "once a minute"
        ticks(20)
        assert tried.count("commit") == count
    gateway.run(gateway.clock.now_ms() + 2 * MINUTE)
    assert gateway.recorder.disk_full_since_ms is None


def test_what_is_lost_at_the_end_with_a_full_disk_is_said_and_a_gap(
    tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(configuration(tmp_path), spool, START)
    gateway.run(START + 4 * MINUTE)

    def full(*_: object) -> None:
        raise SpoolFull("the disk is full")

    with monkeypatch.context() as patched, caplog.at_level("INFO", "linetally"):
        patched.setattr(spool, "commit", full)
        gateway.run(START + 10 * MINUTE)
        app._finish([gateway.line], gateway.recorder, gateway.clock)
    assert "becomes a signed gap" in caplog.text and "everything measured is in the spool" not in caplog.text
    Gateway(configuration(tmp_path), spool, START + 12 * MINUTE).run(START + 31 * MINUTE)
    (gap,) = [body for body in bodies(spool) if isinstance(body, Gap)]
    assert (gap.reason, gap.to_ms) == (NOT_RUNNING, START + 12 * MINUTE) and gap.from_ms <= START + 4 * MINUTE
    unknown = {(w.start_ms - START) // MINUTE for w in windows(spool) if w.account.unknown_ms == MINUTE}
    assert unknown == set(range(4, 12))


def test_another_gateways_spool_is_refused(tmp_path: Path, spool: Spool) -> None:
    Gateway(configuration(tmp_path), spool, START)
    other = Ed25519PrivateKey.from_private_bytes(b"\6" * 32)
    with pytest.raises(ConfigurationError, match="state folder holds the records of GW-01"):
        Recorder(configuration(tmp_path), spool, other, ManualClock(START))


def test_a_plcs_wrong_clock_is_not_believed(tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway(configuration(tmp_path), spool, START)
    gateway.line.begin()
    gateway.clock.advance_to(START + 10_000)
    with caplog.at_level("WARNING", "linetally"):
        gateway.line.put(SignalRole.STATE, 6, START + 3_600_000)
    gateway.line.close_windows(START + 20_000)
    assert gateway.line.meter.last_sample_ms == START + 10_000
    assert "3590.0 s ahead of" in caplog.text
