"""OPC UA: a connection to a server for one line or several, made anew after every loss.

Decides when a connection is made, watched and given up. A new client for each attempt, under one outer deadline;
namespaces, limits and node ids are found out at each connect; the flow of values is watched, not the socket; a bad tag
is set aside and tried again while the others go on. Which lines share a connection is decided in `opcua_shared`.
Nothing is ever written: see `opcua_client`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from asyncua.ua.object_ids import ObjectIds

from agent.backoff import Backoff
from agent.certificates import Identity, load_or_make_identity
from agent.config_opcua import OpcuaSource, OpcuaTag
from agent.line import LineInput
from agent.sources.opcua_client import LINK_ERRORS, ReadOnlyClient, asked
from agent.sources.opcua_flow import Flow, FlowLost, Polling
from agent.sources.opcua_items import Item, Items
from agent.sources.opcua_nodes import Batches, Limits, own, read_limits, read_namespaces, read_values, resolve
from agent.sources.opcua_numbers import unix_ms
from agent.sources.opcua_security import NotSecure, secured_client, warn
from agent.sources.opcua_subscription import Subscription
from agent.sources.opcua_words import link_words
from agent.trust import TrustStore, Untrusted
from protocols.errors import ConfigurationError

CONNECT_S: Final = 30.0
"""The outer deadline of one attempt, from the socket to the last tag, and a hundredth of a second for each tag."""
QUARANTINE_S: Final = 30.0
"""How often tags that are set aside are tried again."""
AUDIT_S: Final = 30.0
"""How often all tags of a subscription are read, to find one that changed without a word."""
CLOCK_S: Final = 60.0
_LIVED_S: Final = 10.0
"""A connection that lived so long was a good one: the next loss is waited for shortly again."""


class OpcuaReader:
    """Reads a line, and those that join it, until it is cancelled.

    `keep_alive_s`: how often (real s) the server must say that it lives. `state_folder` and `gateway_id`: where the
    gateway's own certificate and the trusted ones are.
    """

    def __init__(
        self, source: OpcuaSource, tags: Sequence[OpcuaTag], product_codes: dict[str, int], line: LineInput,
        keep_alive_s: float, state_folder: Path, gateway_id: str,
    ) -> None:  # fmt: skip
        self._source = source
        self._keep_alive_s = keep_alive_s
        self._state_folder = state_folder
        self._gateway_id = gateway_id
        self._items = Items(tags, product_codes, line)
        self._namespaces: list[str] = []
        self._clock: tuple[int, int] | None = None
        self._connects = 0

    @property
    def _deadline_s(self) -> float:
        return CONNECT_S + 0.01 * len(self._items.all)

    def join(self, tags: Sequence[OpcuaTag], product_codes: dict[str, int], line: LineInput) -> None:
        """Reads this line too, at once where there is a connection."""
        warn(self._source, line.log)
        self._items.join(tags, product_codes, line)

    def leave(self, line: LineInput) -> None:
        """Reads it no more; the others go on."""
        self._items.leave(line)

    async def run(self) -> None:
        """Connects, reads, and begins again; never gives up."""
        for part in self._items.parts:
            warn(self._source, part.line.log)
        backoff = Backoff()
        where = self._source.endpoint
        while True:
            try:
                await self._connection(backoff)
            except LINK_ERRORS as error:
                self._items.lost(f"no connection to {where}: {link_words(error)}")
            except (NotSecure, Untrusted, ConfigurationError) as error:
                self._items.lost(f"no connection to {where}: {error}")
            except FlowLost as error:
                self._items.lost(f"{error}; connecting again")
            await asyncio.sleep(backoff.next_s())

    def report(self, line: LineInput) -> dict[str, Any]:
        """For `status`: how the line is connected, the server's clock less this gateway's, and each tag."""
        gaps, tags = self._items.report(line)
        offset_ms, uncertain_ms = self._clock or (None, None)
        return {
            "endpoint": self._source.endpoint, "security": f"{self._source.policy} {self._source.mode}",
            "connects": self._connects, "gaps": gaps,
            "clock_offset_ms": offset_ms, "clock_uncertain_ms": uncertain_ms, "tags": tags,
        }  # fmt: skip

    async def _connection(self, backoff: Backoff) -> None:
        client: ReadOnlyClient | None = None
        self._items.begin()
        try:
            async with asyncio.timeout(self._deadline_s):
                client = await secured_client(self._source, await self._identity(), TrustStore(self._state_folder))
                await asked(client.connect())
                limits = await read_limits(client)
                self._namespaces = await read_namespaces(client.uaclient.session)
                await self._read_clock(client)
                flow = self._flow(client, limits)
                await flow.start()
                self._connects += 1
                await self._add(client, limits, flow)
            await self._watch(client, limits, flow, backoff)
        finally:
            if client is not None:
                await client.end()

    async def _identity(self) -> Identity | None:
        if self._source.policy == "None":
            return None
        return await asyncio.to_thread(load_or_make_identity, self._state_folder, self._gateway_id)

    def _flow(self, client: ReadOnlyClient, limits: Limits) -> Flow:
        session = client.uaclient.session
        if self._source.poll:
            return Polling(session, self._source, limits, self._items, self._namespaces)
        return Subscription(session, self._source, limits, self._items, self._namespaces, self._keep_alive_s)

    async def _add(self, client: ReadOnlyClient, limits: Limits, flow: Flow) -> None:
        """Finds the tags that are set aside on this server, and lets them flow."""
        new = [part for part in self._items.parts if not part.begun]
        for part in new:
            part.begun = True
            part.line.begin()
        waiting = self._items.waiting
        places = await resolve(client.uaclient.session, limits, self._namespaces, [item.tag for item in waiting])
        ready: list[Item] = []
        for item, place in zip(waiting, places, strict=True):
            if isinstance(place, str):
                self._items.refuse(item, place)
            else:
                item.node = place
                ready.append(item)
        if ready:
            await flow.add(ready)
        for part in (part for part in new if part in self._items.parts):
            tags = [item for item in self._items.all if item.part is part]
            found = sum(not item.waiting for item in tags)
            part.line.connected(f"connected to {self._source.endpoint}, {found} of {len(tags)} tags")

    async def _watch(self, client: ReadOnlyClient, limits: Limits, flow: Flow, backoff: Backoff) -> None:
        began_s = time.monotonic()
        again_s, audit_s, clock_s = began_s + QUARANTINE_S, began_s + AUDIT_S, began_s + CLOCK_S
        while True:
            await asyncio.sleep(flow.pause_s())
            if client.state.name not in ("CONNECTED", "RECONNECTING"):
                raise FlowLost("the connection was lost")
            await flow.check()
            now_s = time.monotonic()
            if now_s - began_s > _LIVED_S:
                backoff.reset()
            if self._items.parted:
                parted, self._items.parted = self._items.parted, []
                await flow.forget(parted)
            if not all(part.begun for part in self._items.parts):
                async with asyncio.timeout(self._deadline_s):
                    await self._add(client, limits, flow)
            if now_s >= again_s and self._items.waiting:
                again_s = now_s + QUARANTINE_S
                if await read_namespaces(client.uaclient.session) != self._namespaces:
                    raise FlowLost("the server's namespaces have changed")
                async with asyncio.timeout(self._deadline_s):
                    await self._add(client, limits, flow)
            if now_s >= audit_s:
                audit_s = now_s + AUDIT_S
                await flow.audit()
            if now_s >= clock_s:
                clock_s = now_s + CLOCK_S
                await self._read_clock(client)

    async def _read_clock(self, client: ReadOnlyClient) -> None:
        """The server's clock less ours, between asking and answer; their distance is what is not known of it."""
        asked_ms = self._items.now_ms()
        (found,) = await read_values(
            client.uaclient.session, Batches(1), [own(ObjectIds.Server_ServerStatus_CurrentTime)]
        )
        answered_ms = self._items.now_ms()
        self._clock = None
        if isinstance(found.value, datetime):
            server_ms = unix_ms(found.value)
            self._clock = server_ms - (asked_ms + answered_ms) // 2, (answered_ms - asked_ms + 1) // 2
