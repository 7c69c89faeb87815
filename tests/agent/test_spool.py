"""The spool: what is durable, what is refused, and a kill at any instant.

LINETALLY_SPOOL_KILLS=300 kills it more often than the few times here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from agent.chain_head import read_head
from agent.spool import KEPT_RECEIPTED, SPOOL_FILE, LineBatch, Spool, SpoolDamaged, SpooledRecord, SpoolFull
from protocols.errors import LinetallyError
from protocols.evidence.record import NO_PREVIOUS, RecordHash
from protocols.measurement.account import Category
from protocols.measurement.timeline import Stop
from tests.agent.factory import window

HASH = b"\7" * 32
KILLS = int(os.environ.get("LINETALLY_SPOOL_KILLS", "8"))


def record(sequence: int, size: int = 10) -> SpooledRecord:
    return SpooledRecord(
        sequence, RecordHash(sequence.to_bytes(32, "big")), "measurement", sequence * 1000, b"x" * size
    )


def test_windows_and_memory_come_back_together(tmp_path: Path) -> None:
    first, second = window(0), window(60_000)
    with Spool.open(tmp_path) as spool:
        spool.commit([LineBatch("a", HASH, (first, second), {"closed_ms": 120_000, "runs": [[1, 2]]})])
    with Spool.open(tmp_path) as spool:
        assert spool.carry("a") == (HASH, {"closed_ms": 120_000, "runs": [[1, 2]]})
        assert [found.window for found in spool.unsealed(120_000)] == [first, second]
        assert [found.window for found in spool.unsealed(60_000)] == [first]
        assert spool.carry("b") is None


def test_a_record_takes_its_windows_off_the_list(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        assert spool.head() == (0, NO_PREVIOUS)
        spool.commit([LineBatch("a", HASH, (window(0), window(60_000)), {})])
        ids = [found.id for found in spool.unsealed(60_000)]
        spool.append([record(0)], ids)
        assert len(spool.unsealed(2**62)) == 1
        assert spool.head() == (1, record(0).hash)
        assert spool.depth() == 1


def test_only_a_receipt_lets_a_record_go(tmp_path: Path) -> None:
    count = KEPT_RECEIPTED + 50
    with Spool.open(tmp_path) as spool:
        spool.append([record(i) for i in range(count)])
        spool.receipted([i for i in range(count) if i != 3], {"last_receipt": b"1 2"})
        assert [r.sequence for r in spool.open_records(0, 10)] == [3]
        assert spool.record(3) is not None, "not receipted: kept, however old"
        assert spool.record(4) is None and spool.record(count - 1) is not None
        assert spool.head()[0] == count
        spool.reopen(count - 2, count - 1)
        assert spool.depth() == 3


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    with Spool.open(tmp_path), pytest.raises(LinetallyError, match="another agent"):
        Spool.open(tmp_path)


def test_status_reads_beside_a_writer_and_cannot_write(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool.append([record(0)])
        with Spool.open_read_only(tmp_path) as reader:
            assert reader.depth() == 1
            with pytest.raises(LinetallyError):
                reader.set_meta({"a": b"b"})


def test_an_operators_input_between_two_steps_of_the_agent_ends_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In SQLite a transaction that has only read so far is refused at once when another wrote meanwhile."""
    with Spool.open(tmp_path) as spool, Spool.open_beside(tmp_path) as page:
        page._db.setbusytimeout(0)
        head = Spool.head
        tried: list[str] = []

        def and_then_the_page(self: Spool) -> tuple[int, RecordHash]:
            found = head(self)
            try:
                page.queue_amendment(b"late", 0)
            except SpoolFull as error:
                tried.append(str(error))
            return found

        monkeypatch.setattr(Spool, "head", and_then_the_page)
        spool.append([record(0)])
        assert spool.depth() == 1
        assert "another program" in tried[0], "it waits its turn: for seconds, in its own process"
        page.queue_amendment(b"late", 0)
        assert len(spool.next_amendments()) == 1


def test_a_program_that_holds_the_file_is_waited_for_and_named(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool._db.setbusytimeout(50)
        other = apsw.Connection(str(tmp_path / SPOOL_FILE))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolFull, match="another program has had it for long; end what has it open"):
            spool.append([record(0)])
        other.execute("ROLLBACK")
        other.close()
        spool.append([record(0)])


def test_a_damaged_spool_is_refused_with_a_mend(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool.append([record(i, 3000) for i in range(20)])
    path = tmp_path / SPOOL_FILE
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(data)
    with pytest.raises(SpoolDamaged, match="salvages what it can"):
        Spool.open(tmp_path)
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(SpoolDamaged):
        Spool.open(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 1 MB. Needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine does not let us mount: {mounted.stderr.decode().strip()}")
    return folder


def test_a_full_disk_costs_nothing_that_was_durable(small_disk: Path) -> None:
    try:
        with Spool.open(small_disk) as spool:
            made = 0
            with pytest.raises(SpoolFull, match="disk is full"):
                while made < 1000:
                    spool.append([record(made, 20_000)])
                    made += 1
            assert made > 5
            assert spool.head()[0] == made
            filler = small_disk / "filler"
            assert not filler.exists()
        with Spool.open(small_disk) as spool:
            assert [r.sequence for r in spool.open_records(0, 1000)] == list(range(made))
    finally:
        subprocess.run(["umount", small_disk], check=True)


_WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from agent.spool import LineBatch, Spool
from tests.agent.factory import window
from tests.agent.test_spool import HASH, record
with Spool.open(Path(sys.argv[1])) as spool:
    sequence, _ = spool.head()
    kept = spool.carry("a")
    at = 0 if kept is None else kept[1]["closed_ms"]
    while True:
        spool.commit([LineBatch("a", HASH, (window(at),), {"closed_ms": at + 60_000})])
        at += 60_000
        print("window", at, flush=True)
        if at % 180_000 == 0:
            ids = [found.id for found in spool.unsealed(at)]
            spool.append([replace(record(sequence), end_ms=at)], ids)
            print("record", sequence, flush=True)
            sequence += 1
"""


def test_a_kill_at_any_instant_loses_nothing_that_was_said_to_be_durable(tmp_path: Path) -> None:
    said = chained = 0
    for cycle in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": "."},
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(3 + 7 * cycle % 11)]
        time.sleep(0.003 * cycle)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL, "it was at work until it was killed"
        for what, number in (line.split() for line in lines if line.endswith("\n")):
            said = max(said, int(number)) if what == "window" else said
            chained = max(chained, int(number) + 1) if what == "record" else chained
        with Spool.open(tmp_path) as spool:
            kept = spool.carry("a")
            assert kept is not None
            closed = kept[1]["closed_ms"]
            assert closed >= said
            records = spool.open_records(0, 100_000)
            assert [r.sequence for r in records] == list(range(len(records)))
            sealed = spool.newest_record_end_ms() or 0
            assert len(records) >= chained
            assert [w.window.start_ms for w in spool.unsealed(2**62)] == list(range(sealed, closed, 60_000)), (
                "a record and its windows go together"
            )
            head = read_head(tmp_path)
            assert head is None or head.before < len(records) <= head.sequence + 1
    assert chained > 5, "the writers were killed at work, not ended by an error of their own"


def test_closed_stops_are_kept_newest_first_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.spool.KEPT_STOPS", 3)
    made = [Stop(i * 10_000, i * 10_000 + 5_000, Category.FAILURE, i, minor=False, long=True) for i in range(6)]
    with Spool.open(tmp_path) as spool:
        for stop in made:
            spool.commit([LineBatch("filling", bytes(32), (), {}, (stop,))])
        assert spool.stops("filling", 10) == made[:2:-1]
        assert spool.stops("filling", 1) == [made[-1]]
        assert spool.stops("packing", 10) == []
