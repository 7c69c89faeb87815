"""Verification: an honest bundle passes, and each thief is caught where he changed something."""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from protocols.evidence import bundle as bundles
from protocols.evidence import checkpoint, cose, merkle, proof
from protocols.evidence.bundle import records_file
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.policy import Policy, Trust
from protocols.evidence.record import (
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    Measurement,
    PlanStatement,
    RawGap,
    Record,
    Revocation,
    SignedRecord,
    sign_record,
)
from protocols.evidence.rotation import rotation
from protocols.evidence.verdict import GapKind, Result, Step, Verdict
from protocols.evidence.verify import verify
from protocols.measurement.account import Window
from protocols.measurement.definition import TPM
from tests.support.bundle import (
    HOUR_MS,
    LINES,
    LOG,
    PLAN,
    POLICY,
    PROJECT,
    TRUST,
    Site,
    configuration,
    hour,
    log_parts,
    sample_bundle,
)
from tests.support.evidence import GATEWAY, GATEWAY_KEY, ROOT_KEY, SITE, START_MS, private_key

HONEST = Site.ordinary()
BUNDLE = sample_bundle(HONEST.parts())
KID = cose.key_id(GATEWAY_KEY.public_key().public_bytes_raw())
RECORDS = records_file(KID)


def judge(data: bytes, trust: Trust = TRUST) -> Verdict:
    return verify(io.BytesIO(data), trust)


def judge_site(site: Site) -> Verdict:
    return judge(sample_bundle(site.parts()))


def test_an_honest_bundle_passes() -> None:
    verdict = judge(BUNDLE)
    assert verdict.ok
    assert verdict.first_failure is None
    assert [check.result for check in verdict.checks] == [Result.PASSED] * len(Step)
    assert verdict.figures == json.loads(bundles.report_bytes(HONEST.parts().report))
    assert verdict.records == len(HONEST.bodies)
    assert verdict.notes == ()
    json.dumps(verdict.to_data())


def test_coverage_and_gaps_with_their_signed_reasons() -> None:
    verdict = judge(BUNDLE)
    found = {(each.line_id, each.period): each.permille for each in verdict.coverage}
    assert found == {
        (line, period): 1000 if period == "baseline" else 950 for line in LINES for period in ("baseline", "reporting")
    }
    lost = START_MS + 30 * HOUR_MS
    for gap, line in zip(verdict.gaps, LINES, strict=True):
        assert (gap.line_id, gap.from_ms, gap.to_ms, gap.missing_ms) == (line, lost, lost + HOUR_MS, HOUR_MS)
        assert (gap.kind, gap.reason) == (GapKind.NO_RECORD, "gateway without power")


def test_raw_samples_that_are_not_held_are_listed_apart_from_gaps() -> None:
    site = Site.ordinary()
    at = site.bodies[-1][0] + 1
    one, other = LINES
    for line, hour_, reason in (
        (other, 0, "older than 35 days"), (one, 6, "older than 35 days"), (one, 0, "older than 35 days"),
        (one, 12, "more than 2000 MB"), (one, 24, "more than 2000 MB"),
    ):  # fmt: skip
        from_ms = START_MS + hour_ * HOUR_MS
        site.bodies.append((at, at, RawGap(line, from_ms, from_ms + 6 * HOUR_MS, 360, reason)))
    site.bodies.append((at, at, RawGap("nobody-s", START_MS, START_MS + 1, 1, "of no line of the plan")))
    verdict = judge_site(site)
    assert verdict.ok and verdict.gaps == judge(BUNDLE).gaps
    assert [(gap.line_id, (gap.from_ms - START_MS) // HOUR_MS, gap.chunks, gap.reason) for gap in verdict.raw_gaps] == [
        (one, 0, 720, "older than 35 days"), (one, 12, 360, "more than 2000 MB"), (one, 24, 360, "more than 2000 MB"),
        (other, 0, 360, "older than 35 days"),
    ]  # fmt: skip
    assert verdict.to_data()["raw_gaps"][0] == {
        "line_id": one, "from_ms": START_MS, "to_ms": START_MS + 12 * HOUR_MS, "chunks": 720,
        "reason": "older than 35 days",
    }  # fmt: skip


def test_the_evidence_hash_is_what_sha256sum_gives() -> None:
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as archive:
        lines = [
            f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}\n"
            for name in sorted(archive.namelist())
            if name not in ("manifest.json", "README.txt", "report.pdf")
        ]
    assert judge(BUNDLE).evidence_sha256 == hashlib.sha256("".join(lines).encode()).digest()
    assert judge(figures_polished()).evidence_sha256 == b"", "of what does not hold there is nothing to compare"


def test_unobserved_time_is_a_gap_and_not_covered() -> None:
    site = Site.ordinary()
    at, end, body = site.bodies[3]
    assert isinstance(body, Measurement)

    def unseen(index: int, window: Any) -> Any:
        times = list(window.account.category_ms)
        if index in (4, 5):
            times[0], times[1] = 60_000, times[1] - 60_000
        return replace(window, account=replace(window.account, category_ms=tuple(times)))

    first = body.lines[0]
    changed = replace(first, windows=tuple(unseen(i, window) for i, window in enumerate(first.windows)))
    site.bodies[3] = (at, end, Measurement((changed, body.lines[1])))
    verdict = judge_site(site)
    assert verdict.ok
    gap = verdict.gaps[0]
    assert (gap.kind, gap.missing_ms, gap.to_ms - gap.from_ms) == (GapKind.NOT_OBSERVED, 120_000, 600_000)
    assert verdict.coverage[0].permille == 998


def test_a_thousand_changed_bytes_in_records_fail_and_name_the_record() -> None:
    bundle = bundles.read(io.BytesIO(BUNDLE))
    chance = random.Random(2)
    for file in (RECORDS, bundles.ROOT_FILE):
        member = bundle.members[file]
        starts = [offset for offset, _ in bundle.records(file)]
        for _ in range(900 if file == RECORDS else 100):
            at = chance.randrange(member.size)
            changed = bytearray(BUNDLE)
            changed[member.offset + at] ^= chance.randrange(1, 256)
            failure = judge(bytes(changed)).first_failure
            assert failure is not None
            assert failure.file == file
            assert failure.index == sum(start <= at for start in starts) - 1


@pytest.mark.parametrize("name", [bundles.CHECKPOINT_FILE, bundles.REPORT_FILE, bundles.README_FILE, "report.pdf"])
def test_a_changed_byte_anywhere_else_fails_too(name: str) -> None:
    member = bundles.read(io.BytesIO(BUNDLE)).members[name]
    for at in range(0, member.size, max(1, member.size // 40)):
        changed = bytearray(BUNDLE)
        changed[member.offset + at] ^= 1
        assert not judge(bytes(changed)).ok


def test_a_changed_byte_in_any_proof_fails() -> None:
    for name, member in bundles.read(io.BytesIO(BUNDLE)).members.items():
        for at in range(0, member.size if name.startswith("proofs/") else 0, 40):
            changed = bytearray(BUNDLE)
            changed[member.offset + at] ^= 1
            verdict = judge(bytes(changed))
            assert verdict.first_failure is not None
            assert verdict.first_failure.step in (Step.ROOT, Step.INCLUSION)


def replaced(records: list[SignedRecord], at: int, **changes: object) -> SignedRecord:
    """A record signed anew by its own key: the factory that edits its numbers afterwards."""
    record: Record = replace(records[at].record, **changes)  # type: ignore[arg-type]
    return sign_record(GATEWAY_KEY, record, issuer=GATEWAY, subject=SITE)


def with_chain(chain: list[SignedRecord]) -> bytes:
    """The honest proofs and checkpoint, with another chain of records."""
    return sample_bundle(replace(HONEST.parts(), chains={KID: [record.raw for record in chain]}))


def edited_at_the_end() -> bytes:
    chain = HONEST.chain()
    return with_chain([*chain[:-1], replaced(chain, len(chain) - 1, body=Gap("filling", 0, 1, "edited"))])


def edited_in_the_middle() -> bytes:
    chain = HONEST.chain()
    return with_chain([*chain[:5], replaced(chain, 5, body=hour(chain[5].record.start_ms, good=200)), *chain[6:]])


def edited_and_signed_again_to_the_end() -> bytes:
    site = Site.ordinary()
    start, end, _ = site.bodies[5]
    site.bodies[5] = (start, end, hour(start, good=200))
    return sample_bundle(replace(HONEST.parts(), chains={KID: [record.raw for record in site.chain()]}))


def left_out() -> bytes:
    chain = HONEST.chain()
    return with_chain([*chain[:7], *chain[8:]])


def tail_dropped() -> bytes:
    return with_chain(HONEST.chain()[:-3])


def reordered() -> bytes:
    chain = HONEST.chain()
    return with_chain([*chain[:7], chain[8], chain[7], *chain[9:]])


def stranger_signs() -> bytes:
    site = Site.ordinary()
    site.gateway_key = private_key("stranger")
    return sample_bundle(site.parts())


def root_forged() -> bytes:
    site = Site.ordinary()
    site.root_key = private_key("forged root")
    return sample_bundle(site.parts())


def other_project() -> bytes:
    site = Site.ordinary()
    public = GATEWAY_KEY.public_key().public_bytes_raw()
    site.root_bodies[0] = Enrolment(GATEWAY, public, LINES, ("project-2",))
    return sample_bundle(site.parts())


def other_line() -> bytes:
    site = Site.ordinary()
    public = GATEWAY_KEY.public_key().public_bytes_raw()
    site.root_bodies[0] = Enrolment(GATEWAY, public, ("filling",), (PROJECT,))
    return sample_bundle(site.parts())


def other_gateway_name() -> bytes:
    site = Site.ordinary()
    public = GATEWAY_KEY.public_key().public_bytes_raw()
    site.root_bodies[0] = Enrolment("gateway-2", public, LINES, (PROJECT,))
    return sample_bundle(site.parts())


def revoked_before() -> bytes:
    site = Site.ordinary()
    site.root_bodies.append(Revocation(GATEWAY, KID, 40, "stolen"))
    return sample_bundle(site.parts())


def revoked_twice() -> bytes:
    site = Site.ordinary()
    site.root_bodies += [Revocation(GATEWAY, KID, 10, "stolen"), Revocation(GATEWAY, KID, 9_999, "found again")]
    return sample_bundle(site.parts())


def plan_after_the_fact() -> bytes:
    site = Site.ordinary()
    site.root_at = 45
    return sample_bundle(site.parts())


def plan_not_registered() -> bytes:
    site = Site.ordinary()
    site.root_bodies.pop()
    return sample_bundle(site.parts())


def plan_swapped() -> bytes:
    site = Site.ordinary()
    site.plan = replace(PLAN, minimum_effect_permille=1)
    return sample_bundle(site.parts())


def without_configuration() -> bytes:
    site = Site.ordinary()
    site.bodies[0] = (START_MS, START_MS, Heartbeat())
    return sample_bundle(site.parts())


def configuration_of_another_line() -> bytes:
    site = Site.ordinary()
    lines = hour(START_MS).lines
    swapped = (replace(lines[0], configuration_hash=lines[1].configuration_hash), lines[1])
    site.bodies[1] = (START_MS, START_MS + HOUR_MS, Measurement(swapped))
    return sample_bundle(site.parts())


def other_definition() -> bytes:
    site = Site.ordinary()
    site.plan = replace(PLAN, definition=TPM)
    site.root_bodies[1] = PlanStatement(site.plan.to_data())
    return sample_bundle(site.parts())


def counted_twice() -> bytes:
    site = Site.ordinary()
    site.bodies[9] = site.bodies[8]
    report = HONEST.parts().report
    return sample_bundle(log_parts(site.chain(), site.root_chain(), 0, PLAN, dict(report)))


def figures_polished() -> bytes:
    report = json.loads(bundles.report_bytes(HONEST.parts().report))
    report["figures"][0]["change_ppm"] = 123_456
    return sample_bundle(replace(HONEST.parts(), report=report))


def figure_added() -> bytes:
    report = dict(HONEST.parts().report) | {"bonus": 1}
    return sample_bundle(replace(HONEST.parts(), report=report))


def proof_left_out(sequence: int) -> bytes:
    parts = HONEST.parts()
    return sample_bundle(replace(parts, proofs={key: p for key, p in parts.proofs.items() if key != (KID, sequence)}))


def day_not_proven() -> bytes:
    """Three quiet days with a heartbeat each; the proof of the second is left out."""
    site, end = Site.ordinary(), START_MS + 48 * HOUR_MS
    site.bodies += [(end + day * 24 * HOUR_MS,) * 2 + (Heartbeat(),) for day in range(3)]
    parts = site.parts()
    del (proofs := dict(parts.proofs))[KID, len(site.bodies) - 2]
    return sample_bundle(replace(parts, proofs=proofs))


def proof_elsewhere() -> bytes:
    """A split view: the last record proven in a second tree, which the same log signed."""
    last = HONEST.chain()[-1]
    leaf = merkle.leaf_hash(last.raw)
    note = checkpoint.sign(Checkpoint(LOG.name, 1, merkle.root([leaf])), LOG)
    parts = HONEST.parts()
    lone = proof.format(proof.TlogProof(0, (), note))
    return sample_bundle(replace(parts, proofs=dict(parts.proofs) | {(KID, last.record.sequence): lone}))


def gateway_plays_root() -> bytes:
    site = Site.ordinary()
    site.bodies[2] = (START_MS, START_MS, PlanStatement(PLAN.to_data()))
    return sample_bundle(site.parts())


def root_plays_gateway() -> bytes:
    site = Site.ordinary()
    site.root_bodies.append(Heartbeat())
    return sample_bundle(site.parts())


def no_chain_start_for_root() -> bytes:
    parts = HONEST.parts()
    return sample_bundle(replace(parts, root_records=list(parts.root_records)[1:]))


def empty_chain() -> bytes:
    return sample_bundle(replace(HONEST.parts(), chains={KID: []}))


def no_checkpoint() -> bytes:
    parts = HONEST.parts()
    return sample_bundle(replace(parts, checkpoint=b""))


def report_is_noise() -> bytes:
    at = BUNDLE.index(b'{"account_fields"')
    return BUNDLE[:at] + b"[" + BUNDLE[at + 1 :]


THIEVES: dict[str, tuple[Callable[[], bytes], Step]] = {
    "edited at the end": (edited_at_the_end, Step.INCLUSION),
    "edited in the middle": (edited_in_the_middle, Step.CHAIN),
    "edited and signed again to the end": (edited_and_signed_again_to_the_end, Step.INCLUSION),
    "left out": (left_out, Step.CHAIN),
    "tail dropped": (tail_dropped, Step.INCLUSION),
    "reordered": (reordered, Step.CHAIN),
    "a stranger signs": (stranger_signs, Step.RECORDS),
    "root forged": (root_forged, Step.ROOT),
    "replay from another project": (other_project, Step.RECORDS),
    "a line it may not speak for": (other_line, Step.RECORDS),
    "another gateway's name": (other_gateway_name, Step.RECORDS),
    "revoked": (revoked_before, Step.INCLUSION),
    "revived after a revocation": (revoked_twice, Step.INCLUSION),
    "plan after the fact": (plan_after_the_fact, Step.PLAN),
    "plan not registered": (plan_not_registered, Step.PLAN),
    "plan swapped": (plan_swapped, Step.PLAN),
    "no configuration": (without_configuration, Step.CONFIGURATION),
    "configuration of another line": (configuration_of_another_line, Step.CONFIGURATION),
    "another definition": (other_definition, Step.CONFIGURATION),
    "counted twice": (counted_twice, Step.TIME),
    "figures polished": (figures_polished, Step.FIGURES),
    "a figure added": (figure_added, Step.FIGURES),
    "configuration not proven": (lambda: proof_left_out(0), Step.INCLUSION),
    "last record not proven": (lambda: proof_left_out(len(HONEST.bodies) - 1), Step.INCLUSION),
    "a day not proven": (day_not_proven, Step.INCLUSION),
    "first reporting record not proven": (lambda: proof_left_out(31), Step.PLAN),
    "a proof in another tree": (proof_elsewhere, Step.INCLUSION),
    "gateway plays root": (gateway_plays_root, Step.RECORDS),
    "root plays gateway": (root_plays_gateway, Step.ROOT),
    "root chain cut": (no_chain_start_for_root, Step.ROOT),
    "an empty chain": (empty_chain, Step.RECORDS),
    "no checkpoint": (no_checkpoint, Step.LOG),
    "report is noise": (report_is_noise, Step.PLAN),
    "not a bundle": (lambda: b"PK", Step.BUNDLE),
}


@pytest.mark.parametrize("name", THIEVES)
def test_a_thief_is_caught(name: str) -> None:
    play, step = THIEVES[name]
    verdict = judge(play())
    assert not verdict.ok
    assert verdict.first_failure is not None
    assert verdict.first_failure.step is step, verdict.first_failure
    assert [check.step for check in verdict.checks if check.result is Result.FAILED] == [step]


def test_another_logs_checkpoint_is_refused() -> None:
    stranger = SignerKey(LOG.name, Algorithm.ED25519, bytes(32))
    trust = Trust(Policy((stranger.verifier,), root_keys=POLICY.root_keys), POLICY.root_keys)
    failure = judge(BUNDLE, trust).first_failure
    assert failure is not None
    assert failure.step is Step.LOG


def test_a_polished_figure_is_named() -> None:
    failure = judge(figures_polished()).first_failure
    assert failure is not None
    assert "figures[0].change_ppm is 123456" in failure.words


def test_a_simulated_clock_and_a_late_start_are_said() -> None:
    site = Site.ordinary()
    site.clock = "simulated"
    verdict = judge_site(site)
    assert verdict.ok
    assert any("demonstration" in note for note in verdict.notes)
    second = replace(PLAN, title="another")
    site.root_bodies.append(PlanStatement(second.to_data()))
    site.clock = "none"
    verdict = judge_site(site)
    assert verdict.ok
    assert any("2 different plans" in note for note in verdict.notes)
    assert any("not synchronized" in note for note in verdict.notes)


def test_a_revocation_after_the_last_record_changes_nothing() -> None:
    site = Site.ordinary()
    site.root_bodies.append(Revocation(GATEWAY, KID, 9_999, "out of use"))
    assert judge_site(site).ok


def test_a_new_key_goes_on_where_the_old_one_ended() -> None:
    site, new_key = Site.ordinary(), private_key("new gateway")
    site.root_bodies.append(rotation(GATEWAY, GATEWAY_KEY, new_key))
    later = Site.ordinary()
    later.gateway_key = new_key
    half = len(site.bodies) // 2
    later.bodies = [
        (site.bodies[half][0],) * 2 + (Configurations(tuple(map(configuration, LINES))),),
        *site.bodies[half:],
    ]
    site.bodies = site.bodies[:half]
    old, new, root = site.chain(), later.chain(), site.root_chain()
    parts = log_parts([*old, root[-1], *new], root[:-1], 0, PLAN, dict(HONEST.parts().report))
    parts = replace(parts, root_records=[record.raw for record in root])
    assert len(parts.chains) == 2
    verdict = judge(sample_bundle(parts))
    assert verdict.ok, verdict.first_failure
    good = rotation(GATEWAY, GATEWAY_KEY, new_key)
    for wrong, words in (
        (replace(good, old_signature=rotation(GATEWAY, ROOT_KEY, new_key).old_signature), "old key did not sign"),
        (replace(good, new_signature=rotation(GATEWAY, GATEWAY_KEY, ROOT_KEY).new_signature), "new key did not sign"),
        (
            replace(good, new_signature=rotation("gateway-2", GATEWAY_KEY, new_key).new_signature),
            "new key did not sign",
        ),
        (rotation(GATEWAY, GATEWAY_KEY, GATEWAY_KEY), "another key than the old one"),
    ):
        site.root_bodies[-1] = wrong
        failure = judge_site(site).first_failure
        assert failure is not None and failure.step is Step.ROOT and words in failure.words


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    verify(io.BytesIO(BUNDLE), TRUST, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)


def test_an_effectiveness_over_100_percent_is_noted_with_its_cause() -> None:
    site = Site.ordinary()

    def unseen(made: Window, i: int) -> Window:
        """Half of the windows after the upgrade: a second of running seen, and all pieces."""
        times = (made.length_ms - 1000, 1000, *[0] * 9) if i % 2 else (0, made.length_ms, *[0] * 9)
        many = 4 * made.length_ms // 500
        sums = replace(
            made.account, category_ms=times, total_count=many, good_count=many - 5, estimated_count=many * 9 // 10,
            standard_total_ns=many * 500_000_000, standard_good_ns=(many - 5) * 500_000_000,
        )  # fmt: skip
        return replace(made, account=sums)

    for at, (start_ms, end_ms, body) in enumerate(site.bodies):
        if isinstance(body, Measurement) and start_ms in PLAN.reporting:
            lines = tuple(
                replace(line, windows=tuple(unseen(made, i) for i, made in enumerate(line.windows)))
                for line in body.lines
            )
            site.bodies[at] = (start_ms, end_ms, Measurement(lines))
    verdict = judge_site(site)
    assert verdict.ok
    [note] = verdict.notes
    assert note.startswith("Effectiveness after: ") and "the ideal cycle may be right" in note
