"""Enrolment: the gateway shows its key to the hub, once, with a token that the secretariat gave.

Decides what is sent and what a person compares. The key is made here and never leaves the gateway.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from agent.config import AgentConfiguration
from agent.keys import LOG_KEY_FILE, load_or_make_key, write_private
from protocols.errors import LinetallyError, Malformed, Refused
from protocols.evidence.cose import thumbprint
from protocols.evidence.note import VerifierKey
from protocols.wire.enrolment import EnrolmentRequest

TIMEOUT_S: Final = 20
_MAX_ANSWER: Final = 100_000


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the hub said: `state` is "pending" until a person there has compared the fingerprint, then "active"."""

    gateway_id: str
    fingerprint: str
    state: str


def enrol(configuration: AgentConfiguration, hub_url: str, token: str) -> Enrolled:
    """Makes the key if there is none, enrols it, and stores the log's key. Raises LinetallyError with the mend."""
    key = load_or_make_key(configuration.state_folder)
    public = key.public_key().public_bytes_raw()
    lines = tuple(line.line_id for line in configuration.lines)
    request = EnrolmentRequest.make(token, configuration.gateway_id, configuration.site, lines, public, key.sign)
    answer = _post(f"{hub_url.rstrip('/')}/api/v1/enrolments", request.to_json())
    log_key = answer.get("log_key")
    state = answer.get("state")
    if not isinstance(state, str):
        raise LinetallyError(f"the answer of {hub_url} is not a hub's; check the address")
    if log_key is None and configuration.log_key is None:
        words = "enrolled, but the hub did not tell its log's key: set hub.log_key, as the scheme published it"
        raise LinetallyError(words)
    if log_key is not None:
        _keep_log_key(configuration, hub_url, str(log_key))
    return Enrolled(configuration.gateway_id, fingerprint(public), state)


def _keep_log_key(configuration: AgentConfiguration, hub_url: str, log_key: str) -> None:
    try:
        VerifierKey.parse(log_key)
    except (Malformed, Refused) as error:
        raise LinetallyError(f"the answer of {hub_url} is not a hub's: {error}; check the address") from error
    if configuration.log_key is not None and configuration.log_key != log_key:
        words = "the hub's log has another key than hub.log_key in the configuration; compare it with the scheme's"
        raise LinetallyError(words)
    write_private(configuration.state_folder / LOG_KEY_FILE, f"{log_key}\n".encode())


def fingerprint(public_key: bytes) -> str:
    """The RFC 9679 thumbprint of a key in groups that two people can read to each other."""
    text = thumbprint(public_key).hex()
    return " ".join(text[i : i + 4] for i in range(0, 32, 4))


def _post(url: str, data: dict[str, Any]) -> dict[str, Any]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise LinetallyError(f"{url} is not a web address; write http://… or https://…")
    body = json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
            found = json.loads(answer.read(_MAX_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            raise LinetallyError(f"the hub refuses the enrolment: {_detail(error)}") from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise LinetallyError(f"{url} cannot be reached ({reason}); check the address and the network") from error
    except ValueError as error:
        raise LinetallyError(f"the answer of {url} is not a hub's; check the address") from error
    if not isinstance(found, dict):
        raise LinetallyError(f"the answer of {url} is not a hub's; check the address")
    return found


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        found = json.loads(error.read(_MAX_ANSWER))
    except (ValueError, OSError):
        return f"{error.code} {error.reason}"
    detail = found.get("detail") if isinstance(found, dict) else None
    if isinstance(detail, dict):
        detail = detail.get("words")
    return str(detail) if detail else f"{error.code} {error.reason}"
