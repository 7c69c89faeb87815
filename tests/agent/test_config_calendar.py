"""Shifts, holidays and planned stops in the file: what they become, and what is refused with line and mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import AgentConfiguration
from protocols.errors import ConfigurationError, Malformed
from protocols.measurement.calendar import Calendar
from tests.agent import factory

SHIFTS = """
[[line.shift]]
name = "early"
start = "06:00"
end = "14:00"
breaks = [["10:00", "10:30"]]
[[line.shift]]
name = "night"
days = ["mon", "tue"]
start = "22:00"
end = "06:00"
breaks = [["23:45", "00:15"], ["03:00", "03:30"]]
"""
DOWN = """
[[line.planned_down]]
from = "2026-12-24T12:00"
to = "2026-12-24T18:30"
reason = "yearly service"
"""


def configuration(folder: Path, text: str, zone: str = "Asia/Hong_Kong") -> AgentConfiguration:
    return factory.configuration(folder, factory.opcua().replace("Asia/Hong_Kong", zone) + text)


def calendar(folder: Path, text: str, zone: str = "Asia/Hong_Kong") -> Calendar:
    return configuration(folder, text, zone).lines[0].configuration.calendar


def test_shifts_and_breaks_over_midnight(tmp_path: Path) -> None:
    early, night = calendar(tmp_path, SHIFTS).shifts
    assert (early.start_minute, early.end_minute, early.breaks) == (360, 840, ((600, 630),))
    assert early.weekdays == (0, 1, 2, 3, 4, 5, 6)
    assert (night.weekdays, night.start_minute, night.end_minute) == ((0, 1), 1320, 1800)
    assert night.breaks == ((1425, 1455), (1620, 1650))


def test_planned_stops_are_local_time_and_have_one_order(tmp_path: Path) -> None:
    earlier = '[[line.planned_down]]\nfrom = "2026-12-01T00:00"\nto = "2026-12-02T00:00"\nreason = "new belt"\n'
    found = calendar(tmp_path, DOWN + earlier)
    assert found.planned_downs == (
        (1_796_054_400_000, 1_796_140_800_000, "new belt"),
        (1_798_084_800_000, 1_798_108_200_000, "yearly service"),
    )
    assert found == calendar(tmp_path, earlier + DOWN)
    assert Calendar.from_data(found.to_data()) == found


def test_a_planned_stop_begins_at_a_whole_minute(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="leave the seconds away"):
        calendar(tmp_path, DOWN.replace("2026-12-24T12:00", "2026-12-24T12:00:30"))
    with pytest.raises(Malformed, match="whole minute"):
        Calendar("UTC", planned_downs=((60_000, 90_000, "x"),))


def test_an_hour_that_comes_twice_can_be_told_apart(tmp_path: Path) -> None:
    text = DOWN.replace("2026-12-24T12:00", "2026-10-25T02:30").replace("2026-12-24T18:30", "2026-10-25T02:30+01:00")
    ((from_ms, to_ms, _),) = calendar(tmp_path, text, "Europe/Berlin").planned_downs
    assert to_ms - from_ms == 3_600_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SHIFTS.replace('"14:00"', '"22:30"'), '"early" and "night" overlap'),
        (SHIFTS.replace('end = "06:00"', 'end = "07:00"'), '"night" and "early" overlap'),
        # The night of Sunday reaches into the week's first shift.
        (SHIFTS.replace('["mon", "tue"]', '["sun"]').replace('end = "06:00"', 'end = "07:00"'), "overlap"),
        (SHIFTS.replace('"early"', '"night"'), "two shifts are called"),
        (SHIFTS.replace('"10:30"]', '"14:30"]'), "does not fit"),
        (SHIFTS.replace('["03:00", "03:30"]', '["00:00", "00:30"]'), "does not fit"),
        (SHIFTS.replace('"06:00"', '"6 am"'), "is not a time of day"),
        (DOWN.replace("18:30", "12:00"), "ends before it starts"),
        (DOWN.replace("2026-12-24T18:30", "Christmas"), "cannot be used"),
        (DOWN.replace('reason = "yearly service"', ""), "reason: is missing"),
        (DOWN + "length = 2\n", "unknown key"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        configuration(tmp_path, text)
    assert words in str(found.value)
    assert found.value.mend
