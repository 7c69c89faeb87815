"""What a record can say: one dataclass for each type, and its wire form.

Decides the schema of each body. The measurement's rows are in `statement`, amendments in `amendment`; configurations
and plans are data of `protocols.measurement`, carried here as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from protocols.errors import Malformed
from protocols.evidence.amendment import amendment_from_wire, amendment_to_wire
from protocols.evidence.audit import Audit, audit_from_wire, audit_to_wire
from protocols.evidence.cose import KID_LENGTH, Kid
from protocols.evidence.fields import as_bytes, as_id, as_ids, as_int, as_list, as_map, as_text, as_time_ms
from protocols.evidence.keys import PUBLIC_KEY_LENGTH, SIGNATURE_LENGTH
from protocols.evidence.statement import LineStatement, lines_from_wire, lines_to_wire
from protocols.measurement.amendment import Amendment


class RecordType(StrEnum):
    """The wire name of each type."""

    MEASUREMENT = "measurement"
    CONFIG = "config"
    GAP = "gap"
    RAW_GAP = "raw-gap"
    HEARTBEAT = "heartbeat"
    AMENDMENT = "amendment"
    AUDIT = "audit"
    PLAN = "plan"
    ENROL = "enrol"
    ROTATE = "rotate"
    REVOKE = "revoke"


ROOT_TYPES: Final = frozenset({RecordType.PLAN, RecordType.ENROL, RecordType.ROTATE, RecordType.REVOKE})
"""What the scheme's root key signs, and only it; all else is a gateway's (an audit: an auditor's)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The windows of one or more lines, each line once."""

    lines: tuple[LineStatement, ...]


@dataclass(frozen=True, slots=True)
class Configurations:
    """`LineConfiguration.to_data()` of one or more lines. Measurements name its hash."""

    configurations: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """A signed void of one line, [from_ms, to_ms): it explains, and never counts as covered."""

    line_id: str
    from_ms: int
    to_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class RawGap:
    """Raw samples that the gateway does not hold, or no more: `chunks` chunks of a line, over (from_ms, to_ms].

    It explains why a challenge cannot be answered. What was measured of them stands, and counts as before.
    """

    line_id: str
    from_ms: int
    to_ms: int
    chunks: int
    reason: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing but the chain's next link: it guards the tail against being cut off."""


@dataclass(frozen=True, slots=True)
class PlanStatement:
    """`Plan.to_data()` of `protocols.measurement.outcome`: the evaluation, registered before its result exists."""

    plan: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The root key vouches for a gateway's key, for exactly these lines of these projects (ids ascending)."""

    gateway_id: str
    public_key: bytes
    line_ids: tuple[str, ...]
    project_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rotation:
    """A gateway's new key. Signatures (64 bytes each) of the old key and of the new one: see `rotation`."""

    gateway_id: str
    old_kid: Kid
    public_key: bytes
    old_signature: bytes
    new_signature: bytes


@dataclass(frozen=True, slots=True)
class Revocation:
    """From log index `first_invalid_index` on, nothing signed with `kid` counts.

    An index, not a time: whoever stole the key chooses its times, not the log's order.
    """

    gateway_id: str
    kid: Kid
    first_invalid_index: int
    reason: str


Body: TypeAlias = (
    Measurement
    | Configurations
    | Gap
    | RawGap
    | Heartbeat
    | Amendment
    | Audit
    | PlanStatement
    | Enrolment
    | Rotation
    | Revocation
)

_TYPES: Final[dict[type[Body], RecordType]] = {
    Measurement: RecordType.MEASUREMENT,
    Configurations: RecordType.CONFIG,
    Gap: RecordType.GAP,
    RawGap: RecordType.RAW_GAP,
    Heartbeat: RecordType.HEARTBEAT,
    Amendment: RecordType.AMENDMENT,
    Audit: RecordType.AUDIT,
    PlanStatement: RecordType.PLAN,
    Enrolment: RecordType.ENROL,
    Rotation: RecordType.ROTATE,
    Revocation: RecordType.REVOKE,
}
_BY_NAME: Final = {record_type.value: record_type for record_type in RecordType}
_FOUR_KEYS: Final = frozenset({1, 2, 3, 4})
_FIVE_KEYS: Final = frozenset({1, 2, 3, 4, 5})


def body_type(body: Body) -> RecordType:
    return _TYPES[type(body)]


def body_to_wire(body: Body, start_ms: int) -> object:
    """Plain data for `canonical.encode`."""
    match body:
        case Measurement(lines):
            return lines_to_wire(lines, start_ms)
        case Configurations(configurations):
            return list(configurations)
        case Gap():
            return [body.line_id, body.from_ms, body.to_ms, body.reason]
        case RawGap():
            return [body.line_id, body.from_ms, body.to_ms, body.chunks, body.reason]
        case Heartbeat():
            return {}
        case Amendment():
            return amendment_to_wire(body)
        case Audit():
            return audit_to_wire(body)
        case PlanStatement(plan):
            return plan
        case Enrolment():
            return {1: body.gateway_id, 2: body.public_key, 3: list(body.line_ids), 4: list(body.project_ids)}
        case Rotation():
            return {
                1: body.gateway_id, 2: body.old_kid, 3: body.public_key, 4: body.old_signature, 5: body.new_signature
            }  # fmt: skip
        case Revocation():
            return {1: body.gateway_id, 2: body.kid, 3: body.first_invalid_index, 4: body.reason}


def body_from_wire(type_name: object, value: object, start_ms: int, end_ms: int) -> Body:
    """The body of a record that spans [start_ms, end_ms). Raises Malformed, naming the field."""
    if not isinstance(type_name, str) or type_name not in _BY_NAME:
        raise Malformed(f"type: {type_name!r} is not a record type")
    match _BY_NAME[type_name]:
        case RecordType.MEASUREMENT:
            return Measurement(lines_from_wire(value, start_ms, end_ms))
        case RecordType.CONFIG:
            return _configurations(value)
        case RecordType.GAP:
            return _gap(value)
        case RecordType.RAW_GAP:
            return _raw_gap(value)
        case RecordType.HEARTBEAT:
            as_map(value, "body", frozenset())
            return Heartbeat()
        case RecordType.AMENDMENT:
            return amendment_from_wire(value)
        case RecordType.AUDIT:
            return audit_from_wire(value)
        case RecordType.PLAN:
            return PlanStatement(_text_keyed(value, "body"))
        case RecordType.ENROL:
            body = as_map(value, "body", _FOUR_KEYS)
            return Enrolment(
                as_id(body[1], "gateway id"),
                as_bytes(body[2], "public key", PUBLIC_KEY_LENGTH),
                as_ids(body[3], "line ids"),
                as_ids(body[4], "project ids"),
            )
        case RecordType.ROTATE:
            body = as_map(value, "body", _FIVE_KEYS)
            return Rotation(
                as_id(body[1], "gateway id"),
                Kid(as_bytes(body[2], "old kid", KID_LENGTH)),
                as_bytes(body[3], "public key", PUBLIC_KEY_LENGTH),
                as_bytes(body[4], "old key's signature", SIGNATURE_LENGTH),
                as_bytes(body[5], "new key's signature", SIGNATURE_LENGTH),
            )
        case RecordType.REVOKE:
            body = as_map(value, "body", _FOUR_KEYS)
            return Revocation(
                as_id(body[1], "gateway id"),
                Kid(as_bytes(body[2], "kid", KID_LENGTH)),
                as_int(body[3], "first invalid index"),
                as_text(body[4], "reason", empty=False),
            )


def _gap(value: object) -> Gap:
    line_id, from_ms, to_ms, reason = as_list(value, "body", 4)
    gap = Gap(
        as_id(line_id, "line id"),
        as_time_ms(from_ms, "gap start"),
        as_time_ms(to_ms, "gap end"),
        as_text(reason, "reason", empty=False),
    )
    if gap.to_ms <= gap.from_ms:
        raise Malformed("gap: ends before it starts, or is empty")
    return gap


def _raw_gap(value: object) -> RawGap:
    line_id, from_ms, to_ms, chunks, reason = as_list(value, "body", 5)
    gap = RawGap(
        as_id(line_id, "line id"),
        as_time_ms(from_ms, "raw gap's start"),
        as_time_ms(to_ms, "raw gap's end"),
        as_int(chunks, "raw gap's chunks", 1),
        as_text(reason, "reason", empty=False),
    )
    if gap.to_ms <= gap.from_ms:
        raise Malformed("raw gap: ends before it starts, or is empty")
    return gap


def _configurations(value: object) -> Configurations:
    items = as_list(value, "body")
    configurations = tuple(_text_keyed(item, f"body[{i}]") for i, item in enumerate(items))
    line_ids = [as_id(item.get("line_id"), f"body[{i}]: line_id") for i, item in enumerate(configurations)]
    if not line_ids or len(set(line_ids)) != len(line_ids):
        raise Malformed("body: a config record needs one configuration or more, each of another line")
    return Configurations(configurations)


def _text_keyed(value: object, name: str) -> dict[str, Any]:
    data = as_map(value, name)
    if not all(isinstance(key, str) for key in data):
        raise Malformed(f"{name}: its keys must be text")
    return data
