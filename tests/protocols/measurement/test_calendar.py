"""The calendar against a naive reading of the wall clock, minute by minute, in zones that change their clocks."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.measurement.account import CalendarKind, Category, TimeAccount
from protocols.measurement.calendar import Calendar, Segment, Shift, clipped, local_ms, wall_ms
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.meter import LineMeter
from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import SampleBlock

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ALL_DAYS = tuple(range(7))
# Days on which clocks change: forwards, backwards, by half an hour, at midnight, and by a whole day.
CHANGES = (
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Asia/Beirut", date(2026, 3, 29)),
    ("America/Havana", date(2026, 11, 1)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Asia/Hong_Kong", date(2026, 6, 1)),
    ("Asia/Kolkata", date(2026, 6, 1)),
)
THREE = (
    Shift("A", ALL_DAYS, 6 * 60, 14 * 60),
    Shift("B", ALL_DAYS, 14 * 60, 22 * 60),
    Shift("C", ALL_DAYS, 22 * 60, 30 * 60),
)


def ms(text: str, zone: str = "UTC") -> int:
    return wall_ms(ZoneInfo(zone), datetime.fromisoformat(text))


def local(at_ms: int, zone: ZoneInfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(zone).replace(tzinfo=None)


def naive(calendar: Calendar, start_ms: int, end_ms: int) -> dict[int, tuple[CalendarKind, str]]:
    """Kind and shift at each whole minute, from a wall clock that is read minute by minute and never turned back."""
    zone = ZoneInfo(calendar.timezone)
    shown = datetime.min
    found: dict[int, tuple[CalendarKind, str]] = {}
    for at in range((start_ms - 3 * DAY_MS) // MINUTE_MS * MINUTE_MS, end_ms, MINUTE_MS):
        shown = max(shown, local(at, zone))
        if at >= start_ms:
            found[at] = naive_minute(calendar, at, shown)
    return found


def naive_minute(calendar: Calendar, at_ms: int, wall: datetime) -> tuple[CalendarKind, str]:
    down = any(first <= at_ms < last for first, last, _ in calendar.planned_downs)
    shifts = calendar.shifts or (Shift("day", ALL_DAYS, 0, 1440),)
    for back in (0, 1):
        day = wall.date() - timedelta(days=back)
        minute = (wall - datetime(day.year, day.month, day.day)) // timedelta(minutes=1)
        for shift in shifts:
            if day.weekday() in shift.weekdays and shift.start_minute <= minute < shift.end_minute:
                paused = any(first <= minute < last for first, last in shift.breaks)
                is_down = down or paused or day.isoformat() in calendar.holidays
                kind = CalendarKind.PLANNED_DOWN if is_down else CalendarKind.SCHEDULED
                return kind, f"{day.isoformat()}/{shift.name}"
    return CalendarKind.NOT_SCHEDULED, ""


@st.composite
def shift_patterns(draw: st.DrawFn) -> tuple[Shift, ...]:
    """Shifts of some days that do not overlap, the last perhaps over midnight; breaks in them."""
    edges = sorted(draw(st.sets(st.integers(0, 95), min_size=2, max_size=6)))
    edges = [edge * 15 for edge in edges]
    if draw(st.booleans()):
        edges.append(1440 + draw(st.integers(0, edges[0] // 15)) * 15)
    shifts = []
    for i, (start, end) in enumerate(pairwise(edges)):
        if draw(st.integers(0, 3)) == 0:
            continue
        marks = sorted(draw(st.sets(st.integers(start, end), max_size=4)))
        breaks = tuple(zip(marks[::2], marks[1::2], strict=False))
        days = ALL_DAYS if draw(st.booleans()) else tuple(sorted(draw(st.sets(st.integers(0, 6), min_size=1))))
        shifts.append(Shift(f"s{i}", days, start, end, breaks))
    return tuple(shifts)


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Calendar, int, int]:
    """A calendar, and an interval near a change of its zone's clocks."""
    zone, day = draw(st.sampled_from(CHANGES))
    start = local_ms(ZoneInfo(zone), day, 0) + draw(st.integers(-30 * HOUR_MS, 20 * HOUR_MS))
    end = start + draw(st.integers(1, 40 * HOUR_MS))
    holidays = frozenset(
        (day + timedelta(days=offset)).isoformat() for offset in draw(st.sets(st.integers(-1, 1), max_size=1))
    )
    downs = []
    for _ in range(draw(st.integers(0, 2))):
        first = start // MINUTE_MS * MINUTE_MS + draw(st.integers(-600, 2400)) * MINUTE_MS
        downs.append((first, first + draw(st.integers(1, 600)) * MINUTE_MS, "service"))
    shifts = draw(st.just(()) | st.just(THREE) | shift_patterns())
    return Calendar(zone, shifts, holidays, tuple(sorted(downs))), start, end


def assert_tiles(segments: list[Segment], start_ms: int, end_ms: int) -> None:
    assert segments[0].start_ms == start_ms
    assert segments[-1].end_ms == end_ms
    assert all(segment.start_ms < segment.end_ms for segment in segments)
    for one, other in pairwise(segments):
        assert one.end_ms == other.start_ms
        assert (one.kind, one.shift) != (other.kind, other.shift)


@settings(max_examples=150, deadline=None)
@given(calendars())
def test_the_calendar_is_the_wall_clock_read_minute_by_minute(drawn: tuple[Calendar, int, int]) -> None:
    calendar, start, end = drawn
    segments = calendar.segments(start, end)
    assert_tiles(segments, start, end)
    for at, expected in naive(calendar, start, end).items():
        (segment,) = (each for each in segments if each.start_ms <= at < each.end_ms)
        assert (segment.kind, segment.shift) == expected


@settings(max_examples=150, deadline=None)
@given(calendars(), st.data())
def test_an_interval_may_be_cut_anywhere(drawn: tuple[Calendar, int, int], data: st.DataObject) -> None:
    """What a window says of the calendar does not depend on which windows were asked for before."""
    calendar, start, end = drawn
    middle = data.draw(st.integers(start, end))
    parts = [
        segment for a, b in ((start, middle), (middle, end)) if a < b for segment in calendar.segments(a, b)
    ]  # fmt: skip
    whole = calendar.segments(start, end)
    for part in parts:
        (segment,) = (each for each in whole if each.start_ms <= part.start_ms < each.end_ms)
        assert (segment.kind, segment.shift) == (part.kind, part.shift)
        assert part.end_ms <= segment.end_ms


@given(calendars())
def test_data_form_is_its_own_inverse(drawn: tuple[Calendar, int, int]) -> None:
    assert Calendar.from_data(drawn[0].to_data()) == drawn[0]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", date(2026, 3, 8), 23.0),
        ("America/New_York", date(2026, 11, 1), 25.0),
        ("Europe/Berlin", date(2026, 3, 29), 23.0),
        ("Europe/Berlin", date(2026, 10, 25), 25.0),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Pacific/Apia", date(2011, 12, 30), 0.0),
        ("Asia/Hong_Kong", date(2026, 6, 1), 24.0),
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone: str, day: date, hours: float) -> None:
    first, last = (local_ms(ZoneInfo(zone), day, minute) for minute in (0, 1440))
    assert (last - first) / HOUR_MS == hours
    segments = Calendar(zone).segments(first - HOUR_MS, last + HOUR_MS)
    assert [s.end_ms - s.start_ms for s in segments if s.shift == f"{day}/day"] == ([last - first] if hours else [])


@pytest.mark.parametrize(
    ("zone", "evening", "hours"),
    [
        ("America/New_York", "2026-03-07", 7.0),
        ("America/New_York", "2026-10-31", 9.0),
        ("Europe/Berlin", "2026-03-28", 7.0),
        ("Europe/Berlin", "2026-10-24", 9.0),
        ("Australia/Lord_Howe", "2026-10-03", 7.5),
        ("Australia/Lord_Howe", "2026-04-04", 8.5),
    ],
)
def test_a_night_shift_keeps_the_day_on_which_it_began(zone: str, evening: str, hours: float) -> None:
    start = ms(f"{evening}T22:00", zone)
    segments = Calendar(zone, THREE).segments(start - 4 * HOUR_MS, start + 12 * HOUR_MS)
    (night,) = (segment for segment in segments if segment.shift == f"{evening}/C")
    assert night.start_ms == start
    assert (night.end_ms - night.start_ms) / HOUR_MS == hours
    assert local(night.end_ms, ZoneInfo(zone)).time().isoformat() == "06:00:00"


def test_a_time_that_is_skipped_is_the_instant_of_the_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    change = ms("2026-03-29T01:00")
    assert local_ms(berlin, date(2026, 3, 29), 2 * 60) == change
    assert local_ms(berlin, date(2026, 3, 29), 2 * 60 + 30) == change
    assert local_ms(berlin, date(2026, 3, 29), 3 * 60) == change
    assert local_ms(berlin, date(2026, 3, 29), 3 * 60 + 1) == change + MINUTE_MS
    assert wall_ms(berlin, datetime(2026, 3, 29, 2, 59, 59, 999_000)) == change


def test_a_time_that_comes_twice_is_its_first_coming() -> None:
    assert local_ms(ZoneInfo("Europe/Berlin"), date(2026, 10, 25), 2 * 60 + 30) == ms("2026-10-25T00:30")


def test_a_break_over_midnight_belongs_to_its_shift() -> None:
    night = Shift("N", ALL_DAYS, 22 * 60, 30 * 60, ((23 * 60 + 45, 24 * 60 + 15),))
    start = ms("2026-06-01T22:00", "Asia/Hong_Kong")
    segments = Calendar("Asia/Hong_Kong", (night,)).segments(start, start + 8 * HOUR_MS)
    assert [((s.start_ms - start) // MINUTE_MS, s.kind.name, s.shift) for s in segments] == [
        (0, "SCHEDULED", "2026-06-01/N"),
        (105, "PLANNED_DOWN", "2026-06-01/N"),
        (135, "SCHEDULED", "2026-06-01/N"),
    ]


def test_a_holiday_is_the_business_day_of_its_shifts() -> None:
    calendar = Calendar("Asia/Hong_Kong", THREE, frozenset({"2026-12-25"}))
    start = ms("2026-12-25T00:00", "Asia/Hong_Kong")
    segments = calendar.segments(start, start + 32 * HOUR_MS)
    assert [(s.kind.name, s.shift) for s in segments] == [
        ("SCHEDULED", "2026-12-24/C"),  # it began on Christmas Eve
        ("PLANNED_DOWN", "2026-12-25/A"),
        ("PLANNED_DOWN", "2026-12-25/B"),
        ("PLANNED_DOWN", "2026-12-25/C"),
        ("SCHEDULED", "2026-12-26/A"),
    ]


def test_a_planned_stop_counts_inside_shifts_only() -> None:
    early = (Shift("A", ALL_DAYS, 6 * 60, 14 * 60, ((10 * 60, 10 * 60 + 30),)),)
    start = ms("2026-06-01T06:00", "Asia/Hong_Kong")
    down = (start + 4 * HOUR_MS, start + 10 * HOUR_MS, "yearly service")
    calendar = Calendar("Asia/Hong_Kong", early, planned_downs=(down, (start + 5 * HOUR_MS, start + 6 * HOUR_MS, "in")))
    segments = calendar.segments(start, start + 12 * HOUR_MS)
    assert [((s.start_ms - start) // HOUR_MS, s.kind.name) for s in segments] == [
        (0, "SCHEDULED"),
        (4, "PLANNED_DOWN"),  # the break and the stop are one stretch
        (8, "NOT_SCHEDULED"),
    ]


RUNNING = LineConfiguration(
    line_id="filling",
    name="Filling",
    calendar=Calendar("Asia/Hong_Kong", (Shift("A", ALL_DAYS, 480, 960, ((600, 630),)),)),
    products=(Product(1, "Cola", 500_000_000),),
    counters=(Counter(SignalRole.TOTAL, 0),),
    staleness_ms=HOUR_MS,
)


def test_production_in_a_break_counts_and_its_time_is_planned_time() -> None:
    """The calendar beats tags, but pieces made in a break were made: their time is added to planned time."""
    start = ms("2026-06-01T09:00", "Asia/Hong_Kong")
    meter = LineMeter(RUNNING, start)
    rows = []
    for minute in range(181):
        at = start + minute * MINUTE_MS
        in_break = 60 <= minute < 90
        values = [0] * ROLES
        values[SignalRole.STATE] = 6 if not in_break or minute < 70 else 4  # ten minutes of the break are worked
        values[SignalRole.TOTAL] = 100 * (minute if minute <= 70 else max(70, minute - 20))
        values[SignalRole.ORDER] = 1
        rows.append((at, tuple(values), 2**ROLES - 1))
    meter.push(SampleBlock.from_rows(rows))
    windows = meter.advance(start + 180 * MINUTE_MS)
    pause = [w.account for w in windows if w.kind is CalendarKind.PLANNED_DOWN]
    account = sum(pause[1:], pause[0])
    assert isinstance(account, TimeAccount)
    assert account.length_ms == 30 * MINUTE_MS
    assert account.producing_ms == account.planned_ms == 10 * MINUTE_MS
    assert account.category_ms[Category.PLANNED_DOWN] == 20 * MINUTE_MS
    assert account.total_count == 1000
    assert sum(w.account.total_count for w in windows) == 100 * 159  # what the last closed window, of minute 179, had


def test_a_part_of_kept_segments_is_what_the_calendar_gives_for_it() -> None:
    choice = random.Random(3)
    shifts = (Shift("A", (0, 1, 2, 3, 4), 8 * 60, 16 * 60, ((720, 750),)), Shift("B", (5,), 22 * 60, 30 * 60))
    calendar = Calendar(
        "Europe/Berlin", shifts, frozenset({"2026-10-27"}), ((1_793_000_040_000, 1_793_003_640_000, ""),)
    )
    first, last = 1_792_800_000_000, 1_793_400_000_000  # with the end of daylight time in between
    kept = calendar.segments(first, last)
    edges = [edge for segment in kept for edge in (segment.start_ms, segment.end_ms)]
    for _ in range(400):
        start, end = sorted(choice.choice((choice.choice(edges), choice.randrange(first, last))) for _ in "ab")
        assert clipped(kept, start, end) == calendar.segments(start, end)
