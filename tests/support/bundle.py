"""A small, complete bundle for tests: one gateway, two lines, a few days around an upgrade; every byte fixed.

`Site` holds the parts before they are signed and logged, so that a test can play the thief and change one of them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.evidence import checkpoint, merkle, proof
from protocols.evidence.bundle import BundleParts, write
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.policy import Policy, Trust
from protocols.evidence.proof_plan import sequences_to_prove
from protocols.evidence.record import (
    NO_PREVIOUS,
    Body,
    Clock,
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    LineStatement,
    Measurement,
    PlanStatement,
    Record,
    SignedRecord,
    sign_record,
)
from protocols.measurement.account import Window
from protocols.measurement.definition import ISO, data_hash
from protocols.measurement.outcome import outcome
from protocols.measurement.plan import Period, Plan
from tests.support.evidence import GATEWAY, GATEWAY_KEY, ROOT_KEY, SITE, START_MS, WINDOW_MS, window

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SCHEME = "manufacturing-plus"
PROJECT = "project-1"
LINES = ("filling", "packing")
STATEMENT_WINDOWS = 12  # an hour of 5-minute windows
LENGTH_MS = 5 * WINDOW_MS

LOG = SignerKey("example.org/log", Algorithm.ED25519, bytes(range(32)))
ROOT_SEED = ROOT_KEY.private_bytes_raw()
ROOT_SIGNER = SignerKey("example.org/root", Algorithm.ED25519, ROOT_SEED)
POLICY = Policy((LOG.verifier,), root_keys=(ROOT_SIGNER.verifier,))
TRUST = Trust(POLICY, POLICY.root_keys)

PLAN = Plan(
    project_id=PROJECT,
    scheme=SCHEME,
    title="A faster filler",
    enterprise="Acme Foods",
    line_ids=LINES,
    baseline=Period(START_MS, START_MS + DAY_MS),
    commissioning=Period(START_MS + DAY_MS, START_MS + DAY_MS + 4 * HOUR_MS),
    reporting=Period(START_MS + DAY_MS + 4 * HOUR_MS, START_MS + 2 * DAY_MS),
    ideal_cycles_ns={"Cola 330 ml": 500_000_000},
    min_shifts=2,
    timezone="Asia/Hong_Kong",
)


def configuration(line_id: str) -> dict[str, Any]:
    """What a verdict needs of a configuration; the whole of it is tested with the agent."""
    return {"line_id": line_id, "name": line_id.title(), "definition": ISO.to_data(), "window_ms": LENGTH_MS}


def hour(at_ms: int, *, good: int = 95, lines: tuple[str, ...] = LINES) -> Measurement:
    return Measurement(
        tuple(
            LineStatement(
                line_id,
                data_hash(configuration(line_id)),
                None,
                tuple(window(at_ms + i * LENGTH_MS, LENGTH_MS, good=good + i) for i in range(STATEMENT_WINDOWS)),
            )
            for line_id in lines
        )
    )


@dataclass
class Site:
    """One gateway's records as (start_ms, end_ms, body), the root key's bodies, and where the root's stand in the log.

    `root_at`: how many gateway records come before the root's in the log.
    """

    bodies: list[tuple[int, int, Body]] = field(default_factory=list)
    root_bodies: list[Body] = field(default_factory=list)
    root_at: int = 0
    gateway_key: Ed25519PrivateKey = GATEWAY_KEY
    root_key: Ed25519PrivateKey = ROOT_KEY
    clock: str = "ntp"
    plan: Plan = PLAN

    @classmethod
    def ordinary(cls) -> Site:
        """Two days, with hour 30 lost for both lines: a signed gap, and no windows."""
        site = cls()
        public = site.gateway_key.public_key().public_bytes_raw()
        site.root_bodies = [Enrolment(GATEWAY, public, LINES, (PROJECT,)), PlanStatement(PLAN.to_data())]
        site.bodies = [(START_MS, START_MS, Configurations(tuple(map(configuration, LINES))))]
        for i in range(48):
            at = START_MS + i * HOUR_MS
            if i == 30:
                site.bodies += [
                    (at, at + HOUR_MS, Gap(line, at, at + HOUR_MS, "gateway without power")) for line in LINES
                ]
            else:
                site.bodies.append((at, at + HOUR_MS, hour(at, good=95 if i < 28 else 110)))
            if i % 12 == 11:
                site.bodies.append((at + HOUR_MS - 1, at + HOUR_MS - 1, Heartbeat()))
        return site

    def chain(self) -> list[SignedRecord]:
        return _chain(self.bodies, self.gateway_key, GATEWAY, self.clock)

    def root_chain(self) -> list[SignedRecord]:
        return _chain([(START_MS, START_MS, body) for body in self.root_bodies], self.root_key, SCHEME, self.clock)

    def windows(self) -> dict[str, list[Window]]:
        found: dict[str, list[Window]] = {line_id: [] for line_id in self.plan.line_ids}
        for _, _, body in self.bodies:
            for line in body.lines if isinstance(body, Measurement) else ():
                found.setdefault(line.line_id, []).extend(line.windows)
        return found

    def parts(self, chain: list[SignedRecord] | None = None) -> BundleParts:
        chain, root_chain = self.chain() if chain is None else chain, self.root_chain()
        return log_parts(chain, root_chain, self.root_at, self.plan, outcome(self.plan, self.windows()).to_data())


def log_parts(
    chain: list[SignedRecord], root_chain: list[SignedRecord], root_at: int, plan: Plan, report: dict[str, Any]
) -> BundleParts:
    """Log the records, prove those that need it, and gather all."""
    logged = [*chain[:root_at], *root_chain, *chain[root_at:]]
    index = {(record.kid, record.record.sequence): i for i, record in enumerate(logged)}
    leaves = [merkle.leaf_hash(record.raw) for record in logged]
    note = checkpoint.sign(Checkpoint(LOG.name, len(leaves), merkle.root(leaves)), LOG)
    proofs: dict[tuple[Kid, int], bytes] = {}
    chains: dict[Kid, list[SignedRecord]] = {}
    for record in logged:
        chains.setdefault(record.kid, []).append(record)
    for kid, records in chains.items():
        places = [(r.record.sequence, r.record.type, r.record.start_ms, r.record.end_ms) for r in records]
        for sequence in sequences_to_prove(places, (plan.reporting.from_ms,)):
            at = index[kid, sequence]
            path = tuple(merkle.inclusion_proof(leaves, at, len(leaves)))
            proofs[kid, sequence] = proof.format(proof.TlogProof(at, path, note))
    return BundleParts(
        {kid: [record.raw for record in records] for kid, records in chains.items() if kid != root_chain[0].kid},
        [record.raw for record in root_chain],
        proofs,
        note,
        report,
        {"report.pdf": b"%PDF-1.7 a picture of the figures"},
    )


def sample_bundle(parts: BundleParts | None = None) -> bytes:
    file = io.BytesIO()
    write(parts or Site.ordinary().parts(), file)
    return file.getvalue()


def _chain(bodies: list[tuple[int, int, Body]], key: Ed25519PrivateKey, issuer: str, clock: str) -> list[SignedRecord]:
    records: list[SignedRecord] = []
    for i, (start_ms, end_ms, body) in enumerate(bodies):
        record = Record(
            sequence=i,
            previous=records[-1].hash if records else NO_PREVIOUS,
            boot_id=bytes(range(16)),
            start_ms=start_ms,
            end_ms=end_ms,
            clock=Clock(start_ms - START_MS, end_ms - START_MS, clock),
            body=body,
        )
        records.append(sign_record(key, record, issuer=issuer, subject=SITE))
    return records
