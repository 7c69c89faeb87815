"""The log: entries get their index, the tree grows, its head is promised, signed and published, in this order.

Decides the order of the steps and what a crash between any two of them means:

    stage      the batch is durable beside the log; nobody has seen an index yet
    tiles      the new tiles and bundles are durable; a tree beyond the head, which nothing vouches for
    head       compare-and-swap: from here on these entries have these indexes for ever
    sign       only now, so that a signed head is never ahead of the stored one
    publish    `checkpoint` is replaced; `append` may return
    clean up   partial tiles that a full one replaced, then the stage

Opening a log runs the same steps for a stage that it finds, so an index, once given, is never given again. A log
whose files contradict its head (a backup that was restored, a lost tile) is refused: signing on could show two
histories under one key.

Longer than most modules, because the steps and their recovery must be read together.

Durability: when `append` returns, entries and checkpoint survive a power cut. Concurrency: one process (flock);
inside it any thread may call anything; appends are serialized, readers never wait for them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hub.log import batch as stage_file
from hub.log import fsck
from hub.log.batch import Batch
from hub.log.proofs import proof_texts
from hub.log.reader import Reader
from hub.log.store import (
    PRIVATE,
    Failpoint,
    LogFailed,
    LogRefused,
    LogUnavailable,
    Store,
    no_failpoint,
    read_file,
    replace_file,
)
from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import checkpoint, merkle, tiles
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import EMPTY_ROOT, NodeHash, RootHash
from protocols.evidence.note import SignerKey
from protocols.evidence.proof import TlogProof
from protocols.evidence.tiles import ENTRIES_LEVEL, MAX_ENTRY_BYTES, TILE_WIDTH, Edge, Tile

CHECKPOINT: Final = "checkpoint"
STAGE: Final = f"{PRIVATE}/stage"
HEAD: Final = f"{PRIVATE}/head"


@dataclass(frozen=True, slots=True)
class _State:
    """What readers see, replaced as a whole: the tree's edge, the last partial bundle's bytes, the signed note."""

    edge: Edge
    tail: bytes
    note: bytes


class Log:
    """A transparency log in the layout of c2sp.org/tlog-tiles; see the module for its promises."""

    def __init__(self, store: Store, signer: SignerKey, head_path: Path, head: Checkpoint) -> None:
        """Use `create` or `open`."""
        self.origin = head.origin
        self._store = store
        self._signer = signer
        self._head_path = head_path
        self._head = head
        self._append_lock = threading.Lock()
        self._failed: str | None = None
        self._reader = Reader(store)
        self._state = _State(*self._reader.edge(head), b"")

    @classmethod
    def create(
        cls,
        folder: Path,
        origin: str,
        signer: SignerKey,
        *,
        head_path: Path | None = None,
        failpoint: Failpoint = no_failpoint,
    ) -> Log:
        """A new empty log with its signed checkpoint. Raises `LogRefused` where one is, `Malformed` for the origin.

        `head_path` puts the head somewhere else, at best on another disk: then a log restored from an old backup
        is noticed even when all its files agree with each other.
        """
        store = Store(folder, failpoint)
        path = head_path or folder / HEAD
        if path.exists() or any((folder / name).exists() for name in (CHECKPOINT, "tile")):
            raise LogRefused(str(path), "there is a log already; open it, or choose an empty folder")
        head = Checkpoint(origin, 0, EMPTY_ROOT)
        _check_signer(signer, origin)
        store.prepare()
        store.lock()
        try:
            replace_file(path, stage_file.encode_head(head), failpoint, "create")
        finally:
            store.close()
        return cls.open(folder, signer, head_path=head_path, failpoint=failpoint)

    @classmethod
    def open(
        cls,
        folder: Path,
        signer: SignerKey,
        *,
        head_path: Path | None = None,
        failpoint: Failpoint = no_failpoint,
    ) -> Log:
        """The log in `folder`, recovered. Raises `LogRefused` where files and head contradict each other."""
        path = head_path or folder / HEAD
        store = Store(folder, failpoint)
        data = read_file(path)
        if data is None:
            raise LogRefused(str(path), "there is no log here, or its head is lost")
        store.prepare()
        store.lock()
        try:
            try:
                # Read again under the lock: the process that had it may just have moved the head.
                head = stage_file.decode_head(read_file(path) or b"")
            except Malformed as error:
                raise LogRefused(str(path), str(error)) from None
            _check_signer(signer, head.origin)
            log = cls(store, signer, path, head)
            log._recover()
        except BaseException:
            store.close()
            raise
        return log

    def close(self) -> None:
        """Let another process open the log. Appending afterwards raises `LogFailed`."""
        with self._append_lock:
            self._failed = self._failed or "the log is closed"
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        return self._state.edge.size

    @property
    def folder(self) -> Path:
        return self._store.folder

    def checkpoint(self) -> bytes:
        """The published checkpoint, a signed note."""
        return self._state.note

    def append(self, entries: Sequence[bytes]) -> range:
        """Log a batch; returns its indexes, in order, when all of it is durable, integrated and signed.

        A batch costs some 15 to 30 fsyncs, whether of one entry or of a thousand. Raises `Refused` for an entry
        over 65,535 bytes, `LogUnavailable` where nothing was logged and a later call may succeed, `LogFailed`
        where the process must stop and open the log again (the batch may then be in the log or not).
        """
        for entry in entries:
            if len(entry) > MAX_ENTRY_BYTES:
                raise Refused("entry-too-long", f"an entry has {len(entry)} bytes; at most {MAX_ENTRY_BYTES} fit")
        with self._append_lock:
            if self._failed is not None:
                raise LogFailed(self._failed)
            batch = Batch(self._head, tuple(entries))
            if not entries:
                return range(batch.end, batch.end)
            try:
                try:
                    self._store.write([(STAGE, stage_file.encode_batch(batch))], "stage")
                    grown = self._write_tiles(batch)
                    self._swap_head(grown.edge)
                except OSError as error:
                    # The head was not moved, so nothing has promised these indexes: the tiles beyond it go, and
                    # the stage last, so that a crash in between still finds it.
                    self._store.discard(tile.path for tile in tiles.tiles_changed(batch.before.size, batch.end))
                    self._store.remove(STAGE)
                    raise LogUnavailable(f"the batch was not logged: {error.strerror}") from error
                self._publish(grown)
                self._clean_up(batch)
            except LogUnavailable:
                raise
            except BaseException as error:
                self._failed = f"the log stopped at size {self.size} and must be opened again: {error}"
                raise
            return range(batch.before.size, batch.end)

    def entry(self, index: int) -> bytes:
        """Raises `IndexError` past the published size."""
        return next(self.entries(index, index + 1))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The entries of [start, stop), a bundle in memory at a time. Raises `IndexError` past the size."""
        size = self.size
        stop = size if stop is None else stop
        if not 0 <= start <= stop <= size:
            raise IndexError(f"no entries [{start}, {stop}) in a log of {size}")
        return self._reader.entries(start, stop, size)

    def inclusion_proof(self, index: int, size: int | None = None) -> list[NodeHash]:
        """The path of entry `index` in the tree of `size` (default: the published one). Raises `IndexError`."""
        size, hashes = self._tree(size)
        return merkle.inclusion_proof(hashes, index, size)

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[NodeHash]:
        """That the tree of `size` begins with the one of `old_size`. Raises `IndexError`."""
        size, hashes = self._tree(size)
        return merkle.consistency_proof(hashes, old_size, size)

    def root_at(self, size: int) -> RootHash:
        """The root that the tree had at `size`. Raises `IndexError` past the published size."""
        _, hashes = self._tree(size)
        return RootHash(merkle.subtree_root(hashes, 0, size)) if size else EMPTY_ROOT

    def proof(self, index: int) -> TlogProof:
        """The receipt of entry `index` against the checkpoint published now. Raises `IndexError`."""
        state = self._state
        path = merkle.inclusion_proof(self._reader.hashes(state.edge.size), index, state.edge.size)
        return TlogProof(index, tuple(path), state.note)

    def proof_texts(self, indices: Sequence[int]) -> dict[int, bytes]:
        """`proof` of many entries (ascending), as text by index, all against one checkpoint. Raises `IndexError`."""
        state = self._state
        return proof_texts(self._reader.hashes(state.edge.size), state.edge.size, indices, state.note)

    def _tree(self, size: int | None) -> tuple[int, merkle.HashReader]:
        published = self.size
        if size is not None and not 0 <= size <= published:
            raise IndexError(f"no tree of {size} in a log of {published}")
        return published if size is None else size, self._reader.hashes(published)

    def fsck(self) -> Iterator[fsck.Step]:
        """Read everything and compute the tree again; ends after the last entry or at the first wrong byte."""
        state = self._state
        head = Checkpoint(self.origin, state.edge.size, state.edge.root())
        return fsck.check(self._store, head, self._signer.verifier)

    # What a batch goes through, in this order; recovery enters at the step the crash had reached.

    def _write_tiles(self, batch: Batch) -> _State:
        """Make the batch's tiles and bundles durable; nothing refers to them yet."""
        state = self._state
        edge, changed = state.edge.grow([merkle.leaf_hash(entry) for entry in batch.entries])
        files = [(tile.path, content) for tile, content in changed]
        tail, size, at = state.tail, batch.before.size, 0
        while at < len(batch.entries):
            index, width = divmod(size + at, TILE_WIDTH)
            fresh = batch.entries[at : at + TILE_WIDTH - width]
            at += len(fresh)
            tail += tiles.encode_bundle(fresh)
            bundle = Tile(ENTRIES_LEVEL, index, width + len(fresh))
            files.append((bundle.path, tail))
            if bundle.full:
                tail = b""
        self._store.write(files, "tiles")
        return _State(edge, tail, b"")

    def _swap_head(self, edge: Edge) -> None:
        """Compare-and-swap the stored head; raises `LogFailed` where it is not the one this log stands on.

        An `OSError` means that the head was not moved.
        """
        if read_file(self._head_path) != stage_file.encode_head(self._head):
            raise LogFailed("the stored head was changed by somebody else; nothing was signed")
        head = Checkpoint(self.origin, edge.size, edge.root())
        replace_file(self._head_path, stage_file.encode_head(head), self._store.failpoint, "head")
        self._head = head

    def _publish(self, state: _State) -> None:
        """Sign the stored head, replace `checkpoint`, and only then show readers the new tree."""
        assert state.edge.size == self._head.size
        note = checkpoint.sign(self._head, self._signer)
        self._store.failpoint("signed")
        try:
            self._store.write([(CHECKPOINT, note)], "checkpoint")
        except OSError as error:
            raise LogFailed(f"the checkpoint could not be published: {error.strerror}") from error
        self._state = _State(state.edge, state.tail, note)

    def _clean_up(self, batch: Batch) -> None:
        """Remove the partial tiles that a full one replaced (tlog-tiles allows it), then the stage."""
        for tile in (*tiles.edge_tiles(batch.before.size), *_edge_bundle(batch.before.size)):
            if tile is not None and tiles.width_at(tile.level, tile.index, batch.end) == TILE_WIDTH:
                self._store.drop_folder(Tile(tile.level, tile.index).path + ".p")
        self._store.failpoint("cleaned")
        self._store.remove(STAGE)
        self._store.failpoint("done")

    def _recover(self) -> None:
        """Bring the files of an interrupted `append` to its end."""
        published = self._check_published()
        data = self._store.read(STAGE)
        try:
            batch = None if data is None else stage_file.decode_batch(data)
        except Malformed:
            # Nothing of a stage is acknowledged before the head has moved, and the head's tree is whole.
            self._store.remove(STAGE)
            batch = None
        if batch is None:
            if published is None or published.size != self.size:
                self._publish(self._state)
            return
        if batch.before != self._head and batch.end > self.size:
            raise LogRefused(STAGE, f"continues a tree that the head (size {self.size}) does not know")
        try:
            state = self._state
            if batch.before == self._head:
                state = self._write_tiles(batch)
                self._swap_head(state.edge)
            self._publish(state)
            self._clean_up(batch)
        except OSError as error:
            raise LogUnavailable(f"the log could not finish its last batch: {error.strerror}") from error

    def _check_published(self) -> Checkpoint | None:
        """The published checkpoint, if there is one; `LogRefused` where the tree does not begin with it."""
        data = self._store.read(CHECKPOINT)
        if data is None:
            return None
        try:
            found = checkpoint.open(data, self._signer.verifier)
        except (Malformed, Unverified) as error:
            raise LogRefused(CHECKPOINT, str(error)) from None
        if found.size > self.size:
            raise LogRefused(
                str(self._head_path),
                f"the head has size {self.size}, but a checkpoint of size {found.size} was signed: "
                "an old backup was restored; restore the newest one instead",
            )
        if (
            merkle.subtree_root(self._reader.hashes(self.size), 0, found.size) if found.size else EMPTY_ROOT
        ) != found.root:
            raise LogRefused(CHECKPOINT, f"the tree does not begin with the checkpoint of size {found.size}")
        self._state = _State(self._state.edge, self._state.tail, data)
        return found


def _edge_bundle(size: int) -> list[Tile]:
    index, width = divmod(size, TILE_WIDTH)
    return [Tile(ENTRIES_LEVEL, index, width)] if width else []


def _check_signer(signer: SignerKey, origin: str) -> None:
    # tlog-checkpoint: "The log's key name in its signature line SHOULD match the origin line."
    if signer.name != origin:
        raise LogRefused(HEAD, f"the log is {origin}, the key is of {signer.name}")
