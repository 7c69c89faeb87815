"""No flipped bit of a bundle or its policy is accepted; what is irrelevant is listed with the reason, and counted."""

from __future__ import annotations

import io
import os
import random
from collections import Counter

import pytest

from protocols.errors import Malformed, Unverified
from protocols.evidence.record import ROOT_TYPES, RecordType, SignedRecord
from protocols.evidence.verdict import Result, Step
from protocols.evidence.verify import verify
from tests.threats import flips, story
from tests.threats.flips import ACCEPTED, IRRELEVANT

WHOLE = bool(os.environ.get("LINETALLY_ALL_FLIPS"))
NOT_IN_A_BUNDLE = frozenset({RecordType.AUDIT})
"""An auditor's records stand in the log, in a chain of his own, and no report's bundle has that."""


def test_the_sample_is_genuine_and_complete() -> None:
    journal = story.whole()
    verdict = verify(io.BytesIO(flips.sample().data), story.TRUST)
    assert verdict.ok, verdict.first_failure
    assert [check.result for check in verdict.checks] == [Result.PASSED] * len(Step)
    said = {record.record.type for record in journal.records}
    assert set(RecordType) - NOT_IN_A_BUNDLE == said, "add the new type to story.py"
    assert said & ROOT_TYPES == ROOT_TYPES
    assert len(journal.chains()) == 3 and len({record.issuer for record in journal.records}) == 3
    assert len({name.split("/")[0] for name in flips.sample().bundle.members}) == 9
    assert verdict.figures is not None and len(verdict.figures["amendments"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(7200 if WHOLE else 400)
def test_every_flipped_bit_is_refused() -> None:
    """One bit of every byte; with LINETALLY_ALL_FLIPS=1 all eight (300,000 flips, some ten minutes on two cores)."""
    total = flips.run(WHOLE)
    assert not [(what, result) for what, result in total if what == "wrong"]
    accepted = {what for what, result in total if result == ACCEPTED}
    assert accepted == {*(f"CONTENT {name}" for name in IRRELEVANT), "POLICY"}
    # Each check that a flip can reach has refused some: the flips did not all end at the same door.
    refused = Counter(result for _, result in total)
    assert {"BUNDLE", "LOG", "ROOT", "RECORDS", "INCLUSION", "PLAN", "FIGURES", "MANIFEST", "policy"} <= set(refused)
    made = sum(total.values())
    sample = flips.sample()
    inside = sum(member.size for member in sample.bundle.members.values())
    twice = sum(sample.bundle.members[name].size for name in (*IRRELEVANT, "checkpoint"))
    frame = len(sample.data) - inside
    assert made == (8 if WHOLE else 1) * (inside + frame + twice + len(sample.policy)), "nothing was skipped"


def test_remembering_changes_no_verdict_and_many_at_once_neither() -> None:
    """What is remembered of pure functions is what these give; and many records at once are judged as one by one."""
    every = list(flips.flips(whole=True))
    chance = random.Random(4)
    some = chance.sample(every, 60) + chance.sample([flip for flip in every if flip.name.startswith("records")], 60)
    with flips.ProcessPoolExecutor(1, flips.get_context("spawn"), flips.remember) as pool:
        remembered = list(pool.map(flips.outcome_of, some, chunksize=60))
    assert remembered == [flips.outcome_of(flip) for flip in some]
    assert remembered == [flips.outcome_of(flip, one_by_one=False) for flip in some]


def test_every_record_alone_is_checked_to_its_last_bit() -> None:
    """Form and signature of each record of the sample, without the chain and the proofs behind them."""
    chance = random.Random(5)
    keys = {story.kid_of(key): key.public_key() for key in (*story.KEY.values(), story.NEW_KEY, story.ROOT_KEY)}
    for record in story.whole().records:
        for at in range(len(record.raw)):
            changed = bytearray(record.raw)
            changed[at] ^= 1 << chance.randrange(8)
            with pytest.raises((Unverified, Malformed)):
                SignedRecord(bytes(changed)).verify(keys[record.kid])


def test_a_file_left_out_or_cut_anywhere_is_refused() -> None:
    """Truncation: each file of the bundle at its ends and within, with the checksums made right again, and the ZIP."""
    journal = story.whole()
    sample = flips.sample()
    chance = random.Random(6)
    for name, member in sample.bundle.members.items():
        if name in IRRELEVANT or name == "manifest.json":
            continue
        for length in {0, 1, member.size - 1, chance.randrange(member.size), chance.randrange(member.size)}:
            data = flips.rewritten({name: sample.content(name)[:length]})
            verdict = verify(io.BytesIO(data), story.TRUST)
            assert verdict.first_failure is not None, (name, length)
            assert verdict.first_failure.step is not Step.MANIFEST, (name, length)
        if name.startswith("checkpoints/"):
            # Whoever leaves out a dated checkpoint gives up what it says of time; the verdict counts them.
            verdict = verify(io.BytesIO(flips.rewritten({name: None})), story.TRUST)
            assert verdict.ok and verdict.clock.dated_checkpoints == len(journal.cosigned_s) - 1
            continue
        verdict = verify(io.BytesIO(flips.rewritten({name: None})), story.TRUST)
        assert verdict.first_failure is not None, f"{name} left out of {len(journal.records)} records"
    for length in range(0, len(sample.data), 97):
        assert not verify(io.BytesIO(sample.data[:length]), story.TRUST).ok
