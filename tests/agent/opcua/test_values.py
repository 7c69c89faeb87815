"""What a value is worth, and how it is asked for: texts, deadbands, polling, long answers, a password."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.common.connection import TransportLimits

from agent.keys import write_private
from agent.sources.opcua_items import Items
from agent.sources.opcua_wire import Told, told_at
from protocols.plc.roles import SPEED_SCALE, SignalRole
from tests.agent.opcua.support import PRODUCT, STATE, TOTAL, Plc, Recorder, reading, tag

TAGS = (tag(STATE, "State"), tag(TOTAL, "Total"))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("Executing", 6), (ua.LocalizedText("NotExecuting"), 2), ("Dancing", None), (ua.LocalizedText(None), None),
    ],
)  # fmt: skip
def test_texts_mean_what_the_tag_says(value: object, number: int | None) -> None:
    line = Recorder()
    spoken = replace(tag(STATE, "State"), texts=(("Executing", 6), ("NotExecuting", 2)))
    items = Items([spoken], {}, line)
    items.all[0].waiting = False
    items.take([(1, Told(value))])
    assert line.values == [(STATE, number, None)]


@pytest.mark.parametrize(
    ("role", "value", "number"),
    [
        (TOTAL, 17, 17), (TOTAL, 17.0, 17), (TOTAL, 17.5, None), (TOTAL, float("nan"), None),
        (TOTAL, float("inf"), None), (TOTAL, [1, 2], None), (TOTAL, None, None), (TOTAL, "17", None),
        (SignalRole.ORDER, 3, 1), (SignalRole.ORDER, False, 0), (SignalRole.ORDER, "yes", None),
        (SignalRole.SPEED, 1.5, 3 * SPEED_SCALE // 2),
        (SignalRole.SPEED, float("inf"), None), (SignalRole.SPEED, 1.7e308, int(1.7e308)),
        (PRODUCT, "Cola", 5), (PRODUCT, "Tea", None), (PRODUCT, 7, 7),
    ],
)  # fmt: skip
def test_numbers(role: SignalRole, value: object, number: int | None) -> None:
    line = Recorder()
    items = Items([tag(role, "x")], {"Cola": 5}, line)
    items.all[0].waiting = False
    items.take([(1, Told(value))])
    assert [found[1] for found in line.values] == [number]


@pytest.mark.parametrize(
    ("source_ms", "server_ms", "time_ms"), [(5, 9, 5), (None, 9, 9), (None, None, None), (0, 9, 0)]
)
def test_the_time_of_a_value_is_the_sources_or_else_the_servers(
    source_ms: int | None, server_ms: int | None, time_ms: int | None
) -> None:
    line = Recorder()
    items = Items([tag(STATE, "x")], {}, line)
    items.all[0].waiting = False
    items.take([(1, Told(6, 0, source_ms, server_ms))])
    assert line.values == [(STATE, 6, time_ms)]


@pytest.mark.parametrize(
    ("last", "found", "differs"),
    [
        (10, 10, False), (10, 11, False), (10, 15, False), (10, 16, True), (10, 4, True), (10, 14.5, False),
        (10.0, 5.0, False), (10.0, 15.5, True), (float("inf"), float("inf"), False), (float("nan"), 1, True),
        (float("nan"), float("nan"), False), ("a", "b", True), ("a", "a", False), (10, "10", True), (10, None, True),
    ],
)  # fmt: skip
def test_a_change_within_the_deadband_is_none_whatever_the_values_type(
    last: object, found: object, *, differs: bool
) -> None:
    """The server does not tell it, so it must not be taken for one that was kept silent."""
    items = Items([replace(tag(SignalRole.SPEED, "x"), deadband=5000)], {}, Recorder())
    items.all[0].waiting = False
    items.take([(1, Told(last))])
    assert items.all[0].differs(Told(found)) is differs


@pytest.mark.parametrize("start", [b"\x0c", b"\x15\x02"])
def test_a_text_in_latin_1_is_read_as_such(start: bytes) -> None:
    """PLCs put it into a String, which must be UTF-8: asyncua makes surrogates of it, and no file takes them."""
    line = Recorder()
    items = Items([tag(PRODUCT, "x")], {"K\u00e4se": 5, "K\u00e4se light": 6}, line)
    items.all[0].waiting = False
    latin, utf = (
        b"\x01" + start + len(text).to_bytes(4, "little") + text for text in (b"K\xe4se", "K\u00e4se light".encode())
    )
    items.take([(1, told_at(latin, 0)[0]), (1, told_at(utf, 0)[0])])
    assert [value for _, value, _ in line.values] == [5, 6]


def test_what_a_server_says_is_shown_as_far_as_it_can_be() -> None:
    line = Recorder()
    items = Items([tag(PRODUCT, "x")], {}, line)
    items.all[0].waiting = False
    items.take([(1, Told("K\udce4se\x07"))])
    _, (report,) = items.report(line)
    assert report["value"] == "Kse"
    items.lost("it said K\udce4se\n\x1b[31mPWNED")
    assert line.events == ["lost: it said Kse[31mPWNED"]


def test_a_tag_with_ever_new_texts_neither_fills_the_log_nor_mutes_the_others(caplog: pytest.LogCaptureFixture) -> None:
    items = Items([tag(PRODUCT, "x"), tag(TOTAL, "y")], {}, Recorder())
    for item in items.all:
        item.waiting = False
    items.take([(1, Told(f"lot {number}")) for number in range(2000)])
    assert 1 <= len(caplog.records) <= 100
    items.take([(2, Told("17"))])
    assert "total: a whole number is needed" in caplog.text


def test_a_deadband_is_asked_for_and_done_without_where_it_cannot_be(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start("State", "Total", "Speed", "Product")
        speed = replace(tag(SignalRole.SPEED, "Speed"), deadband=5000)
        async with reading(tmp_path, plc.endpoint, (*TAGS, speed)) as line:
            await line.until(lambda: line.newest(SignalRole.SPEED) == 0)
            for value in (3, 4, 20):
                await plc.write("Speed", value)
                await plc.write("State", value)
                await line.until(lambda value=value: line.newest(STATE) == value)
            speeds = [value for column, value, _ in line.values if column == SignalRole.SPEED]
            assert speeds == [0, 20 * SPEED_SCALE]
        await plc.stop()

    asyncio.run(scenario())


def test_polling_takes_a_change_and_repeats_nothing(
    tmp_path: Path, free_port: Callable[[], int], services: Counter[str]
) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        await plc.start()
        async with reading(tmp_path, plc.endpoint, TAGS, poll=True, poll_interval_ms=50) as line:
            await line.until(lambda: line.alive_count > 5)
            assert len(line.values) == 2
            await plc.write("State", 6, 1_790_000_000_123)
            await line.until(lambda: (STATE, 6, 1_790_000_000_123) in line.values)
            assert len(line.values) == 3
            await plc.stop()
            await line.until(lambda: line.events[-1].startswith("lost"))
        assert services["CreateSubscriptionRequest"] == 0

    asyncio.run(scenario())


def test_a_tag_that_is_bad_is_known_as_such_after_each_connect_by_polling_too(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async def scenario() -> None:
        port = free_port()
        async with reading(tmp_path, f"opc.tcp://127.0.0.1:{port}", TAGS, poll=True, poll_interval_ms=50) as line:
            await line.said()
            for _ in range(2):
                plc = Plc(port)
                await plc.start()
                await plc.write("Total", 3, status=ua.StatusCodes.BadSensorFailure)
                await line.until(lambda: "connected to" in line.events[-1])
                await line.until(lambda: "BadSensorFailure" in line.reader.report(line)["tags"][1]["trouble"])
                await plc.stop()
                await line.until(lambda: line.events[-1].startswith("lost"))

    asyncio.run(scenario())


def test_a_server_that_takes_short_requests_and_gives_long_answers(
    tmp_path: Path, free_port: Callable[[], int], services: Counter[str]
) -> None:
    """asyncua alone takes the server's limit of requests for that of answers, and drops the connection."""

    async def scenario() -> None:
        plc = Plc(free_port())
        plc._server.limits = TransportLimits(8192, 65_535, 0, 8192)
        await plc.start("State", "Total", "Product")
        await plc.write("Product", "x" * 20_000)
        tags = (*TAGS, tag(PRODUCT, "Product"), *(replace(TAGS[1], lane_column=50 + i) for i in range(600)))
        async with reading(tmp_path, plc.endpoint, tags, poll=True, poll_interval_ms=50) as line:
            await line.until(lambda: line.alive_count > 2)
            assert line.events == [f"connected to {plc.endpoint}, 603 of 603 tags"]
        await plc.stop()

    asyncio.run(scenario())


def test_an_unprotected_password_is_never_sent(
    tmp_path: Path, free_port: Callable[[], int], services: Counter[str]
) -> None:
    async def scenario() -> None:
        plc = Plc(free_port())
        plc._server.set_identity_tokens([ua.UserNameIdentityToken, ua.AnonymousIdentityToken])
        await plc.start()
        write_private(tmp_path / "word", b"hunter2\n")
        login = {"username": "agent", "password_file": tmp_path / "word"}
        async with reading(tmp_path, plc.endpoint, TAGS, **login) as line:
            await line.until(lambda: any("unprotected; it was not sent" in event for event in line.events))
        await plc.stop()

    asyncio.run(scenario())
    assert services["ActivateSessionRequest"] == 0


def test_a_password_file_that_others_may_read_is_said_and_waited_for(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async def scenario() -> None:
        (tmp_path / "word").write_text("hunter2\n")
        (tmp_path / "word").chmod(0o644)
        login = {"username": "agent", "password_file": tmp_path / "word"}
        async with reading(tmp_path, f"opc.tcp://127.0.0.1:{free_port()}", TAGS, **login) as line:
            await line.until(lambda: any("chmod 600" in event for event in line.events))
            (tmp_path / "word").chmod(0o600)
            await line.until(lambda: "is the PLC on?" in line.events[-1])
            assert "hunter2" not in " ".join(line.events)

    asyncio.run(scenario())
