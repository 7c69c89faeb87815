"""How values flow from an OPC UA server: what a flow is, and the one by polling.

Decides when tags are polled. A subscription is the other flow, in `opcua_subscription`. Which tags there are and what
their values mean is decided in `opcua_items`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

from asyncua.ua.object_ids import ObjectIds

from agent.config_opcua import OpcuaSource
from agent.sources.opcua_client import ReadOnlySession
from agent.sources.opcua_items import Item, Items, nodes_of
from agent.sources.opcua_nodes import Limits, own, read_values
from agent.sources.opcua_wire import Told

LOOK_S: Final = 0.5
"""How often a flow is looked after."""


class FlowLost(Exception):
    """The connection ended, or the server has gone silent."""


class Flow(Protocol):
    """One connection's flow. `check` raises FlowLost when nothing more is to be expected of it."""

    async def start(self) -> None: ...

    async def add(self, items: Sequence[Item]) -> None: ...

    async def forget(self, items: Sequence[Item]) -> None: ...

    def pause_s(self) -> float: ...

    async def check(self) -> None: ...

    async def audit(self) -> None: ...


def same_namespaces(found: Told, namespaces: Sequence[str]) -> bool:
    """Whether the server's list is still this one; a list that cannot be read says nothing."""
    return not isinstance(found.value, list) or [str(uri) for uri in found.value] == list(namespaces)


class Polling:
    """All tags of a connection read again and again, on a grid."""

    def __init__(
        self, session: ReadOnlySession, source: OpcuaSource, limits: Limits, items: Items, namespaces: list[str]
    ) -> None:
        self._session = session
        self._interval_s = source.poll_interval_ms / 1000
        self._limits = limits
        self._items = items
        self._namespaces = namespaces
        self._due_s = time.monotonic()

    async def start(self) -> None:
        """Nothing to prepare: the first `add` reads."""

    async def add(self, items: Sequence[Item]) -> None:
        for item in items:
            item.waiting = False
        await self._round(items, first=True)

    async def forget(self, items: Sequence[Item]) -> None:
        """Nothing to take back: only what is there is asked for."""

    def pause_s(self) -> float:
        return min(LOOK_S, max(0.0, self._due_s - time.monotonic()))

    async def check(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._due_s:
            # On a grid, not after the last answer: a slow server must not make the polls drift.
            self._due_s = max(self._due_s + self._interval_s, now_s)
            await self._round(self._items.live, first=False)

    async def audit(self) -> None:
        """Nothing to find: each round reads."""

    async def _round(self, items: Sequence[Item], *, first: bool) -> None:
        nodes = [own(ObjectIds.Server_NamespaceArray), *nodes_of(items)]
        namespaces, *found = await read_values(self._session, self._limits.read, nodes)
        if not same_namespaces(namespaces, self._namespaces):
            raise FlowLost("the server's namespaces have changed")
        # An old value again is no news; its time would be too old to be believed.
        pairs = zip(items, found, strict=True)
        fresh = [(item.handle, told) for item, told in pairs if first or item.differs(told)]
        self._items.take(fresh)
        self._items.alive()
