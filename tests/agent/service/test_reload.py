"""SIGHUP's other half: what a changed file changes while the agent runs, and what waits for a restart, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import app
from agent.backoff import Backoff
from agent.clock import ManualClock
from agent.config import load
from agent.late import LateCounts, read_late
from agent.line import Line
from agent.publisher import Publisher
from agent.recorder import Recorder
from agent.reload import Reloader, difference
from agent.running import Running
from agent.spool import Spool
from protocols.errors import ConfigurationError
from protocols.evidence.bodies import Configurations, Gap, Measurement, RawGap
from protocols.evidence.record import SignedRecord
from protocols.plc.roles import SignalRole
from tests.agent import factory
from tests.agent.test_publisher import KEY, KID, until
from tests.simulators.broker import running_broker
from tests.simulators.receipt_hub import ReceiptHub

START = 1_790_000_100_000 - 1_790_000_100_000 % 3_600_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


class Agent:
    """An agent without a network: its line's machine makes a piece a second whenever the time is moved on."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        self.path = factory.write(folder, factory.opcua())
        configuration = load(self.path)
        self.spool = spool
        self.clock = ManualClock(START, b"\1" * 16)
        self.recorder = Recorder(configuration, spool, KEY, self.clock)
        started = self.recorder.start()
        line = configuration.lines[0]
        self.running = Running([Line(line, started["filling"].meter, self.clock)], self._read)
        self.publisher = Publisher(
            configuration, spool, KID, ReceiptHub(1).signer.verifier, self.clock.now_ms, lambda _: None
        )
        late = LateCounts(spool, ["filling"])
        self.reloader = Reloader(configuration, self.running, self.recorder, self.publisher, late, self.clock)
        self.reads = 0

    async def _read(self, line: Line) -> None:
        self.reads += 1
        line.begin()
        await asyncio.Event().wait()

    def work(self, until_ms: int, step_ms: int = 1000) -> None:
        (line,) = self.running.lines
        while self.clock.now_ms() < until_ms:
            now = self.clock.now_ms() + step_ms
            self.clock.advance_to(now)
            for role, value in ((SignalRole.STATE, 6), (SignalRole.TOTAL, now // 1000), (SignalRole.REJECT, 0)):
                line.put(role, value, now)
            line.alive()
            app.measure([line], self.recorder, now)

    async def reload(self, table: str, *, reads: int = 0) -> bool:
        """With `table` in the place of [statement]. `reads`: another sampling interval of the line (ms)."""
        text = self.path.read_text().split("\n[[line]]")[0].split("[statement]")[0] + table + factory.opcua()
        self.path.write_text(text.replace("sampling_interval_ms = 0", f"sampling_interval_ms = {reads}"))
        return await self.reloader.reload()

    def bodies(self) -> list[Any]:
        return [SignedRecord(record.raw).record.body for record in self.spool.open_records(0, 10_000)]


def play(folder: Path, scenario: Callable[[Agent], Any]) -> list[Any]:
    """The bodies of the records after `scenario`."""

    async def run() -> list[Any]:
        with Spool.open(folder) as spool:
            agent = Agent(folder, spool)
            task = asyncio.create_task(agent.running.run())
            await asyncio.sleep(0.01)
            try:
                await scenario(agent)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            return agent.bodies()

    return asyncio.run(run())


def lengths(bodies: list[Any]) -> list[int]:
    """Of each statement, in minutes."""
    lines = [line for body in bodies if isinstance(body, Measurement) for line in body.lines]
    return [(line.windows[-1].end_ms - line.windows[0].start_ms) // MINUTE for line in lines]


def test_statements_are_signed_as_often_as_the_file_says_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is measured anew, no window is signed twice, and none is missing in between."""

    async def scenario(agent: Agent) -> None:
        agent.work(START + 20 * MINUTE + 500)
        caplog.set_level("INFO", "linetally")
        assert await agent.reload("[statement]\ninterval_s = 300\n")
        assert "configuration read again: statement.interval_s changed" in caplog.text
        agent.work(START + 31 * MINUTE)
        assert await agent.reload("[statement]\ninterval_s = 1800\n")
        agent.work(START + 91 * MINUTE)
        assert agent.reads == 1, "the line's PLC noticed nothing"

    bodies = play(tmp_path, scenario)
    assert lengths(bodies) == [15, 5, 5, 5, 30, 30]
    assert [type(body) for body in bodies if not isinstance(body, Measurement)] == [Configurations]
    windows = [w for b in bodies if isinstance(b, Measurement) for line in b.lines for w in line.windows]
    assert [w.start_ms for w in windows] == list(range(START, START + 90 * MINUTE, MINUTE))


def test_windows_of_another_length_are_another_configuration(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        agent.work(START + 7 * MINUTE + 30_000)
        assert await agent.reload("[statement]\nwindow_s = 30\ninterval_s = 300\n")
        await asyncio.sleep(0.01)
        agent.work(START + 16 * MINUTE)

    bodies = play(tmp_path, scenario)
    others = [type(body) for body in bodies if not isinstance(body, Measurement)]
    assert others == [Configurations, Configurations, Gap]
    assert lengths(bodies)[:2] == [5, 2], "what was closed before it is signed before it"
    last = [b for b in bodies if isinstance(b, Measurement)][-1].lines[0].windows
    assert {w.end_ms - w.start_ms for w in last} == {30_000} and last[-1].account.total_count == 30


def test_raw_samples_are_kept_as_the_file_says_now(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        agent.work(START + 3 * DAY, 10 * MINUTE)
        agent.spool.receipted([record.sequence for record in agent.spool.open_records(0, 10_000)], {})
        agent.work(agent.clock.now_ms() + 2 * MINUTE)
        assert not [body for body in agent.bodies() if isinstance(body, RawGap)]
        assert await agent.reload("[raw]\nkeep_days = 1\n")
        agent.work(agent.clock.now_ms() + 1000)
        assert agent.reads == 1

    (gap,) = [body for body in play(tmp_path, scenario) if isinstance(body, RawGap)]
    assert gap.reason == "older than 1 days" and DAY < gap.to_ms - gap.from_ms < 3 * DAY


def test_a_line_that_is_read_in_another_way_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    """The same meter: each window once, what is between two sources is unknown, and late values are counted on."""

    def put_late(agent: Agent) -> None:
        (line,) = agent.running.lines
        before, now = line.late_count, agent.clock.now_ms()
        line.put(SignalRole.TOTAL, now // 1000, now - 1500)
        app.measure([line], agent.recorder, now)
        assert line.late_count == before + 1

    async def scenario(agent: Agent) -> None:
        agent.work(START + 6 * MINUTE - 1000)
        put_late(agent)
        agent.clock.advance_to(START + 6 * MINUTE + 2000)  # a window that no tick has closed
        assert await agent.reload("", reads=50)
        await asyncio.sleep(0.01)  # its source begins
        agent.clock.advance_to(START + 6 * MINUTE + 5000)  # nothing is known before the first value
        agent.work(START + 16 * MINUTE)
        put_late(agent)
        late = LateCounts(agent.spool, ["filling"])
        late.keep({"filling": 0}, 0)
        assert agent.reads == 2 and late._before == {"filling": 1}
        assert await agent.reload("", reads=51)
        found = read_late(agent.spool, "filling")
        assert found is not None and found.count == 2

    bodies = play(tmp_path, scenario)
    assert [type(body) for body in bodies if not isinstance(body, Measurement)] == [Configurations]
    windows = [w for b in bodies if isinstance(b, Measurement) for line in b.lines for w in line.windows]
    assert [w.start_ms for w in windows] == list(range(START, START + 15 * MINUTE, MINUTE))
    assert [w.account.unknown_ms for w in windows[5:8]] == [0, 6000, 0], (
        "from what was measured last to the first value"
    )


def test_another_broker_is_gone_over_to(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        agent.path.write_text(agent.path.read_text().replace("port = 1\n", "port = 7\n"))
        assert await agent.reloader.reload()
        assert agent.publisher._broker.port == 7 and agent.reads == 1

    play(tmp_path, scenario)


def test_a_password_or_certificate_that_is_not_there_ends_no_measuring(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither at a reload nor later, when it is renewed; once it is there the agent connects."""
    monkeypatch.setattr(Backoff, "next_s", lambda self: 0.01)
    port = free_port()

    async def scenario(agent: Agent) -> None:
        publishing = asyncio.create_task(agent.publisher.run())
        text = agent.path.read_text()
        for table, words in (
            ('[broker.tls]\nca_file = "ca.crt"', "check the paths in [broker.tls]"),
            ('username = "GW-01"\npassword_file = "password"', "a file with the password in its first line"),
        ):
            agent.path.write_text(text.replace("port = 1\n", f"port = {port}\n{table}\n"))
            assert await agent.reloader.reload()
            await until(lambda words=words: words in caplog.text)  # type: ignore[misc]
            assert not publishing.done() and not agent.publisher.connected
        (tmp_path / "password").write_text("secret\n")
        await until(lambda: agent.publisher.connected)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    with running_broker(tmp_path, port):
        play(tmp_path, scenario)


def test_while_the_disk_is_full_no_line_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(agent: Agent) -> None:
        agent.recorder.disk_full_since_ms = START
        assert not await agent.reload("[statement]\ninterval_s = 300\n")
        assert "the disk is full" in caplog.text
        agent.work(START + 16 * MINUTE)

    assert lengths(play(tmp_path, scenario)) == [15]


def test_what_waits_for_a_restart_is_named_and_nothing_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(agent: Agent) -> None:
        others = '[statement]\ninterval_s = 300\n[raw]\nkeep_days = 0\n[kernel]\njit = "off"\n[health]\nport = 9617\n'
        assert not await agent.reload(others)
        agent.work(START + 16 * MINUTE)

    bodies = play(tmp_path, scenario)
    for key in ("kernel.jit", "health.port", "raw.keep_days (from or to 0)"):
        assert key in caplog.text
    assert "interval_s" not in caplog.text and "systemctl restart" in caplog.text
    assert lengths(bodies) == [15]


def test_each_key_of_the_file_is_either_taken_up_or_named(tmp_path: Path) -> None:
    """A key that is added to the configuration must not be passed over in silence."""
    base = (
        factory.write(tmp_path, factory.opcua()).read_text().replace("[statement]\nwindow_s = 60\ninterval_s = 900", "")
    )
    tables = {
        "gateway": ("id", '"GW-02"'), "hub": ("log_key", '"x"'), "statement": ("interval_s", "300"),
        "clock": ("simulation", '"clock.json"'), "kernel": ("jit", '"off"'), "live": ("sparkplug_group", '"g"'),
        "health": ("port", "9617"), "raw": ("max_megabytes", "5"), "operator": ("mqtt", "true"),
        "broker": ("port", "7"),
    }  # fmt: skip
    old = load(tmp_path / "agent.toml")
    pages = replace(old, operator=replace(old.operator, port=8481))
    assert "restart linetally-operator" in difference(old, pages).words
    for table, (key, value) in tables.items():
        text = base.replace('id = "GW-01"\n', "") if table == "gateway" else base.replace("port = 1\n", "")
        text = text if table in ("gateway", "broker") else base
        head = f"[{table}]\n"
        text = text.replace(head, f"{head}{key} = {value}\n") if head in text else f"{head}{key} = {value}\n{text}"
        (tmp_path / "agent.toml").write_text(text)
        new = load(tmp_path / "agent.toml")
        try:
            assert difference(old, new).words != "nothing differs", table
        except ConfigurationError as error:
            assert f"{table}.{key} cannot change" in str(error), table
