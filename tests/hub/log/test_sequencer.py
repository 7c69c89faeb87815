"""The log's promises: layout, order, proofs, recovery after an error at every step, and refusal of doubt."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub.log import batch as stage_file
from hub.log.sequencer import Log
from hub.log.store import LogFailed, LogRefused, LogUnavailable
from protocols.errors import Malformed, Refused
from protocols.evidence import checkpoint, merkle, proof, tiles
from protocols.evidence.note import Algorithm, SignerKey
from tests.reference import rfc6962

ORIGIN = "hub.example/log"
SIGNER = SignerKey(ORIGIN, Algorithm.ED25519, bytes(range(32)))
STEPS = [
    "stage-written", "stage-renamed", "stage-durable", "tiles-written", "tiles-renamed", "tiles-durable",
    "head-written", "head-durable", "signed", "checkpoint-written", "checkpoint-renamed", "checkpoint-durable",
    "cleaned", "done",
]  # fmt: skip


def entries_of(start: int, stop: int) -> list[bytes]:
    return [b"entry %d" % n for n in range(start, stop)]


def files_of(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("private/")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_new_log_is_empty_and_signed(folder: Path) -> None:
    with Log.create(folder, ORIGIN, SIGNER) as log:
        assert log.size == 0
        head = checkpoint.open(log.checkpoint(), SIGNER.verifier)
        assert (head.origin, head.size, head.root) == (ORIGIN, 0, merkle.EMPTY_ROOT)
        assert list(log.entries()) == []
        assert files_of(folder) == {"checkpoint"}
        assert (folder / "private").stat().st_mode & 0o777 == 0o700
    with pytest.raises(LogRefused, match="a log already"):
        Log.create(folder, ORIGIN, SIGNER)


def test_batches_of_any_size_give_the_layout_and_the_proofs(folder: Path) -> None:
    written: list[bytes] = []
    sizes = [1, 1, 3, 250, 1, 1, 255, 256, 257, 0, 700, 1]
    with Log.create(folder, ORIGIN, SIGNER) as log:
        heads = [checkpoint.open(log.checkpoint(), SIGNER.verifier)]
        for size in sizes:
            fresh = entries_of(len(written), len(written) + size)
            assert log.append(fresh) == range(len(written), len(written) + size)
            written += fresh
            heads.append(checkpoint.open(log.checkpoint(), SIGNER.verifier))
            assert (folder / "checkpoint").read_bytes() == log.checkpoint()
            assert heads[-1].root == rfc6962.mth(written)
            # "Logs MUST serve partial tiles corresponding to tree sizes for which a checkpoint was produced".
            for tile in tiles.tiles_of(len(written)):
                assert (folder / tile.path).is_file()
        assert list(log.entries()) == written
        assert list(log.entries(255, 258)) == written[255:258]
        for index in (0, 1, 255, 256, 512, 1000, len(written) - 1):
            assert log.entry(index) == written[index]
            leaf = merkle.leaf_hash(written[index])
            assert proof.verify(log.proof(index), leaf, SIGNER.verifier) == heads[-1]
            for head in heads:
                if index < head.size:
                    path = log.inclusion_proof(index, head.size)
                    merkle.verify_inclusion(leaf, index, head.size, path, head.root)
        for old in heads:
            for new in heads:
                if old.size <= new.size:
                    path = log.consistency_proof(old.size, new.size)
                    merkle.verify_consistency(old.size, new.size, path, old.root, new.root)
        for wrong in (-1, len(written)):
            with pytest.raises(IndexError):
                log.entry(wrong)
            with pytest.raises(IndexError):
                log.inclusion_proof(wrong)
        with pytest.raises(IndexError):
            log.consistency_proof(0, len(written) + 1)
        size = len(written)
        # Partial tiles go once the full one is there; what is left is the tree's own and the last tile's past.
        left = {path for path in files_of(folder) if ".p/" in path}
        assert {tiles.parse_path(path).index for path in left if "/entries/" in path or "/0/" in path} == {size // 256}
    with Log.open(folder, SIGNER) as again:
        assert again.size == size
        assert list(again.entries()) == written
        assert again.append([b"next"]) == range(size, size + 1)


def test_reading_beside_appending(folder: Path) -> None:
    """Each proof that a reader gets holds under the checkpoint it came with, whatever the writer does."""
    with Log.create(folder, ORIGIN, SIGNER) as log:
        log.append(entries_of(0, 10))
        done = threading.Event()

        def read() -> int:
            choice, proofs = random.Random(1), 0
            while not done.is_set():
                index = choice.randrange(log.size)
                assert log.entry(index) == b"entry %d" % index
                proof.verify(log.proof(index), merkle.leaf_hash(b"entry %d" % index), SIGNER.verifier)
                proofs += 1
            return proofs

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                while log.size < 1200 and not any(reader.done() for reader in readers):
                    log.append(entries_of(log.size, log.size + 37))
            finally:
                done.set()
            assert all(reader.result() > 0 for reader in readers)


def test_entries_too_long_and_empty(folder: Path) -> None:
    with Log.create(folder, ORIGIN, SIGNER) as log:
        with pytest.raises(Refused):
            log.append([b"ok", bytes(65_536)])
        assert log.size == 0
        assert log.append([]) == range(0)
        assert log.append([bytes(65_535), b""]) == range(2)
        assert list(log.entries()) == [bytes(65_535), b""]


class Stop(Exception):
    """Stands for the end of the process at a failpoint."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("before", "fresh"), [(0, 1), (250, 5), (250, 6), (255, 600), (512, 3)])
def test_a_stop_at_every_step_is_recovered(folder: Path, step: str, before: int, fresh: int) -> None:
    armed = False

    def failpoint(name: str) -> None:
        if armed and name == step:
            raise Stop

    with Log.create(folder, ORIGIN, SIGNER, failpoint=failpoint) as log:
        log.append(entries_of(0, before))
        armed = True
        with pytest.raises(Stop):
            log.append(entries_of(before, before + fresh))
        armed = False
        with pytest.raises(LogFailed):
            log.append([b"the log must be opened again first"])
    with Log.open(folder, SIGNER) as log:
        staged = step not in ("stage-written",)
        assert log.size == before + (fresh if staged else 0)
        assert list(log.entries()) == entries_of(0, log.size)
        assert not (folder / "private/stage").exists()
        head = checkpoint.open((folder / "checkpoint").read_bytes(), SIGNER.verifier)
        assert head.size == log.size
        assert log.append([b"after"]) == range(head.size, head.size + 1)
        assert [s.fault for s in log.fsck()][-1] is None


@pytest.mark.parametrize("step", ["stage-written", "stage-renamed", "tiles-written", "tiles-renamed", "head-written"])
def test_a_full_disk_leaves_no_trace_and_the_log_goes_on(folder: Path, step: str) -> None:
    full = False

    def failpoint(name: str) -> None:
        if full and name == step:
            raise OSError(errno.ENOSPC, "No space left on device")

    with Log.create(folder, ORIGIN, SIGNER, failpoint=failpoint) as log:
        log.append(entries_of(0, 254))
        full = True
        with pytest.raises(LogUnavailable, match="No space left"):
            log.append([b"lost 1", b"lost 2", b"lost 3"])
        full = False
        assert log.append(entries_of(254, 300)) == range(254, 300)
        assert list(log.entries()) == entries_of(0, 300)
        assert [s.fault for s in log.fsck()][-1] is None
    with Log.open(folder, SIGNER) as log:
        assert list(log.entries()) == entries_of(0, 300)


def test_a_failed_fsync_is_fatal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Log.create(folder, ORIGIN, SIGNER) as log:
        log.append([b"entry 0"])

        def fail(handle: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises(LogFailed, match="Input/output error"):
                log.append([b"entry 1"])
        with pytest.raises(LogFailed):
            log.append([b"entry 1"])
        assert log.size == 1
    with Log.open(folder, SIGNER) as log:
        assert list(log.entries()) == entries_of(0, log.size)


def test_a_batch_of_a_thousand_costs_a_handful_of_fsyncs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0
    real = os.fsync

    def count(handle: int) -> None:
        nonlocal counted
        counted += 1
        real(handle)

    with Log.create(folder, ORIGIN, SIGNER) as log:
        log.append(entries_of(0, 1000))
        monkeypatch.setattr(os, "fsync", count)
        log.append(entries_of(1000, 2000))
        assert counted <= 35
        counted = 0
        log.append(entries_of(2000, 2001))
        assert counted <= 15


def test_one_process_at_a_time(folder: Path) -> None:
    with Log.create(folder, ORIGIN, SIGNER) as log:
        with pytest.raises(LogRefused, match="another process"):
            Log.open(folder, SIGNER)
        log.append([b"a"])
    with pytest.raises(LogFailed, match="closed"):
        log.append([b"b"])
    Log.open(folder, SIGNER).close()


def test_a_head_that_somebody_else_moved_is_not_signed(folder: Path) -> None:
    with Log.create(folder, ORIGIN, SIGNER) as log:
        log.append([b"a"])
        before = log.checkpoint()
        (folder / "private/head").write_bytes(
            stage_file.encode_head(checkpoint.Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT))
        )
        with pytest.raises(LogFailed, match="changed by somebody else"):
            log.append([b"b"])
        assert (folder / "checkpoint").read_bytes() == before


@pytest.fixture
def grown(folder: Path) -> Path:
    """A log of 700 entries; `tmp/old` is a backup of it at 300."""
    with Log.create(folder, ORIGIN, SIGNER) as log:
        log.append(entries_of(0, 300))
    shutil.copytree(folder, folder.parent / "old")
    with Log.open(folder, SIGNER) as log:
        log.append(entries_of(300, 700))
    return folder


@pytest.mark.parametrize("path", ["tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/002.p/188"])
def test_a_missing_or_changed_edge_is_refused(grown: Path, path: str) -> None:
    good = (grown / path).read_bytes()
    (grown / path).unlink()
    with pytest.raises(LogRefused, match="missing"):
        Log.open(grown, SIGNER)
    for bad in (good[:-1], good + b"\0", good[:-1] + bytes([good[-1] ^ 1])):
        (grown / path).write_bytes(bad)
        with pytest.raises(LogRefused):
            Log.open(grown, SIGNER)
    (grown / path).write_bytes(good)
    Log.open(grown, SIGNER).close()


def test_old_tiles_under_a_new_head_are_refused(grown: Path) -> None:
    shutil.rmtree(grown / "tile")
    shutil.copytree(grown.parent / "old/tile", grown / "tile")
    with pytest.raises(LogRefused, match="missing"):
        Log.open(grown, SIGNER)


def test_an_old_head_under_a_new_checkpoint_is_refused(grown: Path) -> None:
    shutil.copy(grown.parent / "old/private/head", grown / "private/head")
    with pytest.raises(LogRefused, match="old backup was restored"):
        Log.open(grown, SIGNER)


def test_a_whole_old_backup_is_refused_when_the_head_lies_elsewhere(tmp_path: Path) -> None:
    folder, head = tmp_path / "log", tmp_path / "elsewhere"
    with Log.create(folder, ORIGIN, SIGNER, head_path=head) as log:
        log.append(entries_of(0, 300))
    shutil.copytree(folder, tmp_path / "old")
    with Log.open(folder, SIGNER, head_path=head) as log:
        log.append(entries_of(300, 400))
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "old", folder)
    with pytest.raises(LogRefused):
        Log.open(folder, SIGNER, head_path=head)


def test_a_lost_or_old_checkpoint_is_published_again_and_a_foreign_one_refused(grown: Path) -> None:
    newest = (grown / "checkpoint").read_bytes()
    (grown / "checkpoint").unlink()
    Log.open(grown, SIGNER).close()
    assert (grown / "checkpoint").read_bytes() == newest
    shutil.copy(grown.parent / "old/checkpoint", grown / "checkpoint")
    Log.open(grown, SIGNER).close()
    assert (grown / "checkpoint").read_bytes() == newest
    fork = checkpoint.Checkpoint(ORIGIN, 300, merkle.RootHash(bytes(32)))
    foreign = SignerKey(ORIGIN, Algorithm.ED25519, bytes(32))
    for bad in (checkpoint.sign(fork, SIGNER), checkpoint.sign(fork, foreign), b"", newest[:-2]):
        (grown / "checkpoint").write_bytes(bad)
        with pytest.raises(LogRefused, match="checkpoint"):
            Log.open(grown, SIGNER)


def test_a_lost_or_damaged_head_is_refused(grown: Path) -> None:
    head = grown / "private/head"
    good = head.read_bytes()
    for bad in (b"", good[:-1], good.replace(b"700", b"699"), good.replace(b"/v1", b"/v9"), b"\xff" + good):
        head.write_bytes(bad)
        with pytest.raises(LogRefused):
            Log.open(grown, SIGNER)
    head.unlink()
    with pytest.raises(LogRefused, match="lost"):
        Log.open(grown, SIGNER)
    with pytest.raises(LogRefused, match="a log already"):
        Log.create(grown, ORIGIN, SIGNER)


def test_another_key_or_origin_is_refused(grown: Path) -> None:
    with pytest.raises(LogRefused):
        Log.open(grown, SignerKey("other.example/log", Algorithm.ED25519, bytes(32)))
    with pytest.raises(LogRefused, match="checkpoint"):
        Log.open(grown, SignerKey(ORIGIN, Algorithm.ED25519, bytes(32)))
    with pytest.raises(LogRefused):
        Log.create(grown.parent / "new", "x.example", SIGNER)
    assert not (grown.parent / "new").exists()


def test_a_damaged_stage_is_dropped_and_a_foreign_one_refused(grown: Path) -> None:
    old = stage_file.decode_head((grown.parent / "old/private/head").read_bytes())
    head = stage_file.decode_head((grown / "private/head").read_bytes())
    data = stage_file.encode_batch(stage_file.Batch(head, (b"staged",)))
    for bad in (b"", data[:-1], data[:30], data.replace(b"staged", b"stagee")):
        (grown / "private/stage").write_bytes(bad)
        with Log.open(grown, SIGNER) as log:
            assert log.size == 700
    done = stage_file.Batch(old, tuple(entries_of(300, 700)))  # a stage that was cleaned up, then came back
    (grown / "private/stage").write_bytes(stage_file.encode_batch(done))
    with Log.open(grown, SIGNER) as log:
        assert list(log.entries()) == entries_of(0, 700)
    ahead = stage_file.Batch(checkpoint.Checkpoint(ORIGIN, 800, merkle.RootHash(bytes(32))), (b"x",))
    (grown / "private/stage").write_bytes(stage_file.encode_batch(ahead))
    with pytest.raises(LogRefused, match="stage"):
        Log.open(grown, SIGNER)
    (grown / "private/stage").write_bytes(data)
    with Log.open(grown, SIGNER) as log:
        assert (log.size, log.entry(700)) == (701, b"staged")


def test_stage_and_head_are_inverse() -> None:
    head = checkpoint.Checkpoint(ORIGIN, 3, merkle.RootHash(bytes(32)))
    for entries in ((), (b"",), (b"a\n\nb", bytes(1000))):
        staged = stage_file.Batch(head, entries)
        assert stage_file.decode_batch(stage_file.encode_batch(staged)) == staged
    assert stage_file.decode_head(stage_file.encode_head(head)) == head
    with pytest.raises(Malformed):
        stage_file.decode_batch(b"linetally-stage")
