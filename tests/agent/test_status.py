"""What `status` says: the shift so far, and the gaps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.__main__ import main
from agent.clock import ManualClock
from agent.raw_meter import RawMeter
from agent.recorder import Recorder
from agent.spool import LineBatch, Spool
from agent.status import _shift, _shift_words
from protocols.measurement.account import CalendarKind, Category, TimeAccount, Window
from protocols.measurement.definition import ISO
from protocols.measurement.shown import Shown
from tests.agent import factory

KEY = Ed25519PrivateKey.from_private_bytes(b"\6" * 32)
START = 1_790_000_100_000 - 1_790_000_100_000 % 900_000


def test_over_100_percent_after_a_gap_is_not_the_ideal_cycles_fault() -> None:
    times = [0] * len(Category)
    times[Category.PRODUCING], times[Category.UNKNOWN] = 60_000, 600_000
    account = TimeAccount(
        tuple(times),
        660_000,
        500,
        500,
        estimated_count=450,
        standard_total_ns=500 * 10**9,
        standard_good_ns=500 * 10**9,
    )
    for sums, words in (
        (account, "effectiveness: 450 pieces were read after a gap, and 10 min were not observed"),
        (replace(account, estimated_count=0, category_ms=(0, *times[1:])), "the configured ideal cycle is slower"),
    ):
        shift = _shift({"live": Shown("2026-09-21/A", sums).to_data()}, ISO)
        assert shift is not None and words in _shift_words(shift)


def test_the_shift_so_far_and_the_gaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = factory.configuration(tmp_path, factory.opcua())
    line = configuration.lines[0].configuration
    configuration.state_folder.mkdir(mode=0o700)
    times = [0] * len(Category)
    times[Category.PRODUCING], times[Category.FAILURE] = 45_000, 15_000
    account = TimeAccount(
        tuple(times), 60_000, 30, 27, 3, standard_total_ns=30 * 1_200_000_000, standard_good_ns=27 * 1_200_000_000
    )
    window = Window(START, START + 60_000, CalendarKind.SCHEDULED, "Cola 500 ml", "", "2026-09-21/A", account)
    clock = ManualClock(START, b"\1" * 16)
    with Spool.open(configuration.state_folder) as spool:
        Recorder(configuration, spool, KEY, clock).start({"filling": START})
        carry = RawMeter(line, START + 60_000).carry()
        carry = {**carry, "live": Shown("2026-09-21/A", account).to_data()}
        spool.commit([LineBatch("filling", line.hash, (window,), carry)])
        clock.advance_to(START + 660_000)
        Recorder(configuration, spool, KEY, clock).start()
    config = str(configuration.file)
    assert main(["status", "--config", config, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["lines"][0]["shift"] == {
        "shift": "2026-09-21/A", "oee": 540, "availability": 750, "effectiveness": 800, "quality": 900,
        "total": 30, "good": 27, "excess": None,
    }  # fmt: skip
    (gap,) = status["gaps"]
    assert (gap["line"], gap["to_ms"] - gap["from_ms"] > 500_000) == ("filling", True)
    assert main(["status", "--config", config]) == 0
    words = capsys.readouterr().out
    assert "shift 2026-09-21/A so far: OEE 54.0 % (availability 75.0 %, effectiveness 80.0 %, quality 90.0 %)" in words
    assert "27 good of 30" in words
    assert f"filling, {gap['reason']}" in words
