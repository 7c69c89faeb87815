"""Durable files of a log: a batch of files is written, or the caller learns that it was not.

Decides how bytes reach the disk; knows nothing of trees or signatures. The folder holds the public files of
c2sp.org/tlog-tiles (`checkpoint`, `tile/`), which any web server may serve, and `private/` (mode 0700), which it
must not.

Durability: when `write` returns, content and names survive a power cut (write, fsync, rename, fsync the folder).
Concurrency: one writer; readers may run beside it, they see each file whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from protocols.errors import LinetallyError

PRIVATE: Final = "private"
Failpoint = Callable[[str], None]
"""Called with the name of each place where a crash is worth a test."""


def no_failpoint(name: str) -> None:
    """In production nothing happens at a failpoint."""


class LogRefused(LinetallyError):
    """The log cannot be opened or created here. `file` is the one that is wrong, relative to the log's folder."""

    def __init__(self, file: str, what: str) -> None:
        super().__init__(f"{file}: {what}")
        self.file = file
        self.what = what


class LogUnavailable(LinetallyError):
    """The batch was not logged and left no trace; the same call may succeed later (a full disk, for one)."""


class LogFailed(LinetallyError):
    """Fatal: what is on the disk is not known any more. Stop the process; opening the log again recovers."""


class Store:
    """The files below one folder; see the module for durability and concurrency."""

    def __init__(self, folder: Path, failpoint: Failpoint = no_failpoint) -> None:
        self.folder = folder
        self.failpoint = failpoint
        self._scratch = folder / PRIVATE / "tmp"
        self._folders: set[Path] = {folder}  # whose own names are known to be durable
        self._lock = -1

    def prepare(self) -> None:
        """Make the folders that every log has. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / PRIVATE).mkdir(mode=0o700, exist_ok=True)
        self._scratch.mkdir(exist_ok=True)
        for folder in (self.folder.parent, self.folder, self.folder / PRIVATE):
            sync_folder(folder)

    def lock(self) -> None:
        """Keep every other process out until `close`. Raises `LogRefused` where one is in already."""
        path = self.folder / PRIVATE / "lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise LogRefused(f"{PRIVATE}/lock", "another process has this log open") from None
        self._lock = lock
        # What a killed process left half written was never renamed to a name that anybody reads.
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(exist_ok=True)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def read(self, path: str) -> bytes | None:
        """The file's bytes, None where there is none."""
        return read_file(self.folder / path)

    def write(self, files: Sequence[tuple[str, bytes]], stage: str) -> None:
        """Make all files durable, each whole under its name, replacing older ones.

        Costs one fsync a file and one a folder. Raises `OSError` where writing failed before that (some files may
        then stand already, others not), `LogFailed` where an fsync did. Failpoints: `<stage>-written`,
        `<stage>-renamed` for each file, `<stage>-durable`.
        """
        scratch = []
        try:
            for number, (_, content) in enumerate(files):
                temporary = self._scratch / str(number)
                scratch.append(temporary)
                write_durably(temporary, content)
            self.failpoint(f"{stage}-written")
            touched: set[Path] = set()
            for temporary, (path, _) in zip(scratch, files, strict=True):
                target = self.folder / path
                self._make_folder(target.parent, touched)
                temporary.replace(target)
                touched.add(target.parent)
                self.failpoint(f"{stage}-renamed")
        except OSError:
            for temporary in scratch:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
            raise
        for folder in sorted(touched):
            sync_folder(folder)
        self.failpoint(f"{stage}-durable")

    def remove(self, path: str) -> None:
        """Remove a file, durably; nothing happens where there is none. Raises `LogFailed`."""
        target = self.folder / path
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise LogFailed(f"{path} could not be removed: {error.strerror}") from error
        sync_folder(target.parent)

    def discard(self, paths: Iterable[str]) -> None:
        """Remove files that no tree refers to; not durably, a power cut may bring them back. Raises `LogFailed`."""
        for path in paths:
            try:
                (self.folder / path).unlink(missing_ok=True)
            except OSError as error:
                raise LogFailed(f"{path} could not be removed: {error.strerror}") from error

    def drop_folder(self, path: str) -> None:
        """Remove a folder that nobody needs any more; what cannot be removed stays and does no harm."""
        shutil.rmtree(self.folder / path, ignore_errors=True)
        self._folders.discard(self.folder / path)

    def _make_folder(self, folder: Path, touched: set[Path]) -> None:
        # The parent is synced even where the folder exists: the process that made it may have been killed before.
        if folder not in self._folders:
            self._make_folder(folder.parent, touched)
            folder.mkdir(exist_ok=True)
            touched.add(folder.parent)
            self._folders.add(folder)


def read_file(path: Path) -> bytes | None:
    """The file's bytes, None where there is none. Raises `OSError` for everything else."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def replace_file(path: Path, content: bytes, failpoint: Failpoint, stage: str) -> None:
    """One durable file outside a store's scratch folder (the head may lie on another disk). Raises as `write`."""
    temporary = path.with_name(path.name + ".new")
    try:
        write_durably(temporary, content)
        failpoint(f"{stage}-written")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    failpoint(f"{stage}-durable")


def write_durably(path: Path, content: bytes) -> None:
    """Write and fsync one file. Raises `OSError` where writing fails, `LogFailed` where the fsync does."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        _sync(file, path)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `LogFailed`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(handle, folder)
    finally:
        os.close(handle)


def _sync(handle: int, path: Path) -> None:
    # After a failed fsync the kernel may have thrown the pages away and report success the next time
    # (fsyncgate, PostgreSQL 2018): never retried, always fatal.
    try:
        os.fsync(handle)
    except OSError as error:
        raise LogFailed(f"{path} could not be made durable: {error.strerror}") from error
