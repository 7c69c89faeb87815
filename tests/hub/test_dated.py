"""Dated checkpoints are kept once an hour, and a bundle carries those that bound its proven records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hub.dated import DatedFolder, for_bundle
from hub.log.sequencer import Log
from hub.report.reading import FolderLog
from protocols.evidence import checkpoint, dated
from protocols.evidence.dated import Dated
from protocols.evidence.merkle import NodeHash
from protocols.evidence.note import Algorithm, SignerKey
from tests.support.bundle import LOG, POLICY

WITNESS = SignerKey("witness.test/one", Algorithm.COSIGNATURE, bytes(32))
DATING = replace(POLICY, witnesses=(("one", WITNESS.verifier),))


def test_one_an_hour_and_none_twice(tmp_path: Path) -> None:
    now = 1_000_000.0
    kept = DatedFolder(tmp_path, lambda: now)
    assert kept.keep(5, b"five")
    now += 3_599
    assert not kept.keep(6, b"six")
    now += 1
    assert not kept.keep(5, b"again")
    assert kept.keep(7, b"seven")
    now -= 9_000  # the clock was set back: better one too many than none for long
    assert kept.keep(8, b"eight")
    assert {size: path.read_bytes() for size, path in kept.notes().items()} == {5: b"five", 7: b"seven", 8: b"eight"}
    assert not DatedFolder(tmp_path).keep(9, b"nine")  # a hub that starts again goes by the files


class Kept:
    """A log of 100 entries that kept every tenth."""

    def __init__(self, folder: Path) -> None:
        self.notes = {size: folder / str(size) for size in range(10, 101, 10)}
        for size, path in self.notes.items():
            path.write_bytes(str(size).encode())

    def dated(self) -> Mapping[int, Path]:
        return self.notes

    def consistency_proof(self, old_size: int, size: int) -> Sequence[NodeHash]:
        return []


def test_the_newest_before_what_was_seen_and_the_first_that_includes(tmp_path: Path) -> None:
    log = Kept(tmp_path)
    assert list(for_bundle(log, [(44, 40)], 100)) == [30, 50]
    assert list(for_bundle(log, [(40, 41)], 100)) == [40, 50]
    assert list(for_bundle(log, [(39, None)], 100)) == [40]
    assert list(for_bundle(log, [(44, 5), (95, 91)], 99)) == [50, 90]
    assert for_bundle(object(), [(44, 40)], 100) == {}


def test_a_real_log_proves_what_it_kept(tmp_path: Path) -> None:
    with Log.create(tmp_path / "log", LOG.name, LOG) as log:
        log.append([b"one", b"two"])
        note = checkpoint.cosign(log.checkpoint(), LOG.verifier, WITNESS, 1_000)
        assert DatedFolder(tmp_path / "log").keep(2, note)
        log.append([b"three"])
    folder = FolderLog(tmp_path / "log")
    found = for_bundle(folder, [(1, None)], 3)
    head = checkpoint.open(folder.checkpoint(), LOG.verifier)
    assert dated.open(found[2], DATING, head) == Dated(2, 1_000_000, 1_000_000)
