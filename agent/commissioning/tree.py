"""The address space of an OPC UA server as a tree of names, with the values of its variables.

Decides what is shown of a server (objects and variables below Objects; OPC UA's own server object is left out), and how
a node becomes a tag that lasts: by its path of names and the URI of their namespace, never by its number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from agent.certificates import printable
from agent.sources.opcua_client import PeerFault, ReadOnlyClient, asked
from agent.sources.opcua_nodes import Batches, own, read_limits, read_namespaces, read_values
from agent.sources.opcua_words import status_words
from protocols.errors import ConfigurationError
from protocols.plc.roles import COUNTER_ROLES

MOST_NODES: Final = 5000
_COUNTERS: Final = tuple(role.name.lower() for role in COUNTER_ROLES)
_PACKML_MODULUS: Final = 2_147_483_648  # AccCount is an Int32 that returns to 0 (ISA-TR88.00.02)
_OWN: Final = frozenset({"Server", "Aliases", "Locations", "DictionaryEntries"})
_CLASSES: Final = int(ua.NodeClass.Object) | int(ua.NodeClass.Variable)


@dataclass(slots=True, eq=False)
class Node:
    """A node below Objects. `names`: (namespace's number, name) of the way to it; `value`: as text, "" of an object."""

    node_id: ua.NodeId
    names: tuple[tuple[int, str], ...]
    is_variable: bool
    value: str = ""
    raw: Any = None
    trouble: str = ""
    children: list[Node] = field(default_factory=list)
    expanded: bool = False

    @property
    def name(self) -> str:
        """Fit for a terminal: a stranger's server may send what moves the cursor."""
        return printable(self.names[-1][1]) if self.names else "Objects"

    @property
    def path(self) -> str:
        return "/".join(printable(name) for _, name in self.names)


class Space:
    """One server's address space, seen through one connection."""

    def __init__(self, client: ReadOnlyClient, namespaces: Sequence[str], read: Batches) -> None:
        self.namespaces = list(namespaces)
        self.root = Node(own(ObjectIds.ObjectsFolder), (), is_variable=False)
        self.count = 0
        self.is_cut = False
        self._session = client.uaclient.session
        self._read = read
        self._browse = Batches(100, client.request_bytes)

    @classmethod
    async def of(cls, client: ReadOnlyClient) -> Space:
        """Raises LINK_ERRORS."""
        limits = await read_limits(client)
        return cls(client, await read_namespaces(client.uaclient.session), limits.read)

    async def expand(self, nodes: Sequence[Node]) -> None:
        """Finds what lies directly below each of them. Raises LINK_ERRORS."""
        wanted = [node for node in nodes if not node.expanded]
        found = await self._browse.ask(wanted, self._ask)
        for node, references in zip(wanted, found, strict=True):
            node.expanded = True
            seen = set()
            for reference in references:
                name = (reference.BrowseName.NamespaceIndex, str(reference.BrowseName.Name))
                if (not node.names and name[0] == 0 and name[1] in _OWN) or name in seen:
                    continue
                seen.add(name)
                target = reference.NodeId
                node_id = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
                is_variable = reference.NodeClass == ua.NodeClass.Variable
                node.children.append(Node(node_id, (*node.names, name), is_variable))
            node.children.sort(key=lambda child: child.is_variable)
            self.count += len(node.children)

    async def walk(self, depth: int, below: Node | None = None) -> None:
        """Expands `depth` levels, and reads every variable that it found. Raises LINK_ERRORS."""
        level = [below or self.root]
        for _ in range(depth):
            await self.expand(level)
            level = [child for node in level for child in node.children if len(child.names) < 30]
            if self.count > MOST_NODES:
                self.is_cut = True
                break
        await self.read([node for node in self.all(below) if node.is_variable])

    async def read(self, nodes: Sequence[Node]) -> None:
        """Fresh values. Raises LINK_ERRORS."""
        values = await read_values(self._session, self._read, [node.node_id for node in nodes])
        for node, found in zip(nodes, values, strict=True):
            status = found.status
            node.trouble = status_words(status) if status >> 30 else ""
            node.raw = None if status >> 30 else found.value
            node.value = "" if node.raw is None else shown(node.raw)

    def all(self, below: Node | None = None) -> list[Node]:
        """Every node that was found, each before what lies below it."""
        out: list[Node] = []
        waiting = [below or self.root]
        while waiting:
            node = waiting.pop()
            out.append(node)
            waiting += reversed(node.children)
        return out[1:]

    async def find(self, path: str) -> Node:
        """The node at a path of names. Raises ConfigurationError with the names that there are, and LINK_ERRORS."""
        node = self.root
        for name in filter(None, path.split("/")):
            await self.expand([node])
            matching = [child for child in node.children if child.name == name]
            if not matching:
                there = ", ".join(child.name for child in node.children[:12]) or "nothing"
                raise ConfigurationError(f'there is no "{name}" below {node.path or "Objects"}', mend=f"there: {there}")
            node = matching[0]
        return node

    def tag(self, node: Node, role: str = "") -> str:
        """The TOML inline table of a tag for this node. A counter of PackML rolls over, and has its modulus."""
        tag = self._tag(node)
        if role in _COUNTERS and node.name == "AccCount":
            return f"{tag[:-2]}, modulus = {_PACKML_MODULUS} }}"
        return tag

    def _tag(self, node: Node) -> str:
        names = [name for _, name in node.names]
        numbers = sorted({number for number, _ in node.names if number})
        # A name with a slash, or one of digits and a colon, would be taken for two, or for another namespace.
        if any("/" in name or not name or name.partition(":")[0].isdecimal() for name in names) or not numbers:
            return f"{{ node = {quoted(self._lasting(node.node_id))} }}"
        if len(numbers) == 1 and all(number for number, _ in node.names):
            return f"{{ path = {quoted('/'.join(names))}, namespace = {quoted(self.namespaces[numbers[0]])} }}"
        uris = [self.namespaces[number] for number in numbers]
        parts = [f"{numbers.index(number) + 1 if number else 0}:{name}" for number, name in node.names]
        if len(uris) == 1:
            return f"{{ node = {quoted(self._lasting(node.node_id))} }}"
        listed = ", ".join(quoted(uri) for uri in uris)
        return f"{{ path = {quoted('/'.join(parts))}, namespace = [{listed}] }}"

    def _lasting(self, node_id: ua.NodeId) -> str:
        text = node_id.to_string()
        if node_id.NamespaceIndex == 0:
            return text
        return f"nsu={self.namespaces[node_id.NamespaceIndex]};{text.partition(';')[2]}"

    async def _ask(self, nodes: list[Node]) -> list[list[ua.ReferenceDescription]]:
        parameters = ua.BrowseParameters()
        parameters.RequestedMaxReferencesPerNode = 0
        for node in nodes:
            wanted = ua.BrowseDescription()
            wanted.NodeId = node.node_id
            wanted.BrowseDirection = ua.BrowseDirection.Forward
            wanted.ReferenceTypeId = own(ObjectIds.HierarchicalReferences)
            wanted.IncludeSubtypes = True
            wanted.NodeClassMask = _CLASSES
            wanted.ResultMask = ua.BrowseResultMask.All
            parameters.NodesToBrowse.append(wanted)
        out = []
        for result in await self._session.browse(parameters):
            references = list(result.References or [])
            while result.ContinuationPoint:
                more = ua.BrowseNextParameters()
                more.ReleaseContinuationPoints = False
                more.ContinuationPoints = [result.ContinuationPoint]
                (result,) = await asked(self._session.browse_next(more))
                if not result.References:
                    break
                references += result.References
                if len(references) > 10 * MOST_NODES:
                    raise PeerFault("it does not stop naming nodes")
            out.append(references)
        return out


def plain(value: Any) -> Any:
    """A text in some language as the text alone."""
    return value.Text or "" if isinstance(value, ua.LocalizedText) else value


def shown(value: Any) -> str:
    """A value for a person, in one short line."""
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, int):
        return f"{int(value):,}"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, list):
        return f"{len(value)} values"
    text = json.dumps(printable(value), ensure_ascii=False) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:39]}…"


def quoted(text: str) -> str:
    """A TOML basic string; JSON's is one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
