"""Every gateway is a witness: a log that shrank, forked or cannot prove itself gets no record forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from agent import log_watch
from agent.log_watch import KEPT_CHECKPOINTS, Belief, LogWatch, kept_checkpoints, read_alarm
from agent.spool import Spool
from protocols.evidence import checkpoint, merkle, note, proof
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import LeafHash
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.record import CheckpointSeen
from protocols.evidence.succession import Consistency, Succession, succession
from protocols.wire.receipt import Receipt
from tests.support.evidence import signed

LOG = SignerKey("example.org/log", Algorithm.ED25519, bytes(range(32)))
RECORD = signed()


def leaves(count: int, word: str = "entry") -> list[LeafHash]:
    """A log whose entry 0 is RECORD."""
    return [merkle.leaf_hash(RECORD.raw), *(merkle.leaf_hash(f"{word} {i}".encode()) for i in range(1, count))]


def receipt(tree: Sequence[LeafHash], *old_sizes: int) -> Receipt:
    note_bytes = checkpoint.sign(Checkpoint(LOG.name, len(tree), merkle.root(tree)), LOG)
    text = proof.format(proof.TlogProof(0, tuple(merkle.inclusion_proof(tree, 0, len(tree))), note_bytes)).decode()
    proofs = tuple(Consistency(old, tuple(merkle.consistency_proof(tree, old, len(tree)))) for old in old_sizes)
    return Receipt(RECORD.kid, RECORD.record.sequence, RECORD.hash, text, proofs)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path) as opened:
        yield opened


def judge(watch: LogWatch, spool: Spool, answer: Receipt) -> Belief:
    belief, meta, _ = watch.judge(answer, RECORD.raw)
    spool.set_meta(meta)
    return belief


def test_a_log_that_grows_and_proves_it_is_believed_and_each_checkpoint_is_kept(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    before = 0
    for size in (3, 4, 7, 8, 300):
        assert judge(watch, spool, receipt(leaves(size), *([before] if before else []))) is Belief.BELIEVED
        assert watch.seen == CheckpointSeen(size, merkle.root(leaves(size)))
        before = size
    found = kept_checkpoints(spool)
    assert [kept.size for kept in found] == [3, 4, 7, 8, 300]
    for old, new in pairwise(found):  # the chain of proofs can be shown to anybody
        head = checkpoint.open(new.note, LOG.verifier)
        assert new.proof is not None
        merkle.verify_consistency(old.size, head.size, new.proof.hashes, merkle.RootHash(old.root), head.root)
    assert LogWatch(spool, LOG.verifier).seen == watch.seen


def test_what_is_kept_is_bounded(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    for size in range(1, KEPT_CHECKPOINTS + 21):
        judge(watch, spool, receipt(leaves(size), *([size - 1] if size > 1 else [])))
    found = [kept.size for kept in kept_checkpoints(spool)]
    assert found == list(range(21, KEPT_CHECKPOINTS + 21))


def test_a_smaller_log_is_refused_and_said_after_it_was_asked_again(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    judge(watch, spool, receipt(leaves(20)))
    told = [judge(watch, spool, receipt(leaves(12))) for _ in range(log_watch.STRIKES)]
    assert told == [Belief.AGAIN] * (log_watch.STRIKES - 1) + [Belief.DISBELIEVED]
    assert watch.alarm is not None
    assert "shrank: it has 12 entries, and this gateway has verified 20" in watch.alarm
    assert "old backup" in watch.alarm
    assert watch.seen == CheckpointSeen(20, merkle.root(leaves(20)))
    # The newest data come back: the alarm ends, and is not forgotten by a restart before that.
    again = LogWatch(spool, LOG.verifier)
    assert again.alarm == watch.alarm
    assert judge(again, spool, receipt(leaves(25), 20)) is Belief.BELIEVED
    assert again.alarm is None and read_alarm(spool) is None


def test_a_receipt_that_was_only_late_is_believed(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    judge(watch, spool, receipt(leaves(5)))
    judge(watch, spool, receipt(leaves(9), 5))
    assert judge(watch, spool, receipt(leaves(5))) is Belief.BELIEVED
    assert watch.seen is not None and watch.seen.size == 9


def test_two_trees_of_one_size_are_proof_for_ever(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    judge(watch, spool, receipt(leaves(20)))
    assert judge(watch, spool, receipt(leaves(20, "other"))) is Belief.DISBELIEVED
    assert watch.alarm is not None and "TWO HISTORIES" in watch.alarm
    alarm = read_alarm(spool)
    assert alarm is not None
    one, other = (
        checkpoint.open(alarm[f"{which}_checkpoint"].encode(), LOG.verifier) for which in ("verified", "given")
    )
    assert one.size == other.size == 20 and one.root != other.root  # two signatures of the log, for anybody to check
    json.dumps(alarm)
    assert judge(watch, spool, receipt(leaves(21), 20)) is Belief.BELIEVED
    again = LogWatch(spool, LOG.verifier)
    assert judge(again, spool, receipt(leaves(25), 21)) is Belief.BELIEVED
    assert "TWO HISTORIES" in (LogWatch(spool, LOG.verifier).alarm or ""), "also after a new start"


def test_a_fork_that_has_grown_cannot_prove_itself(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    judge(watch, spool, receipt(leaves(20)))
    assert judge(watch, spool, receipt(leaves(33, "other"), 20)) is Belief.DISBELIEVED
    assert watch.alarm is not None and "does not begin with the 20" in watch.alarm


def test_without_a_proof_it_asks_again_and_then_says_so(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    judge(watch, spool, receipt(leaves(20)))
    for _ in range(log_watch.STRIKES - 1):
        assert judge(watch, spool, receipt(leaves(33), 7)) is Belief.AGAIN
    assert judge(watch, spool, receipt(leaves(33))) is Belief.DISBELIEVED
    assert watch.alarm is not None and "no proof" in watch.alarm
    assert judge(watch, spool, receipt(leaves(33), 7, 20)) is Belief.BELIEVED


def test_late_answers_among_good_ones_are_no_strikes(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    judge(watch, spool, receipt(leaves(20)))
    for _ in range(log_watch.STRIKES):
        assert judge(watch, spool, receipt(leaves(12))) is Belief.AGAIN
        assert judge(watch, spool, receipt(leaves(20))) is Belief.BELIEVED


def test_answers_to_what_is_not_awaited_are_no_strikes(spool: Spool) -> None:
    watch = LogWatch(spool, LOG.verifier)
    judge(watch, spool, receipt(leaves(20)))
    for _ in range(10):
        belief, _, _ = watch.judge(receipt(leaves(12)), RECORD.raw, awaited=False)
        assert belief is Belief.AGAIN


@pytest.mark.parametrize(
    ("seen", "new", "proofs", "expected"),
    [
        (None, leaves(3), (), Succession.GROWN),
        (CheckpointSeen(0, merkle.EMPTY_ROOT), leaves(3), (), Succession.GROWN),
        (CheckpointSeen(3, merkle.root(leaves(3))), leaves(3), (), Succession.SAME),
        (CheckpointSeen(3, bytes(32)), leaves(3), (), Succession.FORKED),
        (CheckpointSeen(4, bytes(32)), leaves(3), (), Succession.SMALLER),
        (CheckpointSeen(2, merkle.root(leaves(2))), leaves(3), (), Succession.UNPROVEN),
        (CheckpointSeen(2, merkle.root(leaves(2))), leaves(3), (2,), Succession.GROWN),
        (CheckpointSeen(2, merkle.root(leaves(2))), leaves(3), (1,), Succession.UNPROVEN),
        (CheckpointSeen(2, bytes(32)), leaves(3), (2,), Succession.BROKEN),
    ],
)  # fmt: skip
def test_succession(
    seen: CheckpointSeen | None, new: list[LeafHash], proofs: tuple[int, ...], expected: Succession
) -> None:
    head = Checkpoint(LOG.name, len(new), merkle.root(new))
    given = [Consistency(old, tuple(merkle.consistency_proof(new, old, len(new)))) for old in proofs]
    assert succession(seen, head, given) is expected
    assert note.parse(checkpoint.sign(head, LOG))
