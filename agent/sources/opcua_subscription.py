"""Values by a subscription: all tags of a connection in one.

Decides what is asked for, and when it counts as alive: it is heard by its publish responses; a number that is skipped
in their sequence is a gap; a tag that changed without a word is found by reading (`audit`).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from agent.config_opcua import OpcuaSource
from agent.sources.opcua_client import LINK_ERRORS, ReadOnlySession, asked
from agent.sources.opcua_flow import LOOK_S, FlowLost, same_namespaces
from agent.sources.opcua_items import Item, Items, nodes_of
from agent.sources.opcua_nodes import Limits, longest, own, read_values
from agent.sources.opcua_wire import Told
from agent.sources.opcua_words import status_words

LEAST_SILENCE_S: Final = 5.0
"""A flow is never called dead sooner."""
_SLACK_MS: Final = 250
"""A server may be so much slower than it was asked to: a line waits somewhat longer for its values anyhow."""
_NAMESPACES: Final = 0
"""The handle of the server's list of namespaces, watched beside the tags."""
_NO_FILTER: Final = frozenset(
    {
        StatusCodes.BadFilterNotAllowed, StatusCodes.BadMonitoredItemFilterUnsupported,
        StatusCodes.BadMonitoredItemFilterInvalid, StatusCodes.BadDeadbandFilterInvalid,
    }
)  # fmt: skip


class Subscription:
    """All tags of a connection in one subscription. `keep_alive_s`: how often the server must say that it lives."""

    def __init__(
        self, session: ReadOnlySession, source: OpcuaSource, limits: Limits, items: Items,
        namespaces: list[str], keep_alive_s: float,
    ) -> None:  # fmt: skip
        self._session = session
        self._source = source
        self._limits = limits
        self._items = items
        self._namespaces = namespaces
        self._keep_alive_s = keep_alive_s
        self._publishing_ms = float(source.publishing_interval_ms)
        self._keep_alive_count = max(1, int(keep_alive_s * 1000 / source.publishing_interval_ms))
        self._silence_s = LEAST_SILENCE_S
        self._grace_s = 1.0
        self._id = 0
        self._next = 1  # Part 4, 5.14.1.1
        self._heard_s = time.monotonic()
        self._heard_ms = items.now_ms()
        self._ended = ""
        self._taken = True  # asyncua keeps silent on what goes wrong in `_published`
        self._read_again = False
        self._suspects: list[Item] = []
        self._suspected_s = 0.0

    async def start(self) -> None:
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = self._source.publishing_interval_ms
        parameters.RequestedMaxKeepAliveCount = self._keep_alive_count
        parameters.RequestedLifetimeCount = max(3 * self._keep_alive_count, 100)
        parameters.MaxNotificationsPerPublish = 10_000
        parameters.PublishingEnabled = True
        # Not asyncua's Subscription: it makes a task of each value, and asks for a keep-alive of its own choosing.
        result = await asked(self._session.create_subscription(parameters, self._published))
        self._id = result.SubscriptionId
        self._heard_s = time.monotonic()
        self._publishing_ms = result.RevisedPublishingInterval
        alive_s = result.RevisedMaxKeepAliveCount * self._publishing_ms / 1000
        self._silence_s = max(LEAST_SILENCE_S, 4 * alive_s)
        self._grace_s = 1.0 + 2 * (self._publishing_ms + self._source.sampling_interval_ms) / 1000
        self._compare("publishing_interval_ms", self._source.publishing_interval_ms, self._publishing_ms)
        if alive_s > 2 * self._keep_alive_s:
            self._items.say(
                f"the server says only every {alive_s:.0f} s that it lives: what has not changed for staleness_s is "
                f"unknown until then; write: staleness_s = {math.ceil(3 * alive_s)}"
            )
        some = self._items.all[0]
        watched = Item(some.tag, _NAMESPACES, some.part, own(ObjectIds.Server_NamespaceArray))
        await self._create([watched], quietly=True)

    async def add(self, items: Sequence[Item]) -> None:
        """Monitors tags whose nodes are known; those that the server refuses are set aside."""
        await self.forget(items)
        for item in items:
            item.waiting = False  # the first value may come before the answer
        refused = await self._create(items)
        again = [item for item, code in refused if code in _NO_FILTER and item.tag.deadband]
        for item in again:
            item.part.say(item.tag.role, f"the server takes no deadband for {item.tag.words}; it reports each change")
        without = await self._create(again, plain=True) if again else []
        for item, code in [(item, code) for item, code in refused if item not in again] + without:
            self._items.refuse(item, status_words(code))

    async def forget(self, items: Sequence[Item]) -> None:
        """Takes back the monitored items of tags that nobody reads now, or whose nodes may be others now."""

        async def delete(part: list[Any]) -> list[Any]:
            parameters = ua.DeleteMonitoredItemsParameters()
            parameters.SubscriptionId = self._id
            parameters.MonitoredItemIds = part
            return await self._session.delete_monitored_items(parameters)

        old = [item.monitored for item in items if item.monitored is not None]
        with contextlib.suppress(*LINK_ERRORS):  # the server may have dropped them itself
            await self._limits.monitor.ask(old, delete, 4)
        for item in items:
            item.monitored = None

    async def _create(
        self, items: Sequence[Item], *, plain: bool = False, quietly: bool = False
    ) -> list[tuple[Item, int]]:
        """Those that the server refused, with its code."""

        async def create(part: list[Item]) -> list[Any]:
            parameters = ua.CreateMonitoredItemsParameters()
            parameters.SubscriptionId = self._id
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            parameters.ItemsToCreate = [self._request(item, plain) for item in part]
            return await self._session.create_monitored_items(parameters)

        refused: list[tuple[Item, int]] = []
        slowest_ms, shortest = 0.0, self._source.queue_size
        answers = await self._limits.monitor.ask(items, create, longest(nodes_of(items)) + 96)
        for item, answer in zip(items, answers, strict=True):
            if answer.StatusCode.value >> 30 == 0:
                item.monitored = answer.MonitoredItemId
                slowest_ms = max(slowest_ms, answer.RevisedSamplingInterval)
                shortest = min(shortest, answer.RevisedQueueSize)
            elif not quietly:
                refused.append((item, int(answer.StatusCode.value)))
        self._grace_s = max(self._grace_s, 1.0 + 3 * slowest_ms / 1000)
        if not quietly:
            self._compare("sampling_interval_ms", self._source.sampling_interval_ms, slowest_ms)
            if shortest <= 1 < self._source.queue_size and slowest_ms < self._publishing_ms:
                self._items.say(
                    "the server keeps only the last value of a tag: of two changes within "
                    f"{self._publishing_ms:.0f} ms it tells one; lower publishing_interval_ms"
                )
        return refused

    def _compare(self, key: str, asked_ms: int, given_ms: float) -> None:
        """A line waits for values as long as is configured: what comes later is measured too late."""
        if given_ms > asked_ms + _SLACK_MS:
            words = f"the server does not take {key} = {asked_ms}, only {given_ms:.0f}: changes come too late"
            self._items.say(f"{words}; write: {key} = {math.ceil(given_ms)}")

    def _request(self, item: Item, plain: bool) -> Any:
        parameters = ua.MonitoringParameters()
        parameters.ClientHandle = item.handle
        parameters.SamplingInterval = self._source.sampling_interval_ms
        parameters.QueueSize = self._source.queue_size
        parameters.DiscardOldest = True
        if item.tag.deadband and not plain and item.handle != _NAMESPACES:
            parameters.Filter = ua.DataChangeFilter(
                Trigger=ua.DataChangeTrigger.StatusValue,
                DeadbandType=int(ua.DeadbandType.Absolute),
                DeadbandValue=item.tag.deadband / 1000,
            )
        return ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=item.node, AttributeId=AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=parameters,
        )

    def _published(self, result: ua.PublishResult) -> None:
        """asyncua calls this for each publish response, in their order."""
        self._taken = False
        message = result.NotificationMessage
        contents = message.NotificationData or []
        number = int(message.SequenceNumber)
        # Part 4, 7.26: numbers follow each other; that of a keep-alive is the one to come. Some servers say the last.
        if number > self._next:
            self._items.gap(f"{number - self._next} notifications of the server did not arrive", self._heard_ms)
            self._read_again = True
        if contents or number > self._next:
            self._next = number + bool(contents)
        heard_ms, self._heard_ms, self._heard_s = self._heard_ms, self._items.now_ms(), time.monotonic()
        for content in contents:
            if isinstance(content, list):
                for handle, told in content:
                    if handle == _NAMESPACES:
                        self._check_namespaces(told)
                self._items.take(content, heard_ms)
            elif isinstance(content, ua.StatusChangeNotification):
                self._ended = f"the subscription ended ({status_words(content.Status.value)})"
        if not result.MoreNotifications:
            self._items.alive()
        self._taken = True

    def _check_namespaces(self, found: Told) -> None:
        if not same_namespaces(found, self._namespaces):
            self._ended = "the server's namespaces have changed"

    async def check(self) -> None:
        if self._ended or not self._taken:
            raise FlowLost(self._ended or "what the server said could not be taken in")
        silent_s = time.monotonic() - self._heard_s
        if silent_s > self._silence_s:
            raise FlowLost(f"connected, but the server has sent nothing for {silent_s:.0f} s")
        if self._read_again:
            self._read_again = False
            await self._read(self._items.live)
        if self._suspects and time.monotonic() > self._suspected_s + self._grace_s:
            await self._judge()

    def pause_s(self) -> float:
        return LOOK_S

    async def audit(self) -> None:
        """Reads every tag, to find one that changed without a word."""
        if self._suspects:
            return  # those of the last one are not judged yet
        live = self._items.live
        began_s = time.monotonic()
        found = await read_values(self._session, self._limits.read, nodes_of(live))
        pairs = [(item, value) for item, value in zip(live, found, strict=True) if item.heard_s < began_s]
        self._suspects = [item for item, value in pairs if not item.waiting and item.differs(value)]
        self._suspected_s = began_s
        # Those that are known to say nothing by themselves.
        self._items.take([(item.handle, value) for item, value in pairs if item.silent > 1])

    async def _judge(self) -> None:
        silent = [item for item in self._suspects if not item.waiting and item.heard_s < self._suspected_s]
        self._suspects = []
        fresh = [item for item in silent if item.silent < 2]
        for item in silent:
            item.silent += 1
        if fresh:
            raise FlowLost(f"connected, but {fresh[0].tag.words} changed and the server did not say so")

    async def _read(self, items: Sequence[Item]) -> None:
        found = await read_values(self._session, self._limits.read, nodes_of(items))
        self._items.take([(item.handle, told) for item, told in zip(items, found, strict=True)])
