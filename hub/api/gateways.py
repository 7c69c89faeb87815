"""Routes of gateways, and the one by which a gateway enrols."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException

from hub.api import catalogue, models
from hub.api.access import Reading
from hub.api.state import ServicesOf
from protocols.errors import Malformed, Refused, Unverified

router = APIRouter(prefix="/api/v1", tags=["gateways"])


@router.get("/gateways", summary="The gateways that you may see")
def list_gateways(who: Reading, services: ServicesOf) -> list[models.Gateway]:
    return catalogue.gateways(services, who)


@router.get("/gateways/{gateway_id}", summary="One gateway")
def one_gateway(gateway_id: str, who: Reading, services: ServicesOf) -> models.Gateway:
    found = catalogue.gateways(services, who, gateway_id)
    if not found:
        raise catalogue.not_found()
    return found[0]


@router.get("/auditors", summary="The auditors' keys that you may see")
def list_auditors(who: Reading, services: ServicesOf) -> list[models.Auditor]:
    return catalogue.auditors(services, who)


@router.post("/enrolments", status_code=201, summary="A gateway enrols, with its one-time token and its public key")
def enrol(request: Annotated[dict[str, Any], Body()], services: ServicesOf) -> models.Enrolled:
    """Needs no sign-in: the one-time token in the body is the right to ask. The answer is pending until a person
    has compared the fingerprint and approved."""
    try:
        gateway = services.enrol(request)
    except Malformed as error:
        raise HTTPException(422, error.what) from error
    except Refused as error:
        raise HTTPException(403, {"code": error.code, "words": error.words}) from error
    except Unverified as error:
        raise HTTPException(403, {"code": "signature", "words": str(error)}) from error
    return models.Enrolled(
        gateway_id=gateway.id,
        state=gateway.state.value,
        fingerprint=gateway.fingerprint,
        log_key=services.log_vkey,
    )
