"""What users of counters and calendars suffer, and what they get here: pains 19 and 20.

Each plays days of a line through its configuration file and its meter, with a clock of the wall as the people have it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from agent.config import load
from protocols.measurement.account import TimeAccount, Window, total
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.meter import LineMeter
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock
from tests.agent import factory

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
EACH_S = 5
PIECES_A_ROW = 10  # 7200 an hour; the line's limit is 8000
SHIFTS = """
[[line.shift]]
name = "A"
start = "06:00"
end = "14:00"
[[line.shift]]
name = "B"
start = "14:00"
end = "22:00"
[[line.shift]]
name = "N"
start = "22:00"
end = "06:00"
breaks = [["23:45", "00:15"]]
"""


def configured(folder: Path, zone: str, counter: str, shifts: str) -> LineConfiguration:
    """The packing line of a file, with one counter."""
    text = factory.modbus().replace("Asia/Hong_Kong", zone).replace("total = { register = 1 }", f"total = {counter}")
    text = text.replace("reject = { register = 2 }\n", "").replace("[[line.product]]", f"{shifts}\n[[line.product]]")
    return load(factory.write(folder, text)).lines[0].configuration


def lived(line: LineConfiguration, start: datetime, end: datetime, shown: Callable[[int], int]) -> list[Window]:
    """The windows of a line that produces from `start` to `end`; `shown`: what its counter shows, by pieces made.

    Read each five seconds; watched for a minute before and after, so that all of it is measured.
    """
    lead = MINUTE // SECOND // EACH_S
    start_ms, end_ms = (int(at.timestamp()) * 1000 for at in (start, end))
    times = np.arange(start_ms - lead * EACH_S * SECOND, end_ms + MINUTE + 1, EACH_S * SECOND, dtype=np.int64)
    values = np.zeros((len(times), 10), np.int64)
    values[:, SignalRole.STATE] = 2  # EXECUTE, as the file says
    made = np.maximum(np.arange(len(times)) - lead, 0) * PIECES_A_ROW
    values[:, SignalRole.TOTAL] = [shown(int(pieces)) for pieces in made]
    valid = np.full(len(times), 1 << SignalRole.STATE | 1 << SignalRole.TOTAL, np.uint32)
    meter = LineMeter(line, int(times[0]))
    meter.push(SampleBlock(times, values, valid))
    return [window for window in meter.advance(end_ms + MINUTE) if start_ms <= window.start_ms < end_ms]


@pytest.mark.parametrize(
    ("counter", "first", "modulus"),
    [
        ("{ register = 1 }", 65_000, 1 << 16),
        ('{ register = 1, type = "uint32" }', (1 << 32) - 70, 1 << 32),
        ('{ register = 1, type = "bcd16" }', 9_990, 10_000),
        ("{ register = 1, modulus = 1000 }", 0, 1000),
    ],
    ids=["16 bits", "32 bits", "BCD", "a display of three digits"],
)
def test_row_19_a_roll_over_is_no_production_and_no_loss(
    tmp_path: Path, counter: str, first: int, modulus: int
) -> None:
    """A day of a counter that goes round: each piece once, and nobody is told that something was lost."""
    line = configured(tmp_path, "Asia/Hong_Kong", counter, "")
    start = datetime(2026, 11, 21, tzinfo=ZoneInfo("Asia/Hong_Kong"))
    windows = lived(line, start, start + timedelta(days=1), lambda pieces: (first + pieces) % modulus)
    day = total(window.account for window in windows)
    assert (day.total_count, day.lower_bound_count) == (7200 * 24, 0)
    assert {window.account.total_count for window in windows} == {120}, "also in the minute of the roll-over"


@pytest.mark.parametrize("counter", ["{ register = 1 }", '{ register = 1, type = "uint32" }'], ids=["16", "32 bits"])
@pytest.mark.parametrize(("before", "after"), [(60_000, 0), (300, 0), (50_000, 20_000)])
def test_row_19_a_reset_is_never_booked_as_pieces(tmp_path: Path, counter: str, before: int, after: int) -> None:
    """A restarted PLC, or somebody at the display: by the modulus alone it would be thousands of pieces at once."""
    line = configured(tmp_path, "Asia/Hong_Kong", counter, "")
    start = datetime(2026, 11, 21, 8, tzinfo=ZoneInfo("Asia/Hong_Kong"))

    def shown(pieces: int) -> int:
        return before + pieces if pieces < 3600 else after + pieces - 3600

    windows = lived(line, start, start + timedelta(hours=1), shown)
    hour = total(window.account for window in windows)
    # One reading's pieces are lost with the reset: it is said to be at least so many.
    assert (hour.total_count, hour.lower_bound_count) == (7200 - PIECES_A_ROW, 1)
    assert max(window.account.total_count for window in windows) <= 120
    assert [w.account.lower_bound_count for w in windows].index(1) == 29, "in the minute in which it happened"


def test_row_19_a_counter_that_is_set_makes_no_pieces(tmp_path: Path) -> None:
    """Set forwards, where a difference would be 30,000 good pieces in five seconds."""
    line = configured(tmp_path, "Asia/Hong_Kong", '{ register = 1, type = "uint32" }', "")
    start = datetime(2026, 11, 21, 8, tzinfo=ZoneInfo("Asia/Hong_Kong"))
    windows = lived(line, start, start + timedelta(hours=1), lambda pieces: pieces + 30_000 * (pieces >= 3600))
    hour = total(window.account for window in windows)
    assert (hour.total_count, hour.lower_bound_count) == (7200 - PIECES_A_ROW, 1)


def by_shift(windows: list[Window]) -> dict[str, TimeAccount]:
    found: dict[str, list[TimeAccount]] = defaultdict(list)
    for window in windows:
        found[window.shift].append(window.account)
    return {shift: total(accounts) for shift, accounts in found.items()}


@pytest.mark.parametrize(
    ("zone", "day", "night_h"),
    [
        ("Europe/Berlin", datetime(2026, 3, 28), 7),
        ("Europe/Berlin", datetime(2026, 10, 24), 9),
        ("America/New_York", datetime(2026, 3, 7), 7),
        ("America/New_York", datetime(2026, 10, 31), 9),
        ("Asia/Hong_Kong", datetime(2026, 11, 21), 8),
    ],
)
def test_row_20_shifts_are_the_wall_clocks_over_midnight_and_its_changes(
    tmp_path: Path, zone: str, day: datetime, night_h: int
) -> None:
    """Saturday's and Sunday's shifts, where the night between them loses an hour, wins one, or does neither."""
    line = configured(tmp_path, zone, '{ register = 1, type = "uint32" }', SHIFTS)
    start = (day + timedelta(hours=6)).replace(tzinfo=ZoneInfo(zone))
    end = (day + timedelta(days=2, hours=6)).replace(tzinfo=ZoneInfo(zone))
    windows = lived(line, start, end, lambda pieces: pieces)
    shifts = by_shift(windows)
    saturday, sunday = f"{day:%Y-%m-%d}", f"{day + timedelta(days=1):%Y-%m-%d}"
    hours = {f"{saturday}/A": 8, f"{saturday}/B": 8, f"{saturday}/N": night_h}
    hours |= {f"{sunday}/A": 8, f"{sunday}/B": 8, f"{sunday}/N": 8}
    assert {shift: account.length_ms / HOUR for shift, account in shifts.items()} == hours
    assert list(shifts) == list(hours), "one after the other: none comes twice"
    # No hour's pieces are lost or counted twice, and the night belongs to the day on which it began.
    assert {shift: account.total_count for shift, account in shifts.items()} == {
        shift: 7200 * each for shift, each in hours.items()
    }
    of_saturday = total(account for shift, account in shifts.items() if shift.startswith(saturday))
    assert of_saturday.length_ms == (16 + night_h) * HOUR
    # Neither midnight nor UTC's midnight begins anything: the window there is of the shift that people work in.
    zone_info = ZoneInfo(zone)
    for window in windows:
        wall = datetime.fromtimestamp(window.start_ms / 1000, zone_info)
        name = "A" if 6 <= wall.hour < 14 else "B" if 14 <= wall.hour < 22 else "N"
        began = wall.date() - timedelta(days=wall.hour < 6)
        assert window.shift == f"{began}/{name}", wall
    # A break over midnight is half an hour, and what was made in it counts.
    night = [window for window in windows if window.shift == f"{saturday}/N"]
    in_break = [w for w in night if w.account.planned_ms == w.length_ms and w.kind.name == "PLANNED_DOWN"]
    assert len(in_break) == 30 and all(window.account.total_count == 120 for window in in_break)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29), 23),
        ("Europe/Berlin", datetime(2026, 10, 25), 25),
        ("Europe/Berlin", datetime(2026, 10, 26), 24),
        ("Australia/Lord_Howe", datetime(2026, 10, 4), 23.5),
        ("Asia/Hong_Kong", datetime(2026, 11, 21), 24),
    ],
)
def test_row_20_a_day_is_the_factorys_day(tmp_path: Path, zone: str, day: datetime, hours: float) -> None:
    """Without shifts: from local midnight to the next, however long that is; all of its pieces and no others."""
    line = configured(tmp_path, zone, '{ register = 1, type = "uint32" }', "")
    start = (day - timedelta(hours=2)).replace(tzinfo=ZoneInfo(zone))
    end = (day + timedelta(days=1, hours=2)).replace(tzinfo=ZoneInfo(zone))
    days = by_shift(lived(line, start, end, lambda pieces: pieces))
    lengths = [account.length_ms / HOUR for account in days.values()]
    assert lengths == [2, hours, 2]
    assert [account.total_count for account in days.values()] == [7200 * length for length in lengths]
    (found,) = [shift for shift in days if shift.startswith(f"{day:%Y-%m-%d}")]
    assert days[found].length_ms == hours * HOUR
