"""Every single bit of a bundle and of its policy, flipped, and each time the whole verdict asked.

Decides which flips there are, and what of them is irrelevant and why; the tests and the command below only count.
`python -m tests.threats.flips` flips every bit on all cores (some minutes); the tests flip one bit of every byte.

To be fast, a process remembers what pure functions gave: the form of a record, a proof or a policy by its bytes, a
signature by key, signature and message. Nothing is left out, and a test compares with verdicts that remember nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, lru_cache
from multiprocessing import get_context
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocols.errors import ConfigurationError, Unverified
from protocols.evidence import bundle as bundles
from protocols.evidence import cose, examination, keys, note, proof, rotation, swift, verify
from protocols.evidence.bundle import CHECKPOINT_FILE, MANIFEST_FILE, README_FILE, VIEWS
from protocols.evidence.policy import Revoked, Trust, format
from protocols.evidence.record import SignedRecord
from protocols.evidence.swift import SwiftHearing
from protocols.evidence.verdict import Step, Verdict
from tests.threats import story

SEED: Final = 20260601
ACCEPTED: Final = "accepted"
NOT_USED: Final = "not used"
"""A dated checkpoint whose line names no witness of the policy any more: the same as leaving it out, and it is said."""


class Kind(StrEnum):
    """What is flipped, and what the forger puts right again so that the flip reaches the checks behind it."""

    BYTES = "a bit of the file as it is"  # in transport; the ZIP's own headers can only be flipped so
    CONTENT = "a bit of a file within, and the ZIP's and the manifest's checksums made right again"
    CHECKPOINT = "a bit of the checkpoint, the same in each proof, and all checksums made right again"
    POLICY = "a bit of the policy file"


class Flip(NamedTuple):
    """Bit `bit` of byte `at` of `name` (a file within the bundle; "" is the bundle itself, or the policy)."""

    kind: Kind
    name: str
    at: int
    bit: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What is flipped: the bundle's bytes, the opened bundle, and the policy's text."""

    data: bytes
    bundle: bundles.Bundle
    policy: bytes
    manifest_at: dict[str, int]  # where in the bundle the SHA-256 of each file stands
    central_at: dict[str, int]  # where the central directory's entry of each file begins
    local_at: dict[str, int]

    def content(self, name: str) -> bytes:
        member = self.bundle.members[name]
        return self.data[member.offset : member.offset + member.size]


POLICY_COMMENT: Final = b"# The scheme's policy, published on its own site.\n"
POLICY_URL: Final = b" https://log.example.org/"


@cache
def sample() -> Sample:
    data = story.zipped(story.whole().parts())
    bundle = bundles.read(io.BytesIO(data))
    manifest = bundle.read(MANIFEST_FILE)
    start = bundle.members[MANIFEST_FILE].offset
    manifest_at, central_at, local_at = {}, {}, {}
    for name, member in bundle.members.items():
        digest = hashlib.sha256(data[member.offset : member.offset + member.size]).hexdigest().encode()
        if name != MANIFEST_FILE:
            manifest_at[name] = start + manifest.index(digest, manifest.index(f'"{name}"'.encode()))
        central_at[name] = data.rindex(name.encode()) - 46  # APPNOTE.TXT 4.3.12
        local_at[name] = data.rindex(b"PK\3\4", 0, member.offset)
    log_line = f"log {story.LOG.verifier}".encode()
    revoked = (Revoked(story.kid_of(story.KEY[story.ONE]), len(story.whole().records)),)
    policy = POLICY_COMMENT + format(replace(story.POLICY, revoked=revoked)).replace(log_line, log_line + POLICY_URL)
    return Sample(data, bundle, policy, manifest_at, central_at, local_at)


def flips(whole: bool) -> Iterator[Flip]:
    """All of them, or one bit of every byte, the same ones in each run."""
    chance = random.Random(SEED)
    made = sample()
    members = made.bundle.members
    within = {at for each in members.values() for at in range(each.offset, each.offset + each.size)}
    places = [(Kind.CONTENT, name, at) for name, each in members.items() for at in range(each.size)]
    places += [(Kind.BYTES, "", at) for at in range(len(made.data)) if at not in within]
    places += [(Kind.BYTES, "", members[n].offset + at) for n in IRRELEVANT for at in range(members[n].size)]
    places += [(Kind.CHECKPOINT, CHECKPOINT_FILE, at) for at in range(members[CHECKPOINT_FILE].size)]
    places += [(Kind.POLICY, "", at) for at in range(len(made.policy))]
    for kind, name, at in places:
        for bit in range(8) if whole else (chance.randrange(8),):
            yield Flip(kind, name, at, bit)


IRRELEVANT: Final = (README_FILE, VIEWS[0])
"""Files that no check reads but the manifest's: words for people, and a picture of the figures."""


def irrelevant(flip: Flip) -> str:
    """Why a flip may be accepted; "" for all that must be refused."""
    if flip.kind is Kind.CONTENT and flip.name in IRRELEVANT:
        return "no evidence: nothing is read from it; with the manifest left as it was it is refused (BYTES)"
    if flip.kind is Kind.POLICY:
        policy = sample().policy
        url = policy.index(POLICY_URL)
        if flip.at < len(POLICY_COMMENT) - 1:
            # Byte 0 is the #: without it the line is none that a policy has. Its newline, too, must be refused.
            return "a comment, in which nothing is read" if flip.at > 0 else ""
        if url < flip.at < url + len(POLICY_URL):
            return "the log's URL: offline nothing opens it"
    return ""


def flipped(flip: Flip) -> tuple[bytes, bytes]:
    """(bundle, policy) with the flip made."""
    made = sample()
    mask = 1 << flip.bit
    if flip.kind is Kind.POLICY:
        policy = bytearray(made.policy)
        policy[flip.at] ^= mask
        return made.data, bytes(policy)
    data = bytearray(made.data)
    if flip.kind is Kind.BYTES:
        data[flip.at] ^= mask
    else:
        names = [flip.name]
        places = [made.bundle.members[flip.name].offset + flip.at]
        if flip.kind is Kind.CHECKPOINT:
            note_bytes = made.content(CHECKPOINT_FILE)
            for name, member in made.bundle.members.items():
                if name.startswith("proofs/"):
                    names.append(name)
                    places.append(member.offset + made.content(name).index(note_bytes) + flip.at)
        for at in places:
            data[at] ^= mask
        _make_right(data, names)
    return bytes(data), made.policy


def _make_right(data: bytearray, names: Iterable[str]) -> None:
    """The manifest's hashes and the ZIP's checksums of changed files, as a forger would do it."""
    made = sample()
    for name in (*names, MANIFEST_FILE):
        member = made.bundle.members[name]
        content = data[member.offset : member.offset + member.size]
        if name != MANIFEST_FILE:
            at = made.manifest_at[name]
            data[at : at + 64] = hashlib.sha256(content).hexdigest().encode()
        crc = zlib.crc32(content).to_bytes(4, "little")
        for at in (made.local_at[name] + 14, made.central_at[name] + 16):  # APPNOTE.TXT 4.3.7, 4.3.12
            data[at : at + 4] = crc


def rewritten(changes: Mapping[str, bytes | None]) -> bytes:
    """The bundle with other contents of some files (None: without it), as `write` would have written it."""
    made = sample()
    contents: dict[str, bytes | None] = {name: made.content(name) for name in made.bundle.members}
    contents |= changes
    file = io.BytesIO()
    kept = {name: [data] for name, data in contents.items() if data is not None and name != MANIFEST_FILE}
    bundles._write_archive(kept, file)
    return file.getvalue()


def judge(data: bytes, policy: bytes, *, one_by_one: bool = True) -> Verdict | str:
    """The verdict of `linetally-verify --one-by-one`, or without it: words where already the policy cannot be used."""
    try:
        trust = _trust(policy)
    except ConfigurationError as error:
        return str(error)
    return verify.verify(io.BytesIO(data), trust, swift=None if one_by_one else SwiftHearing())


def _trust(policy: bytes) -> Trust:
    return Trust.parse(policy)


def outcome_of(flip: Flip, *, one_by_one: bool = True) -> str:
    """ACCEPTED, NOT_USED, or which check refused it. Many records at once are slower where there are few: for samples
    only."""
    verdict = judge(*flipped(flip), one_by_one=one_by_one)
    if isinstance(verdict, str):
        return "policy"
    if verdict.ok:
        bundle = sample().bundle
        dated = len(bundle.dated_files())
        without = flip.name in bundle.dated_files() and verdict.clock.dated_checkpoints == dated - 1
        return NOT_USED if without and any("not used" in note for note in verdict.notes) else ACCEPTED
    assert verdict.first_failure is not None
    return verdict.first_failure.step.name


def count(chunk: list[Flip]) -> Counter[tuple[str, str]]:
    """How often each (what was flipped, what came of it); flips that are wrong by themselves as ("wrong", repr)."""
    found: Counter[tuple[str, str]] = Counter()
    for flip in chunk:
        result = outcome_of(flip)
        reason = irrelevant(flip)
        found[flip.kind.name + (f" {_folder(flip.name)}" if flip.name else ""), result] += 1
        evidence = flip.kind in (Kind.CONTENT, Kind.CHECKPOINT) and flip.name != MANIFEST_FILE and not reason
        wrong = result == ACCEPTED and not reason  # what this is all about
        wrong |= result != ACCEPTED and flip.kind is Kind.CONTENT and bool(reason)  # then the reason is not true
        wrong |= result == Step.MANIFEST.name and evidence  # the manifest's hash stands for no check
        if wrong:
            found["wrong", repr((*flip, result))] += 1
    return found


def _folder(name: str) -> str:
    return name.split("/")[0]


def remember() -> None:
    """From here on this process asks pure functions once for each of their arguments."""
    parsed = lru_cache(4096)(SignedRecord)
    examination.SignedRecord = verify.SignedRecord = parsed  # type: ignore[misc, assignment, attr-defined]
    proof.parse = lru_cache(4096)(proof.parse)
    globals()["_trust"] = lru_cache(16)(_trust)

    @lru_cache(4096)
    def holds(public: bytes, signature: bytes, message: bytes) -> bool:
        try:
            keys.verify_signature(keys.load_public_key(public), signature, message)
        except Unverified:
            return False
        return True

    def verify_signature(public_key: Ed25519PublicKey, signature: bytes, message: bytes) -> None:
        if not holds(public_key.public_bytes_raw(), signature, message):
            raise Unverified("the Ed25519 signature does not hold")

    for module in (cose, note, rotation, swift):
        module.verify_signature = verify_signature  # type: ignore[attr-defined]


def run(whole: bool, workers: int | None = None) -> Counter[tuple[str, str]]:
    """All flips of `flips(whole)`, counted by several processes."""
    every = list(flips(whole))
    chunks = [every[at : at + 1_000] for at in range(0, len(every), 1_000)]
    total: Counter[tuple[str, str]] = Counter()
    with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn"), remember) as pool:
        for done, found in enumerate(pool.map(count, chunks), 1):
            total += found
            if sys.stderr.isatty():
                print(f"\r{done} of {len(chunks)} thousand", end="", file=sys.stderr)
    return total


def main() -> int:
    started = time.monotonic()
    total = run(whole=True)
    print(
        f"{sum(n for (what, _), n in total.items() if what != 'wrong'):,} flips in {time.monotonic() - started:.0f} s"
    )
    for (what, result), number in sorted(total.items()):
        print(f"  {what:<24} {result:<14} {number:>8,}")
    return int(any(what == "wrong" for what, _ in total))


if __name__ == "__main__":
    sys.exit(main())
