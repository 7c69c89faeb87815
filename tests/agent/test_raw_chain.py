"""Raw chunks from the clock to the record: over everything that happens to a gateway, what was signed comes out again.

A gateway lives through seeded hours: stops, product changes, late values, lost links, restarts of both kinds, pauses,
another configuration. LINETALLY_RAW_SEEDS=200 runs more of them than the few here.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import app, raw_bounds, seal
from agent.__main__ import main
from agent.challenges import answer
from agent.clock import ManualClock
from agent.commissioning.doctor_spool import spool_findings
from agent.commissioning.finding import Level
from agent.config import AgentConfiguration
from agent.held import DISK_FULL
from agent.line import Line
from agent.raw_meter import ClosedChunk
from agent.recorder import Recorder
from agent.spool import Spool, SpoolFull
from agent.spool_raw import RawHeld, RawSpan, disk_bytes
from protocols.evidence.bodies import Configurations, Measurement, RawGap
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.merkle import LeafHash, leaf_hash
from protocols.evidence.raw import Chunk, decode_piece, decompress, read_pieces, verify_piece
from protocols.evidence.record import SignedRecord, encode_record
from protocols.evidence.statement import LineStatement
from protocols.measurement.comparison import compare
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.replay import RawRows, replay
from protocols.plc.roles import SignalRole
from protocols.wire.challenge import Answer, Challenge, decode_answer
from tests.agent import factory
from tests.reference import rfc6962

KEY = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000
MINUTE = 60_000
DAY = 86_400_000
SEEDS = range(int(os.environ.get("LINETALLY_RAW_SEEDS", "4")))
PRODUCTS = """
[line.tags.product]
path = "filling/Admin/ProductCode"
namespace = "urn:linetally:simulator"

"""
SECOND = """
[[line.product]]
code = 2
name = "Tea 500 ml"
"""


def configuration(folder: Path, *, ideal_cycle: str = "1.2", window_s: int = 60, raw: str = "") -> AgentConfiguration:
    text = factory.opcua().replace("1.2", ideal_cycle).replace("[[line.product]]", PRODUCTS + "[[line.product]]")
    return factory.configuration(folder, text + SECOND + raw, window_s=window_s)


@dataclass
class Life:
    """One gateway's life, driven by a seed."""

    folder: Path
    spool: Spool
    random: random.Random
    window_s: int = 60
    raw: str = ""
    calm: bool = True
    clock: ManualClock = field(default_factory=lambda: ManualClock(START, b"\1" * 16))
    ideal_cycle: str = "1.2"
    state: int = 6
    total: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        told = configuration(self.folder, ideal_cycle=self.ideal_cycle, window_s=self.window_s, raw=self.raw)
        self.recorder = Recorder(told, self.spool, KEY, self.clock)
        started = self.recorder.start()
        self.line = Line(told.lines[0], started["filling"].meter, self.clock)
        self.line.begin()
        self.line.put(SignalRole.PRODUCT, 1, None)

    def live(self, minutes: float) -> None:
        end_ms = self.clock.now_ms() + round(minutes * MINUTE)
        while self.clock.now_ms() < end_ms:
            self.tick()

    def tick(self) -> None:
        chance = self.random.random()
        now = self.clock.now_ms() + self.random.choice((250, 1000, 1000, 3000))
        self.clock.advance_to(now)
        if self.calm:
            pass
        elif chance < 0.02:
            self.state = self.random.choice((6, 6, 6, 9, 11, 4))
        elif chance < 0.03:
            self.line.put(SignalRole.PRODUCT, self.random.choice((1, 2)), now)
        elif chance < 0.04:
            self.line.lost("cut")
        elif chance < 0.05:
            self.clock.advance_to(now + self.random.choice((20_000, 400_000)))
            now = self.clock.now_ms()
        self.total += self.random.randrange(3) if self.state == 6 else 0
        age_ms = self.random.choice((0, 0, 0, 300, 2500, 9000))
        self.line.put(SignalRole.STATE, self.state, now - age_ms)
        self.line.put(SignalRole.TOTAL, self.total, now)
        self.line.put(SignalRole.REJECT, self.total // 50, now - age_ms // 2)
        self.line.alive()
        app.measure([self.line], self.recorder, now)

    def stop(self, *, clean: bool) -> None:
        if clean:
            app._finish([self.line], self.recorder, self.clock)

    def events(self) -> None:
        for _ in range(6):
            self.live(self.random.uniform(1, 12))
            self.stop(clean=self.random.random() < 0.5)
            self.clock.advance_to(self.clock.now_ms() + self.random.choice((0, 700, 45_000, 20 * MINUTE)))
            if self.random.random() < 0.3:
                self.ideal_cycle = "1.1" if self.ideal_cycle == "1.2" else "1.2"
            self.start()
        self.live(35)


def signed_of(spool: Spool) -> list[SignedRecord]:
    found = (spool.record(sequence) for sequence in range(spool.head()[0]))
    return [SignedRecord(record.raw) for record in found if record is not None]


def statements_of(records: list[SignedRecord]) -> list[tuple[SignedRecord, LineStatement]]:
    bodies = ((record, record.record.body) for record in records)
    return [(record, line) for record, body in bodies if isinstance(body, Measurement) for line in body.lines]


def answered(spool: Spool, from_ms: int, to_ms: int) -> tuple[list[Answer], Answer]:
    messages = [decode_answer(m) for m in answer(spool, Challenge(bytes(16), "filling", ((from_ms, to_ms),)))]
    return messages[:-1], messages[-1]


def checked(spool: Spool, dropped_ms: int = 0) -> dict[bytes, list[Chunk]]:
    """Every chunk that a challenge gives, proven by its record and its tree; by configuration.

    `dropped_ms`: up to then they may be gone.
    """
    records = signed_of(spool)
    by_sequence = {record.record.sequence: record for record in records}
    end_ms = max(line.windows[-1].end_ms for _, line in statements_of(records))
    pieces, end = answered(spool, START - 1, end_ms)
    assert [message.number for message in pieces] == list(range(end.of))
    found: dict[bytes, list[Chunk]] = defaultdict(list)
    plain: dict[int, list[tuple[Chunk, bytes]]] = defaultdict(list)
    for message in pieces:
        assert message.piece is not None
        piece = decode_piece(message.piece)
        chunk = verify_piece(piece, by_sequence[piece.sequence])
        assert piece.leaf_index == len(plain[piece.sequence])
        plain[piece.sequence].append((chunk, decompress(piece.compressed)))
        found[chunk.configuration_hash].append(chunk)
    for record, line in statements_of(records):
        mine = plain.get(record.record.sequence, [])
        assert all(line.windows[0].start_ms < chunk.end_ms <= line.windows[-1].end_ms for chunk, _ in mine)
        if line.raw is None or (not mine and line.windows[-1].end_ms <= dropped_ms):
            assert mine == []
            continue
        assert line.raw.root == rfc6962.mth([data for _, data in mine])
        assert (line.raw.chunk_count, line.raw.sample_count) == (len(mine), sum(len(chunk.block) for chunk, _ in mine))
        assert [leaf_hash(data) for _, data in mine]
    return found


def replayed(spool: Spool, found: dict[bytes, list[Chunk]]) -> int:
    """How many signed windows came out again; none may differ."""
    records = signed_of(spool)
    configurations = [LineConfiguration.from_data(data) for r in records if isinstance(r.record.body, Configurations)
                      for data in r.record.body.configurations]  # fmt: skip
    compared = 0
    for told in {each.hash: each for each in configurations}.values():
        signed = [w for _, line in statements_of(records) if line.configuration_hash == told.hash for w in line.windows]
        runs: list[list[Chunk]] = []
        for chunk in found.get(told.hash, []):
            if runs and chunk.start_ms >= runs[-1][-1].end_ms:
                runs[-1].append(chunk)
            else:
                runs.append([chunk])
        for run in runs:
            out = replay(told, [RawRows(c.start_ms, c.end_ms, c.carry, c.block) for c in run])
            told_of = compare(signed, out.windows)
            assert told_of.first is None
            assert out.memory_faults == []
            compared += told_of.equal
    return compared


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_to_a_gateway_its_chunks_give_what_it_signed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Spool.open(tmp_path) as spool:
        Life(tmp_path, spool, chance, window_s=chance.choice((10, 60, 300)), calm=False).events()
        windows = sum(len(line.windows) for _, line in statements_of(signed_of(spool)))
        compared = replayed(spool, checked(spool))
        assert compared > windows // 2


# Bounds


def receipted(spool: Spool) -> None:
    spool.receipted([record.sequence for record in spool.open_records(0, 10_000)], {})


def raw_gaps(spool: Spool) -> list[RawGap]:
    return [body for record in signed_of(spool) if isinstance(body := record.record.body, RawGap)]


def held(spool: Spool) -> tuple[int, int]:
    """(chunks, end of the oldest)"""
    lines = spool.shelf.held()
    sql = "SELECT line, count(*), sum(size), min(end_ms), max(end_ms) FROM raw_chunk GROUP BY line ORDER BY line"
    counted = [RawHeld(line, n, disk_bytes(size, n), *ends) for line, n, size, *ends in spool._db.execute(sql)]
    assert lines == counted, "the sums that are kept are those of the chunks"
    return (sum(line.chunks for line in lines), spool.shelf.oldest_ms("filling") or 0)


def test_old_chunks_go_once_receipted_and_a_record_says_so(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(0), raw="\n[raw]\nkeep_days = 1\n")
        life.live(50)
        life.clock.advance_to(START + DAY + 8 * 60 * MINUTE)
        life.live(2)
        assert held(spool)[1] == START + MINUTE, "nothing has a receipt: nothing goes"
        assert raw_gaps(spool) == []
        receipted(spool)
        life.live(2)
        chunks, oldest_ms = held(spool)
        (gap,) = raw_gaps(spool)
        assert (gap.line_id, gap.from_ms, gap.reason) == ("filling", START, "older than 1 days")
        assert gap.chunks >= 30 and gap.to_ms <= oldest_ms and chunks >= 1
        # What is left is whole: each chunk still leads to its record's root.
        checked(spool, START + 60 * MINUTE)
        pieces, end = answered(spool, START, START + 10 * MINUTE)
        assert pieces == [] and end.words == "600 s of it are not held (see the raw-gap records)"


def bounded(life: Life, max_bytes: int) -> None:
    """No whole megabytes, for a short test."""
    life.recorder._bounds.use(replace(configuration(life.folder).raw, max_bytes=max_bytes))


def whole(spool: Spool) -> None:
    """Every minute up to the last statement is held, or a record says that it is not."""
    told = sorted((gap.from_ms, gap.to_ms) for gap in raw_gaps(spool))
    places = [(p.start_ms, p.end_ms) for p in spool.shelf.overlapping("filling", START, 2**60)]
    at = START
    for from_ms, to_ms in sorted(told + places):
        assert from_ms == at
        at = to_ms


def test_without_room_nothing_that_is_not_receipted_goes_and_new_chunks_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(raw_bounds, "LOOK_MS", 1000)
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(0))
        bounded(life, 30_000)
        with caplog.at_level("WARNING", "linetally"):
            life.live(90)
        size = sum(line.size_bytes for line in spool.shelf.held())
        assert 30_000 < size < 32_000
        assert "No new raw samples are kept" in caplog.text
        assert spool.meta("raw_full")
        without = [line for _, line in statements_of(signed_of(spool)) if line.raw is None]
        assert without, "such statements say null"
        replayed(spool, checked(spool))
        receipted(spool)
        life.live(2)
        assert spool.meta("raw_full") == b"", "the oldest statement goes at once"
        life.live(3)
        assert sum(line.size_bytes for line in spool.shelf.held()) <= 30_000
        gaps = raw_gaps(spool)
        assert {gap.reason for gap in gaps} == {raw_bounds.NO_ROOM, "more than 0 MB"}
        first_loss = min(gap.from_ms for gap in gaps if gap.reason == raw_bounds.NO_ROOM)
        assert first_loss > START
        whole(spool)


def test_a_full_store_gives_its_oldest_statement_for_the_newest_minute(tmp_path: Path) -> None:
    """Also one of a few hours, of which a statement is a large part: the hub answers, so no new minute is lost."""
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(0))
        bounded(life, 40_000)
        for _ in range(150):
            life.live(1)
            receipted(spool)
            assert not spool.meta("raw_full")
        gaps = raw_gaps(spool)
        assert len(gaps) >= 3 and {gap.reason for gap in gaps} == {"more than 0 MB"}
        assert {gap.to_ms - gap.from_ms for gap in gaps} == {15 * MINUTE}, "no more than it takes"
        whole(spool)
        # A much lower limit: while the oldest go, a few hours at each look, the newest are kept.
        bounded(life, 5_000)
        life.live(8)
        assert {gap.reason for gap in raw_gaps(spool)} == {"more than 0 MB"}
        assert spool.shelf.oldest_ms("filling") == max(gap.to_ms for gap in raw_gaps(spool)) + MINUTE


def test_only_whole_receipted_statements_go_and_what_no_record_will_ever_hold(tmp_path: Path) -> None:
    """A chunk proves nothing without its neighbours' hashes; one whose window was lost with a full disk never will."""
    kid = key_id(KEY.public_key().public_bytes_raw())
    with Spool.open(tmp_path) as spool:
        Life(tmp_path, spool, random.Random(0)).live(50)
        assert spool.shelf.droppable("filling", kid, START + 40 * MINUTE) is None
        receipted(spool)

        def droppable(before_minute: int) -> tuple[int, int, int] | None:
            drop = spool.shelf.droppable("filling", kid, START + before_minute * MINUTE + 1)
            return drop and ((drop.from_ms - START) // MINUTE, (drop.to_ms - START) // MINUTE, len(drop.ids))

        assert [droppable(minute) for minute in (14, 15, 29, 30)] == [None, (0, 15, 15), (0, 15, 15), (0, 30, 30)]
        assert droppable(100) == (0, 45, 45), "the last windows wait for their statement"
        at = START - 7 * MINUTE
        spool.shelf.add([ClosedChunk("filling", bytes(32), at, at + MINUTE, 60, LeafHash(bytes(32)), b"x")])
        assert droppable(14) == (-7, -6, 1)


def pages(spool: Spool, what: str) -> int:
    ((found,),) = spool._db.execute(f"PRAGMA {what}").fetchall()
    assert isinstance(found, int)
    return found


def test_what_is_counted_is_what_the_file_takes(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        page_bytes, before = pages(spool, "page_size"), pages(spool, "page_count")
        for line in ("filling", "packing"):
            for minute in range(2000):
                at = START + minute * MINUTE
                chunk = ClosedChunk(line, bytes(32), at, at + MINUTE, 60, LeafHash(bytes(32)), bytes(315))
                spool.shelf.add([chunk])
        spool.shelf.chain([RawSpan(line, bytes(32), 0, 2**60) for line in ("filling", "packing")], Kid(bytes(8)), 1)
        grown = (pages(spool, "page_count") - before) * page_bytes
        assert sum(line.size_bytes for line in spool.shelf.held()) == pytest.approx(grown, rel=0.1)


@pytest.mark.parametrize("told", [False, True])
def test_what_was_lost_is_said_after_a_kill_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    """And once `max_megabytes` is raised and the agent started again, nobody says any more that there is no room."""
    monkeypatch.setattr(raw_bounds, "LOOK_MS", 1000)
    if told:
        monkeypatch.setattr(raw_bounds, "STEP_MS", 10 * MINUTE)
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(0))
        bounded(life, 15_000)
        life.live(60)
        assert spool.meta("raw_full") and bool(raw_gaps(spool)) is told
        life.stop(clean=False)
        life.start()
        life.live(18)
        assert not spool.meta("raw_full")
        assert {gap.reason for gap in raw_gaps(spool)} == {raw_bounds.NO_ROOM}
        whole(spool)
        life.stop(clean=False)
        life.start()
        before = len(raw_gaps(spool))
        life.live(3)
        assert len(raw_gaps(spool)) == before, "once"


def test_a_full_disk_loses_chunks_with_their_windows_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.held.HELD_WINDOWS", 3)
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(3))
        life.live(5)
        commit = spool.commit

        def full(*_: object) -> None:
            raise SpoolFull("the disk is full")

        monkeypatch.setattr(spool, "commit", full)
        life.live(12)
        monkeypatch.setattr(spool, "commit", commit)
        life.live(40)
        (gap,) = raw_gaps(spool)
        assert gap.reason == DISK_FULL and gap.chunks >= 5
        assert replayed(spool, checked(spool)) > 20


def test_raw_can_be_switched_off(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(0), raw="\n[raw]\nkeep_days = 0\n")
        life.live(20)
        assert all(line.raw is None for _, line in statements_of(signed_of(spool)))
        assert spool.shelf.held() == [] and life.line.meter.open_chunk() is None


def test_a_record_that_must_be_split_commits_to_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 700
    monkeypatch.setattr(seal, "fits", lambda record, **_: len(encode_record(record)) < limit)
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(5))
        life.live(33)
        parts = statements_of(signed_of(spool))
        assert len(parts) > 4
        assert all(line.raw is not None for _, line in parts)
        checked(spool)


def test_a_new_key_still_proves_the_chunks_of_the_old_one(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        life = Life(tmp_path, spool, random.Random(0))
        life.live(17)
        old = {record.record.sequence: record for record in signed_of(spool)}
        receipted(spool)
        new = Ed25519PrivateKey.from_private_bytes(b"\6" * 32)
        spool.begin_chain(b"GW-01 " + key_id(new.public_key().public_bytes_raw()).hex().encode())
        pieces, end = answered(spool, START, START + 15 * MINUTE)
        assert end.of == 15 and end.words == ""
        for message in pieces:
            assert message.piece is not None
            piece = decode_piece(message.piece)
            verify_piece(piece, old[piece.sequence])


# What a person sees


def test_raw_samples_as_a_file_and_what_status_says_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    with Spool.open(folder) as spool:
        Life(tmp_path, spool, random.Random(0)).live(33)
        by_sequence = {record.record.sequence: record for record in signed_of(spool)}
    file = tmp_path / "f.raw"
    zone = ZoneInfo("Asia/Hong_Kong")

    def run(from_minute: int, to_minute: int, *more: str) -> int:
        times = [datetime.fromtimestamp((START + m * MINUTE) / 1000, zone) for m in (from_minute, to_minute)]
        texts = [
            times[0].strftime("%Y-%m-%dT%H:%M"),
            times[1].isoformat(),
        ]  # the line's own zone, and one with its zone
        chosen = ["--config", str(tmp_path / "agent.toml"), "--from", texts[0], "--to", texts[1]]
        return main(["raw", *chosen, "--line", "filling", "--output", str(file), *more])

    assert run(5, 40) == 0
    said = capsys.readouterr().out
    assert "wrote 25 chunks, 25.0 of the 35.0 min asked for" in said and "2 chunks more" in said
    with file.open("rb") as opened:
        chunks = [verify_piece(piece, by_sequence[piece.sequence]) for piece in read_pieces(opened)]
    assert [(chunk.start_ms - START) // MINUTE for chunk in chunks] == list(range(5, 30))
    assert run(100, 120) == 1
    assert "there is what ends from" in capsys.readouterr().err
    assert run(9, 5) == 2 and run(5, 9, "--line", "packer") == 2 and run(5, 9, "--from", "noon") == 2
    said = capsys.readouterr().err
    assert "--to is not after --from" in said and "this gateway has: filling" in said and "is not a time" in said
    assert not file.with_name("f.raw.part").exists()

    assert main(["status", "--config", str(tmp_path / "agent.toml")]) == 0
    assert "raw samples of filling: 0.0 days, 0.0 MB, from" in capsys.readouterr().out
    with Spool.open(folder) as spool:
        spool.set_meta({"raw_full": raw_bounds.NO_ROOM.encode()})
    assert main(["status", "--config", str(tmp_path / "agent.toml")]) == 0
    assert "new raw samples are not kept: no room" in capsys.readouterr().out
    (full,) = [each for each in spool_findings(configuration(tmp_path)) if each.about == "raw samples"]
    assert full.level is Level.WARN and "raise raw.max_megabytes" in full.mend
