"""Enrolment: how a gateway's key gets in, from a one-time token to the root key's signature.

Decides what an enrolment request must show and what is left to a person: nobody is active before somebody has compared
the fingerprint and signed an `enrol` record with the root key (`root`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import IntegrityError

from hub import database as db
from hub.projections.projector import fingerprint
from hub.registry import Gateway, GatewayState, Registry, token_hash
from protocols.errors import Refused, Unverified
from protocols.evidence.bodies import Enrolment, Revocation
from protocols.evidence.cose import Kid, key_id
from protocols.evidence.keys import load_public_key
from protocols.wire.enrolment import EnrolmentRequest

TOKEN_LIFE_MS: Final = 24 * 3_600_000
_BAD_TOKEN: Final = "the token is wrong, used up or older than 24 hours: ask the secretariat for a new one"  # noqa: S105


def issue_token(engine: Engine, project_id: str, now_ms: int, life_ms: int = TOKEN_LIFE_MS) -> str:
    """A one-time token for one gateway of a project. Shown once: only its SHA-256 is kept. Raises Refused."""
    project = Registry(engine).project(project_id)
    if project is None:
        raise Refused("not-found", f"there is no project {project_id!r}; see `linetally-hub project list`")
    text = "lte_" + secrets.token_urlsafe(32)
    with engine.begin() as connection:
        connection.execute(delete(db.enrolment_token).where(db.enrolment_token.c.expires_ms <= now_ms))
        connection.execute(
            db.enrolment_token.insert().values(
                token_sha256=token_hash(text), project_id=project.id, enterprise_id=project.enterprise_id,
                expires_ms=now_ms + life_ms,
            )
        )  # fmt: skip
    return text


def enrol(engine: Engine, request: Mapping[str, Any], now_ms: int) -> Gateway:
    """The pending gateway of a good request; the token is used up. The same request again gives the same gateway.

    Raises Malformed for a request that is no such object; Refused for a bad token, key or signature, an id that is
    taken, or lines that are not the project's. Nothing is told to whoever lacks a token.
    """
    asked = EnrolmentRequest.from_json(request)
    gateway_id, public_key = asked.gateway_id, asked.public_key
    t = db.enrolment_token.c
    with engine.begin() as connection:
        of_token = select(db.enrolment_token).where(t.token_sha256 == token_hash(asked.token))
        row = connection.execute(of_token).one_or_none()
        if row is None or row.expires_ms <= now_ms:
            raise Refused("bad-token", _BAD_TOKEN)
        try:
            asked.check()
        except Unverified:
            raise Refused("bad-signature", "the signature over the token does not hold") from None
        kid = key_id(public_key)
        if row.used_ms is not None:
            known = Registry(engine).gateway(gateway_id)
            if row.gateway_id == gateway_id and known is not None and known.kid == kid:
                return known  # the answer to the first request was lost on the way
            raise Refused("bad-token", _BAD_TOKEN)
        lines = _lines(engine, row.project_id, asked.lines)
        gateway = Gateway(
            id=gateway_id, enterprise_id=row.enterprise_id, project_id=row.project_id, kid=kid, public_key=public_key,
            fingerprint=fingerprint(public_key), state=GatewayState.PENDING, lines=lines, created_ms=now_ms,
        )  # fmt: skip
        # Taken by compare-and-set: of two requests at once only one finds the token unused.
        taken = connection.execute(
            db.enrolment_token.update().where(t.token_sha256 == row.token_sha256, t.used_ms.is_(None))
            .values(used_ms=now_ms, gateway_id=gateway_id)
        )  # fmt: skip
        if taken.rowcount != 1:
            raise Refused("bad-token", _BAD_TOKEN)
        # A gateway that nobody approved may enrol again: its device may have lost the first key.
        connection.execute(
            delete(db.gateway).where(
                db.gateway.c.id == gateway_id, db.gateway.c.state == "pending",
                db.gateway.c.project_id == row.project_id,
            )
        )  # fmt: skip
        try:
            connection.execute(
                db.gateway.insert().values(
                    id=gateway.id, enterprise_id=gateway.enterprise_id, project_id=gateway.project_id, kid=kid,
                    public_key=public_key, fingerprint=gateway.fingerprint, state=gateway.state.value,
                    lines=list(lines), created_ms=now_ms,
                )
            )  # fmt: skip
        except IntegrityError:
            raise Refused(
                "exists", f"a gateway {gateway_id!r} or this key is enrolled already: choose another gateway id and key"
            ) from None
    return gateway


def approval(registry: Registry, gateway_id: str) -> Enrolment:
    """What the root key signs to approve a pending gateway. Raises Refused."""
    gateway = _known(registry, gateway_id)
    if gateway.state is not GatewayState.PENDING:
        raise Refused("not-pending", f"{gateway_id} is {gateway.state.value} already")
    load_public_key(gateway.public_key)
    return Enrolment(gateway.id, gateway.public_key, tuple(sorted(gateway.lines)), (gateway.project_id,))


def revocation(registry: Registry, gateway_id: str, first_invalid_index: int, reason: str) -> Revocation:
    """What the root key signs so that nothing of this key counts from that leaf on. Raises Refused."""
    gateway = _known(registry, gateway_id)
    if gateway.state is not GatewayState.ACTIVE:
        raise Refused("not-active", f"{gateway_id} is {gateway.state.value}; only an active gateway can be revoked")
    return Revocation(gateway.id, Kid(gateway.kid), first_invalid_index, reason)


def _known(registry: Registry, gateway_id: str) -> Gateway:
    gateway = registry.gateway(gateway_id)
    if gateway is None:
        known = ", ".join(each.id for each in registry.gateways()) or "none yet"
        raise Refused("not-found", f"there is no gateway {gateway_id!r}; there are: {known}")
    return gateway


def _lines(engine: Engine, project_id: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The lines that the gateway will speak for: those it asks for, or all of the project's."""
    there = {line.id for line in Registry(engine).lines(project_id=project_id)}
    if not there:
        raise Refused("no-lines", f"project {project_id} has no lines yet: `linetally-hub line add` first")
    if foreign := sorted(set(wanted) - there):
        raise Refused(
            "foreign-line",
            f"{', '.join(foreign)} is not a line of project {project_id}, which has: {', '.join(sorted(there))}",
        )
    return tuple(sorted(set(wanted) if wanted else there))
