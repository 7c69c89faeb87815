"""`linetally-hub audit` on a hub with a real log: verdicts, draws that can be made again, and the record of it all."""

from __future__ import annotations

import json
import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hub import database as db
from hub.__main__ import main
from hub.audit.minutes import draw, needed
from hub.audit.store import RawStore
from hub.config import load_config
from hub.database import open_database
from hub.ingest import Arrival, Writer
from hub.log.sequencer import Log
from hub.root import load_log_key
from hub.verify import main as verify_main
from protocols.evidence import checkpoint, note
from protocols.evidence.bodies import RawGap
from protocols.evidence.raw import Piece, write_pieces
from protocols.evidence.record import SignedRecord
from protocols.measurement.plan import Period, Plan
from tests.hub.audit.audit_kit import LINE, MINUTE, Gateway, hub_with, measured, off_by_one
from tests.support.evidence import GATEWAY, START_MS
from tests.support.hub import table_rows

SEED = "0a" * 32  # draws no minute that the last chunks leave undecided


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return measured(minutes=90)


def ask(capsys: pytest.CaptureFixture[str], config: Path, words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*words.split(), "--json", "--config", str(config)]) == code
    said = capsys.readouterr()
    return json.loads(said.out or said.err)


def raw_file(folder: Path, pieces: list[Piece]) -> Path:
    path = folder / "filling.raw"
    with path.open("wb") as file:
        write_pieces(pieces, file)
    return path


def test_a_file_of_raw_samples_is_replayed_and_the_result_recorded(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = raw_file(tmp_path, gateway.pieces)
    with hub_with(tmp_path, gateway) as config:
        replay = f"audit replay P-7 --raw {raw} --jobs 1"
        told = ask(capsys, config, replay)
        (line,) = told["lines"]
        assert (told["verdict"], line["equal"]) == ("EQUAL", len(gateway.windows) - 1)
        key = tmp_path / "auditor.key"
        assert ask(capsys, config, f"{replay} --record --who Chan --key {key}", 2)["words"].startswith(str(key))
        ask(capsys, config, f"audit init auditor-1 --project P-7 --key {key}")
        refused = ask(capsys, config, f"{replay} --record --who Chan --key {key}", 1)
        assert "not approved" in refused["words"]
        *gateways, pending = ask(capsys, config, "gateway list")
        assert (pending["id"], pending["kind"], pending["state"]) == ("auditor-1", "auditor", "pending")
        assert {each["kind"] for each in gateways} == {"gateway"}, "told from auditors, who come last"
        ask(capsys, config, "gateway approve auditor-1")
        leaf = ask(capsys, config, f"{replay} --record --who Chan --key {key}")["leaf_index"]
        (listed,) = ask(capsys, config, "audit list P-7")
        assert (listed["entry"], listed["verdict"], listed["who"]) == (leaf, "all equal", "Chan")
        engine = open_database(load_config(config).database_url)
        before = table_rows(engine, db.PROJECTIONS)
        assert ask(capsys, config, "rebuild")["entries"] == leaf + 1
        assert table_rows(engine, db.PROJECTIONS) == before
        engine.dispose()
        assert ask(capsys, config, "fsck") == {"sound": True, "checked": leaf + 1}


def test_a_gateway_cannot_audit_itself(gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hub.root import make_key

    raw = raw_file(tmp_path, gateway.pieces[:5])
    with hub_with(tmp_path, gateway) as config:
        key = tmp_path / "gateway.key"
        make_key(key, "gateway-1")
        ask(capsys, config, f"audit replay P-7 --raw {raw} --record --who x --key {key}", 1)
        assert ask(capsys, config, f"audit init gateway-1 --project P-7 --key {key}", 1)["error"] == "exists"


def test_the_first_difference_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at_ms = START_MS + 30 * MINUTE
    lying = measured(minutes=50, change=off_by_one(at_ms))
    raw = raw_file(tmp_path, lying.pieces)
    with hub_with(tmp_path, lying) as config:
        capsys.readouterr()
        assert main(["audit", "replay", "P-7", "--raw", str(raw), "--jobs", "1", "--config", str(config)]) == 1
        said = capsys.readouterr().out
        assert said.startswith("DIFFERENT  P-7\n")
        total = next(w.account.total_count for w in lying.windows if w.start_ms == at_ms)
        assert (
            f"line filling, the minute of 2026-06-01 08:30:00 (Asia/Hong_Kong): total_count was signed as {total}, "
            f"the raw samples give {total - 1}"
        ) in said


def test_drawn_minutes_are_asked_for_answered_and_can_be_drawn_again(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub_with(tmp_path, gateway) as config:
        told = ask(capsys, config, f"audit challenge P-7 --minutes 4 --seed {SEED}")
        (row,) = ask(capsys, config, "audit status P-7")
        assert (row["state"], row["pieces"], row["seed"]) == ("waiting", 0, told["seed"])
        windows = told["minutes"]["filling"]
        # Anybody who has the records and the seed draws the same.
        days = (date.min, date.max)
        assert windows == [list(s) for s in draw(bytes.fromhex(told["seed"]), "filling", gateway.windows, days, 4)]
        assert len(windows) == 4 and row["windows"] == windows
        missing = ask(capsys, config, "audit replay P-7 --jobs 1", 1)
        assert missing["verdict"] == "INCOMPLETE"
        assert missing["lines"][0]["missing_ms"] == [start for start, _ in windows]
        # The gateway answers with the chunks that overlap the spans, and with nothing else.
        settled = load_config(config)
        engine = open_database(settled.database_url)
        with engine.connect() as connection:
            spans = connection.execute(db.challenge.select()).one().spans
        engine.dispose()
        chunks = [(START_MS + i * MINUTE, START_MS + (i + 1) * MINUTE) for i in range(len(gateway.pieces))]
        held = [
            (end_ms, piece)
            for (start_ms, end_ms), piece in zip(chunks, gateway.pieces, strict=True)
            if any(start_ms < to_ms and from_ms < end_ms for from_ms, to_ms in spans)
        ]
        assert 8 <= len(held) <= 4 * 5
        RawStore(settled.raw_folder, 10**9).add("filling", held[0][0], [piece for _, piece in held])
        told = ask(capsys, config, "audit replay P-7 --jobs 1")
        assert told["lines"][0]["asked"] == told["lines"][0]["equal"] == 4
        assert told["seed"] == SEED
        assert ask(capsys, config, f"audit replay P-7 --jobs 1 --seed {SEED} --minutes 4") == told


def test_without_a_seed_the_logs_root_hash_is_one(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub_with(tmp_path, gateway) as config:
        told = ask(capsys, config, "audit challenge P-7 --days 2026-06-01")
        head = checkpoint.parse(note.parse((load_config(config).log_folder / "checkpoint").read_bytes()).text)
        assert (told["seed"], told["log_size"]) == (head.root.hex(), head.size)
        assert told["minutes"]["filling"] == [
            list(span) for span in draw(head.root, "filling", gateway.windows, (date.min, date.max), 3)
        ]
        named = ask(capsys, config, "audit challenge P-7 --at 2026-06-01T08:10:30+08:00")
        assert named["minutes"] == {"filling": [[START_MS + 10 * MINUTE, START_MS + 11 * MINUTE]]}
        assert [row["seed"] for row in ask(capsys, config, "audit status P-7")] == [told["seed"], ""]


def test_a_long_chunk_gives_the_windows_of_several_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no row came over some edges there is one chunk, and only the last of its windows' records names it."""
    made = measured(minutes=25, statement_minutes=1, without_edges=frozenset({5, 6, 7}))
    raw = raw_file(tmp_path, made.pieces[4:8])
    with hub_with(tmp_path, made) as config:
        asked = "--from 2026-06-01T08:04+08:00 --to 2026-06-01T08:08+08:00"
        told = ask(capsys, config, f"audit replay P-7 --jobs 1 --raw {raw} {asked}")
        assert (told["verdict"], told["lines"][0]["equal"], told["lines"][0]["chunks"]) == ("EQUAL", 4, 4)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("audit replay", 2, "name a project"),
        ("audit replay P-7 --bundle x.zip", 2, "name a project"),
        ("audit replay P-9", 1, "no project"),
        ("audit replay P-7 --line packing", 1, "no line"),
        ("audit replay P-7 --days 2026-06-01", 2, "--seed"),
        ("audit replay P-7 --seed xyz", 2, "hex"),
        ("audit replay P-7 --record", 2, "--who"),
        ("audit replay P-7 --from 2026-06-01", 2, "zone"),
        ("audit replay P-7 --jobs 0", 2, "--jobs"),
        ("audit challenge P-7 --days 2026-06-02..2026-06-01", 2, "before the first"),
        ("audit challenge P-7 --days 2020-01-01", 1, "no scheduled minutes"),
        ("audit challenge P-7 --minutes 0", 2, "--minutes"),
        ("audit init a/b --project P-7", 1, "the auditor's id"),
        ("audit init auditor --project P-9", 1, "no project"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    words: str, code: int, said: str, wrong: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(wrong.parent)
    assert said in ask(capsys, wrong, words, code)["words"]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with hub_with(tmp_path_factory.mktemp("wrong"), measured(minutes=5)) as config:
        yield config


def test_draws_are_even_different_and_of_scheduled_time(gateway: Gateway) -> None:
    days = (date(2026, 6, 1), date(2026, 6, 1))
    assert draw(b"x", "filling", gateway.windows, (date(2026, 6, 2), date.max), 3) == []
    every = draw(b"x", "filling", gateway.windows, days, 10_000)
    assert every == [(w.start_ms, w.end_ms) for w in gateway.windows]
    seen: dict[tuple[int, int], int] = {}
    rng = random.Random(7)
    for _ in range(600):
        drawn = draw(rng.randbytes(32), "filling", rng.sample(gateway.windows, len(gateway.windows)), days, 3)
        assert len(set(drawn)) == 3 and drawn == sorted(drawn)
        for span in drawn:
            seen[span] = seen.get(span, 0) + 1
    assert set(seen) == set(every) and max(seen.values()) < 50  # 20 on average
    assert draw(b"x", "filling", gateway.windows, days, 3) != draw(b"x", "packing", gateway.windows, days, 3)


def test_what_decides_a_minute_is_asked_for_once() -> None:
    windows = [(0, 60), (60, 120), (1_000, 1_060)]
    decide = dict.fromkeys(windows, 100)
    assert needed(windows, decide) == [(-1, 221), (999, 1_161)]


def test_the_store_keeps_each_piece_once_and_lets_the_oldest_day_go(gateway: Gateway, tmp_path: Path) -> None:
    import os

    store = RawStore(tmp_path, 10**9)
    for part in (gateway.pieces[10:20], gateway.pieces[:15], gateway.pieces[:3]):
        store.add("filling", START_MS, part)
    (path,) = store.files(["filling", "packing"])
    from protocols.evidence.raw import read_pieces

    with path.open("rb") as file:
        assert [(p.sequence, p.leaf_index) for p in read_pieces(file)] == [
            (p.sequence, p.leaf_index) for p in gateway.pieces[:20]
        ]
    assert path.name == "2026-06-01.raw"
    os.utime(path, (1, 1))
    small = RawStore(tmp_path, path.stat().st_size + 100)
    small.add("filling", START_MS + 86_400_000, gateway.pieces[20:25])
    assert [each.name for each in small.files(["filling"])] == ["2026-06-02.raw"]
    assert store.files(["filling"], to_ms=START_MS) == []


def test_a_bundle_with_raw_samples_is_audited_without_a_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = measured(minutes=80, change=off_by_one(START_MS + 20 * MINUTE))
    ended = made.windows[-1].end_ms
    made.sign(RawGap("filling", START_MS, START_MS + 5 * MINUTE, 5, "older than 35 days"), ended, ended)
    half = START_MS + 40 * MINUTE
    plan = Plan(
        project_id="P-7",
        scheme="manufacturing-plus",
        title="Upgrade",
        enterprise="Acme",
        line_ids=("filling",),
        baseline=Period(START_MS, half),
        commissioning=Period(half, half + 5 * MINUTE),
        reporting=Period(half + 5 * MINUTE, START_MS + 79 * MINUTE),
        ideal_cycles_ns={"Cola": 250_000_000},
        min_shifts=2,
        timezone="Asia/Hong_Kong",
        definition=LINE.definition,
    )
    with hub_with(tmp_path, made, plan) as config:
        settled = load_config(config)
        RawStore(settled.raw_folder, 10**9).add("filling", START_MS, made.pieces)
        bundle, policy = tmp_path / "P-7.zip", tmp_path / "policy.txt"
        assert main(["report", "P-7", "--raw", "--out", str(bundle), "--config", str(config)]) == 0
        assert main(["policy", "--output", str(policy), "--config", str(config)]) == 0
        without = tmp_path / "without.zip"
        assert main(["report", "P-7", "--out", str(without), "--config", str(config)]) == 0
    (tmp_path / "data").rename(tmp_path / "gone")  # nothing of the hub is used
    assert verify_main([str(bundle), "--policy", str(policy), "--quiet"]) == 0
    offline = f"audit replay --bundle {bundle} --policy {policy} --jobs 1"
    told = ask(capsys, config, offline, 1)
    assert told["verdict"] == "DIFFERENT"
    assert told["difference"]["start_ms"] == START_MS + 20 * MINUTE
    assert told["lines"][0]["compared"] == 78 and told["lines"][0]["equal"] == 77
    reporting = f"{offline} --from 2026-06-01T08:45+08:00 --to 2026-06-01T09:15+08:00"
    told = ask(capsys, config, reporting)
    assert (told["verdict"], told["lines"][0]["asked"]) == ("EQUAL", 30)
    asked = "--from 2026-06-01T08:04+08:00 --to 2026-06-01T08:06+08:00"
    told = ask(capsys, config, f"audit replay --bundle {without} --policy {policy} --jobs 1 {asked}", 1)
    (line,) = told["lines"]
    assert [each["start_ms"] for each in line["gone"]] == [START_MS + 4 * MINUTE]
    assert line["unanswered_ms"] == [START_MS + 5 * MINUTE]
    data = bytearray(bundle.read_bytes())
    data[data.index(b"records/") + 3_000] ^= 1
    bundle.write_bytes(data)
    assert ask(capsys, config, offline, 1)["verdict"] == "FAIL"


def append(config: Path, made: SignedRecord) -> None:
    """One more record of the gateway in the hub's log."""
    settled = load_config(config)
    engine = open_database(settled.database_url)
    with Log.open(settled.log_folder, load_log_key(settled)) as log:
        writer = Writer(engine, log, settled.ingest, lambda: START_MS, lambda _id, _payload: None)
        writer.recover()
        writer.commit([Arrival(made.raw, GATEWAY)])
    engine.dispose()


def test_minutes_in_a_signed_raw_gap_are_gone_and_the_others_unanswered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = measured(minutes=60)
    end_ms = START_MS + 60 * MINUTE
    made.sign(RawGap("filling", START_MS, START_MS + 10 * MINUTE, 10, "older than 35 days"), end_ms, end_ms)
    with hub_with(tmp_path, made) as config:
        challenge = "audit challenge P-7" + "".join(f" --at 2026-06-01T08:{at:02d}:30+08:00" for at in (2, 9, 10, 40))
        ask(capsys, config, challenge)
        (row,) = ask(capsys, config, "audit status P-7")
        assert (row["minutes"], row["gone, said so"]) == (4, 2)
        # The gateway has dropped one of them, and says so now that it was asked for it.
        at = START_MS + 40 * MINUTE
        late = made.sign(RawGap("filling", at - MINUTE, at + MINUTE, 2, "more than 2000 MB"), end_ms + 1, end_ms + 1)
        append(config, late)
        told = ask(capsys, config, "audit replay P-7 --jobs 1", 1)
        (line,) = told["lines"]
        gone = [(each["start_ms"], each["reason"], each["said_late"]) for each in line["gone"]]
        two, nine, ten = (START_MS + minute * MINUTE for minute in (2, 9, 10))
        assert gone == [
            (two, "older than 35 days", False), (nine, "older than 35 days", False),
            (at, "more than 2000 MB", True),
        ]  # fmt: skip
        assert (told["verdict"], line["unanswered_ms"]) == ("INCOMPLETE", [ten])
        capsys.readouterr()
        assert main(["audit", "replay", "P-7", "--jobs", "1", "--config", str(config)]) == 1
        said = capsys.readouterr().out
        assert "3 of these are gone, and signed records say so; 1 are unanswered." in said
        assert "gone, and said so (older than 35 days), Asia/Hong_Kong: 2026-06-01 08:02:00, 2026-06-01 08:09" in said
        assert "gone, and said only after they were asked for (more than 2000 MB), Asia/Hong_Kong" in said
        assert "unanswered, Asia/Hong_Kong: 2026-06-01 08:10:00" in said
        # What can be replayed is not gone, whatever a record says.
        raw = raw_file(tmp_path, made.pieces)
        told = ask(capsys, config, f"audit replay P-7 --jobs 1 --raw {raw}")
        assert (told["verdict"], told["lines"][0]["gone"]) == ("EQUAL", [])
