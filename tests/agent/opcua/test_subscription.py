"""A subscription by itself, told what a server may tell: numbers, limits, intervals of its own choosing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from agent.sources.opcua_flow import FlowLost
from agent.sources.opcua_items import Items
from agent.sources.opcua_nodes import Batches, Limits
from agent.sources.opcua_subscription import Subscription
from agent.sources.opcua_wire import Changes, Told
from tests.agent.opcua.support import STATE, TOTAL, Recorder, tag
from tests.agent.opcua.test_shared import source_of

TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"))


class Session:
    """A server's half of a session that is asked by no wire. `revised`: what it makes of what is asked for."""

    def __init__(self, at_most: int = 1000, **revised: float) -> None:
        self.at_most = at_most
        self.revised = {"publishing_ms": 100, "keep_alive": 10, "sampling_ms": 0, "queue": 100, **revised}
        self.monitored: set[int] = set()

    async def create_subscription(self, parameters: Any, callback: Any) -> Any:
        return ua.CreateSubscriptionResult(7, self.revised["publishing_ms"], 1000, self.revised["keep_alive"])

    async def create_monitored_items(self, parameters: Any) -> list[Any]:
        first = len(self.monitored) + 1
        given = list(range(first, first + len(parameters.ItemsToCreate)))
        self.monitored.update(given)
        return [
            ua.MonitoredItemCreateResult(ua.StatusCode(0), number, self.revised["sampling_ms"], self.revised["queue"])
            for number in given
        ]

    async def delete_monitored_items(self, parameters: Any) -> list[Any]:
        if len(parameters.MonitoredItemIds) > self.at_most:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
        self.monitored -= set(parameters.MonitoredItemIds)
        return [ua.StatusCode(0)] * len(parameters.MonitoredItemIds)


async def subscribed(
    folder: Path, session: Session, line: Recorder, count: int = 2, keep_alive_s: float = 1.0, **settings: Any
) -> tuple[Subscription, Items]:
    """At work, with `count` tags."""
    items = Items([replace(TAGS[i % 2], lane_column=50 + i) if i > 1 else TAGS[i] for i in range(count)], {}, line)
    source = replace(source_of(folder, "opc.tcp://127.0.0.1:1"), **settings)
    limits = Limits(Batches(), Batches(), Batches())
    flow = Subscription(session, source, limits, items, [], keep_alive_s)  # type: ignore[arg-type]
    for item in items.all:
        item.node = ua.NodeId(item.handle, 2)
    await flow.start()
    await flow.add(items.all)
    return flow, items


def message(number: int, *changes: Changes) -> Any:
    notified = ua.NotificationMessage(number, NotificationData=list(changes))
    return ua.PublishResult(7, MoreNotifications=False, NotificationMessage=notified)


def keeps_alive(number: int) -> Any:
    return message(number)


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([1, 2, 3], 0), ([2], 1), ([1, 4], 2), ([keeps_alive, 1], 0), ([1, keeps_alive, 2], 0),
        ([2**32 - 2, 2**32 - 1, 1, 2], 2**32 - 3),
    ],
)  # fmt: skip
def test_a_number_that_is_left_out_is_a_gap_the_first_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: list[Any], lost: int
) -> None:
    async def scenario() -> None:
        line = Recorder()
        flow, _ = await subscribed(tmp_path, Session(), line)
        due = 1
        for number in numbers:
            if number is keeps_alive:
                flow._published(keeps_alive(due))
            else:
                flow._published(message(number, [(1, Told(number))]))
                due = number + 1
        assert [value for column, value, _ in line.values if column == STATE and value] == [
            number for number in numbers if number is not keeps_alive
        ]
        assert (f"{lost} notifications of the server did not arrive" in caplog.text) == bool(lost)
        assert flow._read_again == bool(lost)

    asyncio.run(scenario())


def test_a_keep_alive_with_the_last_number_is_none(tmp_path: Path) -> None:
    """Some servers number a keep-alive as the message before it, not as the one to come."""

    async def scenario() -> None:
        flow, _ = await subscribed(tmp_path, Session(), Recorder())
        flow._published(message(1, [(1, Told(6))]))
        flow._published(keeps_alive(1))
        flow._published(message(2, [(1, Told(7))]))
        assert not flow._read_again

    asyncio.run(scenario())


def test_as_many_are_given_back_at_once_as_the_server_takes(tmp_path: Path) -> None:
    async def scenario() -> None:
        session = Session(at_most=7)
        flow, items = await subscribed(tmp_path, session, Recorder(), count=40)
        assert len(session.monitored) == 41  # and the namespaces
        await flow.forget(items.all)
        assert len(session.monitored) == 1
        assert not any(item.monitored for item in items.all)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("settings", "revised", "words"),
    [
        ({}, {}, ""),
        ({"publishing_interval_ms": 500}, {"publishing_ms": 2000, "keep_alive": 1}, "publishing_interval_ms = 2000"),
        ({"sampling_interval_ms": 250}, {"sampling_ms": 1000}, "sampling_interval_ms = 1000"),
        ({"publishing_interval_ms": 500}, {"publishing_ms": 700, "keep_alive": 2}, ""),
        ({}, {"keep_alive": 50}, "staleness_s = 15"),
        ({"publishing_interval_ms": 500}, {"publishing_ms": 500, "keep_alive": 2, "queue": 1}, "only the last value"),
        ({"queue_size": 1}, {"queue": 1}, ""),
    ],
)
def test_what_the_server_makes_of_what_is_asked_is_said_once_where_it_costs_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: Any, revised: Any, words: str
) -> None:
    async def scenario() -> None:
        flow, items = await subscribed(tmp_path, Session(**revised), Recorder(), 5, **settings)
        await flow.add(items.all)
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == bool(words)
        assert words in caplog.text

    asyncio.run(scenario())


def test_the_server_is_up_to_date_only_when_it_has_nothing_more_to_tell(tmp_path: Path) -> None:
    async def scenario() -> None:
        line = Recorder()
        flow, _ = await subscribed(tmp_path, Session(), line)
        first = message(1, [(1, Told(6))])
        first.MoreNotifications = True
        flow._published(first)
        assert line.alive_count == 0
        flow._published(message(2, [(1, Told(7))]))
        assert line.alive_count == 1

    asyncio.run(scenario())


def test_a_subscription_that_the_server_ends_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        flow, _ = await subscribed(tmp_path, Session(), Recorder())
        ended = ua.StatusChangeNotification(ua.StatusCode(ua.StatusCodes.GoodSubscriptionTransferred))
        flow._published(ua.PublishResult(7, NotificationMessage=ua.NotificationMessage(1, NotificationData=[ended])))
        with pytest.raises(FlowLost, match="GoodSubscriptionTransferred"):
            await flow.check()

    asyncio.run(scenario())
