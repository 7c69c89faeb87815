"""A power cut at any moment: nothing that the spool said to be durable is lost, and the chain goes on with its key.

The disk is modelled above the file system, under SQLite: of what was written after a file's last sync each sector of
512 bytes is there or not by the toss of a coin, and the chain's head is the new one for sure only when its folder was
synced. LINETALLY_POWER_CUTS sets how many images are tried.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.chain_head import HEAD_FILE, ChainHead
from agent.clock import ManualClock
from agent.keys import KEY_FILE
from agent.seal import ClockLog, Sealer
from agent.spool import LineBatch, Spool
from agent.spool_salvage import open_or_salvage
from protocols.evidence.bodies import Heartbeat
from protocols.evidence.record import NO_PREVIOUS
from tests.agent.factory import window

IMAGES = int(os.environ.get("LINETALLY_POWER_CUTS", "150"))
KEY = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
HASH = b"\7" * 32
MINUTE = 60_000
SECTOR = 512
STEPS = 60


@dataclass(frozen=True, slots=True)
class Promise:
    """What the spool has said to be durable: so many records, receipts and amendments, and minutes of windows."""

    records: int = 0
    receipts: int = 0
    amendments: int = 0
    minutes: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: write (at `at`), size (`at` bytes), sync, gone, head (`data`, durable if `at`) or said (`promise`)."""

    kind: str
    name: str = ""
    at: int = 0
    data: bytes = b""
    promise: Promise = Promise()


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name)).name

    def _note(self, kind: str, at: int = 0, data: bytes = b"") -> None:
        self._disk.events.append(Event(kind, self._name, at, data))

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite names it
        super().xWrite(data, offset)
        self._note("write", offset, bytes(data))

    def xTruncate(self, size: int) -> None:  # noqa: N802 - SQLite names it
        super().xTruncate(size)
        self._note("size", size)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite names it
        super().xSync(flags)
        self._note("sync")


class Disk(apsw.VFS):
    """Records what SQLite does to files, in order; the default of all connections while it is there."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        super().__init__("recording", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - SQLite names it
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite names it
        super().xDelete(filename, syncdir)
        self.events.append(Event("gone", Path(filename).name))


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk, write = Disk(), ChainHead.write

    def noted(head: ChainHead, folder: Path, *, durable: bool) -> None:
        write(head, folder, durable=durable)
        disk.events.append(Event("head", HEAD_FILE, durable, (folder / HEAD_FILE).read_bytes()))

    try:
        with monkeypatch.context() as patched:
            patched.setattr(ChainHead, "write", noted)
            yield disk
    finally:
        disk.unregister()


def work(folder: Path, disk: Disk, chance: random.Random, prepare: Callable[[Spool], object]) -> list[bytes]:
    """A spool's life: windows, records, receipts, amendments and restarts. All records that were ever chained."""
    clocks = ClockLog(ManualClock(10**12), MINUTE)
    signed: list[bytes] = []
    receipts = amendments = minutes = 0
    spool = Spool.open(folder)
    prepare(spool)
    for _ in range(STEPS):
        what = chance.random()
        if what < 0.5:
            minutes += 1
            spool.commit([LineBatch("a", HASH, (window((minutes - 1) * MINUTE),), {"closed_ms": minutes * MINUTE})])
        elif what < 0.75:
            sealer = Sealer(KEY, "GW-01", "Tai Po", clocks, *spool.head())
            made = []
            for _ in range(chance.randrange(1, 4)):
                sealer, records = sealer.seal(Heartbeat(), minutes * MINUTE, minutes * MINUTE)
                made += records
            spool.append(made, [found.id for found in spool.unsealed(2**62)])
            signed += [record.raw for record in made]
        elif what < 0.9:
            upto = chance.randrange(receipts, len(signed) + 1)
            spool.receipted(range(receipts, upto), {"checkpoint_size": b"%d" % upto})
            receipts = upto
        elif what < 0.95:
            spool.queue_amendment(b"late", 0)
            amendments += 1
        else:
            spool.close()
            spool = Spool.open(folder)
            prepare(spool)
        disk.events.append(Event("said", promise=Promise(len(signed), receipts, amendments, minutes)))
    spool.close()
    return signed


def cut(events: list[Event], chance: random.Random, folder: Path) -> Promise:
    """Writes into `folder` what a disk may hold after these events; what had been promised by then."""
    synced: dict[str, bytearray] = {}
    unsynced: dict[str, list[Event]] = {}
    heads: list[bytes] = []
    promise = Promise()

    def folder_synced() -> None:
        del heads[:-1]
        for name in [name for name, changes in unsynced.items() if changes[0].kind == "gone"]:
            synced[name] = bytearray()
            del unsynced[name][0]
            if not unsynced[name]:
                del unsynced[name]

    for event in events:
        if event.kind in ("write", "size"):
            unsynced.setdefault(event.name, []).append(event)
        elif event.kind == "sync":
            changes = unsynced.pop(event.name, [])
            if event.name not in synced or (changes and changes[0].kind == "gone"):
                folder_synced()  # SQLite does so with a journal or WAL that is new
            synced[event.name] = applied(synced.get(event.name), changes, lambda: True)
        elif event.kind == "gone":  # until the folder is synced it may come back, as it was
            unsynced[event.name] = [event]
        elif event.kind == "head":
            heads.append(event.data)
            if event.at:
                folder_synced()
        else:
            promise = event.promise
    luck = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for name in synced.keys() | unsynced.keys():
        content = applied(synced.get(name), unsynced.get(name, []), lambda: chance.random() < luck)
        if content is not None:
            (folder / name).write_bytes(content)
    if heads:
        (folder / HEAD_FILE).write_bytes(chance.choice(heads))
    return promise


def applied(content: bytearray | None, events: list[Event], happens: Callable[[], bool]) -> bytearray:
    """`content` after the events, each sector of which may have come to the disk."""
    out = bytearray(content or b"")
    for event in events:
        if event.kind == "gone":
            if not happens():
                return out  # the old file is still there, and what was written later was another one
            out = bytearray()
        elif event.kind == "size":
            if happens():
                del out[event.at :]
        else:
            for first in range(0, len(event.data), SECTOR):
                if happens():
                    at, piece = event.at + first, event.data[first : first + SECTOR]
                    out.extend(bytes(max(0, at - len(out))))
                    out[at : at + len(piece)] = piece
    return out


def broken(folder: Path, promise: Promise, signed: list[bytes]) -> str:
    """Which promise an agent that starts here finds broken; "" for none."""
    spool, key = open_or_salvage(folder, KEY, 10**12)
    with spool:
        count = spool.head()[0]
        kept = spool.carry("a")
        closed_ms = 0 if kept is None else kept[1]["closed_ms"]
        sealed_ms = spool.newest_record_end_ms() or 0
        opened = spool.open_records(0, 1)
        checks = {
            "the key and the file": key is KEY and not list(folder.glob("damaged-*")),
            "records": count >= promise.records,
            "records as they were signed": [found.raw for at in range(count) if (found := spool.record(at)) is not None]
            == signed[:count],
            "receipts": (opened[0].sequence if opened else count) >= promise.receipts,
            "amendments": len(spool.amendments()) >= promise.amendments,
            "windows": closed_ms >= promise.minutes * MINUTE,
            "windows and memory go together": [each.window.start_ms for each in spool.unsealed(2**62)]
            == list(range(sealed_ms, closed_ms, MINUTE)),
        }
    return next((name for name, holds in checks.items() if not holds), "")


def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, images: int) -> list[str]:
    """What each of so many power cuts broke."""
    found = []
    lives = max(1, images // 75)
    for life in range(lives):
        folder = tmp_path / f"life-{life}"
        folder.mkdir()
        chance = random.Random(life)
        with recording(monkeypatch) as disk:
            signed = work(folder, disk, chance, lambda spool: spool._db.execute(pragma).fetchall())
        assert len(disk.events) > 100 and len(signed) > 10
        for number in range(images // lives):
            image = folder / f"image-{number}"
            image.mkdir()
            (image / KEY_FILE).write_bytes(b"the key")
            promise = cut(disk.events[: chance.randrange(len(disk.events))], chance, image)
            found.append(broken(image, promise, signed))
    return found


def test_a_power_cut_breaks_no_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few pages, so that checkpoints of the WAL come on the way.
    assert set(tried(tmp_path, monkeypatch, "PRAGMA wal_autocheckpoint = 12", IMAGES)) == {""}


def test_without_a_sync_at_each_commit_it_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the disk of this test loses what a disk may lose."""
    found = tried(tmp_path, monkeypatch, "PRAGMA synchronous = NORMAL", 40)
    assert {"the key and the file", "windows"} <= set(found) and "windows and memory go together" not in found


def test_the_head_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model takes for granted: after a power cut it is the old one or the new one, whole."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"synced {Path(f'/proc/self/fd/{descriptor}').readlink().name}")

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"{path.name} becomes {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    ChainHead(1, NO_PREVIOUS, 2, 0, 0).write(tmp_path, durable=True)
    assert done == ["synced chain.new", "chain.new becomes chain.json", f"synced {tmp_path.name}"]
