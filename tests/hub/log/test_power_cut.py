"""A power cut at any moment: what was not fsynced is lost or not, name by name, and the log still opens whole.

The disk is modelled above the file system: content counts once its file is fsynced; a name that was made, replaced
or removed counts for sure once its folder is fsynced, and by the toss of a coin before. LINETALLY_POWER_CUTS sets
how many images are tried.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.log import store
from hub.log.sequencer import Log
from protocols.evidence.note import Algorithm, SignerKey

SIGNER = SignerKey("hub.example/log", Algorithm.ED25519, bytes(range(32)))
IMAGES = int(os.environ.get("LINETALLY_POWER_CUTS", "150"))


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is name (content stands there), gone, folder, sync (a folder) or ack (`size` entries are promised)."""

    kind: str
    path: Path
    content: bytes = b""
    size: int = 0


class Disk:
    """Records what the store does to the disk, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Event] = []
        self.synced: dict[Path, bytes] = {}
        write, sync, replace, unlink, mkdir = (
            store.write_durably, store.sync_folder, Path.replace, Path.unlink, Path.mkdir,
        )  # fmt: skip

        def write_durably(path: Path, content: bytes) -> None:
            write(path, content)
            self.synced[path] = content

        def sync_folder(folder: Path) -> None:
            sync(folder)
            self.events.append(Event("sync", folder))

        def do_replace(source: Path, target: Path) -> Path:
            self.events.append(Event("name", target, self.synced.pop(source)))
            return replace(source, target)

        def do_unlink(path: Path, missing_ok: bool = False) -> None:
            unlink(path, missing_ok)
            self.events.append(Event("gone", path))

        def do_mkdir(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
            if not path.exists():
                self.events.append(Event("folder", path))
            mkdir(path, mode, parents, exist_ok)

        def rmtree(path: Path, ignore_errors: bool = False) -> None:
            self.events += [Event("gone", each) for each in path.rglob("*") if each.is_file()]
            shutil.rmtree(path, ignore_errors=ignore_errors)

        monkeypatch.setattr(store, "write_durably", write_durably)
        monkeypatch.setattr(store, "sync_folder", sync_folder)
        monkeypatch.setattr(Path, "replace", do_replace)
        monkeypatch.setattr(Path, "unlink", do_unlink)
        monkeypatch.setattr(Path, "mkdir", do_mkdir)
        monkeypatch.setattr(store, "shutil", type("shutil", (), {"rmtree": staticmethod(rmtree)}))

    def image(self, moment: int, choice: random.Random) -> tuple[dict[Path, bytes], int]:
        """The files after a power cut before event `moment`, and how many entries were acknowledged by then."""
        events = self.events[:moment]
        last_sync = {event.path: at for at, event in enumerate(events) if event.kind == "sync"}
        files: dict[Path, bytes] = {}
        lost: set[Path] = set()
        acknowledged = 0
        for at, event in enumerate(events):
            sure = last_sync.get(event.path.parent, -1) > at
            if event.kind == "ack":
                acknowledged = event.size
            elif event.kind == "folder" and not sure and choice.random() < 0.5:
                lost.add(event.path)
            elif event.kind in ("name", "gone") and (sure or choice.random() < 0.5):
                files.pop(event.path, None)
                if event.kind == "name":
                    files[event.path] = event.content
        return {path: data for path, data in files.items() if not lost.intersection(path.parents)}, acknowledged


def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path) -> None:
    choice = random.Random(3)
    folder = tmp_path / "log"
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(monkeypatch)
        with Log.create(folder, SIGNER.name, SIGNER) as log:
            created = len(disk.events)
            for size in (1, 2, 250, 1, 3, 255, 1, 600, 1, 30, 5):
                log.append([b"entry %d" % n for n in range(log.size, log.size + size)])
                disk.events.append(Event("ack", folder, size=log.size))
            final = log.size
    expected = [b"entry %d" % n for n in range(final)]
    for number in range(IMAGES):
        moment = choice.randrange(created, len(disk.events) + 1)
        files, acknowledged = disk.image(moment, choice)
        copy = tmp_path / f"image{number}"
        for path, data in files.items():
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        with Log.open(copy, SIGNER) as log:
            assert log.size >= acknowledged, f"image {number}, event {moment}"
            assert list(log.entries()) == expected[: log.size]
            assert log.append([b"entry %d" % log.size]) == range(log.size - 1, log.size)
            assert [step.fault for step in log.fsck()][-1] is None
        shutil.rmtree(copy)
