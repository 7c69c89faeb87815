"""The witness by its specification (c2sp.org/tlog-witness): each status, and what it never does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hub import root
from hub.witness.state import KEY_FILE, LOGS_FILE, Answer, Witness
from protocols.errors import ConfigurationError, Malformed
from protocols.evidence import checkpoint, merkle, note
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import LeafHash
from protocols.evidence.note import Algorithm, SignerKey
from protocols.wire.add_checkpoint import MAX_BYTES, SIZE_TYPE, AddCheckpoint, decode, decode_size, encode

LOG = SignerKey("example.org/log", Algorithm.ED25519, bytes(range(32)))
STRANGER = SignerKey("example.org/log", Algorithm.ED25519, bytes(32))
NOW_S = 1_780_272_000


def tree(count: int, word: str = "entry") -> list[LeafHash]:
    return [merkle.leaf_hash(f"{word} {i}".encode()) for i in range(count)]


def signed(leaves: Sequence[LeafHash], signer: SignerKey = LOG, origin: str = LOG.name) -> bytes:
    return checkpoint.sign(Checkpoint(origin, len(leaves), merkle.root(leaves)), signer)


def request(old: int, leaves: Sequence[LeafHash], signer: SignerKey = LOG) -> bytes:
    return encode(old, merkle.consistency_proof(leaves, old, len(leaves)), signed(leaves, signer))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root.make_key(tmp_path / KEY_FILE, "witness.example.org/w1", Algorithm.COSIGNATURE)
    (tmp_path / LOGS_FILE).write_text(f"# logs\n{LOG.verifier}\n")
    return tmp_path


@pytest.fixture
def witness(folder: Path) -> Iterator[Witness]:
    with Witness.open(folder, lambda: NOW_S) as opened:
        yield opened


def size_of(answer: Answer) -> int:
    assert answer.status == 409 and answer.content_type == SIZE_TYPE
    return decode_size(answer.body)


def test_a_log_that_grows_is_cosigned_with_the_time(witness: Witness) -> None:
    old = 0
    for count in (1, 2, 7, 8, 300, 300):
        answer = witness.add_checkpoint(request(old, tree(count)))
        assert answer.status == 200
        cosigned = signed(tree(count)) + answer.body
        assert checkpoint.open(cosigned, LOG.verifier).size == count
        assert checkpoint.cosigned_at(cosigned, witness.signer.verifier) == NOW_S
        old = count
    assert witness.newest(LOG.name).size == 300


def test_the_old_size_must_be_the_newest_it_cosigned(witness: Witness) -> None:
    assert size_of(witness.add_checkpoint(request(3, tree(5)))) == 0
    assert witness.add_checkpoint(request(0, tree(5))).status == 200
    assert size_of(witness.add_checkpoint(request(0, tree(9)))) == 5
    assert size_of(witness.add_checkpoint(request(0, tree(3)))) == 5, "a smaller log, as after a restored backup"
    assert witness.newest(LOG.name).size == 5


def test_another_root_of_the_same_size_is_a_conflict_and_kept(witness: Witness, folder: Path) -> None:
    witness.add_checkpoint(request(0, tree(5)))
    other = encode(5, [], signed(tree(5, "other")))
    assert size_of(witness.add_checkpoint(other)) == 5
    (kept,) = (folder / "evidence").iterdir()
    assert signed(tree(5)) in kept.read_bytes() and signed(tree(5, "other")) in kept.read_bytes()


def test_a_fork_that_has_grown_is_422_and_kept(witness: Witness, folder: Path) -> None:
    witness.add_checkpoint(request(0, tree(5)))
    assert witness.add_checkpoint(request(5, tree(8, "other"))).status == 422
    assert witness.newest(LOG.name).size == 5
    assert len(list((folder / "evidence").iterdir())) == 1


def test_a_proof_where_none_belongs_is_422(witness: Witness) -> None:
    extra = [merkle.NodeHash(bytes(32))]
    assert witness.add_checkpoint(encode(0, extra, signed(tree(5)))).status == 422
    witness.add_checkpoint(request(0, tree(5)))
    assert witness.add_checkpoint(encode(5, extra, signed(tree(5)))).status == 422


def test_unknown_origin_unknown_key_and_wrong_signature(witness: Witness) -> None:
    elsewhere = SignerKey("example.org/other", Algorithm.ED25519, bytes(range(32)))
    assert witness.add_checkpoint(encode(0, [], signed(tree(2), elsewhere, elsewhere.name))).status == 404
    assert witness.add_checkpoint(request(0, tree(2), STRANGER)).status == 403
    forged = note.parse(signed(tree(2)))
    line = note.Signature(LOG.name, LOG.verifier.key_id, bytes(64)).line().encode()
    assert witness.add_checkpoint(encode(0, [], forged.text.encode() + b"\n" + line)).status == 403
    # Signatures of unknown keys beside the log's own are ignored, and not cosigned onwards.
    with_stranger = signed(tree(2)) + note.parse(signed(tree(2), STRANGER)).signatures[0].line().encode()
    assert witness.add_checkpoint(encode(0, [], with_stranger)).status == 200


GOOD = request(2, tree(5))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"old 0\n", b"old 00\n\n" + signed(tree(1)), b"old -1\n\n" + signed(tree(1)),
        b"old  1\n\n" + signed(tree(1)),
        b"0\n\n" + signed(tree(1)), b"old 0\nAAAA\n\n" + signed(tree(1)), b"old 0\n!\n\n" + signed(tree(1)),
        b"old 0\r\n\r\n" + signed(tree(1)), b"old 0\n\nno note\n", b"old 9\n\n" + signed(tree(5)),
        b"x" * (MAX_BYTES + 1),
        encode(0, [merkle.NodeHash(bytes(32))] * 64, signed(tree(5))), b"\xff\n\n" + signed(tree(1)),
    ],
)  # fmt: skip
def test_what_does_not_parse_is_400(witness: Witness, body: bytes) -> None:
    assert witness.add_checkpoint(body).status == 400
    assert witness.newest(LOG.name).size == 0


def test_decode_inverts_encode() -> None:
    found = decode(GOOD)
    assert found == AddCheckpoint(2, tuple(merkle.consistency_proof(tree(5), 2, 5)), signed(tree(5)))
    assert encode(found.old_size, found.hashes, found.checkpoint_note) == GOOD
    for body in (b"5", b"05\n", b"\n", b"5\n\n"):
        with pytest.raises(Malformed):
            decode_size(body)


def test_no_answer_to_any_changed_byte_but_a_refusal(witness: Witness) -> None:
    witness.add_checkpoint(request(0, tree(2)))
    for i in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[i] ^= 1
        answer = witness.add_checkpoint(bytes(changed))
        assert answer.status in (400, 403, 404, 409, 422), (i, answer)
    assert witness.add_checkpoint(GOOD).status == 200


def test_it_is_durable_before_it_is_cosigned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Witness.open(folder, lambda: NOW_S) as witness:
        witness.add_checkpoint(request(0, tree(5)))
        monkeypatch.setattr("hub.witness.state.replace_file", _fails)
        with pytest.raises(OSError, match="no space"):
            witness.add_checkpoint(request(5, tree(9)))
    with Witness.open(folder, lambda: NOW_S) as witness:
        assert witness.newest(LOG.name).size == 5


def _fails(*_: object) -> None:
    raise OSError("no space")


def test_two_requests_at_once_never_roll_back(witness: Witness) -> None:
    witness.add_checkpoint(request(0, tree(10)))
    answers: list[tuple[int, Answer]] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append((n, witness.add_checkpoint(request(10, tree(n))))))  # type: ignore[misc]
        for n in range(11, 31)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = [n for n, answer in answers if answer.status == 200]
    assert len(good) == 1, "of requests from one old size only one can hold"
    assert witness.newest(LOG.name).size == good[0]


def test_one_process_and_its_own_key_only(folder: Path) -> None:
    with Witness.open(folder, lambda: NOW_S), pytest.raises(ConfigurationError, match="another witness"):
        Witness.open(folder, lambda: NOW_S)
    (folder / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read"):
        Witness.open(folder, lambda: NOW_S)
    (folder / KEY_FILE).unlink()
    root.make_key(folder / KEY_FILE, "example.org/log")
    with pytest.raises(ConfigurationError, match="not a witness's"):
        Witness.open(folder, lambda: NOW_S)
