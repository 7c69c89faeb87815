"""The record: what a gateway or a scheme's root key signs, to the byte.

Decides the record's frame, its limits and its wire form as canonical CBOR (docs/formats.md has the table and the
CDDL); the bodies are in `bodies` and `statement`. Does not decide who may sign what, nor whether a chain of records
holds (`chain`, `verify`, the hub's admission).

`decode_record(encode_record(r)) == r`, and `encode_record(decode_record(b)) == b` for every `b` that is accepted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, NewType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.errors import Malformed
from protocols.evidence import canonical, cose
from protocols.evidence.bodies import (
    ROOT_TYPES,
    Body,
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    Measurement,
    PlanStatement,
    RawGap,
    RecordType,
    Revocation,
    Rotation,
    body_from_wire,
    body_to_wire,
    body_type,
)
from protocols.evidence.cose import Kid
from protocols.evidence.fields import as_bytes, as_int, as_list, as_map, as_optional_int, as_text, as_time_ms
from protocols.evidence.statement import LineStatement, RawCommitment
from protocols.measurement.amendment import Amendment

__all__ = [
    "CONTENT_TYPE", "MAX_BYTES", "NO_PREVIOUS", "ROOT_TYPES", "VERSION", "Amendment", "Body", "CheckpointSeen", "Clock",
    "Configurations", "Enrolment", "Gap", "Heartbeat", "LineStatement", "Measurement", "PlanStatement", "RawCommitment",
    "RawGap", "Record", "RecordHash", "RecordType", "Revocation", "Rotation", "SignedRecord", "decode_record",
    "encode_record", "fits", "record_hash", "sign_record",
]  # fmt: skip

RecordHash = NewType("RecordHash", bytes)
"""32 bytes: SHA-256 of the whole COSE_Sign1 message."""

VERSION: Final = 1
CONTENT_TYPE: Final = "application/vnd.linetally.record+cbor"
MAX_BYTES: Final = cose.MAX_BYTES
NO_PREVIOUS: Final = RecordHash(bytes(32))
"""The previous hash of the first record of a key."""
BOOT_ID_LENGTH: Final = 16

_KEYS: Final = frozenset(range(1, 10))
_VERSION, _TYPE, _SEQUENCE, _PREVIOUS, _BOOT_ID, _SPAN, _CLOCK, _BODY, _SEEN = range(1, 10)
MAX_OFFSET_MS: Final = 2**53


@dataclass(frozen=True, slots=True)
class Clock:
    """What the gateway knew of its clock when it made the record.

    `boot_start_ms`, `boot_end_ms`: CLOCK_BOOTTIME at both edges of the record's span. `source`: "ntp", "none",
    "simulated"... `offset_ms` (may be negative), `error_ms` and `age_ms` (since the last synchronization): None
    where the source does not tell, which is not the same as 0.
    """

    boot_start_ms: int
    boot_end_ms: int
    source: str
    offset_ms: int | None = None
    error_ms: int | None = None
    age_ms: int | None = None

    @property
    def is_simulated(self) -> bool:
        return self.source == "simulated"


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """The newest checkpoint of the log that the gateway had verified: the record is younger than it."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a key's chain. `start_ms`, `end_ms`: the half-open span that it speaks about (equal for none).

    `previous`: hash of the same key's record `sequence - 1`; zeros exactly for sequence 0.
    """

    sequence: int
    previous: RecordHash
    boot_id: bytes
    start_ms: int
    end_ms: int
    clock: Clock
    body: Body
    checkpoint_seen: CheckpointSeen | None = None

    @property
    def type(self) -> RecordType:
        return body_type(self.body)


def encode_record(record: Record) -> bytes:
    """The payload to be signed. Raises Malformed for a record that `decode_record` would refuse, or a long one."""
    payload = _to_wire(record)
    if len(payload) > MAX_BYTES:
        raise Malformed(f"a payload of {len(payload)} bytes; an entry of the log holds at most {MAX_BYTES}: split it")
    if decode_record(payload) != record:  # a str or int subclass, a list where a tuple is meant
        raise Malformed("the record does not come back the same from its wire form")
    return payload


def decode_record(payload: bytes) -> Record:
    """The record whose payload this is. Raises Malformed, naming the field that is wrong."""
    wire = as_map(canonical.decode(payload, MAX_BYTES), "record", _KEYS)
    as_int(wire[_VERSION], "version", VERSION, VERSION)
    start_ms, end_ms = as_list(wire[_SPAN], "span", 2)
    start_ms, end_ms = as_time_ms(start_ms, "span start"), as_time_ms(end_ms, "span end")
    if end_ms < start_ms:
        raise Malformed("span: ends before it starts")
    sequence = as_int(wire[_SEQUENCE], "sequence")
    previous = RecordHash(as_bytes(wire[_PREVIOUS], "previous", len(NO_PREVIOUS)))
    if (sequence == 0) != (previous == NO_PREVIOUS):
        raise Malformed("previous: must be zeros for sequence 0, and for no other")
    return Record(
        sequence=sequence,
        previous=previous,
        boot_id=as_bytes(wire[_BOOT_ID], "boot id", BOOT_ID_LENGTH),
        start_ms=start_ms,
        end_ms=end_ms,
        clock=_clock_from_wire(wire[_CLOCK]),
        body=body_from_wire(wire[_TYPE], wire[_BODY], start_ms, end_ms),
        checkpoint_seen=_seen_from_wire(wire[_SEEN]),
    )


def record_hash(message: bytes) -> RecordHash:
    """SHA-256 of a record's COSE_Sign1 bytes: what the next record, the receipt and the index name."""
    return RecordHash(hashlib.sha256(message).digest())


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record as it travels: `raw` is its COSE_Sign1 bytes, and all else is read from them.

    Raises Malformed for anything but the one form. The signature is checked by `verify` alone.
    """

    raw: bytes
    message: cose.Sign1 = field(init=False, repr=False, compare=False)
    record: Record = field(init=False, compare=False)
    hash: RecordHash = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        message = cose.parse(self.raw)
        if message.content_type != CONTENT_TYPE:
            raise Malformed(f"the content type must be {CONTENT_TYPE}")
        self._know(message, decode_record(message.payload))

    @classmethod
    def of(cls, raw: bytes, message: cose.Sign1, record: Record) -> SignedRecord:
        """For `swift_records` alone, which has read both from `raw` as strictly as it is done here."""
        signed = object.__new__(cls)
        object.__setattr__(signed, "raw", raw)
        signed._know(message, record)
        return signed

    def _know(self, message: cose.Sign1, record: Record) -> None:
        object.__setattr__(self, "message", message)
        object.__setattr__(self, "record", record)
        object.__setattr__(self, "hash", record_hash(self.raw))

    @property
    def kid(self) -> Kid:
        return self.message.kid

    @property
    def issuer(self) -> str:
        """The gateway's id; the scheme's for a record of its root key."""
        return self.message.issuer

    @property
    def subject(self) -> str:
        """Enterprise and site, as the gateway's configuration gives them."""
        return self.message.subject

    def verify(self, public_key: Ed25519PublicKey) -> None:
        """Raises Unverified unless `public_key` signed exactly these bytes."""
        self.message.verify(public_key)


def sign_record(private_key: Ed25519PrivateKey, record: Record, *, issuer: str, subject: str) -> SignedRecord:
    """Raises Malformed for a record that cannot be encoded or is too long (`fits` tells before)."""
    payload = encode_record(record)
    return SignedRecord(cose.sign1(private_key, payload, issuer=issuer, subject=subject, content_type=CONTENT_TYPE))


def fits(record: Record, *, issuer: str, subject: str) -> bool:
    """Whether the signed record would be an entry of the log; if not, the statement must be split."""
    length = len(_to_wire(record))
    return cose.signed_length(length, issuer=issuer, subject=subject, content_type=CONTENT_TYPE) <= MAX_BYTES


def _to_wire(record: Record) -> bytes:
    clock, seen = record.clock, record.checkpoint_seen
    return canonical.encode(
        {
            _VERSION: VERSION,
            _TYPE: record.type.value,
            _SEQUENCE: record.sequence,
            _PREVIOUS: record.previous,
            _BOOT_ID: record.boot_id,
            _SPAN: [record.start_ms, record.end_ms],
            _CLOCK: [
                clock.boot_start_ms, clock.boot_end_ms, clock.source, clock.offset_ms, clock.error_ms, clock.age_ms,
            ],
            _BODY: body_to_wire(record.body, record.start_ms),
            _SEEN: None if seen is None else [seen.size, seen.root],
        }
    )  # fmt: skip


def _clock_from_wire(value: Any) -> Clock:
    boot_start, boot_end, source, offset, error, age = as_list(value, "clock", 6)
    clock = Clock(
        as_int(boot_start, "clock: boot time at the start"),
        as_int(boot_end, "clock: boot time at the end"),
        as_text(source, "clock: source", empty=False),
        as_optional_int(offset, "clock: offset", -MAX_OFFSET_MS, MAX_OFFSET_MS),
        as_optional_int(error, "clock: error"),
        as_optional_int(age, "clock: age"),
    )
    # CLOCK_BOOTTIME never goes back while boot_id stays, and a record never spans two boots.
    if clock.boot_end_ms < clock.boot_start_ms:
        raise Malformed("clock: boot time at the end is before that at the start")
    return clock


def _seen_from_wire(value: Any) -> CheckpointSeen | None:
    if value is None:
        return None
    size, root = as_list(value, "checkpoint seen", 2)
    return CheckpointSeen(as_int(size, "checkpoint seen: size"), as_bytes(root, "checkpoint seen: root", 32))
