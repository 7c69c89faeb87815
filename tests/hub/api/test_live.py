"""Live values: what is let in, what a reader gets, and that a slow one costs nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from hub.api.board import Board
from hub.api.live_message import present
from hub.live import LiveBus, LiveMessage
from protocols.measurement.account import Category, TimeAccount
from protocols.measurement.definition import ISO, TPM, Definition
from tests.hub.web.plant import Plant, live_message, spoken


def events(response: httpx.Response, wanted: int, kind: str) -> list[dict[str, Any]]:
    found, name = [], ""
    for row in response.iter_lines():
        if row.startswith("event: "):
            name = row[7:]
        elif row.startswith("data: ") and name == kind:
            found.append(json.loads(row[6:]))
            if len(found) == wanted:
                return found
    raise AssertionError(f"the stream ended after {len(found)} events")


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited ten seconds"
        time.sleep(0.02)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the board has no event to wait for
            await asyncio.sleep(0.01)


def test_a_reader_gets_its_lines_and_only_those(plant: Plant, address: str) -> None:
    plant.say(live_message("filling", interval_s=7))
    headers = {"Authorization": f"Bearer {plant.tokens['manufacturer']}"}
    with httpx.stream("GET", address + "/api/v1/live", headers=headers, timeout=10) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        plant.say(live_message("rival"), gateway="gw-99")
        plant.say(live_message("filling", tick=1, interval_s=7))
        plant.say(live_message("packing", tick=1))
        found = events(response, 2, "line")
    assert {view["line"] for view in found} <= {"filling", "packing"}
    oee = found[0]["shift_figures"]["oee"]
    assert oee["percent"] == pytest.approx(100 * oee["numerator"] / oee["denominator"], abs=0.05)
    assert found[0]["interval_s"] == 7
    assert found[0]["timezone"] == "Asia/Hong_Kong" and found[0]["ribbon"][0][1] == "SETUP"
    with httpx.stream("GET", address + "/api/v1/live?line=filling", headers=headers, timeout=10) as response:
        assert events(response, 1, "hub")[0]["log_size"] == 3
    assert httpx.get(address + "/api/v1/live?line=rival", headers=headers).status_code == 404
    auditor = {"Authorization": f"Bearer {plant.tokens['auditor']}"}
    assert httpx.get(address + "/api/v1/live", headers=auditor).status_code == 403


def test_a_client_that_does_not_read_is_bounded_and_others_go_on(plant: Plant, address: str) -> None:
    where = urlsplit(address)
    assert where.hostname and where.port
    with socket.create_connection((where.hostname, where.port)) as slow:
        token = plant.tokens["operator"]
        slow.sendall(f"GET /api/v1/live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        board = plant.app.state.board
        wait_for(lambda: board.reader_count == 1)
        # Far more than the sockets' buffers hold: the rest must be dropped, not kept.
        for tick in range(4000):
            plant.say(live_message("filling", tick=tick))
            if tick % 50 == 0:
                time.sleep(0.005)  # the loop's turn
        plant.say(live_message("filling", tick=5000))
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", address + "/api/v1/live?line=filling", headers=headers, timeout=10) as response:
            view = events(response, 1, "line")[0]
        assert view["shift_figures"]["good_count"] > 9_712
        assert all(reader.waiting_count <= 1 for reader in list(board._readers))
    wait_for(lambda: board.reader_count == 0)


def test_a_mailbox_holds_one_view_a_line() -> None:
    async def check() -> None:
        board = Board(dict)
        reader = board.open(lambda line: line != "hidden")
        assert reader is not None
        for tick in range(200):
            for line in ("filling", "packing", "hidden"):
                board.publish(spoken(live_message(line, tick=tick), "gw", tick))
        assert reader.waiting_count == 2
        taken = await reader.take(1)
        assert taken is not None
        assert [json.loads(text)["received_ms"] for text in taken] == [199, 199]
        assert await reader.take(0.01) == []
        board.close()
        assert await reader.take(1) is None
        board.leave(reader)
        assert board.reader_count == 0 and board.open(lambda _: True) is None

    asyncio.run(check())


def test_a_slow_board_loses_what_is_replaced_and_no_other_line() -> None:
    async def check() -> None:
        bus = LiveBus()
        lines = [f"line-{number}" for number in range(200)]  # more than a queue of messages would hold
        with bus.subscribe() as subscription:
            for tick in range(3):
                bus.publish(*(spoken(live_message(line), "gw", tick) for line in lines))
            bus.gateway_lost("gw", 9)
            await asyncio.sleep(0)
            found = await subscription.get()
        told = [each for each in found if isinstance(each, LiveMessage)]
        assert [(each.line_id, each.received_ms) for each in told] == [(line, 2) for line in lines]
        assert [each.line_id for each in found[len(told) :]] == lines, "what came last is last"
        assert subscription.dropped_count == 2 * len(lines)

    asyncio.run(check())


def test_the_board_follows_the_bus() -> None:
    async def check() -> None:
        board, bus = Board(lambda: {"filling": "Asia/Hong_Kong"}), LiveBus()
        bus.publish(spoken(live_message("packing"), "gw", 1))
        task = asyncio.create_task(board.run(bus))
        await until(lambda: "packing" in board.views())  # what was there before
        bus.publish(spoken(live_message("filling"), "gw", 2), spoken(live_message("packing"), "gw", 3))
        await until(lambda: board.views()["packing"].received_ms == 3)
        assert board.views()["filling"].timezone == "Asia/Hong_Kong"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())


def test_what_the_agent_says_is_understood_and_its_stops_come_newest_first() -> None:
    """The agent lists its stops oldest first and its categories as numbers."""

    async def check() -> None:
        board = Board(dict)
        stops = [{"start_ms": at, "end_ms": at + 1, "category": "FAILURE", "reason": ""} for at in range(1, 9)]
        board.publish(spoken(live_message(stops=stops, ribbon=[[1, 3], [2, 1]]), "gw", 1))
        view = board.views()["filling"]
        assert [stop.start_ms for stop in view.stops] == [8, 7, 6, 5, 4]
        assert view.ribbon == [(1, "FAILURE"), (2, "PRODUCING")] and view.timezone == "UTC"

    asyncio.run(check())


def test_the_board_goes_on_without_the_database_and_with_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.api.board.ZONES_EVERY_S", 0.01)
    turns = iter(range(1000))

    def zones() -> dict[str, str]:
        if next(turns) < 3:
            raise OperationalError("select", {}, Exception("the server is away"))
        return {"filling": "Asia/Hong_Kong"}

    async def live() -> None:
        board, bus = Board(zones), LiveBus()
        running = asyncio.create_task(board.run(bus))
        try:
            async with asyncio.timeout(10):
                for zone in ("UTC", "Asia/Hong_Kong"):
                    while (view := board.views().get("filling")) is None or view.timezone != zone:
                        assert not running.done()
                        bus.publish(spoken(live_message("filling"), "gw-07", 1))
                        await asyncio.sleep(0.005)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(live())


def test_live_figures_are_made_with_the_definition_that_the_line_brings() -> None:
    def shown(definition: Definition) -> int:
        ms = {Category.PRODUCING: 60, Category.MINOR_STOP: 40}
        sums = TimeAccount(tuple(ms.get(category, 0) for category in Category), 100)
        brought = {"definition_data": definition.to_data(), "definition": definition.hash.hex()}
        message = spoken(live_message() | brought | {"shift_account": list(sums.as_ints())}, "gw", 0)
        view = present(message, timezone="UTC", trend=[])
        return round(view.shift_figures.availability.percent or 0)

    assert (shown(ISO), shown(TPM)) == (60, 100)
