"""Sparkplug B: what agent and hub call things (Eclipse Sparkplug 3.0.0, chapter 4): topics, and the names of metrics.

Decides names only. The bytes are in `sparkplug_payload`; what is said when is the agent's, what is believed of it the
hub's. Nothing that goes this way is evidence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocols.errors import Malformed

NAMESPACE: Final = "spBv1.0"
REBIRTH: Final = "Node Control/Rebirth"
BD_SEQ: Final = "bdSeq"
SEQUENCE_NUMBERS: Final = 256
"""`seq` and `bdSeq` count from 0 to 255, and 0 again."""

# The gateway's own metric, and those of a line: of its shift so far where they begin with "Shift/".
WAITING: Final = "Records waiting"
STATE: Final = "State"
CATEGORY: Final = "Category"
PRODUCT: Final = "Product"
SHIFT: Final = "Shift"
TOTAL: Final = "Shift/Total"
GOOD: Final = "Shift/Good"
REJECT: Final = "Shift/Reject"
OEE: Final = "Shift/OEE"
AVAILABILITY: Final = "Shift/Availability"
EFFECTIVENESS: Final = "Shift/Effectiveness"
QUALITY: Final = "Shift/Quality"
RATE: Final = "Pieces per hour"

MAX_GROUP: Final = 64
_ID: Final = r"[A-Za-z0-9_-]{1,64}"
_TOPIC: Final = re.compile(
    rf"spBv1\.0/([^/+#\0]{{1,{MAX_GROUP}}})/(NBIRTH|NDATA|NDEATH|NCMD)/({_ID})"
    rf"|spBv1\.0/([^/+#\0]{{1,{MAX_GROUP}}})/(DBIRTH|DDATA|DDEATH)/({_ID})/({_ID})"
)


class Kind(StrEnum):
    """The kinds of message that we send or read; N: of the gateway, D: of one of its lines."""

    NBIRTH = "NBIRTH"
    NDATA = "NDATA"
    NDEATH = "NDEATH"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDATA = "DDATA"
    DDEATH = "DDEATH"


@dataclass(frozen=True, slots=True)
class Topic:
    """Of one message. `node`: the gateway's id; `device`: the line's id, "" in a message of the gateway."""

    group: str
    kind: Kind
    node: str
    device: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (NAMESPACE, self.group, self.kind, self.node, self.device)))


def is_group(name: str) -> bool:
    """Whether a group can be called so: 1 to 64 characters, none of which means anything in a topic."""
    return 0 < len(name) <= MAX_GROUP and not set(name) & set("/+#\0")


def parse_topic(name: str) -> Topic:
    """Raises Malformed for what is not one of our kinds, or has other ids than a gateway's and a line's."""
    match = _TOPIC.fullmatch(name)
    if match is None:
        raise Malformed(f"{name!r} is no Sparkplug topic of a gateway or its line")
    if match[1] is not None:
        return Topic(match[1], Kind(match[2]), match[3])
    return Topic(match[4], Kind(match[5]), match[6], match[7])


def listening(group: str = "+") -> list[str]:
    """What a host subscribes to: births, data and deaths of one group, or of every group; no commands."""
    of_nodes = [f"{NAMESPACE}/{group}/{kind}/+" for kind in (Kind.NBIRTH, Kind.NDATA, Kind.NDEATH)]
    return of_nodes + [f"{NAMESPACE}/{group}/{kind}/+/+" for kind in (Kind.DBIRTH, Kind.DDATA, Kind.DDEATH)]
