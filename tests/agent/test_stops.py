"""Which stop a person means."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.spool import LineBatch, Spool
from agent.stops import MeantStop, find_stop
from protocols.errors import LinetallyError, Refused
from protocols.measurement.account import Category
from protocols.measurement.timeline import Stop

ZONE = ZoneInfo("Asia/Hong_Kong")
START = int(datetime(2026, 11, 21, 6, 3, 20, 437_000, UTC).timestamp() * 1000)  # 14:03:20.437 in Hong Kong
STOPS = (
    Stop(START, START + 300_000, Category.FAILURE, 7, False, True),
    Stop(START + 600_000, START + 610_000, Category.HELD, 0, True, False),
    Stop(START + 630_000, START + 650_000, Category.HELD, 0, True, False),
)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool.open(tmp_path) as made:
        made.commit([LineBatch("filling", b"h" * 32, (), {}, STOPS)])
        yield made


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("2026-11-21T14:03:20", 0),
        ("2026-11-21 14:03:20+08:00", 0),  # as status shows it
        ("2026-11-21T06:03:20Z", 0),
        ("2026-11-21T14:03", 0),
        (str(START), 0),
        ("2026-11-21T14:05", 0),  # within it
        ("2026-11-21T14:13:20", 1),
        ("2026-11-21T14:13:20.437", 1),
        ("last", 2),
    ],
)
def test_a_stop_is_found(spool: Spool, text: str, stop: int) -> None:
    reason = "#7" if stop == 0 else ""
    assert find_stop(spool, "filling", text, ZONE) == MeantStop(STOPS[stop].start_ms, reason)


@pytest.mark.parametrize("at_ms", [START - 1, START + 650_000])
def test_a_time_beyond_what_is_kept_stands_for_itself(spool: Spool, at_ms: int) -> None:
    assert find_stop(spool, "filling", str(at_ms), ZONE) == MeantStop(at_ms, "")
    assert find_stop(spool, "packing", str(START), ZONE) == MeantStop(START, "")


@pytest.mark.parametrize(
    ("line", "text", "code", "words"),
    [
        ("filling", "2026-11-21T14:13", "several-stops", "2 stops began then: 2026-11-21T14:13:20.437, "),
        ("filling", "2026-11-21T14:10", "unknown-stop", "did not stop then; the nearest stops: "),
        ("packing", "last", "unknown-stop", "no closed stop of packing"),
    ],
)  # fmt: skip
def test_no_stop_is_guessed(spool: Spool, line: str, text: str, code: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        find_stop(spool, line, text, ZONE)
    assert caught.value.code == code and words in caught.value.words


def test_what_is_no_time_is_said(spool: Spool) -> None:
    with pytest.raises(LinetallyError, match="is not a time"):
        find_stop(spool, "filling", "noon", ZONE)
