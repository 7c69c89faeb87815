"""Two lines and their evidence, small and complete: every type of record, two gateways, a new key, three witnesses.

Decides what honestly happened; the tests let a thief change it. Every byte is the same in each run.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.evidence import checkpoint, dated, merkle, proof
from protocols.evidence.bodies import RawGap
from protocols.evidence.bundle import BundleParts, write
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.policy import Policy, Trust, with_quorum
from protocols.evidence.proof_plan import sequences_to_prove
from protocols.evidence.record import (
    NO_PREVIOUS,
    Amendment,
    Body,
    CheckpointSeen,
    Clock,
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    LineStatement,
    Measurement,
    PlanStatement,
    RawCommitment,
    Record,
    Revocation,
    SignedRecord,
    sign_record,
)
from protocols.evidence.rotation import rotation
from protocols.measurement.account import ACCOUNT_FIELDS, Window
from protocols.measurement.amendment import AmendmentKind, FieldChange, Included, ReasonChange, Source, WindowChange
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import LineConfiguration, Product
from protocols.measurement.outcome import outcome
from protocols.measurement.plan import Period, Plan
from protocols.measurement.revisions import LineRevisions
from tests.support.evidence import SITE, START_MS, private_key, window

HOUR_MS: Final = 3_600_000
HALF_MS: Final = HOUR_MS // 2
CYCLE_NS: Final = 500_000_000
SCHEME, PROJECT = "manufacturing-plus", "project-1"
ONE, TWO = "gateway-1", "gateway-2"
LINE_OF: Final = {ONE: "filling", TWO: "packing"}
KEY: Final = {ONE: private_key("gateway"), TWO: private_key("gateway-2")}
NEW_KEY: Final = private_key("gateway's second key")
ROOT_KEY: Final = private_key("root")

LOG: Final = SignerKey("example.org/log", Algorithm.ED25519, bytes(range(32)))
ROOT: Final = SignerKey("example.org/root", Algorithm.ED25519, ROOT_KEY.private_bytes_raw())
WITNESSES: Final = tuple(
    SignerKey(f"w{i}.example", Algorithm.COSIGNATURE, private_key(f"witness {i}").private_bytes_raw()) for i in range(3)
)
POLICY: Final = with_quorum(
    Policy((LOG.verifier,), tuple((w.name, w.verifier) for w in WITNESSES), root_keys=(ROOT.verifier,)), 2
)
TRUST: Final = Trust(POLICY, POLICY.root_keys)

PLAN: Final = Plan(
    project_id=PROJECT,
    scheme=SCHEME,
    title="A faster filler",
    enterprise="Acme Foods",
    line_ids=("filling", "packing"),
    baseline=Period(START_MS, START_MS + 2 * HOUR_MS),
    commissioning=Period(START_MS + 2 * HOUR_MS, START_MS + 3 * HOUR_MS),
    reporting=Period(START_MS + 3 * HOUR_MS, START_MS + 5 * HOUR_MS),
    ideal_cycles_ns={"Cola 330 ml": CYCLE_NS},
    min_shifts=2,
    timezone="Asia/Hong_Kong",
)


def kid_of(key: Ed25519PrivateKey) -> Kid:
    return key_id(key.public_key().public_bytes_raw())


def configuration(line_id: str) -> LineConfiguration:
    return LineConfiguration(
        line_id, line_id.title(), Calendar(PLAN.timezone), (Product(1, "Cola 330 ml", CYCLE_NS),), ()
    )


def statement(line_id: str, at_ms: int, good: int) -> Measurement:
    """An hour in two windows, with a commitment to raw samples."""
    windows = tuple(window(at_ms + i * HALF_MS, HALF_MS, good=good + i) for i in range(2))
    return Measurement(
        (LineStatement(line_id, configuration(line_id).hash, RawCommitment(bytes(range(32)), 60, 3600), windows),)
    )


@dataclass
class Journal:
    """What was signed, in the order in which it was logged. `heads`: the newest record of each key."""

    records: list[SignedRecord] = field(default_factory=list)
    heads: dict[Kid, SignedRecord] = field(default_factory=dict)
    plan: Plan = PLAN
    cosigned_s: dict[int, int] = field(default_factory=dict)  # size of the log to when the witnesses cosigned it

    def say(
        self,
        key: Ed25519PrivateKey,
        issuer: str,
        body: Body,
        start_ms: int = START_MS,
        end_ms: int | None = None,
        *,
        logged: bool = True,
    ) -> SignedRecord:
        """The next record of a key's chain. It names the newest checkpoint as seen, as gateways do."""
        end_ms = start_ms if end_ms is None else end_ms
        before = self.heads.get(kid_of(key))
        made = Record(
            sequence=0 if before is None else before.record.sequence + 1,
            previous=NO_PREVIOUS if before is None else before.hash,
            boot_id=bytes(range(16)),
            start_ms=start_ms,
            end_ms=end_ms,
            clock=Clock(max(0, start_ms - START_MS), max(0, end_ms - START_MS), "ntp", -3, 12, 64_000),
            body=body,
            checkpoint_seen=self.seen() if before is not None and key is not ROOT_KEY else None,
        )
        signed = sign_record(key, made, issuer=issuer, subject=SITE)
        self.heads[signed.kid] = signed
        if logged:
            self.records.append(signed)
        return signed

    def measure(self, key: Ed25519PrivateKey, gateway: str, hour: int, good: int) -> SignedRecord:
        at = START_MS + hour * HOUR_MS
        return self.say(key, gateway, statement(LINE_OF[gateway], at, good), at, at + HOUR_MS)

    def leaves(self) -> list[merkle.LeafHash]:
        return [merkle.leaf_hash(record.raw) for record in self.records]

    def seen(self) -> CheckpointSeen:
        leaves = self.leaves()
        return CheckpointSeen(len(leaves), merkle.root(leaves))

    def note(self, cosigners: Sequence[SignerKey] = WITNESSES[:2], time_s: int = 0) -> bytes:
        """The log's checkpoint, cosigned."""
        leaves = self.leaves()
        text = checkpoint.sign(Checkpoint(LOG.name, len(leaves), merkle.root(leaves)), LOG)
        for witness in cosigners:
            text = checkpoint.cosign(text, LOG.verifier, witness, time_s or PLAN.reporting.to_ms // 1000 + 600)
        return text

    def seen_by_witnesses(self, at_ms: int) -> None:
        """The log as it is now is cosigned at this time; the bundle will carry it."""
        self.cosigned_s[len(self.records)] = at_ms // 1000

    def dated(self) -> dict[int, bytes]:
        """The older checkpoints with their witnesses' times."""
        leaves = self.leaves()
        return {
            size: dated.format(
                Journal(self.records[:size]).note(time_s=time_s), merkle.consistency_proof(leaves, size, len(leaves))
            )
            for size, time_s in self.cosigned_s.items()
        }

    def proof(self, index: int, note: bytes) -> bytes:
        leaves = self.leaves()
        path = tuple(merkle.inclusion_proof(leaves, index, len(leaves)))
        return proof.format(proof.TlogProof(index, path, note))

    def chains(self) -> dict[Kid, list[SignedRecord]]:
        """The gateways' records, by key; what was logged twice once."""
        found: dict[Kid, list[SignedRecord]] = {}
        for record in dict.fromkeys(self.records):
            found.setdefault(record.kid, []).append(record)
        found.pop(kid_of(ROOT_KEY), None)
        return found

    def parts(self, note: bytes | None = None, report: dict[str, Any] | None = None) -> BundleParts:
        """The honest bundle of all that was said."""
        note = self.note() if note is None else note
        root = [record for record in self.records if record.kid == kid_of(ROOT_KEY)]
        chains = self.chains()
        proofs = {}
        for records in (root, *chains.values()):
            frames = ((r.record.sequence, r.record.type, r.record.start_ms, r.record.end_ms) for r in records)
            by_sequence = {record.record.sequence: record for record in records}
            for sequence in sequences_to_prove(frames, (self.plan.reporting.from_ms,)):
                record = by_sequence[sequence]
                proofs[record.kid, sequence] = self.proof(self.records.index(record), note)
        return BundleParts(
            {kid: [record.raw for record in records] for kid, records in chains.items()},
            [record.raw for record in root],
            proofs,
            note,
            self.report() if report is None else report,
            {"report.pdf": b"%PDF-1.7 a picture of the figures"},
            dated=self.dated(),
        )

    def report(self) -> dict[str, Any]:
        """report.json as the records of this journal give it."""
        lines = {line_id: LineRevisions(line_id, self._counts) for line_id in self.plan.line_ids}
        for record in dict.fromkeys(self.records):
            source = Source(record.kid, record.record.sequence)
            match record.record.body:
                case Measurement(stated):
                    for line in stated:
                        lines[line.line_id].add(line.windows, source)
                case Amendment() as amendment:
                    lines[amendment.line_id].amend(amendment, source)
        windows: dict[str, list[Window]] = {line_id: line.windows for line_id, line in lines.items()}
        included: list[Included] = [each for line in lines.values() for each in line.included]
        return outcome(self.plan, windows, sorted(included, key=lambda each: each.source)).to_data()

    def _counts(self, start_ms: int) -> bool:
        return start_ms in self.plan.baseline or start_ms in self.plan.reporting


def begin(journal: Journal) -> None:
    """The scheme lets both gateways in and registers the plan."""
    for gateway in (ONE, TWO):
        public = KEY[gateway].public_key().public_bytes_raw()
        journal.say(ROOT_KEY, SCHEME, Enrolment(gateway, public, (LINE_OF[gateway],), (PROJECT,)))
    journal.say(ROOT_KEY, SCHEME, PlanStatement(journal.plan.to_data()))
    for gateway in (ONE, TWO):
        journal.say(KEY[gateway], gateway, Configurations((configuration(LINE_OF[gateway]).to_data(),)))


def baseline(journal: Journal) -> None:
    for hour in (0, 1):
        for gateway in (ONE, TWO):
            journal.measure(KEY[gateway], gateway, hour, 90 + hour)
    journal.seen_by_witnesses(PLAN.baseline.to_ms)


def new_key(journal: Journal) -> None:
    """Gateway 1 goes on with another key, and the old one is revoked from here on."""
    old = KEY[ONE]
    journal.say(ROOT_KEY, SCHEME, rotation(ONE, old, NEW_KEY))
    journal.say(ROOT_KEY, SCHEME, Revocation(ONE, kid_of(old), len(journal.records), "replaced"))
    journal.say(NEW_KEY, ONE, Configurations((configuration("filling").to_data(),)), START_MS + 2 * HOUR_MS)


def reporting(journal: Journal) -> None:
    """Gateway 2 lost the commissioning hour. Then two hours of both, and what came late."""
    lost = START_MS + 2 * HOUR_MS
    journal.say(KEY[TWO], TWO, Gap("packing", lost, lost + HOUR_MS, "no power"), lost, lost + HOUR_MS)
    journal.say(KEY[TWO], TWO, RawGap("packing", START_MS, lost, 60, "older than kept"), lost + HOUR_MS)
    for hour in (3, 4):
        journal.measure(NEW_KEY, ONE, hour, 110)
        journal.measure(KEY[TWO], TWO, hour, 110)
    journal.seen_by_witnesses(PLAN.reporting.to_ms)


def late_rejects(pieces: int = 7, sequence: int = 1) -> Amendment:
    """Pieces of the first reporting window that the laboratory rejects later; `sequence`: of what stated it."""
    good, reject, standard = map(ACCOUNT_FIELDS.index, ("good_count", "reject_count", "standard_good_ns"))
    fields = (
        FieldChange(good, 110, 110 - pieces),
        FieldChange(reject, 5, 5 + pieces),
        FieldChange(standard, 110 * CYCLE_NS, (110 - pieces) * CYCLE_NS),
    )
    at = PLAN.reporting.from_ms
    change = (WindowChange(at, at + HALF_MS, sequence, fields),)
    return Amendment("filling", AmendmentKind.REJECT, change, "QC lab", "sample 4711")


def afterwards(journal: Journal) -> None:
    end = PLAN.reporting.to_ms
    journal.say(NEW_KEY, ONE, late_rejects(), end)
    reason = ReasonChange(PLAN.reporting.from_ms + 60_000, "", "film torn")
    journal.say(NEW_KEY, ONE, Amendment("filling", AmendmentKind.REASON, reason, "shift lead", "told at the end"), end)
    journal.say(NEW_KEY, ONE, Heartbeat(), end)
    journal.say(KEY[TWO], TWO, Heartbeat(), end)


def whole(plan: Plan = PLAN) -> Journal:
    """All of it, as it happened."""
    journal = Journal(plan=plan)
    for part in (begin, baseline, new_key, reporting, afterwards):
        part(journal)
    return journal


def zipped(parts: BundleParts) -> bytes:
    file = io.BytesIO()
    write(parts, file)
    return file.getvalue()


def with_proof(parts: BundleParts, journal: Journal, record: SignedRecord) -> BundleParts:
    """The bundle with one more genuine proof, as whoever has the log can make it."""
    made = journal.proof(journal.records.index(record), parts.checkpoint)
    return replace(parts, proofs=dict(parts.proofs) | {(record.kid, record.record.sequence): made})
