"""MQTT topics between agent and hub.

Decides names and directions. Does not decide what the payloads hold (`protocols.evidence.record`, `receipt`,
`challenge`, and the live JSON of docs/formats.md; what operators say: docs/agent.md).

A gateway writes only below its own id and reads only its own receipts, challenges and operators, so that a broker's ACL
can be one pattern: `linetally/v1/%u/...`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from protocols.errors import Malformed

ROOT: Final = "linetally/v1"
_TOPIC: Final = re.compile(
    r"linetally/v1/([A-Za-z0-9_-]{1,64})/(statement|receipt|live|challenge|raw|operator|operator-answer)"
)


class Channel(StrEnum):
    """The last level of a topic."""

    STATEMENT = "statement"  # agent to hub, QoS 1: the COSE_Sign1 bytes of one record
    RECEIPT = "receipt"  # hub to agent, QoS 1: a receipt or a refusal
    LIVE = "live"  # agent to hub, QoS 0: JSON, unsigned, for dashboards only
    CHALLENGE = "challenge"  # hub to agent, QoS 1: which raw samples are asked for
    RAW = "raw"  # agent to hub, QoS 1: one message of the answer to a challenge
    OPERATOR = "operator"  # a panel to the agent, QoS 1: JSON, a reason or late rejects
    OPERATOR_ANSWER = "operator-answer"  # agent to panels, QoS 1: JSON, what became of it


QOS: Final = {
    Channel.STATEMENT: 1, Channel.RECEIPT: 1, Channel.LIVE: 0, Channel.CHALLENGE: 1, Channel.RAW: 1,
    Channel.OPERATOR: 1, Channel.OPERATOR_ANSWER: 1,
}  # fmt: skip


def topic(gateway_id: str, channel: Channel) -> str:
    """The topic of one gateway. Raises Malformed for an id that could reach another's topics ("+", "#", "/")."""
    name = f"{ROOT}/{gateway_id}/{channel.value}"
    if not _TOPIC.fullmatch(name):
        raise Malformed(f"{gateway_id!r} cannot be a gateway id: 1 to 64 of the characters A-Z a-z 0-9 _ -")
    return name


def statement_topic(gateway_id: str) -> str:
    return topic(gateway_id, Channel.STATEMENT)


def receipt_topic(gateway_id: str) -> str:
    return topic(gateway_id, Channel.RECEIPT)


def live_topic(gateway_id: str) -> str:
    return topic(gateway_id, Channel.LIVE)


def challenge_topic(gateway_id: str) -> str:
    return topic(gateway_id, Channel.CHALLENGE)


def raw_topic(gateway_id: str) -> str:
    return topic(gateway_id, Channel.RAW)


def operator_topic(gateway_id: str) -> str:
    return topic(gateway_id, Channel.OPERATOR)


def operator_answer_topic(gateway_id: str) -> str:
    return topic(gateway_id, Channel.OPERATOR_ANSWER)


def all_gateways(channel: Channel) -> str:
    """The hub's subscription to one channel of every gateway."""
    return f"{ROOT}/+/{channel.value}"


def parse_topic(name: str) -> tuple[str, Channel]:
    """The gateway id and channel of a topic. Raises Malformed for any other topic."""
    match = _TOPIC.fullmatch(name)
    if match is None:
        raise Malformed(f"{name!r} is not a topic of linetally")
    return match[1], Channel(match[2])
