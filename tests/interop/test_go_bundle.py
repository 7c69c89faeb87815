"""Two independent verifiers of a bundle's evidence, ours and the Go program's (bundle.go), and one verdict."""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from protocols.evidence.bodies import Enrolment, Heartbeat, Revocation
from protocols.evidence.bundle import BundleParts
from protocols.evidence.note import SignerKey
from protocols.evidence.verdict import Step
from tests.support.evidence import START_MS, private_key
from tests.threats import flips, story
from tests.threats.flips import Kind
from tests.threats.story import KEY, NEW_KEY, ONE, ROOT_KEY, TWO, WITNESSES, Journal, kid_of

FLIPS = 2_500
EVIDENCE = frozenset({"checkpoint", "proofs", "records", "root.cbor-seq"})
# What Go does not look at: figures, the plan, configurations, time, lines, and the frame of the ZIP.
OURS_ALONE = frozenset({Step.CONFIGURATION, Step.TIME, Step.PLAN, Step.FIGURES, Step.MANIFEST})


def go_judges(checker: Path, data: bytes, mutants: list[list[tuple[int, int]]]) -> list[str]:
    """Go's answers to mutants of a bundle; "" where the evidence holds."""
    request = {
        "Zip": base64.b64encode(data).decode(),
        "Log": str(story.LOG.verifier),
        "Root": str(story.ROOT.verifier),
        "Witnesses": [str(witness.verifier) for witness in WITNESSES],
        "Quorum": 2,
        "Mutants": mutants,
    }
    words = [str(checker), "bundle"]
    done = subprocess.run(words, input=json.dumps(request), capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    answers: list[str] = json.loads(done.stdout)
    return answers


def patches(changed: bytes, data: bytes) -> list[tuple[int, int]]:
    """[(offset, new byte)]"""
    assert len(changed) == len(data)
    found = []
    for start in range(0, len(data), 256):
        if changed[start : start + 256] != data[start : start + 256]:
            pairs = zip(data[start : start + 256], changed[start : start + 256], strict=True)
            found += [(start + i, b) for i, (a, b) in enumerate(pairs) if a != b]
    return found


@pytest.mark.needs("go")
def test_both_refuse_and_accept_the_same_flips(checker: Path) -> None:
    """A seeded choice over all files of the evidence, with checksums made right, and of what is none."""
    sample = flips.sample()
    every = [flip for flip in flips.flips(whole=True) if flip.kind in (Kind.CONTENT, Kind.CHECKPOINT)]
    evidence = [flip for flip in every if flip.name.split("/")[0] in EVIDENCE]
    harmless = [flip for flip in every if flip.name in flips.IRRELEVANT]
    chance = random.Random(11)
    some = [*chance.sample(evidence, FLIPS), *chance.sample(harmless, 50)]
    go = go_judges(checker, sample.data, [[], *(patches(flips.flipped(flip)[0], sample.data) for flip in some)])
    assert go[0] == ""
    with flips.ProcessPoolExecutor(2, flips.get_context("spawn"), flips.remember) as pool:
        ours = list(pool.map(flips.outcome_of, some, chunksize=200))
    assert [(flip, answer) for flip, answer, our in zip(some, go[1:], ours, strict=True)
            if (answer == "") != (our == flips.ACCEPTED)] == []  # fmt: skip
    assert sum(answer == "" for answer in go[1:]) == 50


def honest() -> BundleParts:
    return story.whole().parts()


def with_chain(change: Callable[[list[bytes]], list[bytes]]) -> BundleParts:
    parts = honest()
    chain = list(parts.chains[kid_of(KEY[TWO])])
    return replace(parts, chains=dict(parts.chains) | {kid_of(KEY[TWO]): change(chain)})


def revoked_and_going_on() -> BundleParts:
    journal = Journal()
    for part in (story.begin, story.baseline, story.new_key):
        part(journal)
    journal.say(KEY[ONE], ONE, Heartbeat(), START_MS + 1)
    for part in (story.reporting, story.afterwards):
        part(journal)
    return journal.parts()


def revoked_later() -> BundleParts:
    """Of a key that is revoked after its last record everything counts."""
    journal = story.whole()
    journal.say(ROOT_KEY, story.SCHEME, Revocation(TWO, kid_of(KEY[TWO]), len(journal.records), "sold"))
    return journal.parts()


def never_enrolled() -> BundleParts:
    journal = Journal()
    stranger = private_key("stranger").public_key().public_bytes_raw()
    journal.say(ROOT_KEY, story.SCHEME, Enrolment(TWO, stranger, ("packing",), (story.PROJECT,)))
    parts = honest()
    return replace(parts, root_records=[journal.records[0].raw, *list(parts.root_records)[1:]])


def other_witnesses() -> BundleParts:
    journal = story.whole()
    his: list[SignerKey] = [replace(witness, seed=bytes([i] * 32)) for i, witness in enumerate(WITNESSES[:2], 1)]
    return journal.parts(journal.note(his))


def proof_left_out() -> BundleParts:
    parts = honest()
    last = max(at for at in parts.proofs if at[0] == kid_of(NEW_KEY))
    return replace(parts, proofs={at: text for at, text in parts.proofs.items() if at != last})


VECTORS = {
    "honest": (honest, True),
    "all three witnesses": (lambda: story.whole().parts(story.whole().note(WITNESSES)), True),
    "revoked after its last record": (revoked_later, True),
    "one witness": (lambda: story.whole().parts(story.whole().note(WITNESSES[:1])), False),
    "no witness": (lambda: story.whole().parts(story.whole().note(())), False),
    "witnesses of his own": (other_witnesses, False),
    "one left out": (lambda: with_chain(lambda chain: [*chain[:2], *chain[3:]]), False),
    "one twice": (lambda: with_chain(lambda chain: [*chain[:2], chain[1], *chain[2:]]), False),
    "out of order": (lambda: with_chain(lambda chain: [chain[0], chain[2], chain[1], *chain[3:]]), False),
    "tail dropped": (lambda: with_chain(lambda chain: chain[:-1]), False),
    "nothing left": (lambda: with_chain(lambda chain: []), False),
    "revoked and going on": (revoked_and_going_on, False),
    "never enrolled": (never_enrolled, False),
    "last proof left out": (proof_left_out, False),
    "the root's beginning left out": (
        lambda: replace(honest(), root_records=list(honest().root_records)[1:]), False
    ),
}  # fmt: skip


@pytest.mark.needs("go")
@pytest.mark.parametrize("name", VECTORS)
def test_both_judge_a_whole_bundle_alike(checker: Path, name: str) -> None:
    made, holds = VECTORS[name]
    data = story.zipped(made())
    (answer,) = go_judges(checker, data, [[]])
    verdict = flips.judge(data, flips.sample().policy)
    assert not isinstance(verdict, str)
    assert verdict.ok is holds, verdict.first_failure
    assert (answer == "") is holds, answer


@pytest.mark.needs("go")
def test_a_record_that_only_its_figures_betray_is_ours_to_find(checker: Path) -> None:
    """The border between the two: Go checks evidence, not what follows from it."""
    report = story.whole().report()
    report["figures"][0]["change_ppm"] = 1
    data = story.zipped(story.whole().parts(report=report))
    verdict = flips.judge(data, flips.sample().policy)
    assert not isinstance(verdict, str) and verdict.first_failure is not None
    assert verdict.first_failure.step in OURS_ALONE
    assert go_judges(checker, data, [[]]) == [""]
