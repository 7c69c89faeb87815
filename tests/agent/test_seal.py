"""Sealing: which windows a record holds, that it is split, chained and deterministic."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.clock import ManualClock
from agent.seal import ClockLog, Sealer, statements
from agent.spool import SpooledWindow
from protocols.evidence.bodies import Measurement
from protocols.evidence.record import MAX_BYTES, NO_PREVIOUS, SignedRecord
from tests.agent.factory import window

KEY = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
HASH = b"\7" * 32
MINUTE = 60_000
START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000


def spooled(minute: int, line: str = "a", hash_: bytes = HASH) -> SpooledWindow:
    return SpooledWindow(minute * 10 + ord(line[0]), line, hash_, window(START + minute * MINUTE))


def sealer() -> Sealer:
    clock = ManualClock(START, b"\1" * 16)
    log = ClockLog(clock, 15 * MINUTE)
    clock.advance_to(START + 40 * MINUTE)
    return Sealer(KEY, "GW-01", "Tai Po plant", log, 0, NO_PREVIOUS)


def test_a_statement_is_an_interval_of_the_wall_clock() -> None:
    windows = [spooled(minute, line) for minute in range(7, 33) for line in "ab"]
    parts = list(statements(windows, 15 * MINUTE))
    assert [(p.start_ms - START) // MINUTE for p in parts] == [7, 15, 30]
    assert [(p.end_ms - START) // MINUTE for p in parts] == [15, 30, 33]
    assert all([line.line_id for line in p.lines] == ["a", "b"] for p in parts)
    assert sorted(i for p in parts for i in p.window_ids) == sorted(w.id for w in windows)


def test_a_hole_and_another_configuration_begin_a_new_statement() -> None:
    windows = [spooled(0), spooled(1), spooled(3), replace(spooled(4), configuration_hash=b"\10" * 32)]
    parts = list(statements(windows, 15 * MINUTE))
    assert [len(p.lines[0].windows) for p in parts] == [2, 1, 1]


def test_records_are_chained_signed_and_the_same_again() -> None:
    parts = list(statements([spooled(minute) for minute in range(30)], 15 * MINUTE))

    def seal_all() -> list[bytes]:
        out: list[bytes] = []
        now = sealer()
        for part in parts:
            now, records = now.seal(Measurement(part.lines), part.start_ms, part.end_ms)
            out += [record.raw for record in records]
        return out

    first = seal_all()
    assert first == seal_all()
    one, two = (SignedRecord(raw) for raw in first)
    one.verify(KEY.public_key())
    two.verify(KEY.public_key())
    assert (one.record.sequence, two.record.sequence) == (0, 1)
    assert two.record.previous == one.hash
    assert one.record.clock.boot_end_ms - one.record.clock.boot_start_ms == 15 * MINUTE
    assert two.record.clock.boot_start_ms == one.record.clock.boot_end_ms
    assert one.issuer == "GW-01" and one.record.clock.is_simulated


def test_a_long_statement_is_split_and_nothing_is_lost() -> None:
    windows = tuple(replace(window(START + i * 1000, 1000), product=f"product {i} " + "x" * 60) for i in range(900))
    part = next(statements([SpooledWindow(i, "a", HASH, w) for i, w in enumerate(windows)], 15 * MINUTE))
    after, records = sealer().seal(Measurement(part.lines), part.start_ms, part.end_ms)
    assert len(records) > 1 and after.sequence == len(records)
    signed = [SignedRecord(record.raw) for record in records]
    assert all(len(record.raw) <= MAX_BYTES for record in signed)
    found = []
    for record in signed:
        assert isinstance(record.record.body, Measurement)
        found += record.record.body.lines[0].windows
    assert tuple(found) == windows
