"""Amendments from the command line into the chain, beside a running agent and a stopped one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.__main__ import main
from agent.clock import ManualClock
from agent.config import AgentConfiguration
from agent.raw_meter import RawMeter
from agent.recorder import Recorder
from agent.spool import LineBatch, Spool
from protocols.evidence.record import Amendment, Measurement, SignedRecord
from protocols.measurement.account import Category, Window
from protocols.measurement.amendment import AmendmentKind, ReasonChange
from protocols.measurement.revisions import Stated, apply
from protocols.measurement.timeline import Stop
from tests.agent import factory

KEY = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000
MINUTE = 60_000
WHO = ("--who", "M. Chan", "--why", "lab report 7")


class Gateway:
    """A gateway whose line makes fifty pieces a minute, none bad; `config` is its file."""

    def __init__(self, folder: Path) -> None:
        self.config = factory.write(folder, factory.opcua())
        self.configuration: AgentConfiguration = factory.configuration(folder, factory.opcua())
        self.state = self.configuration.state_folder
        self.state.mkdir(exist_ok=True)
        self.clock = ManualClock(START, b"\1" * 16)

    def work(self, from_minute: int, minutes: int, spool: Spool) -> None:
        """Closes windows and signs what is due."""
        recorder = Recorder(self.configuration, spool, KEY, self.clock)
        recorder.start({"filling": START})
        line = self.configuration.lines[0].configuration
        closed = [factory.window(START + minute * MINUTE) for minute in range(from_minute, from_minute + minutes)]
        end_ms = START + (from_minute + minutes) * MINUTE
        meter = RawMeter(line, end_ms)
        spool.commit([LineBatch("filling", line.hash, tuple(closed), meter.carry())])
        self.clock.advance_to(end_ms)
        recorder.seal_due(end_ms)

    def amend(self, *arguments: str) -> int:
        return main(["amend", "--config", str(self.config), *arguments])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    yield Gateway(tmp_path)


def bodies(spool: Spool) -> list[Any]:
    return [SignedRecord(record.raw).record.body for record in spool.open_records(0, 10_000)]


def standing(spool: Spool) -> list[Window]:
    """The windows of the chain, as an auditor would amend them. Raises Refused for an amendment without effect."""
    stated: list[Stated] = []
    late = []
    for sequence, body in enumerate(bodies(spool)):
        if isinstance(body, Measurement):
            stated += [Stated(window, sequence) for line in body.lines for window in line.windows]
        elif isinstance(body, Amendment):
            late.append((sequence, body))
    return apply({"filling": stated}, late)["filling"].windows


def at(minute: int) -> str:
    """Local time of the line (Hong Kong)."""
    from datetime import UTC, datetime, timedelta

    moment = datetime.fromtimestamp(START / 1000, UTC) + timedelta(minutes=minute, hours=8)
    return moment.replace(tzinfo=None).isoformat()


def test_late_rejects_are_shared_out_over_their_lot(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the running agent: its lock is held while the command runs."""
    with Spool.open(gateway.state) as spool:
        gateway.work(0, 16, spool)
        assert gateway.amend("reject", "--line", "filling", "--from", at(2), "--to", at(4), "--count", "7", *WHO) == 0
        assert "good_count 50 becomes 46" in capsys.readouterr().out
        gateway.work(16, 1, spool)
        (amendment,) = (body for body in bodies(spool) if isinstance(body, Amendment))
        assert (amendment.kind, amendment.who, amendment.why) == (AmendmentKind.REJECT, "M. Chan", "lab report 7")
        assert [w.account.reject_count for w in standing(spool)][:5] == [0, 0, 4, 3, 0]
        # The second one builds on the first, and takes back what the counter counted in minute 3.
        lot = ("--from", at(5), "--to", at(6), "--counted-from", at(3), "--counted-to", at(4))
        assert gateway.amend("reject", "--line", "filling", *lot, "--count", "3", *WHO) == 0
        gateway.work(17, 1, spool)
        assert [w.account.reject_count for w in standing(spool)][:7] == [0, 0, 4, 0, 0, 3, 0]
        assert all(w.account.good_count + w.account.reject_count == 50 for w in standing(spool))


def test_a_reason_waits_for_its_window_and_for_the_agent(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Queued while the agent is stopped and the window not yet signed; each reason names the one before."""
    with Spool.open(gateway.state) as spool:
        gateway.work(0, 16, spool)
    stop = ("reason", "--line", "filling", "--stop", at(15))
    assert gateway.amend(*stop, "--reason", "jam", *WHO) == 0
    assert 'reason "" becomes "jam"' in capsys.readouterr().out
    with Spool.open(gateway.state) as spool:
        gateway.work(16, 1, spool)
        assert [queued.state for queued in spool.amendments()] == ["waiting"]
        gateway.work(17, 15, spool)
        assert [queued.state for queued in spool.amendments()] == ["signed"]
    assert gateway.amend(*stop, "--reason", "film torn", *WHO) == 0
    with Spool.open(gateway.state) as spool:
        gateway.work(32, 1, spool)
        late = [body.change for body in bodies(spool) if isinstance(body, Amendment)]
        stop_ms = START + 15 * MINUTE
        assert late == [ReasonChange(stop_ms, "", "jam"), ReasonChange(stop_ms, "jam", "film torn")]
        standing(spool)
    assert gateway.amend("list") == 0
    assert re.search(r'2: record \d+, .* M\. Chan: lab report 7\n .*"jam" becomes "film torn"', capsys.readouterr().out)


def test_two_that_contradict_each_other_are_not_both_signed(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with Spool.open(gateway.state) as spool:
        gateway.work(0, 16, spool)
        lot = ("--from", at(2), "--to", at(3), "--count", "7")
        assert gateway.amend("reject", "--line", "filling", *lot, *WHO) == 0
        spool.queue_amendment(spool.amendments()[0].body, START)  # both say that there was none before
        gateway.work(16, 1, spool)
        assert [queued.state for queued in spool.amendments()] == ["signed", "refused"]
        assert standing(spool)[2].account.reject_count == 7
    assert "stands at 43, not at 50" in caplog.text
    assert gateway.amend("list") == 1


def test_what_waits_is_built_on(gateway: Gateway) -> None:
    """Three in a row, before any is signed: what was said first counts for the next."""
    with Spool.open(gateway.state) as spool:
        gateway.work(0, 16, spool)
        for minute, pieces in ((2, "7"), (2, "8"), (3, "50")):
            lot = ("--from", at(minute), "--to", at(minute + 1), "--count", pieces)
            assert gateway.amend("reject", "--line", "filling", *lot, *WHO) == 0
        assert gateway.amend("reject", "--line", "filling", "--from", at(3), "--to", at(4), "--count", "1", *WHO) == 1
        assert gateway.amend("window", "--line", "filling", "--window", at(2), "--set", "good_count=30", *WHO) == 0
        gateway.work(16, 1, spool)
        assert [queued.state for queued in spool.amendments()] == ["signed"] * 4
        assert [w.account.reject_count for w in standing(spool)][2:4] == [20, 50]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("reject", "--line", "filling", "--from", "2020-01-01", "--to", "2020-01-02", "--count", "1"),
            "no signed win",
        ),
        (("reject", "--line", "filling", "--from", at(0), "--to", at(1), "--count", "51"), "only 50 good pieces"),
        (("reject", "--line", "filling", "--from", at(0), "--to", at(1), "--count", "-1"), "only 0 rejects of the lot"),
        (("reject", "--line", "filling", "--from", at(0), "--to", at(1), "--count", "0"), "changes nothing"),
        (("reject", "--line", "packing", "--from", at(0), "--to", at(1), "--count", "1"), "there is no line packing"),
        (("reason", "--line", "filling", "--stop", "1500000000000", "--reason", "jam"), "no window of this gateway"),
        (("reason", "--line", "filling", "--stop", "noon", "--reason", "jam"), '"noon" is not a time'),
        (("reason", "--line", "filling", "--stop", at(0), "--reason", "a\nb"), "without control characters"),
        (("reason", "--line", "filling", "--stop", at(0), "--reason", "a", "--old", "a"), "is the old one"),
    ],
)
def test_what_cannot_have_an_effect_is_not_queued(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    with Spool.open(gateway.state) as spool:
        gateway.work(0, 16, spool)
    assert gateway.amend(*arguments, *WHO) == 1
    assert words in capsys.readouterr().err
    with Spool.open(gateway.state) as spool:
        assert spool.amendments() == []


def test_who_and_why_are_not_optional(gateway: Gateway) -> None:
    for missing in (WHO[:2], WHO[2:]):
        with pytest.raises(SystemExit):
            gateway.amend("reason", "--line", "filling", "--stop", at(0), "--reason", "jam", *missing)


def test_a_window_is_restated(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    with Spool.open(gateway.state) as spool:
        gateway.work(0, 16, spool)
        minute = ("window", "--line", "filling", "--window", at(2))
        times = ("--set", "producing_ms=45000", "--set", "failure_ms=15000")
        assert gateway.amend(*minute, "--set", "good_count=48", *times, *WHO) == 0
        words = capsys.readouterr().out
        assert "producing_ms 60000 becomes 45000" in words and "reject_count 0 becomes 2" in words
        gateway.work(16, 1, spool)
        assert [queued.state for queued in spool.amendments()] == ["signed"]
        window = standing(spool)[2]
        assert (window.account.good_count, window.account.reject_count, window.account.producing_ms) == (48, 2, 45_000)
        assert gateway.amend(*minute, "--set", "failure_ms=20000", *WHO) == 1
        assert "add up to 65000 ms" in capsys.readouterr().err
        assert gateway.amend(*minute, "--set", "good_count", *WHO) == 1
        assert "write NAME=INTEGER" in capsys.readouterr().err
    assert gateway.amend("window", "--line", "filling", "--window", "2020-01-01", "--set", "good_count=1", *WHO) == 1


def test_a_reason_is_given_to_the_stop_that_status_shows(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    stop = Stop(START + 3 * MINUTE + 437, START + 4 * MINUTE, Category.FAILURE, 7, True, False)
    with Spool.open(gateway.state) as spool:
        gateway.work(0, 16, spool)
        line = gateway.configuration.lines[0].configuration
        spool.commit([LineBatch("filling", line.hash, (), RawMeter(line, START + 16 * MINUTE).carry(), (stop,))])
        assert main(["status", "--config", str(gateway.config)]) == 0
        shown = re.search(r"stop from (\S+ \S+), ", capsys.readouterr().out)
        assert shown is not None
        assert gateway.amend("reason", "--line", "filling", "--stop", shown[1], "--reason", "jam", *WHO) == 0
        assert 'reason "#7" becomes "jam"' in capsys.readouterr().out
        gateway.work(16, 1, spool)
        (late,) = (body.change for body in bodies(spool) if isinstance(body, Amendment))
        assert late == ReasonChange(stop.start_ms, "#7", "jam")
