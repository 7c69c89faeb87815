"""The clock's sandwich: what contradicts the log's time is refused, what is only odd is told."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from protocols.errors import Malformed, Unverified
from protocols.evidence import checkpoint, dated, merkle
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.clockwatch import SLACK_MS, ClockRow, ClockWatch
from protocols.evidence.dated import Calendar, Dated
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.policy import Policy, Trust
from protocols.evidence.record import (
    NO_PREVIOUS,
    CheckpointSeen,
    Clock,
    Heartbeat,
    Record,
    RecordType,
    SignedRecord,
    sign_record,
)
from protocols.evidence.swift import SwiftHearing
from protocols.evidence.verdict import Step, Verdict
from protocols.evidence.verify import verify
from protocols.measurement.outcome import outcome
from tests.support.bundle import HOUR_MS, LOG, PLAN, POLICY, Site, log_parts, sample_bundle
from tests.support.evidence import GATEWAY, GATEWAY_KEY, SITE, START_MS

WITNESS = SignerKey("witness.test/one", Algorithm.COSIGNATURE, hashlib.sha256(b"witness").digest())
DATING = replace(POLICY, witnesses=(("one", WITNESS.verifier),))
DAY_MS = 24 * HOUR_MS


def row(at_ms: int, **changes: object) -> ClockRow:
    usual = ClockRow(
        7, RecordType.HEARTBEAT, bytes(16), at_ms, at_ms, at_ms - START_MS + 1, at_ms - START_MS + 1, "ntp", 10, 0, None
    )
    return usual._replace(**changes)  # type: ignore[arg-type]


def test_a_calendar_bounds_from_both_sides() -> None:
    calendar = Calendar([Dated(30, 3_000, 3_500), Dated(10, 1_000, 1_500), Dated(20, 2_000, 9_000)])
    assert [calendar.not_before_ms(size) for size in (10, 11, 30, 31)] == [None, 1_000, 2_000, 3_000]
    assert [calendar.not_after_ms(index) for index in (0, 9, 10, 29, 30)] == [1_500, 1_500, 3_500, 3_500, None]


def watch(*dates: Dated) -> ClockWatch:
    return ClockWatch(Calendar(dates))


@pytest.mark.parametrize(("moved_ms", "flags"), [(1_029, 0), (1_031, 1), (-1_029, 0), (-1_031, 1), (5_000, 1)])
def test_the_wall_clock_moves_as_the_uptime_does(moved_ms: int, flags: int) -> None:
    """Ten milliseconds claimed by each of two records, a second for the reading, ten milliseconds of drift in 100 s."""
    watched = watch()
    watched.add(row(START_MS), None)
    watched.add(row(START_MS + 100_000 + moved_ms, boot_start_ms=100_001, boot_end_ms=100_001), None)
    assert watched.found.flag_count == flags


def test_another_boot_a_time_before_it_and_a_simulated_clock_are_not_compared() -> None:
    watched = watch()
    watched.add(row(START_MS), None)
    watched.add(row(START_MS + DAY_MS, boot_id=bytes(15) + b"1", boot_start_ms=5, boot_end_ms=5), None)
    watched.add(row(START_MS + 1, boot_id=bytes(15) + b"1", boot_start_ms=0, boot_end_ms=0), None)
    watched.add(row(START_MS + 99, source="simulated", boot_start_ms=9, boot_end_ms=9), None)
    assert watched.found.flag_count == 0


def test_an_instant_before_the_checkpoint_that_it_names_is_backdated() -> None:
    known = Dated(10, START_MS + HOUR_MS, START_MS + HOUR_MS)
    watched = watch(known)
    watched.add(row(START_MS + HOUR_MS - SLACK_MS, seen_size=11), None)
    with pytest.raises(Unverified, match=r"record 7 claims .*: it is backdated"):
        watched.add(row(START_MS + HOUR_MS - SLACK_MS - 11), None)  # what came before rests on it, so this does too
    watch(known).add(row(START_MS, seen_size=10), None)  # that checkpoint may have been old when it was cosigned


def test_a_measurement_that_was_signed_late_is_told() -> None:
    watched = watch(Dated(10, START_MS + 2 * HOUR_MS, START_MS + 2 * HOUR_MS))
    late = row(START_MS, seen_size=11, type=RecordType.MEASUREMENT)
    watched.add(late, None)
    assert "Record 7 speaks of 2026-06-01 00:00:00 UTC" in watched.found.flags[0]
    watched.add(late._replace(start_ms=START_MS + 2 * HOUR_MS, end_ms=START_MS + 2 * HOUR_MS), None)
    watched.add(row(START_MS + HOUR_MS, error_ms=None, boot_id=bytes(15) + b"2"), None)  # it claims nothing
    assert watched.found.flag_count == 2  # a late record, and a clock that jumped


def test_a_time_after_the_witness_saw_it_is_refused() -> None:
    known = Dated(10, START_MS, START_MS + HOUR_MS)
    measured = row(START_MS + HOUR_MS + SLACK_MS + 11, type=RecordType.MEASUREMENT, sequence=3)
    watched = watch(known)
    watched.add(measured, None)
    with pytest.raises(Unverified, match=r"record 3 claims .* witness saw it in the log at 2026-06-01 01:00:00 UTC"):
        watched.add(row(START_MS + HOUR_MS), 9)
    watched = watch(known)
    watched.add(measured._replace(end_ms=measured.end_ms - 1), 9)
    watched.add(measured._replace(end_ms=START_MS + DAY_MS), 10)  # no dated checkpoint includes it
    watched = watch(known)
    watched.add(measured._replace(error_ms=None), 9)
    assert "not synchronized" in watched.found.flags[0]


def test_a_wide_sandwich_is_told() -> None:
    watched = watch(Dated(10, START_MS, START_MS), Dated(20, START_MS + DAY_MS + 1, START_MS + DAY_MS + 1))
    watched.add(row(START_MS, seen_size=11), 15)
    assert (watched.found.bounded, watched.found.widest_ms) == (1, DAY_MS + 1)
    assert "to 24.0 h only" in watched.found.flags[0]


# In a bundle

REPORT = outcome(PLAN, Site.ordinary().windows()).to_data()
Change = Callable[[int, Record], Record]


def honest(i: int, record: Record) -> Record:
    """A synchronized gateway that names the checkpoint of an hour ago."""
    shift = record.end_ms - START_MS + 1
    clock = Clock(max(record.start_ms - START_MS + 1, 1), shift, "ntp", 0, 10, 0)
    return replace(record, clock=clock, checkpoint_seen=CheckpointSeen(i, bytes(32)) if i > 3 else None)


def resigned(site: Site, change: Change) -> list[SignedRecord]:
    chain: list[SignedRecord] = []
    for i, record in enumerate(site.chain()):
        changed = replace(change(i, honest(i, record.record)), previous=chain[-1].hash if chain else NO_PREVIOUS)
        chain.append(sign_record(GATEWAY_KEY, changed, issuer=GATEWAY, subject=SITE))
    return chain


def judge(
    change: Change = lambda _, record: record, later_ms: int = 0, policy: Policy = DATING, *, both_ways: bool = False
) -> Verdict:
    """The ordinary two days, cosigned after each record, `later_ms` after it."""
    site = Site.ordinary()
    chain, root = resigned(site, change), site.root_chain()
    parts = log_parts(chain, root, 0, PLAN, REPORT)
    leaves = [merkle.leaf_hash(record.raw) for record in (*root, *chain)]
    found = {}
    for size in range(3, len(leaves), 4):
        body = Checkpoint(LOG.name, size, merkle.root(leaves[:size]))
        ends_ms = max(site.bodies[i][1] for i in range(size - 2)) + later_ms
        note = checkpoint.cosign(checkpoint.sign(body, LOG), LOG.verifier, WITNESS, ends_ms // 1000 + 1)
        found[size] = dated.format(note, merkle.consistency_proof(leaves, size, len(leaves)))
    data = sample_bundle(replace(parts, dated=found))
    trust = Trust(policy, policy.root_keys)
    verdict = verify(io.BytesIO(data), trust, swift=SwiftHearing())
    if both_ways:
        assert verify(io.BytesIO(data), trust).to_data() == verdict.to_data()
    return verdict


def test_an_honest_gateway_is_bounded_and_not_flagged() -> None:
    verdict = judge(both_ways=True)
    assert verdict.ok, verdict.first_failure
    assert verdict.notes == ()
    assert verdict.clock is not None
    assert verdict.clock.dated_checkpoints > 10
    assert verdict.clock.bounded == 2
    assert verdict.clock.widest_ms is not None and verdict.clock.widest_ms < 8 * HOUR_MS


def test_backdating_is_named_with_its_record() -> None:
    def back(i: int, record: Record) -> Record:
        if not isinstance(record.body, Heartbeat) or i < 20:
            return record
        return replace(record, start_ms=record.start_ms - 15 * HOUR_MS, end_ms=record.end_ms - 15 * HOUR_MS)

    failure = judge(back, both_ways=True).first_failure
    assert failure is not None
    assert (failure.step, failure.sequence) == (Step.CLOCK, 26)
    assert "backdated" in failure.words


def test_a_time_ahead_of_the_witness_fails() -> None:
    failure = judge(later_ms=-5 * HOUR_MS).first_failure
    assert failure is not None
    assert failure.step is Step.CLOCK
    assert "a witness saw it in the log" in failure.words


def test_a_jump_of_the_clock_is_a_note() -> None:
    def jumped(i: int, record: Record) -> Record:
        clock = record.clock
        boot = (clock.boot_start_ms + 30_000, clock.boot_end_ms + 30_000)
        return record if i < 30 else replace(record, clock=replace(clock, boot_start_ms=boot[0], boot_end_ms=boot[1]))

    verdict = judge(jumped)
    assert verdict.ok
    assert any("moved by 30 s against its uptime" in note for note in verdict.notes)


def test_a_date_that_nobody_of_the_policy_signed_tells_nothing() -> None:
    verdict = judge(policy=POLICY)
    assert verdict.ok
    assert verdict.clock is not None and verdict.clock.dated_checkpoints == 0
    assert any("without enough witnesses of the policy: not used" in note for note in verdict.notes)


def test_a_dated_checkpoint_of_another_tree_is_refused() -> None:
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(9)]
    whole = Checkpoint(LOG.name, 9, merkle.root(leaves))

    def file(of: list[merkle.LeafHash], name: str = LOG.name, log: SignerKey = LOG) -> bytes:
        note = checkpoint.sign(Checkpoint(name, 5, merkle.root(of)), log)
        cosigned = checkpoint.cosign(note, log.verifier, WITNESS, 1_000)
        return dated.format(cosigned, merkle.consistency_proof(leaves, 5, 9))

    assert dated.open(file(leaves[:5]), DATING, whole) == Dated(5, 1_000_000, 1_000_000)
    with pytest.raises(Unverified):
        dated.open(file(leaves[1:6]), DATING, whole)
    with pytest.raises(Malformed):
        dated.open(b"linetally-dated-checkpoint@v2\n\n", DATING, whole)
    with pytest.raises(dated.Undated):
        dated.open(file(leaves[:5]), POLICY, whole)
    stranger = SignerKey(LOG.name, Algorithm.ED25519, bytes(32))
    with pytest.raises(Unverified):
        dated.open(file(leaves[:5], log=stranger), DATING, whole)
