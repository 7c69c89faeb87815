"""What a path leads to: one node of this server, or words why there is none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asyncua import ua

from agent.config_opcua import OpcuaTag
from agent.sources.opcua_nodes import Batches, Limits, read_values, resolve
from agent.sources.opcua_wire import Told
from tests.agent.opcua.support import STATE, TOTAL, URI, tag

WHOLE = 0xFFFF_FFFF


class Session:
    """Answers each path alike."""

    def __init__(self, code: int, *targets: tuple[Any, int]) -> None:
        self._found = ua.BrowsePathResult(ua.StatusCode(code), [ua.BrowsePathTarget(*target) for target in targets])
        self.asked: list[ua.BrowsePath] = []

    async def translate_browsepaths_to_nodeids(self, paths: list[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        self.asked += paths
        return [self._found] * len(paths)


def found(session: Session, *tags: OpcuaTag) -> list[Any]:
    limits = Limits(Batches(), Batches(), Batches())
    return asyncio.run(resolve(session, limits, ["http://opcfoundation.org/UA/", "urn:x", URI], tags))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (Session(0, (ua.NodeId(7, 2), WHOLE), (ua.NodeId(8, 2), WHOLE)), "leads to 2 nodes; write the node's id"),
        (Session(0, (ua.ExpandedNodeId(7, 2, ServerIndex=1), WHOLE)), "leads to 0 nodes"),
        (Session(0, (ua.NodeId(7, 2), 1)), "leads to 0 nodes"),
        (Session(0), "leads to 0 nodes"),
        (Session(ua.StatusCodes.BadNoMatch), "the server has nothing at this path"),
        (Session(ua.StatusCodes.UncertainReferenceOutOfServer, (ua.NodeId(7, 2), WHOLE)), "UncertainReference"),
    ],
)
def test_a_path_that_leads_to_no_one_node_is_said(session: Session, words: str) -> None:
    (place,) = found(session, tag(STATE, "State"))
    assert isinstance(place, str) and words in place


def test_a_path_and_an_id_are_found_by_their_namespaces_uri() -> None:
    session = Session(0, (ua.NodeId(7, 2), WHOLE), (ua.NodeId(9, 2), 1))
    by_id = OpcuaTag(TOTAL, (), "", f"nsu={URI};s=Total", 0)
    nowhere = OpcuaTag(TOTAL, (), "", "nsu=urn:gone;s=Total", 0)
    state, total, gone = found(session, tag(STATE, "State"), by_id, nowhere)
    assert (state, total) == (ua.NodeId(7, 2), ua.NodeId("Total", 2))
    assert gone == "the server has no namespace urn:gone"
    (path,) = session.asked
    assert [element.TargetName for element in path.RelativePath.Elements] == [
        ua.QualifiedName("line", 2), ua.QualifiedName("State", 2),
    ]  # fmt: skip


def test_values_are_read_from_the_device_with_both_times() -> None:
    asked: list[ua.ReadParameters] = []

    class Reading:
        async def told(self, parameters: ua.ReadParameters) -> list[Told]:
            asked.append(parameters)
            return [Told(1)] * len(parameters.NodesToRead)

    values = asyncio.run(read_values(Reading(), Batches(2), [ua.NodeId(i, 2) for i in range(3)]))  # type: ignore[arg-type]
    assert values == [Told(1)] * 3
    assert [(each.MaxAge, each.TimestampsToReturn) for each in asked] == [(0, ua.TimestampsToReturn.Both)] * 2
