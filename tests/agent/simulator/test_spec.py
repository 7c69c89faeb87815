"""Plant files: what is wrong is said with file, line and mend; hours over midnight and changes of daylight time."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import pytest

from agent.simulator.hours import working_intervals
from agent.simulator.spec import load_plant
from protocols.errors import ConfigurationError

GOOD = """\
timezone = "Europe/Berlin"

[[line]]
id = "one"
protocol = "opcua"

[[line.product]]
code = 1
name = "Thing"
cycle_ms = 1000

[[line.shift]]
name = "Night"
start = "22:00"
end = "06:00"
breaks = ["02:30-02:45"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plant.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('id = "one"', 'id = "one"\ncolour = "red"', 5, "unknown key"),
        ('id = "one"', 'id = "o ne"', 4, "is no id"),
        ('id = "one"\n', "", 3, "is missing"),
        ('"opcua"', '"mqtt"', 5, "not known"),
        ('"opcua"', '"modbus"', 3, "16-bit"),
        ("cycle_ms = 1000", "cycle_ms = 0", 10, "out of range"),
        ("cycle_ms = 1000", "cycle_ms = true", 10, "not a number"),
        ("cycle_ms = 1000", "cycle_ms = nan", 10, "not a number"),
        ("code = 1", 'code = "1"', 8, "not a whole number"),
        ('start = "22:00"', 'start = "25:00"', 14, "no time of day"),
        ('"Europe/Berlin"', '"Europe/Nowhere"', 3, "no time zone"),
        ("[[line.product]]", "[[line.goods]]", 3, "is missing"),
        ("cycle_ms = 1000", "cycle_ms = = 1", 10, "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, line: int | None, words: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_plant(written(tmp_path, GOOD.replace(old, new)))
    assert caught.value.file == str(tmp_path / "plant.toml")
    assert caught.value.line == line


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_plant(tmp_path / "plant.toml")


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 7 - 0.25), ("2026-10-24", 9 - 0.25), ("2026-05-01", 8 - 0.25)]
)
def test_a_night_shift_over_a_change_of_daylight_time(tmp_path: Path, day: str, hours: float) -> None:
    spec = load_plant(written(tmp_path, GOOD)).lines[0]
    noon_ms = round(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC).timestamp() * 1000)
    night = list(takewhile(lambda each: each[0] < noon_ms + 20 * 3_600_000, working_intervals(spec, noon_ms)))
    expected_ms = round(hours * 3_600_000)
    if day == "2026-03-28":
        expected_ms += 900_000  # the break's local time does not exist in this night
    assert sum(end - begin for begin, end in night) == pytest.approx(expected_ms, abs=900_000)
    assert datetime.fromtimestamp(night[-1][1] / 1000, spec.timezone).strftime("%H:%M") == "06:00"
