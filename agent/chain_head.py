"""Where the chain stands, in a small file beside the spool: what must not be forgotten when the spool is damaged.

Decides the file. Without it a gateway whose spool is lost could sign a second record with a sequence that it has used,
which is a fork. It is written after each record that is chained and before it can be published.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocols.evidence.record import RecordHash

HEAD_FILE: Final = "chain.json"


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The newest record, the end of its span, and up to which sequence all have receipts (-1: none).

    `before`: the newest that was surely durable; one after it may never have been, nor been published.
    """

    sequence: int
    hash: RecordHash
    end_ms: int
    receipted: int
    before: int

    def write(self, folder: Path, *, durable: bool) -> None:
        """Whole, also after a power cut; `durable`: on disk when it returns. Raises OSError."""
        data = {
            "sequence": self.sequence, "hash": self.hash.hex(), "end_ms": self.end_ms, "receipted": self.receipted,
            "before": self.before,
        }  # fmt: skip
        path = folder / HEAD_FILE
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(data).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(path)
        if not durable:
            return
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def read_head(folder: Path) -> ChainHead | None:
    """None where there is none, or it cannot be read."""
    try:
        data = json.loads((folder / HEAD_FILE).read_bytes())
        return ChainHead(
            int(data["sequence"]), RecordHash(bytes.fromhex(data["hash"])), int(data["end_ms"]),
            int(data["receipted"]), int(data["before"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
