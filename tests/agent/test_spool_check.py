"""Raw chunks are checked beside a running agent; what is found, or an end by an error, the next start looks into."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.keys import KEY_FILE, make_key
from agent.raw_meter import ClosedChunk
from agent.spool import LineBatch, Spool
from agent.spool_check import check_raw_chunks
from agent.spool_file import DOUBT_FILE, RAW_CHUNKS, SPOOL_FILE, SpoolDamaged
from agent.spool_salvage import open_or_salvage
from protocols.evidence.merkle import leaf_hash

MINUTE_MS = 60_000


def filled(folder: Path) -> Path:
    """A spool with raw chunks of some hundred pages; its file."""
    with Spool.open(folder) as spool:
        chunks = tuple(
            ClosedChunk("filling", bytes(32), at * MINUTE_MS, (at + 1) * MINUTE_MS, 60, leaf_hash(b""), bytes(800))
            for at in range(600)
        )
        spool.commit([LineBatch("filling", bytes(32), (), {}, (), chunks, None)])
    return folder / SPOOL_FILE


def root_page(path: Path, table: str) -> int:
    with Spool.open_read_only(path.parent) as spool:
        ((page,),) = spool._db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
    return int(str(page))


def wreck(path: Path, table: str) -> None:
    at = (root_page(path, table) - 1) * 4096
    data = bytearray(path.read_bytes())
    data[at : at + 64] = bytes(range(64))
    path.write_bytes(data)


def test_damage_to_raw_chunks_does_not_keep_the_agent_from_starting_and_is_found_later(tmp_path: Path) -> None:
    path = filled(tmp_path)
    wreck(path, RAW_CHUNKS)
    with Spool.open(tmp_path):
        with pytest.raises(SpoolDamaged, match="is damaged"):
            asyncio.run(check_raw_chunks(tmp_path, 0))
        assert (tmp_path / DOUBT_FILE).exists()
    with pytest.raises(SpoolDamaged):
        Spool.open(tmp_path)
    spool, _ = open_or_salvage(tmp_path, make_key(tmp_path, KEY_FILE), 0)
    spool.close()
    assert not (tmp_path / DOUBT_FILE).exists() and len(list(tmp_path.glob("damaged-*"))) == 1
    with Spool.open(tmp_path):
        asyncio.run(check_raw_chunks(tmp_path, 0))


@pytest.mark.parametrize("table", ["window", "record", "carry", "meta"])
def test_damage_to_what_measuring_and_signing_go_on_from_is_found_at_once(tmp_path: Path, table: str) -> None:
    wreck(filled(tmp_path), table)
    with pytest.raises(SpoolDamaged):
        Spool.open(tmp_path)


def test_after_an_end_by_an_error_the_whole_spool_is_checked_once(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with pytest.raises(KeyError), Spool.open(tmp_path):
        raise KeyError
    assert (tmp_path / DOUBT_FILE).exists()
    with Spool.open(tmp_path):
        assert not (tmp_path / DOUBT_FILE).exists(), "it is sound"
    with pytest.raises(KeyError), Spool.open(tmp_path):
        raise KeyError
    wreck(path, RAW_CHUNKS)
    with pytest.raises(SpoolDamaged):
        Spool.open(tmp_path)


def test_a_reader_that_fails_casts_no_doubt(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(KeyError), Spool.open_read_only(tmp_path):
        raise KeyError
    assert not (tmp_path / DOUBT_FILE).exists()


def test_an_agent_that_is_stopped_leaves_no_check_behind(tmp_path: Path) -> None:
    filled(tmp_path)

    async def begin_and_stop() -> None:
        checking = asyncio.create_task(check_raw_chunks(tmp_path, 0))
        await asyncio.sleep(0.01)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking

    asyncio.run(begin_and_stop())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_check_that_fails_for_another_reason_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(check_raw_chunks(tmp_path / "nowhere", 0))
    assert "could not be checked" in caplog.text
