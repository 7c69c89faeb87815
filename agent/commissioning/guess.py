"""Which node of a machine is likely to carry which role, by its name.

Decides the names that are known: PackML's, OPC UA for Machinery's, and what makers often write. Only a proposal; a
person looks at the live value and says yes or no.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from agent.commissioning.tree import Node

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "state": (r"statecurrent", r"machineryitemstate/currentstate", r"(machine|line)?(state|status)(word)?"),
    "mode": (r"unitmodecurrent", r"operation_?mode"),
    "total": (r"prodprocessed(count)?(/.*)?/acccount", r"(total|piece|part|product|prod)s?_?(total|count(er)?|made)?"),
    "good": (r"(good|ok)_?(pieces|parts|count(er)?)?",),
    "reject": (r"proddefective(count)?(/.*)?/acccount", r"(reject|scrap|bad|defect|nok)(s|ed|ive)?_?(count(er)?)?"),
    "product": (r"product_?code", r"(product|recipe|article|program)_?(id|no|number|nr)?", r"product_?name"),
    "order": (r"order_?active", r"job_?active"),
    "running": (r"(is_?)?(running|run|executing)",),
    "fault": (r"(fault|alarm|error)_?(word|code|bits)?",),
    "reason": (r"stop_?reason(/id)?", r"(down_?time_?)?reason(_?code)?"),
}


def guesses(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """Role -> variables whose name or path fits, the best first."""
    variables = [node for node in nodes if node.is_variable]
    out: dict[str, list[Node]] = {}
    for role, patterns in _NAMES.items():
        found: list[Node] = []
        for pattern in patterns:
            whole = re.compile(rf"(.*/)?{pattern}", re.IGNORECASE)
            found += [node for node in variables if node not in found and whole.fullmatch(node.path)]
        if found:
            out[role] = found
    return out
