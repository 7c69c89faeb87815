"""What goes wrong between gateway and OPC UA server, said so that a maintenance engineer can mend it.

Decides the words for a status code (Part 4, 7.39; Part 6, A.2) and for a socket's error. Knows no state.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

_CODES: Final = StatusCodes
_MENDS: Final = {
    _CODES.BadCertificateUntrusted: "accept this gateway's certificate on the server (linetally-agent certificates)",
    _CODES.BadSecurityChecksFailed: "accept this gateway's certificate on the server (linetally-agent certificates), "
    "and compare both clocks",
    _CODES.BadCertificateInvalid: "the server refuses this gateway's certificate; look at the server's log",
    _CODES.BadCertificateUriInvalid: "the server finds another ApplicationUri in this gateway's certificate; "
    "run: linetally-agent certificates --renew, and accept the new one on the server",
    _CODES.BadCertificateTimeInvalid: "compare both clocks, and how long the certificates are valid",
    _CODES.BadCertificateHostNameInvalid: "the server wants this gateway's host name in its certificate; "
    "run: linetally-agent certificates --renew",
    _CODES.BadCertificateUseNotAllowed: "the server refuses this gateway's certificate; look at the server's log",
    _CODES.BadIdentityTokenRejected: "the server refuses this user; check username, password_file and its rights",
    _CODES.BadIdentityTokenInvalid: "the server refuses this kind of login; check username or user_certificate",
    _CODES.BadUserAccessDenied: "the user or the password is wrong, or may not read this; check it on the server",
    _CODES.BadUserSignatureInvalid: "the server could not verify user_key; does it belong to user_certificate?",
    _CODES.BadSecurityPolicyRejected: "the server does not take this security_policy",
    _CODES.BadSecurityModeRejected: "the server does not take this security_mode",
    _CODES.BadTooManySessions: "the server has no session free; close other clients, or raise its limit",
    _CODES.BadTooManySubscriptions: "the server has no subscription free; close other clients, or raise its limit",
    _CODES.BadTooManyMonitoredItems: "the server has no monitored item free; close other clients, or use "
    'read_by = "polling"',
    _CODES.BadServiceUnsupported: 'a small server may know no subscriptions; use read_by = "polling"',
    _CODES.BadNodeIdUnknown: "the server has no such node",
    _CODES.BadNodeIdInvalid: "the server has no such node",
    _CODES.BadNoMatch: "the server has nothing at this path; look with: linetally-agent browse",
    _CODES.BadNotReadable: "the server does not let it be read",
    _CODES.BadAttributeIdInvalid: "this node is no variable",
    _CODES.BadTcpEndpointUrlInvalid: "the path at the end of the endpoint is wrong",
    _CODES.BadServerHalted: "the server is stopped",
    _CODES.BadShutdown: "the server is shutting down",
    _CODES.BadTimeout: "no answer in time",
}


def link_words(error: BaseException) -> str:
    """What ended an attempt or a connection."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing answers there; is the PLC on?"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "this name is not known here; write the PLC's address itself into endpoint"
    if isinstance(error, UaStatusCodeError):
        return status_words(error.code)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def status_words(code: int) -> str:
    """A status code's name, and the mend where there is one."""
    name = str(ua.status_codes.get_name_and_doc(code)[0])
    mend = _MENDS.get(code & 0xFFFF_0000)
    return f"{name}: {mend}" if mend else name
