"""A damaged spool: what verifies is taken over, nothing is signed twice, and what is lost becomes a signed gap."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import tracemalloc
from pathlib import Path

import pytest

from agent.chain_head import HEAD_FILE, read_head
from agent.clock import ManualClock
from agent.keys import KEY_FILE, load_key
from agent.raw_bounds import OLDER
from agent.recorder import Recorder
from agent.spool import SPOOL_FILE, Spool
from agent.spool_pages import last_blobs
from agent.spool_salvage import DAMAGED, UNCOUNTED, open_or_salvage, raw_lost
from protocols.errors import LinetallyError
from protocols.evidence.bodies import Gap, Measurement, RawGap
from protocols.evidence.record import SignedRecord
from tests.agent import factory
from tests.agent.service.test_watchdog import heard, listening
from tests.agent.test_raw_chain import KEY, START, Life, configuration

DAY = 86_400_000
HOURS_2 = 121
"""Minutes."""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a gateway that lived for two hours; all records but the newest three have a receipt."""
    folder = tmp_path_factory.mktemp("life")
    with Spool.open(folder) as spool:
        Life(folder, spool, random.Random(1)).live(HOURS_2)
        records = spool.open_records(0, 1000)
        spool.receipted([record.sequence for record in records[:-3]], {})
    (folder / KEY_FILE).write_bytes(b"the old one")
    return folder


def lived(folder: Path, life: Path) -> list[SignedRecord]:
    """A copy of that gateway's state in `folder`; its records."""
    shutil.copytree(life, folder, dirs_exist_ok=True)
    with Spool.open(folder) as spool:
        return [SignedRecord(found.raw) for sequence in range(1000) if (found := spool.record(sequence)) is not None]


def go_on(folder: Path, spool: Spool, key: object = KEY) -> list[SignedRecord]:
    """The records of the spool after the agent has started again, ten minutes later."""
    recorder = Recorder(configuration(folder), spool, key, ManualClock(START + (HOURS_2 + 10) * 60_000, b"\2" * 16))  # type: ignore[arg-type]
    recorder.start()
    return [SignedRecord(record.raw) for record in spool.open_records(0, 1000)]


def raw_gaps(records: list[SignedRecord]) -> list[RawGap]:
    return [signed.record.body for signed in records if isinstance(signed.record.body, RawGap)]


def wreck(path: Path, seed: int) -> None:
    """The tree is gone: every page that is no leaf, and some bytes of one leaf without records."""
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 4096):
        if data[at] in (2, 5, 10):
            data[at : at + 4096] = random.Random(seed).randbytes(4096)
    data[100:4096] = bytes(3996)
    path.write_bytes(data)


def test_a_long_salvage_is_no_start_that_hangs(tmp_path: Path, life: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lived(tmp_path / "state", life)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "socket"))
    with listening(tmp_path / "socket") as manager:
        open_or_salvage(tmp_path / "state", KEY, START)[0].close()
        assert heard(manager) == [], "nothing is to be salvaged"
        wreck(tmp_path / "state" / SPOOL_FILE, 0)
        open_or_salvage(tmp_path / "state", KEY, START)[0].close()
        assert heard(manager) == ["EXTEND_TIMEOUT_USEC=3600000000", "STATUS=salvaging a damaged spool"]


def test_the_chain_goes_on_where_no_record_is_missing(
    tmp_path: Path, life: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = lived(tmp_path, life)
    wreck(tmp_path / SPOOL_FILE, 0)
    spool, key = open_or_salvage(tmp_path, KEY, START)
    with spool:
        assert key is KEY and spool.head() == (len(before), before[-1].hash)
        assert spool.depth() == 3, "what had its receipt is not sent again"
        after = go_on(tmp_path, spool)
    assert after[:3] == before[-3:]
    assert after[3].record.previous == before[-1].hash
    gaps = [signed.record.body for signed in after[3:] if isinstance(signed.record.body, Gap)]
    last = max(s.record.end_ms for s in before if isinstance(s.record.body, Measurement))
    held = [line for s in before if isinstance(s.record.body, Measurement) for line in s.record.body.lines]
    chunks = sum(line.raw.chunk_count for line in held if line.raw is not None)
    assert chunks > 100
    assert raw_gaps(after) == [RawGap("filling", held[0].windows[0].start_ms, last, chunks, DAMAGED)]
    assert gaps == [Gap("filling", last, START + (HOURS_2 + 10) * 60_000, DAMAGED)]
    (aside,) = tmp_path.glob("damaged-*")
    assert (aside / SPOOL_FILE).stat().st_size > 100_000
    assert "the chain goes on" in caplog.text
    spool, _ = open_or_salvage(tmp_path, KEY, START)
    with spool:
        assert spool.head()[0] == len(before) + len(after) - 3
        assert raw_gaps(go_on(tmp_path, spool)) == raw_gaps(after), "it is said once"


@pytest.mark.parametrize("harm", ["noise", "deleted", "record", "head"])
def test_a_lost_record_begins_a_new_epoch(
    tmp_path: Path, life: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Going on with the old key would be a fork, or a chain that the hub waits for in vain."""
    before = lived(tmp_path, life)
    path = tmp_path / SPOOL_FILE
    if harm == "noise":
        path.write_bytes(os.urandom(200_000))
    elif harm == "deleted":
        path.unlink()
    else:
        wreck(path, 0)
    if harm == "record":
        data = path.read_bytes()
        end = before[-2].raw[-40:]
        assert end in data
        path.write_bytes(data.replace(end, bytes(len(end))))
    if harm == "head":
        (tmp_path / HEAD_FILE).unlink()
    head = read_head(tmp_path)
    spool, key = open_or_salvage(tmp_path, KEY, START)
    with spool:
        assert key.private_bytes_raw() != KEY.private_bytes_raw()
        assert spool.head()[0] == 0
        after = go_on(tmp_path, spool, key)
    assert load_key(tmp_path).private_bytes_raw() == key.private_bytes_raw()
    (aside,) = tmp_path.glob("damaged-*")
    assert (aside / KEY_FILE).read_bytes() == b"the old one"
    assert "Enrol this gateway again" in caplog.text
    gaps = [signed.record.body for signed in after if isinstance(signed.record.body, Gap)]
    assert len(gaps) == 1 and gaps[0].reason == DAMAGED and gaps[0].from_ms > START
    (raw_gap,) = raw_gaps(after)
    assert raw_gap.reason == UNCOUNTED, "a record is missing that may have named more"
    if harm in ("noise", "deleted"):  # no record is left: all that the chain's end tells, and how long chunks are kept
        assert head is not None
        assert (raw_gap.from_ms, raw_gap.to_ms, raw_gap.chunks) == (head.end_ms - 35 * DAY, head.end_ms, 1)
    else:
        assert raw_gap.from_ms == START and raw_gap.to_ms > START + 100 * 60_000 and raw_gap.chunks > 90


def test_a_spool_put_back_from_a_copy_signs_nothing_twice(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        lives = Life(tmp_path, spool, random.Random(1))
        lives.live(16)
        spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        copy = (tmp_path / SPOOL_FILE).read_bytes()
        lives.live(30)
    (tmp_path / KEY_FILE).write_bytes(b"the old one")
    (tmp_path / SPOOL_FILE).write_bytes(copy)
    spool, key = open_or_salvage(tmp_path, KEY, START)
    with spool:
        assert key is not KEY and spool.head()[0] == 0


def test_of_raw_chunks_only_what_was_not_dropped_before_is_said_to_be_lost(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        lives = Life(tmp_path, spool, random.Random(1))
        lives.live(61)
        now = lives.clock.now_ms()
        lives.recorder._chain(RawGap("filling", START, START + 1_800_000, 30, f"{OLDER}35 days"), now, now)
        records = [SignedRecord(record.raw).record.body for record in spool.open_records(0, 100)]
    (tmp_path / KEY_FILE).write_bytes(b"the old one")
    wreck(tmp_path / SPOOL_FILE, 0)
    lines = [line for body in records if isinstance(body, Measurement) for line in body.lines]
    later = [line for line in lines if line.windows[0].start_ms >= START + 1_800_000]
    assert 0 < len(later) < len(lines)
    spool, key = open_or_salvage(tmp_path, KEY, now)
    with spool:
        assert key is KEY
        chunks = sum(line.raw.chunk_count for line in later if line.raw is not None)
        want = RawGap("filling", START + 1_800_000, later[-1].windows[-1].end_ms, chunks, DAMAGED)
        assert raw_lost(spool, ["filling", "other"], 35 * DAY) == [want]


def test_a_crash_between_head_and_commit_is_no_damage(tmp_path: Path, life: Path) -> None:
    before = lived(tmp_path, life)
    head = read_head(tmp_path)
    assert head is not None and head.sequence == len(before) - 1
    ahead = type(head)(head.sequence + 2, head.hash, head.end_ms, head.receipted, head.sequence)
    ahead.write(tmp_path, durable=True)
    spool, key = open_or_salvage(tmp_path, KEY, START)
    with spool:
        assert key is KEY and spool.head()[0] == len(before)


def test_a_salvage_that_was_cut_short_is_done_again(tmp_path: Path, life: Path) -> None:
    before = lived(tmp_path, life)
    wreck(tmp_path / SPOOL_FILE, 0)
    aside = tmp_path / "damaged-20260101T000000"
    aside.mkdir()
    (tmp_path / SPOOL_FILE).replace(aside / SPOOL_FILE)  # killed here
    spool, key = open_or_salvage(tmp_path, KEY, START)
    with spool:
        assert key is KEY and spool.head() == (len(before), before[-1].hash)


def test_what_stands_only_in_the_wal_is_found(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        Life(tmp_path, spool, random.Random(1)).live(31)
        wal = tmp_path / f"{SPOOL_FILE}-wal"
        assert wal.stat().st_size > 10_000
        want = {record.raw for record in spool.open_records(0, 100)}
        assert want <= set(last_blobs(tmp_path / SPOOL_FILE))


def test_a_line_that_is_added_after_a_salvage_has_no_gap(tmp_path: Path, life: Path) -> None:
    lived(tmp_path, life)
    wreck(tmp_path / SPOOL_FILE, 0)
    spool, key = open_or_salvage(tmp_path, KEY, START)
    with spool:
        go_on(tmp_path, spool, key)
        both = factory.configuration(tmp_path, factory.opcua(), factory.modbus())
        Recorder(both, spool, key, ManualClock(START + (HOURS_2 + 900) * 60_000, b"\2" * 16)).start()
        records = [SignedRecord(record.raw).record.body for record in spool.open_records(0, 1000)]
    assert [body for body in records if isinstance(body, Gap) and body.line_id == "packing"] == []


def test_a_disk_with_a_hole_costs_what_lies_there(tmp_path: Path, life: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = lived(tmp_path, life)
    path = tmp_path / SPOOL_FILE
    whole = set(last_blobs(path))
    read, lost = os.pread, re.escape(records[2].raw[-40:])
    holes = [found.start() for found in re.finditer(lost, path.read_bytes(), re.DOTALL)]  # a page may have an old copy

    def broken(file: int, size: int, at: int) -> bytes:
        if any(at <= hole < at + size for hole in holes):
            raise OSError(errno.EIO, "Input/output error")
        return read(file, size, at)

    monkeypatch.setattr(os, "pread", broken)
    found = set(last_blobs(path))
    assert records[2].raw in whole - found and found < whole
    assert len(found) > len(whole) * 0.7


def test_a_spool_that_is_larger_than_the_memory_is_looked_through(tmp_path: Path, life: Path) -> None:
    """Raw samples may take gigabytes, and systemd gives the agent half of one."""
    lived(tmp_path, life)
    path = tmp_path / SPOOL_FILE
    want = set(last_blobs(path))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 4096 * 4096 + 40_000_000)
    tracemalloc.start()
    try:
        assert sum(blob in want for blob in last_blobs(path)) >= len(want)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_another_versions_spool_is_not_put_aside(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool._db.execute("PRAGMA user_version = 99")
    with pytest.raises(LinetallyError, match="another version"):
        open_or_salvage(tmp_path, KEY, START)
    assert not list(tmp_path.glob("damaged-*"))
