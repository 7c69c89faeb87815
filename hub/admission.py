"""Admission: which statements enter the log. Pure: bytes and an immutable view of the hub's state in, a verdict out.

Decides, in this order: size, form, key known and active, signature, issuer and topic, who may sign what, lines,
place in the chain. Does not decide what the numbers are worth (the verifier), nor whether an amendment has an effect (a
chain that could not go on after one would be worse than an amendment without one), nor store anything (`ingest`).

Identity is (kid, sequence) with the record's hash, never the signature's bytes: the same hash again is a duplicate and
gets its receipt again; another hash for the same sequence is a fork, and the pair of records proves it to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence.audit import Audit
from protocols.evidence.bodies import (
    ROOT_TYPES,
    Configurations,
    Enrolment,
    Gap,
    Heartbeat,
    Measurement,
    PlanStatement,
    RawGap,
    Revocation,
    Rotation,
)
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.keys import load_public_key
from protocols.evidence.record import MAX_BYTES, NO_PREVIOUS, RecordHash, SignedRecord, record_hash
from protocols.evidence.rotation import check_rotation
from protocols.evidence.swift_records import read_records
from protocols.measurement.amendment import Amendment
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.plan import Plan


@dataclass(frozen=True, slots=True)
class Key:
    """A public key (32 bytes) and its right. `owner`: the gateway's id; of a root key, its name.

    `refusal`: None for an active key, else (code, words), e.g. of a gateway that nobody has approved yet.
    """

    public_key: bytes
    owner: str
    lines: frozenset[str] = frozenset()
    is_root: bool = False
    refusal: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a key's chain stands: the sequence that comes next, and the hash that it must name as previous.

    `subject`: what the chain's records say they are of; "" before the first. A chain that changed it would not verify.
    """

    next_sequence: int = 0
    hash: RecordHash = NO_PREVIOUS
    subject: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What admission knows. `logged`: (kid, sequence) to hash, at least for the sequences that are asked for."""

    keys: Mapping[Kid, Key]
    heads: Mapping[Kid, Head]
    logged: Mapping[tuple[Kid, int], RecordHash]


@dataclass(frozen=True, slots=True)
class Admitted:
    """To be appended to the log."""

    record: SignedRecord


@dataclass(frozen=True, slots=True)
class Duplicate:
    """In the log already: send its receipt again."""

    record: SignedRecord


@dataclass(frozen=True, slots=True)
class Fork:
    """The log has another record with this key and sequence: keep both, tell a person."""

    record: SignedRecord
    logged_hash: RecordHash


@dataclass(frozen=True, slots=True)
class Ahead:
    """Something before it has not arrived. Not kept: the gateway's spool has it, and sends in order again."""

    record: SignedRecord
    expected_sequence: int


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """`record` is None where the bytes do not parse; `hash` is of the bytes as they came.

    `genuine`: the signature held, so the fault is the key owner's and not a stranger's.
    """

    hash: RecordHash
    code: str
    words: str
    record: SignedRecord | None = None
    genuine: bool = False
    expected_sequence: int | None = None


Verdict: TypeAlias = Admitted | Duplicate | Fork | Ahead | NotAdmitted

GATEWAY_NAMES: Final = "check which gateway this broker account belongs to"


def admit(raw: bytes, state: State, topic_gateway_id: str | None = None) -> Verdict:
    """The verdict on one statement. `topic_gateway_id`: from the topic it came by; None for a local submission.

    Never raises for any bytes whatever.
    """
    examined = examine(raw, state.keys, topic_gateway_id)
    if isinstance(examined, NotAdmitted):
        return examined
    key = (examined.kid, examined.record.sequence)
    return place(examined, state.heads.get(examined.kid, Head()), state.logged.get(key))


def examine_all(
    arrived: Sequence[tuple[bytes, str | None]], keys: Mapping[Kid, Key]
) -> list[SignedRecord | NotAdmitted]:
    """`examine` of a batch's (bytes, gateway id of the topic).

    All are read before the first signature is checked: many records are read faster at once than one by one.
    """
    read = read_records([raw for raw, _ in arrived])
    return [
        _unread(raw, found) if isinstance(found, Malformed) else _vouch(found, keys, topic)
        for found, (raw, topic) in zip(read, arrived, strict=True)
    ]


def examine(raw: bytes, keys: Mapping[Kid, Key], topic_gateway_id: str | None) -> SignedRecord | NotAdmitted:
    """Everything that does not depend on the chain. One signature check."""
    return examine_all([(raw, topic_gateway_id)], keys)[0]


def _unread(raw: bytes, error: Malformed) -> NotAdmitted:
    if len(raw) > MAX_BYTES:
        # Not even hashed in full: the size cap comes before any work.
        return NotAdmitted(record_hash(raw[:MAX_BYTES]), "too-large", f"{len(raw)} bytes; at most {MAX_BYTES}")
    return NotAdmitted(record_hash(raw), "malformed", str(error))


def _vouch(record: SignedRecord, keys: Mapping[Kid, Key], topic_gateway_id: str | None) -> SignedRecord | NotAdmitted:
    key = keys.get(record.kid)
    if key is None:
        words = f"key {record.kid.hex()} is not enrolled here: run `linetally-agent enrol` with a token of this hub"
        return NotAdmitted(record.hash, "not-enrolled", words, record)
    if key.refusal is not None:
        return NotAdmitted(record.hash, *key.refusal, record)
    try:
        record.verify(load_public_key(key.public_key))
    except (Unverified, Refused) as error:
        return NotAdmitted(record.hash, "signature", str(error), record)
    try:
        _check_rights(record, key, topic_gateway_id)
        if isinstance(record.record.body, Rotation):
            _check_rotation(record.record.body, keys)
    except Unverified as error:
        return NotAdmitted(record.hash, "signature", str(error), record, genuine=True)
    except Refused as refused:
        return NotAdmitted(record.hash, refused.code, refused.words, record, genuine=True)
    except Malformed as error:
        return NotAdmitted(record.hash, "malformed", str(error), record, genuine=True)
    return record


def place(record: SignedRecord, head: Head, logged_hash: RecordHash | None) -> Verdict:
    """Where an examined record stands in its chain. `logged_hash`: of the logged record with its sequence, if any."""
    sequence = record.record.sequence
    if sequence > head.next_sequence:
        return Ahead(record, head.next_sequence)
    if sequence < head.next_sequence:
        assert logged_hash is not None, "a sequence below the head is in the log"
        return Duplicate(record) if logged_hash == record.hash else Fork(record, logged_hash)
    if record.record.previous != head.hash:
        # Its predecessor is another one than the log has: the sender forked one step earlier.
        words = (
            f"record {sequence} follows {record.record.previous.hex()[:16]}…, but record {sequence - 1} in the log is "
            f"{head.hash.hex()[:16]}…: two agents share this key, or its spool was restored from an old copy"
        )
        return NotAdmitted(record.hash, "broken-chain", words, record, genuine=True, expected_sequence=sequence)
    if head.subject and record.subject != head.subject:
        words = f"the chain is of {head.subject!r}, the record of {record.subject!r}: write the old site name again"
        return NotAdmitted(record.hash, "wrong-subject", words, record, genuine=True, expected_sequence=sequence)
    return Admitted(record)


def _check_rights(record: SignedRecord, key: Key, topic_gateway_id: str | None) -> None:
    """Raises Refused where this key may not say this here, Malformed for a body that its own type refuses."""
    root_signed = record.record.type in ROOT_TYPES
    if root_signed != key.is_root:
        who = "the scheme's root key" if root_signed else "a gateway"
        raise Refused("wrong-signer", f"a {record.record.type.value} record must be signed by {who}")
    if topic_gateway_id is not None:
        if key.is_root:
            raise Refused("wrong-way", "root-signed records are submitted with `linetally-hub`, never over MQTT")
        if topic_gateway_id != key.owner:
            raise Refused(
                "wrong-topic", f"a statement of {key.owner} came by the topic of {topic_gateway_id}: {GATEWAY_NAMES}"
            )
    if record.issuer != key.owner:
        raise Refused("wrong-issuer", f"the key belongs to {key.owner}, and the record says {record.issuer}")
    if isinstance(record.record.body, Audit) and (key.lines or topic_gateway_id is not None):
        raise Refused("not-an-auditor", f"{key.owner} is enrolled to measure: an audit is signed with an auditor's key")
    lines = _lines_of(record)
    if foreign := sorted(lines - key.lines) if not key.is_root else []:
        raise Refused("foreign-line", f"{key.owner} is not enrolled for {', '.join(foreign)}")


def _lines_of(record: SignedRecord) -> set[str]:
    """The lines that a record speaks about. Raises Malformed for a configuration that does not parse."""
    match record.record.body:
        case Measurement(lines):
            return {line.line_id for line in lines}
        case Configurations(configurations):
            return {_configured_line(data) for data in configurations}
        case Gap(line_id) | RawGap(line_id) | Amendment(line_id):
            return {line_id}
        case Enrolment() as enrolment:
            _check_key(enrolment.public_key)
        case Rotation() as rotation:
            _check_key(rotation.public_key)
        case PlanStatement(plan):
            Plan.from_data(plan)
        case Revocation() | Heartbeat() | Audit():
            pass
    return set()


def _configured_line(data: Mapping[str, Any]) -> str:
    configuration = LineConfiguration.from_data(data)
    # One configuration has one form, or its hash would not name it.
    if configuration.to_data() != data:
        raise Malformed(f"the configuration of line {configuration.line_id} is not in its one form")
    return configuration.line_id


def _check_rotation(body: Rotation, keys: Mapping[Kid, Key]) -> None:
    """Raises Refused where the old key is not the gateway's active one, Unverified for a missing consent of a key."""
    new = keys.get(key_id(body.public_key))
    if new is not None and new.owner == body.gateway_id and body.old_kid not in keys:
        return  # logged before: its place in the chain says that it is a duplicate
    old = keys.get(body.old_kid)
    if old is None or old.is_root or old.owner != body.gateway_id:
        raise Refused("not-enrolled", f"key {body.old_kid.hex()} is not a key of {body.gateway_id}")
    if old.refusal is not None:
        raise Refused(*old.refusal)
    if new is not None:
        raise Refused("key-taken", f"the new key of {body.gateway_id} is enrolled already")
    check_rotation(body, old.public_key)


def _check_key(public_key: bytes) -> None:
    """A weak key refused here never reaches the registry, whoever signed for it. Raises Refused."""
    load_public_key(public_key)
