"""Where a line's tags are on a server now, and how much may be asked of it at once.

Decides how a namespace's URI and a browse path become node ids, and how a long list of nodes is cut into requests: by
the limits that the server states (Part 5, 6.3.11), by the bytes that it takes, and, where it takes less than it says,
by halving until it does. Knows neither lines nor subscriptions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from agent.config_opcua import OpcuaTag
from agent.sources.opcua_client import PeerFault, ReadOnlyClient, ReadOnlySession, asked
from agent.sources.opcua_wire import Told
from agent.sources.opcua_words import status_words

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 1000
"""Nodes in one request where the server states no limit."""
PATHS_AT_ONCE: Final = 100
"""Browse paths in one request: a server may look through a whole folder for each."""
_TOO_MUCH: Final = frozenset(
    {
        StatusCodes.BadTooManyOperations, StatusCodes.BadRequestTooLarge, StatusCodes.BadResponseTooLarge,
        StatusCodes.BadEncodingLimitsExceeded, StatusCodes.BadTcpMessageTooLarge,
    }
)  # fmt: skip
_STATED: Final = (
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    ObjectIds.Server_ServerCapabilities_MaxArrayLength,
)


class Batches:
    """A long list asked for in requests of at most `at_most` items and `most_bytes` (0: no limit)."""

    def __init__(self, at_most: int = AT_ONCE, most_bytes: int = 0) -> None:
        self.at_most = at_most
        self._most_bytes = most_bytes

    async def ask(
        self, items: Sequence[T], call: Callable[[list[T]], Awaitable[Sequence[R]]], item_bytes: int = 128
    ) -> list[R]:
        """The answers in the order of the items. `item_bytes`: what the longest of them takes in a request.

        Raises LINK_ERRORS; when even one item alone is too much, what the server said of it.
        """
        if self._most_bytes and items:
            self.at_most = max(1, min(self.at_most, self._most_bytes // item_bytes))
        out: list[R] = []
        while len(out) < len(items):
            part = list(items[len(out) : len(out) + self.at_most])
            try:
                answers = await asked(call(part))
            except UaStatusCodeError as error:
                if error.code not in _TOO_MUCH or len(part) == 1:
                    raise
                self.at_most = len(part) // 2  # remembered: it is not asked for more again
                continue
            if len(answers) != len(part):
                raise PeerFault(f"it was asked for {len(part)} nodes and answered for {len(answers)}")
            out += answers
        return out


@dataclass(frozen=True, slots=True)
class Limits:
    """How one server may be asked."""

    read: Batches
    translate: Batches
    monitor: Batches


async def read_limits(client: ReadOnlyClient) -> Limits:
    """What the server states of itself; what it does not state is `AT_ONCE`. Raises LINK_ERRORS."""
    nodes = [own(number) for number in _STATED]
    values = await read_values(client.uaclient.session, Batches(len(nodes)), nodes)
    stated = [_count(value) for value in values]
    longest = stated.pop()
    read, translate, monitor = (
        Batches(min(ours, limit or ours, longest or ours), client.request_bytes)
        for limit, ours in zip(stated, (AT_ONCE, PATHS_AT_ONCE, AT_ONCE), strict=True)
    )
    return Limits(read, translate, monitor)


async def read_values(session: ReadOnlySession, batches: Batches, nodes: Sequence[ua.NodeId]) -> list[Told]:
    """Each node's value with both timestamps and its own status, not from a cache. Raises LINK_ERRORS."""

    async def read(part: list[ua.NodeId]) -> list[Told]:
        parameters = ua.ReadParameters()
        parameters.MaxAge = 0
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in part]
        return await session.told(parameters)

    return await batches.ask(nodes, read, longest(nodes) + 32)


async def read_namespaces(session: ReadOnlySession) -> list[str]:
    """The URIs in the order of their numbers. Raises LINK_ERRORS."""
    (found,) = await read_values(session, Batches(1), [own(ObjectIds.Server_NamespaceArray)])
    if not isinstance(found.value, list):
        raise PeerFault("it does not tell its namespaces")
    return [str(uri) for uri in found.value]


async def resolve(
    session: ReadOnlySession, limits: Limits, namespaces: Sequence[str], tags: Sequence[OpcuaTag]
) -> list[ua.NodeId | str]:
    """For each tag its node id on this server now, or in words why there is none. Raises LINK_ERRORS."""
    out: list[ua.NodeId | str] = []
    paths: list[ua.BrowsePath] = []
    waiting: list[int] = []
    for tag in tags:
        try:
            if tag.node:
                out.append(_node_id(tag.node, namespaces))
                continue
            paths.append(_browse_path(tag, namespaces))
        except LookupError as error:
            out.append(str(error.args[0]))
            continue
        waiting.append(len(out))
        out.append("")
    longest = max((sum(len(name) + 48 for _, name in tag.names) for tag in tags), default=0)
    found = await limits.translate.ask(paths, session.translate_browsepaths_to_nodeids, longest)
    for place, result in zip(waiting, found, strict=True):
        out[place] = _target(result)
    return out


def _target(result: ua.BrowsePathResult) -> ua.NodeId | str:
    code = result.StatusCode.value
    if code >> 30:
        return status_words(code)
    # A target on another server, or a path that ends half-way, is no node that could be read here.
    ends = [target.TargetId for target in result.Targets if target.RemainingPathIndex == 0xFFFF_FFFF]
    # asyncua gives a plain NodeId where an ExpandedNodeId says nothing more.
    whole = [node for node in ends if not getattr(node, "ServerIndex", 0) and not getattr(node, "NamespaceUri", None)]
    if len(whole) != 1:
        return f"its path leads to {len(whole)} nodes; write the node's id instead"
    return ua.NodeId(whole[0].Identifier, whole[0].NamespaceIndex, whole[0].NodeIdType)


def _browse_path(tag: OpcuaTag, namespaces: Sequence[str]) -> ua.BrowsePath:
    path = ua.BrowsePath(StartingNode=own(ObjectIds.ObjectsFolder))
    for uri, name in tag.names:
        element = ua.RelativePathElement(
            ReferenceTypeId=own(ObjectIds.HierarchicalReferences),
            IsInverse=False,  # type: ignore[arg-type]  # asyncua calls its alias of bool a class
            IncludeSubtypes=True,  # type: ignore[arg-type]
            TargetName=ua.QualifiedName(name, _index(uri, namespaces) if uri else 0),
        )
        path.RelativePath.Elements.append(element)
    return path


def _node_id(text: str, namespaces: Sequence[str]) -> ua.NodeId:
    if text.startswith("nsu="):
        uri, _, rest = text[4:].partition(";")
        text = f"ns={_index(uri, namespaces)};{rest}"
    try:
        return ua.NodeId.from_string(text)
    except (ValueError, UaError) as error:
        raise LookupError(f"{text} is no node id ({error})") from error


def _index(uri: str, namespaces: Sequence[str]) -> int:
    if uri not in namespaces:
        raise LookupError(f"the server has no namespace {uri}")
    return namespaces.index(uri)


def own(number: int) -> ua.NodeId:
    """A node of OPC UA's own namespace."""
    return ua.NodeId(ua.Int32(number))


def longest(nodes: Sequence[ua.NodeId]) -> int:
    return max((len(node.Identifier) if isinstance(node.Identifier, str | bytes) else 16 for node in nodes), default=16)


def _count(found: Told) -> int:
    return found.value if isinstance(found.value, int) and found.value > 0 else 0
