"""The image of a line: rows in order of time, whatever the order of arrival."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.image import Image
from protocols.plc.roles import SignalRole

STATE, TOTAL, ORDER = SignalRole.STATE, SignalRole.TOTAL, SignalRole.ORDER


def rows(image: Image, until_ms: int) -> list[tuple[int, int, int, int]]:
    return [(at, values[STATE], values[TOTAL], valid) for at, values, valid in image.release(until_ms)]


def test_values_out_of_order_are_put_in_order() -> None:
    image = Image([STATE, TOTAL], 1000)
    image.put(200, [(TOTAL, 7)])
    image.put(100, [(STATE, 6)])
    order = 1 << ORDER
    assert rows(image, 150) == [(100, 6, 0, 1 | order)]
    assert rows(image, 300) == [(200, 6, 7, 0b101 | order)]


def test_a_late_value_takes_the_newest_time_and_is_counted() -> None:
    image = Image([STATE], 1000)
    image.put(100, [(STATE, 6)])
    rows(image, 500)
    image.put(300, [(STATE, 11)])
    assert [row[:2] for row in rows(image, 600)] == [(500, 11)]
    assert image.late_count == 1


def test_a_loss_makes_every_role_invalid_until_a_fresh_value() -> None:
    image = Image([STATE, TOTAL, ORDER], 1000)
    image.put(100, [(STATE, 6)])
    image.put(100, [(TOTAL, 5)])
    image.lose(200)
    image.put(300, [(STATE, 6)])
    assert [row[3] for row in rows(image, 400)] == [0b101, 0, 0b1]


def test_bad_quality_makes_one_role_invalid() -> None:
    image = Image([STATE, TOTAL, ORDER], 1000)
    image.put(100, [(STATE, 6)])
    image.put(100, [(TOTAL, 5)])
    image.put(200, [(TOTAL, None)])
    assert rows(image, 300) == [(100, 6, 5, 0b101), (200, 6, 5, 0b1)]


def test_a_held_value_is_repeated_only_while_the_flow_is_alive() -> None:
    image = Image([STATE, ORDER], 1000)
    image.put(100, [(STATE, 6)])
    rows(image, 200)
    assert rows(image, 2000) == []  # nothing heard
    image.alive(2500)
    assert rows(image, 2400) == [(2400, 6, 0, 1)]
    assert rows(image, 2450) == []
    image.lose(2500)
    image.alive(9000)
    assert [row[3] for row in rows(image, 9000)] == [0]  # a lost value is not held


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 1000), st.integers(0, 9)),
            st.tuples(st.just("lose"), st.integers(0, 1000), st.just(0)),
            st.tuples(st.just("release"), st.integers(0, 1000), st.just(0)),
            st.tuples(st.just("alive"), st.integers(0, 1000), st.just(0)),
        ),
        max_size=60,
    )
)
def test_rows_never_go_backwards_nor_before_what_was_released(events: list[tuple[str, int, int]]) -> None:
    image = Image([STATE], 50, floor_ms=10)
    last = floor = 10
    for kind, at, value in events:
        if kind == "put":
            image.put(at, [(STATE, value if value != 9 else None)])
        elif kind == "lose":
            image.lose(at)
        elif kind == "alive":
            image.alive(at)
        else:
            for time_ms, *_ in rows(image, at):
                assert time_ms >= last and time_ms >= floor
                last = time_ms
            floor = max(floor, at)
