"""Small records, keys and chains for tests. Fixed keys: every byte is the same in each run."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.evidence.record import (
    NO_PREVIOUS,
    Body,
    CheckpointSeen,
    Clock,
    LineStatement,
    Measurement,
    RawCommitment,
    Record,
    RecordHash,
    SignedRecord,
    sign_record,
)
from protocols.measurement.account import CalendarKind, TimeAccount, Window

START_MS = 1_780_272_000_000  # 2026-06-01 00:00 UTC
WINDOW_MS = 60_000
GATEWAY = "gateway-1"
SITE = "Acme Foods/Tai Po"


def private_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


GATEWAY_KEY = private_key("gateway")
ROOT_KEY = private_key("root")


def window(start_ms: int, length_ms: int = WINDOW_MS, *, good: int = 95, product: str = "Cola 330 ml") -> Window:
    account = TimeAccount(
        category_ms=(0, length_ms - 3_000, 1_000, 0, 2_000, 0, 0, 0, 0, 0, 0),
        planned_ms=length_ms,
        total_count=good + 5,
        good_count=good,
        reject_count=5,
        standard_total_ns=(good + 5) * 500_000_000,
        standard_good_ns=good * 500_000_000,
        transition_count=4,
        minor_stop_count=1,
    )
    return Window(start_ms, start_ms + length_ms, CalendarKind.SCHEDULED, product, "PO-7", "2026-06-01/A", account)


def line_statement(line_id: str = "filling", start_ms: int = START_MS, windows: int = 15) -> LineStatement:
    return LineStatement(
        line_id,
        hashlib.sha256(line_id.encode()).digest(),
        RawCommitment(hashlib.sha256(b"raw").digest(), windows, windows * 60),
        tuple(window(start_ms + i * WINDOW_MS) for i in range(windows)),
    )


def record(
    body: Body | None = None,
    *,
    sequence: int = 0,
    previous: RecordHash = NO_PREVIOUS,
    start_ms: int = START_MS,
    end_ms: int = START_MS + 15 * WINDOW_MS,
    seen: CheckpointSeen | None = None,
) -> Record:
    return Record(
        sequence=sequence,
        previous=previous,
        boot_id=bytes(range(16)),
        start_ms=start_ms,
        end_ms=end_ms,
        clock=Clock(1_000, 1_000 + end_ms - start_ms, "ntp", -3, 12, 64_000),
        body=body or Measurement((line_statement(), line_statement("packing"))),
        checkpoint_seen=seen,
    )


def signed(
    body_record: Record | None = None, key: Ed25519PrivateKey = GATEWAY_KEY, issuer: str = GATEWAY
) -> SignedRecord:
    return sign_record(key, body_record or record(), issuer=issuer, subject=SITE)


def chain(*bodies: Body, key: Ed25519PrivateKey = GATEWAY_KEY, issuer: str = GATEWAY) -> list[SignedRecord]:
    """A chain of these bodies, from sequence 0."""
    records: list[SignedRecord] = []
    for i, body in enumerate(bodies):
        previous = records[-1].hash if records else NO_PREVIOUS
        records.append(signed(record(body, sequence=i, previous=previous), key, issuer))
    return records
