"""A project's bundle of half a year, made with the code that signs, logs and writes real ones.

Decides what such a half-year is like: one-minute windows in statements of a quarter of an hour, two shifts a day with a
break, three products, a stop now and then, minutes that nobody saw, a gateway that was off for an hour, rejects that
the laboratory found a day later. Everything follows from the seed; a bundle that was made is kept in a folder.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.evidence import bundle, checkpoint, merkle, policy, proof
from protocols.evidence.authority import RegisteredPlan
from protocols.evidence.bundle import BundleParts
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.policy import Policy
from protocols.evidence.proof_plan import DAY_MS, sequences_to_prove
from protocols.evidence.record import (
    NO_PREVIOUS,
    Amendment,
    Body,
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
    RecordHash,
    RecordType,
    sign_record,
)
from protocols.measurement.account import ACCOUNT_FIELDS, CalendarKind, TimeAccount, Window
from protocols.measurement.amendment import AmendmentKind, FieldChange, Source, WindowChange
from protocols.measurement.definition import ISO, data_hash
from protocols.measurement.outcome import outcome_of
from protocols.measurement.periods import period_sums_of
from protocols.measurement.plan import Period, Plan
from protocols.measurement.revisions import LineRevisions
from protocols.measurement.tally import Tally

START_MS: Final = 1_772_323_200_000  # 2026-03-01T00:00Z, a Sunday
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
STATEMENT_MS: Final = 900_000
PROJECT, SCHEME = "mp-001", "Manufacturing+"
PRODUCTS: Final = {"Dumpling 12": 500_000_000, "Wonton 20": 800_000_000, "Siu Mai 8": 650_000_000}
FORM: Final = "1"
"""To be raised when what is made changes: kept bundles are then made anew."""


@dataclass(frozen=True)
class Season:
    """How much. Lines are shared out among the gateways evenly."""

    days: int = 182
    lines: int = 10
    gateways: int = 1
    seed: int = 1

    @property
    def windows(self) -> int:
        """About: the hours in which a gateway was off are not taken out."""
        return self.days * 1_440 * self.lines


def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


_ROOT_SEED = hashlib.sha256(b"root").digest()
LOG: Final = SignerKey("log.example/benchmark", Algorithm.ED25519, hashlib.sha256(b"log").digest())
ROOT: Final = SignerKey("example/root", Algorithm.ED25519, _ROOT_SEED)
POLICY: Final = Policy((LOG.verifier,), root_keys=(ROOT.verifier,))


def kept(season: Season, folder: Path | None = None) -> tuple[Path, Path]:
    """(bundle, policy) of the season: made, if the folder (a temporary one by default) does not have it yet."""
    folder = folder or Path(tempfile.gettempdir()) / "linetally-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    trust = folder / "benchmark.policy"
    trust.write_bytes(policy.format(POLICY))
    name = f"season-{FORM}-{season.days}-{season.lines}-{season.gateways}-{season.seed}.zip"
    file = folder / name
    if not file.exists():
        unfinished = folder / f".{name}"
        with unfinished.open("w+b") as out:
            bundle.write(_Maker(season).parts(), out)
        unfinished.replace(file)
    return file, trust


class _Maker:
    """Signs and logs a season, day by day."""

    def __init__(self, season: Season) -> None:
        self.season = season
        self.line_ids = [f"line-{i}" for i in range(season.lines)]
        third = season.days // 2 * DAY_MS
        between = season.days * DAY_MS // 14 // HOUR_MS * HOUR_MS
        self.plan = Plan(
            project_id=PROJECT,
            scheme=SCHEME,
            title="Ten lines, half a year",
            enterprise="Harbour Foods",
            line_ids=tuple(self.line_ids),
            baseline=Period(START_MS, START_MS + third),
            commissioning=Period(START_MS + third, START_MS + third + between),
            reporting=Period(START_MS + third + between, START_MS + season.days * DAY_MS),
            ideal_cycles_ns=PRODUCTS,
            min_shifts=2,
            timezone="Asia/Hong_Kong",
        )
        self.periods = (self.plan.baseline, self.plan.reporting)
        self.tallies = {line: tuple(Tally(line, period) for period in self.periods) for line in self.line_ids}
        self.chains: dict[Kid, list[bytes]] = {}
        self.frames: dict[Kid, list[tuple[int, RecordType, int, int]]] = {}
        self.included: list[Any] = []
        self.leaves: list[merkle.LeafHash] = []
        self.places: dict[tuple[Kid, int], int] = {}

    def parts(self) -> BundleParts:
        season = self.season
        share = -(-season.lines // season.gateways)
        gateways = [
            (f"gateway-{i}", _key(f"gateway-{i}"), self.line_ids[i * share : (i + 1) * share])
            for i in range(season.gateways)
        ]
        root = Ed25519PrivateKey.from_private_bytes(_ROOT_SEED)
        for name, key, lines in gateways:
            body = Enrolment(name, key.public_key().public_bytes_raw(), tuple(sorted(lines)), (PROJECT,))
            self._sign(root, SCHEME, START_MS, START_MS, body)
        self._sign(root, SCHEME, START_MS, START_MS, PlanStatement(self.plan.to_data()))
        for name, key, lines in gateways:
            self._gateway(name, key, lines, random.Random(f"{season.seed}/{name}"))
        return self._finished(key_id(root.public_key().public_bytes_raw()))

    def _gateway(self, name: str, key: Ed25519PrivateKey, lines: list[str], chance: random.Random) -> None:
        self._sign(key, name, START_MS, START_MS, Configurations(tuple(map(_configuration, lines))))
        for day in range(self.season.days):
            start = START_MS + day * DAY_MS
            off = start + HOUR_MS * chance.randrange(6, 20) if chance.random() < 0.05 else -1
            first: tuple[str, int, Window] | None = None
            for at in range(start, start + DAY_MS, STATEMENT_MS):
                if at // HOUR_MS * HOUR_MS == off:
                    if at == off:
                        for line in lines:
                            self._sign(key, name, off, off + HOUR_MS, Gap(line, off, off + HOUR_MS, "no power"))
                    continue
                stated = {line: tuple(_windows(at, chance)) for line in lines}
                body = Measurement(
                    tuple(
                        LineStatement(line, data_hash(_configuration(line)), _raw(at), windows)
                        for line, windows in sorted(stated.items())
                    )
                )
                sequence = self._sign(key, name, at, at + STATEMENT_MS, body)
                for line, windows in stated.items():
                    for window in windows:
                        for tally in self.tallies[line]:
                            if window.start_ms in tally.period:
                                tally.add(window)
                    if first is None and (good := [w for w in windows if w.account.good_count > 9]):
                        first = line, sequence, good[0]
                if at % HOUR_MS == 0:
                    self._sign(key, name, at, at, Heartbeat())
            if first is not None and day % 7 == 1:
                self._late_reject(key, name, start + DAY_MS - 1, *first)

    def _late_reject(
        self, key: Ed25519PrivateKey, name: str, at_ms: int, line: str, sequence: int, window: Window
    ) -> None:
        account = window.account
        cycle = PRODUCTS[window.product]
        good, reject, standard = map(ACCOUNT_FIELDS.index, ("good_count", "reject_count", "standard_good_ns"))
        fields = (
            FieldChange(good, account.good_count, account.good_count - 2),
            FieldChange(reject, account.reject_count, account.reject_count + 2),
            FieldChange(standard, account.good_count * cycle, (account.good_count - 2) * cycle),
        )
        change = WindowChange(window.start_ms, window.end_ms, sequence, fields)
        amendment = Amendment(line, AmendmentKind.REJECT, (change,), "QC lab", "late sample")
        said = self._sign(key, name, at_ms, at_ms, amendment)
        revisions = LineRevisions(line, lambda start: any(start in period for period in self.periods))
        kid = key_id(key.public_key().public_bytes_raw())
        revisions.add([window], Source(kid, sequence))
        if included := revisions.amend(amendment, Source(kid, said)):
            self.included.append(included)
            (tally,) = (each for each in self.tallies[line] if window.start_ms in each.period)
            tally.restate(window, revisions.windows[0].account)

    def _sign(self, key: Ed25519PrivateKey, issuer: str, start_ms: int, end_ms: int, body: Body) -> int:
        kid = key_id(key.public_key().public_bytes_raw())
        chain = self.chains.setdefault(kid, [])
        record = Record(
            sequence=len(chain),
            previous=RecordHash(hashlib.sha256(chain[-1]).digest()) if chain else NO_PREVIOUS,
            boot_id=bytes(range(16)),
            start_ms=start_ms,
            end_ms=end_ms,
            clock=Clock(start_ms - START_MS, end_ms - START_MS, "ntp", 1, 12, 64_000),
            body=body,
        )
        signed = sign_record(key, record, issuer=issuer, subject="Harbour Foods/Tai Po")
        chain.append(signed.raw)
        self.frames.setdefault(kid, []).append((record.sequence, record.type, start_ms, end_ms))
        self.places[kid, record.sequence] = len(self.leaves)
        self.leaves.append(merkle.leaf_hash(signed.raw))
        return record.sequence

    def _finished(self, root_kid: Kid) -> BundleParts:
        rows = [list[Any](self.leaves)]
        while len(rows[-1]) > 1:
            row = rows[-1]
            rows.append([merkle.node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])
        size = len(self.leaves)
        head = merkle.RootHash(merkle.subtree_root(lambda level, i: rows[level][i], 0, size))
        note = checkpoint.sign(Checkpoint(LOG.name, size, head), LOG)
        proofs: dict[tuple[Kid, int], bytes] = {}
        for kid, frames in self.frames.items():
            for sequence in sequences_to_prove(frames, (self.plan.reporting.from_ms,)):
                at = self.places[kid, sequence]
                path = tuple(merkle.inclusion_proof(lambda level, i: rows[level][i], at, size))
                proofs[kid, sequence] = proof.format(proof.TlogProof(at, path, note))
        registered = RegisteredPlan(self.plan, self.season.gateways)
        sums = (
            period_sums_of(self.plan, period, [self.tallies[line][i] for line in self.line_ids])
            for i, period in enumerate(self.periods)
        )
        included = sorted(self.included, key=lambda each: each.source)
        report = outcome_of(registered.plan, next(sums), next(sums), included).to_data()
        chains = {kid: records for kid, records in self.chains.items() if kid != root_kid}
        return BundleParts(chains, self.chains[root_kid], proofs, note, report)


def _configuration(line: str) -> dict[str, Any]:
    return {"line_id": line, "name": line.title(), "definition": ISO.to_data(), "window_ms": MINUTE_MS}


def _raw(at_ms: int) -> RawCommitment:
    return RawCommitment(hashlib.sha256(at_ms.to_bytes(8, "big")).digest(), 15, 900)


def _windows(at_ms: int, chance: random.Random) -> Iterator[Window]:
    """A quarter of an hour of one line."""
    product = tuple(PRODUCTS)[at_ms // 14_400_000 % len(PRODUCTS)]
    for start in range(at_ms, at_ms + STATEMENT_MS, MINUTE_MS):
        hour = start % DAY_MS // HOUR_MS
        day = f"{start // DAY_MS}"
        times = [0] * 11
        if hour < 6 or hour >= 22:
            times[10] = MINUTE_MS
            yield Window(start, start + MINUTE_MS, CalendarKind.NOT_SCHEDULED, "", "", "", TimeAccount(tuple(times)))
            continue
        shift = f"{day}/{'A' if hour < 14 else 'B'}"
        unseen = 5_000 if chance.random() < 0.002 else 0
        stopped = chance.randrange(60_000 - unseen) if chance.random() < 0.08 else 0
        setup = 0
        times[0], times[3], times[2] = unseen, stopped, setup
        times[1] = MINUTE_MS - sum(times)
        cycle = PRODUCTS[product]
        total = times[1] * chance.randrange(600, 999) * 1_000 // cycle
        reject = min(total, chance.randrange(4))
        account = TimeAccount(
            tuple(times),
            planned_ms=MINUTE_MS,
            total_count=total,
            good_count=total - reject,
            reject_count=reject,
            estimated_count=min(total, 3) if unseen else 0,
            standard_total_ns=total * cycle,
            standard_good_ns=(total - reject) * cycle,
            transition_count=2 if stopped else 0,
            stop_count=1 if stopped else 0,
            failure_count=1 if stopped else 0,
        )
        yield Window(start, start + MINUTE_MS, CalendarKind.SCHEDULED, product, "PO-7712", shift, account)
