"""Checkpoints of c2sp.org/tlog-checkpoint: a log's signed statement of its size and root, and its cosignatures.

Decides the note's body and whether one log key signed it. Whether witnesses suffice is `policy`'s to decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import note
from protocols.evidence.merkle import HASH_LENGTH, RootHash
from protocols.evidence.note import Algorithm, Note, SignerKey, VerifierKey, decode_base64, encode_base64

# x/mod/sumdb/tlog holds sizes in int64; no log of ours comes near.
MAX_SIZE: Final = 2**63 - 1

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. The body of its note is `<origin>\\n<size, decimal>\\n<base64 root>\\n` and extension lines.

    linetally writes no extension lines, which no monitor could audit; it reads those of others.
    """

    origin: str
    size: int
    root: RootHash
    extension_lines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.origin or not all(self.extension_lines):
            raise Malformed("a checkpoint's lines are not empty")
        if any("\n" in line for line in (self.origin, *self.extension_lines)):
            raise Malformed("a checkpoint's line holds no newline")
        assert 0 <= self.size <= MAX_SIZE
        assert len(self.root) == HASH_LENGTH


def format(checkpoint: Checkpoint) -> str:
    """The note text of a checkpoint."""
    lines = (checkpoint.origin, str(checkpoint.size), encode_base64(checkpoint.root), *checkpoint.extension_lines)
    return "".join(line + "\n" for line in lines)


def parse(text: str) -> Checkpoint:
    """The inverse of `format`; says nothing about who signed. Raises `Malformed`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop():
        raise Malformed("a checkpoint has three lines or more: origin, size, root")
    origin, size, encoded_root, *extension_lines = lines
    root = decode_base64(encoded_root)
    if len(root) != HASH_LENGTH:
        raise Malformed(f"a checkpoint's root has {HASH_LENGTH} bytes, this has {len(root)}")
    return Checkpoint(origin, parse_decimal(size), RootHash(root), tuple(extension_lines))


def parse_decimal(text: str) -> int:
    """ASCII decimal without leading zeroes, 0 to 2**63 - 1. Raises `Malformed`."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise Malformed(f"not a decimal number without leading zeroes: {text[:40]!r}")
    return int(text)


def sign(checkpoint: Checkpoint, signer: SignerKey) -> bytes:
    """The checkpoint's note, signed by its log. The caller has made the head durable before (architecture: log)."""
    return note.sign(format(checkpoint), signer)


def open(data: bytes, log_key: VerifierKey) -> Checkpoint:
    """The checkpoint, if `log_key` signed it and its origin is the key's name.

    Raises `Malformed`, `Unverified`, or `Refused` with code "not-a-log-key" for a witness's key.
    """
    return of_log(note.open_note(data, _as_log_key(log_key)), log_key)


def of_log(opened: Note, log_key: VerifierKey) -> Checkpoint:
    """The checkpoint of a note that `log_key` is known to have signed. Raises `Unverified` for another origin."""
    assert log_key in opened.verified
    checkpoint = parse(opened.text)
    # tlog-policy: the key's name "MUST correspond to the log's origin line".
    if checkpoint.origin != log_key.name:
        raise Unverified(f"the key of {log_key.name} signed a checkpoint of {checkpoint.origin}")
    return checkpoint


def cosign(data: bytes, log_key: VerifierKey, witness: SignerKey, time_s: int) -> bytes:
    """The log's note with the witness's cosignature/v1 of POSIX `time_s` added, replacing an older one of it.

    The witness must have checked consistency with the newest checkpoint it cosigned; this only signs.
    """
    if witness.algorithm is not Algorithm.COSIGNATURE:
        raise Refused("not-a-witness-key", f"{witness.name} is not a cosignature key (type 0x04)")
    opened = note.open_note(data, _as_log_key(log_key))
    of_log(opened, log_key)
    fresh = witness.sign(opened.text, time_s)
    kept = [s for s in opened.signatures if (s.name, s.key_id) != (fresh.name, fresh.key_id)]
    return Note(opened.text, (*kept, fresh)).encode()


def cosigned_at(data: bytes, witness: VerifierKey) -> int:
    """The POSIX seconds of the witness's newest cosignature. Raises `Unverified` where it has none that holds."""
    if witness.algorithm is not Algorithm.COSIGNATURE:
        raise Refused("not-a-witness-key", f"{witness.name} is not a cosignature key (type 0x04)")
    opened = note.open_note(data, witness)
    parse(opened.text)
    wanted = (witness.name, witness.key_id)
    return max(note.split_cosignature(s.signature)[0] for s in opened.signatures if (s.name, s.key_id) == wanted)


def _as_log_key(key: VerifierKey) -> VerifierKey:
    if key.algorithm is not Algorithm.ED25519:
        raise Refused("not-a-log-key", f"{key.name} is not a log's key (type 0x01)")
    return key
