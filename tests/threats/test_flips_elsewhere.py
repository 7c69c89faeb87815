"""Flips and cuts of what is no bundle: receipts, cosignatures, the log's files, raw samples, keys, policies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hub import cosigning
from hub.log import fsck
from hub.log.sequencer import Log
from hub.log.store import Store
from protocols.errors import ConfigurationError, Malformed, Refused, Unverified
from protocols.evidence import checkpoint, merkle, note, tiles
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.note import Note, SignerKey, VerifierKey
from protocols.evidence.policy import Trust, format
from protocols.evidence.raw import decode_piece, encode_chunk, encode_piece, verify_piece
from protocols.evidence.record import CheckpointSeen
from protocols.wire.challenge import Answer, decode_answer, encode_answer
from tests.hub.test_restored_backup import Gateway, Line, gateway
from tests.protocols.evidence.test_raw import committed
from tests.support.hub import hub_in
from tests.threats import story


def damaged(data: bytes, *, every_bit: bool = True) -> Iterator[bytes]:
    """Each single-bit flip (or one a byte, seeded), and each cut."""
    chance = random.Random(7)
    for at in range(len(data)):
        for bit in range(8) if every_bit else (chance.randrange(8),):
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
    for length in range(len(data)):
        yield data[:length]


class _Answers(Line):
    """The hub's answers as bytes, before they reach the gateway."""

    def answers(self, gw: Gateway) -> list[bytes]:
        gw.publisher._begin()
        gw.publisher._flow.hold_until_s = 0.0
        gw.publisher._send(self)  # type: ignore[arg-type]
        answers, self.waiting = self.waiting, []
        return answers


def test_no_damaged_receipt_lets_a_gateway_forget(tmp_path: Path) -> None:
    """Real hub, spool and publisher: 0 of all flips and cuts of a receipt takes the record out of the spool."""
    with hub_in(tmp_path) as hub, gateway(tmp_path / "gw") as gw:
        gw.measure(3)
        gw.exchange(hub)
        assert gw.seen == CheckpointSeen(hub.log.size, hub.log.root_at(hub.log.size))
        gw.measure(1)
        (answer,) = _Answers(hub).answers(gw)
        tried = 0
        for bad in damaged(answer):
            gw.publisher._take([bad])
            tried += 1
            assert gw.spool.depth() == 1, tried
        assert tried == 9 * len(answer)
        gw.publisher._take([answer])
        assert gw.spool.depth() == 0 and gw.publisher.log_alarm is None


def test_no_damaged_cosignature_is_published(tmp_path: Path) -> None:
    """The hub's collector: of a damaged answer of a witness nothing is taken over, or the very same signature."""
    plain = checkpoint.sign(Checkpoint(story.LOG.name, 5, merkle.root([merkle.leaf_hash(b"x")] * 5)), story.LOG)
    witness = story.WITNESSES[0]
    text = note.parse(plain).text
    genuine = witness.sign(text, 1_780_000_000)
    assert cosigning._signature(plain, genuine.line().encode(), witness.verifier) == genuine
    for bad in damaged(genuine.line().encode()):
        with pytest.raises((Malformed, Unverified)):
            cosigning._signature(plain, bad, witness.verifier)


def test_a_witness_cannot_spoil_the_checkpoint_for_the_others() -> None:
    """A hostile witness answers with an empty line and signs what then stands before it: one of three must not be
    able to make every bundle fail. Found by this file: its signature was taken over, and no verifier accepted it."""
    plain = checkpoint.sign(Checkpoint(story.LOG.name, 5, merkle.root([merkle.leaf_hash(b"x")] * 5)), story.LOG)
    witness = story.WITNESSES[0]
    longer = note.parse(plain).text + "\n" + "anything\n"
    body = b"anything\n\n" + witness.sign(longer, 1_780_000_000).line().encode()
    with pytest.raises(Unverified, match="another text"):
        cosigning._signature(plain, body, witness.verifier)


def test_a_damaged_checkpoint_is_no_checkpoint() -> None:
    """Any cut of it, and any flip but those that make a witness unknown, where the quorum holds without it."""
    cosigned = story.whole().note(story.WITNESSES)
    size = checkpoint.parse(note.parse(cosigned).text).size
    dropped = 0
    for bad in damaged(cosigned):
        try:
            found = story.POLICY.accepts(bad)
        except (Malformed, Unverified):
            continue
        # Three cosigned and two are enough: one whose name or key id is damaged counts as a stranger's.
        parsed = note.parse(bad)
        known = {(key.name, key.key_id) for _, key in story.POLICY.witnesses}
        strange = [each for each in parsed.signatures[1:] if (each.name, each.key_id) not in known]
        kept = [each for each in parsed.signatures if each not in strange]
        assert found.size == size and set(kept) < set(note.parse(cosigned).signatures)
        assert len(strange) <= 1 and len(kept) == 3
        dropped += 1
    assert dropped > 0
    two = story.whole().note(story.WITNESSES[:2])
    for bad in damaged(two):
        with pytest.raises((Malformed, Unverified)):
            story.POLICY.accepts(bad)


class _Files(Store):
    """A log's public files in memory, one of them damaged."""

    def __init__(self, folder: Path) -> None:
        self.whole = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "private" not in path.parts
        }
        self.files = dict(self.whole)

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)


def _log_files(folder: Path, batches: tuple[int, ...]) -> tuple[_Files, Checkpoint]:
    with Log.create(folder, story.LOG.name, story.LOG) as log:
        for batch in batches:
            log.append([b"%03d" % n * (1 + n % 3) for n in range(log.size, log.size + batch)])
        return _Files(folder), checkpoint.open(log.checkpoint(), story.LOG.verifier)


def _fault(files: _Files, head: Checkpoint) -> fsck.Fault | None:
    return list(fsck.check(files, head, story.LOG.verifier))[-1].fault


def _first_wrong(files: _Files, path: str, at: int) -> int:
    """Where fsck must point: at the byte of a tile, at the beginning of the entry, at the checkpoint as a whole."""
    if path == "checkpoint":
        return 0
    if not path.startswith("tile/entries"):
        return at
    start = 0
    for entry in tiles.decode_bundle(files.whole[path]):
        if at < start + 2 + len(entry):
            break
        start += 2 + len(entry)
    return start


@pytest.mark.parametrize(("batches", "step"), [((7, 4, 9), 1), ((200, 60), 13)])
def test_fsck_names_file_and_byte_of_every_flip(tmp_path: Path, batches: tuple[int, ...], step: int) -> None:
    """A small log to its last bit, with its older partial tiles; of a log with a second level each 13th byte."""
    files, head = _log_files(tmp_path / "log", batches)
    assert _fault(files, head) is None
    chance = random.Random(8)
    newest = {tile.path for tile in tiles.tiles_of(head.size)}
    for path, data in files.whole.items():
        for at in range(0, len(data), step):
            for bit in range(8) if step == 1 else (chance.randrange(8),):
                files.files[path] = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
                fault = _fault(files, head)
                assert fault is not None and fault.file == path, (path, at, bit, fault)
                # An older, narrower bundle is compared with the newest byte by byte.
                exact = at if path not in newest and path != "checkpoint" else _first_wrong(files, path, at)
                assert fault.offset == exact, (path, at, bit, fault)
        for length in range(0, len(data), step):
            files.files[path] = data[:length]
            fault = _fault(files, head)
            assert fault is not None and fault.file == path, (path, length, fault)
        files.files[path] = data
    assert _fault(files, head) is None


def test_no_damaged_piece_of_raw_samples_is_another() -> None:
    """Flips and cuts of a challenge's answer: what is accepted gives the very samples that were committed to.

    Irrelevant: the message's own number, which only puts pieces in order, and bits of the zstd frame that change
    nothing when it is unpacked, because the hash is over the plain bytes.
    """
    record, chunks, pieces = committed(3)
    answer = encode_answer(Answer(bytes(range(16)), 1, 3, encode_piece(pieces[1])))
    accepted = 0
    for bad in damaged(answer):
        try:
            piece = decode_answer(bad).piece
            assert piece is not None
            found = verify_piece(decode_piece(piece), record)
        except (Malformed, Unverified):
            continue
        accepted += 1
        assert encode_chunk(found) == encode_chunk(chunks[1])
    assert 0 < accepted < len(answer)
    for bad in damaged(encode_piece(pieces[1])):
        try:
            piece_found = decode_piece(bad)
            found = verify_piece(piece_found, record)
        except (Malformed, Unverified):
            continue
        same = replace(piece_found, compressed=pieces[1].compressed)
        assert same == pieces[1], "only within the frame"
        assert encode_chunk(found) == encode_chunk(chunks[1])


def test_no_damaged_key_is_another_key() -> None:
    """The text forms of public and private keys carry their own id: a flip or cut is found before the key is used."""
    for key in (story.LOG, story.WITNESSES[0]):
        for bad in damaged(str(key.verifier).encode()):
            with pytest.raises((Malformed, Refused)):
                VerifierKey.parse(bad.decode("utf-8", "surrogateescape"))
        for bad in damaged(key.export().encode(), every_bit=False):
            with pytest.raises((Malformed, Refused)) as caught:
                SignerKey.parse(bad.decode("utf-8", "surrogateescape"))
            assert key.export()[-20:] not in str(caught.value)


def test_no_cut_policy_is_a_weaker_policy() -> None:
    """Cut anywhere, at a line's end too, a policy is refused: the quorum stands last."""
    policy = format(story.POLICY)
    for length in range(len(policy)):
        with pytest.raises(ConfigurationError):
            Trust.parse(policy[:length])


def test_no_damaged_note_is_another_note() -> None:
    """A note's form alone (no signature asked): what parses encodes to the same bytes, so nothing hides in it."""
    cosigned = story.whole().note()
    for bad in damaged(cosigned):
        try:
            parsed = note.parse(bad)
        except Malformed:
            continue
        assert parsed.encode() == bad
    assert isinstance(note.parse(cosigned), Note)
