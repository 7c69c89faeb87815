"""fsck names the file and the byte, whichever file of a log was changed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hub.log.fsck import Fault
from hub.log.sequencer import Log
from protocols.evidence.note import Algorithm, SignerKey

SIGNER = SignerKey("hub.example/log", Algorithm.ED25519, bytes(range(32)))
LENGTH = 10  # of every entry: so the offsets of entry n are (12 n, 12 n + 12)


@pytest.fixture
def log_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    with Log.create(folder, SIGNER.name, SIGNER) as log:
        for size in (300, 100, 200, 10):
            log.append([b"entry %04d" % n for n in range(log.size, log.size + size)])
    return folder


def fault_of(folder: Path) -> Fault | None:
    with Log.open(folder, SIGNER) as log:
        steps = list(log.fsck())
    assert all(step.fault is None for step in steps[:-1])
    assert [step.checked for step in steps] == sorted(step.checked for step in steps)
    if steps[-1].fault is None:
        assert steps[-1].checked == steps[-1].total
    return steps[-1].fault


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_a_sound_log(log_folder: Path) -> None:
    assert fault_of(log_folder) is None


def test_a_flipped_byte_of_an_entry(log_folder: Path) -> None:
    path = "tile/entries/001"
    flip(log_folder / path, 12 * 40 + 7)
    fault = fault_of(log_folder)
    assert fault is not None
    assert (fault.file, fault.offset) == (path, 12 * 40)
    assert "entry 296" in fault.what


def test_a_flipped_byte_of_a_length(log_folder: Path) -> None:
    flip(log_folder / "tile/entries/000", 12 * 255, 7)
    fault = fault_of(log_folder)
    assert fault is not None
    assert (fault.file, fault.offset) == ("tile/entries/000", 12 * 255)


@pytest.mark.parametrize(("path", "offset"), [("tile/0/000", 0), ("tile/0/001", 8191), ("tile/0/001", 32 * 7 + 3)])
def test_a_flipped_byte_of_a_hash(log_folder: Path, path: str, offset: int) -> None:
    flip(log_folder / path, offset)
    fault = fault_of(log_folder)
    assert fault is not None
    assert (fault.file, fault.offset) == (path, offset)


def test_a_missing_file(log_folder: Path) -> None:
    (log_folder / "tile/entries/000").unlink()
    fault = fault_of(log_folder)
    assert fault == Fault("tile/entries/000", 0, "the file is missing")


def test_an_entry_and_its_hash_changed_together(log_folder: Path) -> None:
    """Who rewrites an entry and its leaf hash is still caught one level up."""
    from protocols.evidence import merkle

    bundle, tile = log_folder / "tile/entries/000", log_folder / "tile/0/000"
    data, hashes = bytearray(bundle.read_bytes()), bytearray(tile.read_bytes())
    data[2:12] = b"entry 9999"
    hashes[:32] = merkle.leaf_hash(b"entry 9999")
    bundle.write_bytes(data)
    tile.write_bytes(hashes)
    fault = fault_of(log_folder)
    assert fault is not None
    assert fault.file == "tile/1/000.p/2" or fault.file == "tile"


def test_an_older_partial_tile(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with Log.create(folder, SIGNER.name, SIGNER) as log:
        log.append([b"a", b"b"])
        log.append([b"c", b"d"])
    for path, offset in (("tile/0/000.p/2", 40), ("tile/entries/000.p/2", 2)):
        flip(folder / path, offset)
        fault = fault_of(folder)
        assert fault is not None
        assert (fault.file, fault.offset) == (path, offset)
        flip(folder / path, offset)


def test_every_file_at_a_random_byte(log_folder: Path) -> None:
    """No changed byte of any public file goes unseen; what opening does not refuse, fsck finds in that file."""
    from hub.log.store import LogRefused

    choice = random.Random(7)
    names = sorted(p for p in log_folder.rglob("*") if p.is_file() and "private" not in p.parts)
    assert len(names) > 8
    for path in names:
        for _ in range(6):
            offset, bit = choice.randrange(path.stat().st_size), choice.randrange(8)
            flip(path, offset, bit)
            try:
                fault = fault_of(log_folder)
            except LogRefused:
                pass
            else:
                assert fault is not None, (path, offset, bit)
                assert fault.file == str(path.relative_to(log_folder))
            flip(path, offset, bit)
    assert fault_of(log_folder) is None
