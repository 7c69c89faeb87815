"""What gateways have seen of the log and the log does not have: the sign of a restored backup, or of two histories.

Decides whether the log may go on. Each record names the newest checkpoint that its gateway had verified under the
log's own key; a log that is smaller, or had another root at that size, has lost entries it once signed for. To sign on
would make a second history, which every gateway and witness then proves against the hub: so the writer stops.

The claim is kept beside the log before anything else happens, so that a restart does not forget it; it goes when the
right files are back. A claim is only as good as its gateway: one that lies can stop the hub, is named in the alarm, and
is disbelieved by `log.disbelieve` in the configuration until it is revoked.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from hub.log.store import PRIVATE, no_failpoint, read_file, replace_file
from protocols.evidence.merkle import RootHash
from protocols.evidence.record import CheckpointSeen

FILE: Final = f"{PRIVATE}/foreseen"
_MEND: Final = (
    "Nothing is logged or receipted, gateways hold their records. Put back the newest copy of the data folder and "
    "start again; if {gateway} lies, add it to log.disbelieve in the configuration, start again and revoke it."
)


class TreeReader(Protocol):
    """What of `hub.log.sequencer.Log` is asked."""

    @property
    def size(self) -> int: ...

    @property
    def folder(self) -> Path: ...

    def root_at(self, size: int) -> RootHash: ...


class Foreseen:
    """The claims on one log. `words`: why the log must not go on; None while all is well. One thread uses it."""

    def __init__(self, log: TreeReader, disbelieved: Collection[str] = ()) -> None:
        """Reads the claim that a process before this one has kept, and drops it if the log now fulfils it."""
        self._log = log
        self._disbelieved = frozenset(disbelieved)
        self._root_at = lru_cache(maxsize=1024)(log.root_at)
        self._path = log.folder / FILE
        self.words: str | None = None
        kept = read_file(self._path)
        if kept is not None:
            gateway_id, size, root = json.loads(kept)
            self.words = self._contradiction(gateway_id, CheckpointSeen(size, bytes.fromhex(root)))
            if self.words is None:
                self._path.unlink()

    def disbelieves(self, gateway_id: str, seen: CheckpointSeen | None) -> bool:
        """Whether a record's claim is wrong and its gateway is one that nobody believes: refuse that record alone."""
        return gateway_id in self._disbelieved and seen is not None and not self._fulfilled(seen)

    def hear(self, gateway_id: str, seen: CheckpointSeen | None) -> str | None:
        """A genuine record's claim; gives `words`. Durable when it returns, where the claim is new and true to stop."""
        if self.words is None and seen is not None:
            words = self._contradiction(gateway_id, seen)
            if words is not None:
                claim = json.dumps([gateway_id, seen.size, seen.root.hex()]).encode()
                replace_file(self._path, claim, no_failpoint, "foreseen")
                self.words = words
        return self.words

    def _fulfilled(self, seen: CheckpointSeen) -> bool:
        return seen.size <= self._log.size and self._root_at(seen.size) == seen.root

    def _contradiction(self, gateway_id: str, seen: CheckpointSeen) -> str | None:
        if gateway_id in self._disbelieved or self._fulfilled(seen):
            return None
        size = self._log.size
        if seen.size > size:
            what = (
                f"The log has {size} entries, but gateway {gateway_id} has verified a checkpoint of {seen.size} under "
                "this log's key: an old backup was restored, or entries were deleted."
            )
        else:
            what = (
                f"Gateway {gateway_id} has verified another tree of {seen.size} entries under this log's key than the "
                f"log has: an old backup was restored and the log has gone on from there ({size} entries now)."
            )
        return f"{what} {_MEND.format(gateway=gateway_id)}"
