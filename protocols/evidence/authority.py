"""Authority: what the scheme's root key allowed, read from its own chain of records.

Decides which gateway key may speak for which lines and projects, up to which place in the log, and which plans are
registered. The caller has checked the chain's signatures, links and places in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from protocols.errors import Refused
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.keys import load_public_key
from protocols.evidence.policy import Revoked
from protocols.evidence.record import Enrolment, PlanStatement, Revocation, Rotation, SignedRecord
from protocols.evidence.rotation import check_rotation
from protocols.measurement.plan import Plan


@dataclass(frozen=True, slots=True)
class Gateway:
    """What one gateway key may do. `first_invalid_index`: from this log index on, nothing (None: never revoked)."""

    gateway_id: str
    public_key: bytes
    line_ids: frozenset[str]
    project_ids: frozenset[str]
    first_invalid_index: int | None = None

    @property
    def kid(self) -> Kid:
        return key_id(self.public_key)


@dataclass(frozen=True, slots=True)
class RegisteredPlan:
    """A plan and its place in the log."""

    plan: Plan
    log_index: int


@dataclass(frozen=True, slots=True)
class Authority:
    gateways: dict[Kid, Gateway]
    plans: tuple[RegisteredPlan, ...]


def read_authority(records: Iterable[tuple[SignedRecord, int]], revoked: Sequence[Revoked] = ()) -> Authority:
    """Fold the root key's records, each with its log index, in order; `revoked`: what the policy says besides.

    A rotation ends the old key at its own place in the log: from there on the hub takes nothing of it, and whoever
    finds the old key later could otherwise go on with its chain.

    Raises Refused for a record that contradicts an earlier one, a weak key, or a type that the root key does not
    sign; Unverified for a rotation that the old or the new key did not sign; Malformed for a plan that does not parse.
    """
    gateways: dict[Kid, Gateway] = {}
    plans: list[RegisteredPlan] = []
    for record, log_index in records:
        match record.record.body:
            case Enrolment() as body:
                load_public_key(body.public_key)
                new = Gateway(body.gateway_id, body.public_key, frozenset(body.line_ids), frozenset(body.project_ids))
                gateways[new.kid] = _joined(gateways.get(new.kid), new)
            case Rotation() as body:
                old = _known(gateways, body.old_kid, body.gateway_id)
                check_rotation(body, old.public_key)
                new = Gateway(old.gateway_id, body.public_key, old.line_ids, old.project_ids)
                gateways[new.kid] = _joined(gateways.get(new.kid), new)
                gateways[old.kid] = _ended(old, log_index)
            case Revocation() as body:
                gateways[body.kid] = _ended(_known(gateways, body.kid, body.gateway_id), body.first_invalid_index)
            case PlanStatement() as body:
                plans.append(RegisteredPlan(Plan.from_data(body.plan), log_index))
            case _:
                raise Refused("wrong-signer", f"the root key does not sign records of type {record.record.type}")
    for each in revoked:
        if each.kid in gateways:
            gateways[each.kid] = _ended(gateways[each.kid], each.first_invalid_index)
    return Authority(gateways, tuple(plans))


def _ended(gateway: Gateway, index: int) -> Gateway:
    """Nothing counts from `index` on. A later end never gives anything back."""
    first = gateway.first_invalid_index
    return replace(gateway, first_invalid_index=index if first is None else min(first, index))


def _joined(old: Gateway | None, new: Gateway) -> Gateway:
    """An enrolment again adds lines and projects; it takes nothing away and revives nothing."""
    if old is None:
        return new
    if old.public_key != new.public_key or old.gateway_id != new.gateway_id:
        raise Refused("key-taken", f"the key of {old.gateway_id} was enrolled again as {new.gateway_id}'s")
    return replace(old, line_ids=old.line_ids | new.line_ids, project_ids=old.project_ids | new.project_ids)


def _known(gateways: dict[Kid, Gateway], kid: Kid, gateway_id: str) -> Gateway:
    gateway = gateways.get(kid)
    if gateway is None or gateway.gateway_id != gateway_id:
        raise Refused("not-enrolled", f"key {kid.hex()} was never enrolled for {gateway_id}")
    return gateway
