"""The timeline: flapping, minor stops and what is still open, each by an example."""

from __future__ import annotations

from protocols.measurement.account import Category
from protocols.measurement.definition import Definition
from protocols.measurement.timeline import Timeline

P, F, H, R, U = (Category.PRODUCING, Category.FAILURE, Category.HELD, Category.RESTRAINT, Category.UNKNOWN)


def timeline(*runs: tuple[int, Category], minor: int = 0, run: int = 0, stop: int = 0) -> Timeline:
    out = Timeline(0, Definition(minor_stop_ms=minor, min_run_ms=run, min_stop_ms=stop))
    for start_ms, category in runs:
        out.append(start_ms, category)
    return out


def test_a_stop_shorter_than_min_stop_is_running() -> None:
    resolved = timeline((10, P), (100, H), (109, P), (200, H), (210, P), stop=10).resolve(300)
    assert resolved.stretches == [(0, 10, U), (10, 200, P), (200, 210, H), (210, 300, P)]
    assert [stop.start_ms for stop in resolved.stops] == [200]
    assert resolved.decided_ms == 300


def test_a_run_shorter_than_min_run_is_part_of_the_stop() -> None:
    resolved = timeline((10, P), (100, F), (150, P), (155, H), (200, P), run=10).resolve(300)
    assert resolved.stretches == [(0, 10, U), (10, 100, P), (100, 155, F), (155, 200, H), (200, 300, P)]
    assert [(stop.start_ms, stop.end_ms, stop.category) for stop in resolved.stops] == [(100, 200, F)]


def test_a_short_run_between_stops_of_two_kinds_stays() -> None:
    resolved = timeline((10, P), (100, F), (150, P), (155, R), (200, P), run=10).resolve(300)
    assert (150, 155, P) in resolved.stretches


def test_short_stops_go_before_short_runs() -> None:
    flapping = [(at, (P, H)[at // 5 % 2]) for at in range(10, 100, 5)]
    resolved = timeline(*flapping, run=6, stop=6).resolve(100)
    assert resolved.stretches[:2] == [(0, 10, U), (10, 95, P)]
    assert resolved.decided_ms == 95  # the last stop may be a short one


def test_a_short_run_or_stop_that_is_open_is_undecided() -> None:
    assert timeline((10, P), (100, H), stop=10).resolve(105).decided_ms == 100
    assert timeline((10, P), (100, H), stop=10).resolve(110).decided_ms == 110
    assert timeline((10, P), (100, H), stop=10, minor=50).resolve(105).decided_ms == 100
    assert timeline((10, P), (100, H), stop=10, minor=50).resolve(149).decided_ms == 100
    assert timeline((10, P), (100, H), stop=10, minor=50).resolve(150).decided_ms == 150
    assert timeline((10, P), (100, H), (200, P), run=10, minor=50).resolve(205).decided_ms == 200
    assert timeline((10, P), (100, H), (120, P), run=10, minor=50).resolve(125).decided_ms == 100
    assert timeline((10, P), (100, H), (120, P), run=10, minor=50).resolve(130).decided_ms == 130


def test_a_stop_that_was_not_seen_whole_is_never_minor() -> None:
    resolved = timeline((10, H), (20, P), (30, H), (40, U), (50, P), (60, H), (70, P), minor=50).resolve(300)
    assert [(stop.start_ms, stop.minor, stop.long) for stop in resolved.stops] == [
        (10, False, False),
        (30, False, False),
        (60, True, False),
    ]


def test_the_reason_is_the_last_that_was_shown_in_the_stop() -> None:
    line = timeline((10, P), (100, H), (200, P), (300, F), (400, P), (500, F), (600, P), minor=50)
    for time_ms, code in ((90, 7), (120, 8), (150, 0), (200, 9), (450, 0)):
        line.give_reason(time_ms, code)
    assert [stop.reason for stop in line.resolve(700).stops] == [8, 9, 0]
    line.forget(450)
    assert [stop.reason for stop in line.resolve(700).stops] == [0]


def test_what_is_forgotten_changes_nothing_later() -> None:
    runs = [(10, P), (100, F), (150, P), (155, H), (200, P), (204, H), (220, P), (300, R), (303, P), (400, H), (500, P)]
    options = {"minor": 60, "run": 10, "stop": 5}
    whole = timeline(*runs, **options).resolve(700)
    line = Timeline(0, Definition(minor_stop_ms=60, min_run_ms=10, min_stop_ms=5))
    for start_ms, category in runs:
        line.append(start_ms, category)
        line.forget(min(line.resolve(start_ms + 1).decided_ms, start_ms))
    assert line.resolve(700).stops == whole.stops[-1:]
    assert len(line.to_data()["runs"]) < len(runs)
