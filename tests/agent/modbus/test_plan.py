"""Requests: as few as possible, cut where a device refuses, and learned once."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from agent.config_modbus import ModbusTag
from agent.sources.modbus_blocks import MEMORY_S, PATIENCE, QUARANTINE_S, Blocks
from agent.sources.modbus_plan import Read, cut, plan
from protocols.plc.roles import SignalRole

TOTAL = SignalRole.TOTAL


def tag(register: int, kind: str = "uint16", table: str = "holding", device: int = 1) -> ModbusTag:
    return ModbusTag(TOTAL, register, kind, table, device)


def shape(reads: list[Read]) -> list[tuple[str, int, int]]:
    return [(read.table, read.address, read.count) for read in reads]


def test_tags_within_reach_are_one_read() -> None:
    tags = [tag(10), tag(133, "uint32"), tag(135), tag(0, "bit", "coil")]
    assert shape(plan(tags)) == [("coil", 0, 1), ("holding", 10, 125), ("holding", 135, 1)]


def test_overlapping_tags_are_one_read() -> None:
    assert shape(plan([tag(5, "uint64"), tag(6)])) == [("holding", 5, 4)]


def test_a_wide_hole_is_not_read_along() -> None:
    tags = [tag(0), tag(9), tag(20)]
    assert shape(plan(tags, hole_limit=8)) == [("holding", 0, 10), ("holding", 20, 1)]
    assert shape(plan(tags, hole_limit=10)) == [("holding", 0, 21)]
    bits = [tag(0, "bit", "coil"), tag(130, "bit", "coil")]
    assert len(plan(bits, hole_limit=8)) == 2  # eight registers are 128 bits
    assert len(plan(bits, hole_limit=9)) == 1


def test_devices_and_tables_are_apart() -> None:
    tags = [tag(0), tag(1, device=2), tag(2, table="input"), tag(3)]
    assert [(read.device_id, *shape([read])[0]) for read in plan(tags)] == [
        (1, "holding", 0, 4), (1, "input", 2, 1), (2, "holding", 1, 1),
    ]  # fmt: skip


def test_without_holes_the_requests_are_the_fewest_that_can_be() -> None:
    for registers in (1, 125, 126, 250, 500, 1000):
        assert len(plan(tag(at) for at in range(registers))) == math.ceil(registers / 125)
    assert len(plan(tag(at, "bit", "discrete") for at in range(4001))) == 3
    assert len(plan((tag(at) for at in range(100)), max_registers=32)) == 4


TAGS = st.lists(
    st.builds(
        tag,
        st.integers(0, 400),
        st.sampled_from(["uint16", "uint32", "uint64"]),
        st.sampled_from(["holding", "input"]),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=40,
)


@given(tags=TAGS, hole=st.integers(0, 124), most=st.integers(4, 125))
def test_every_tag_is_whole_in_one_read_of_allowed_size(tags: list[ModbusTag], hole: int, most: int) -> None:
    reads = plan(tags, hole, most)
    for read in reads:
        assert read.count <= most
        words = {at for one in read.tags for at in range(one.register, one.register + one.count)}
        assert min(words) == read.address and max(words) == read.address + read.count - 1
    assert sorted(map(repr, tags)) == sorted(repr(one) for read in reads for one in read.tags)


@given(tags=TAGS, existing=st.sets(st.integers(0, 420)))
def test_cutting_ends_with_all_tags_whose_registers_exist(tags: list[ModbusTag], existing: set[int]) -> None:
    """A device without some registers refuses every request that touches one; each good tag is read all the same."""
    blocks = Blocks(plan(tags))

    def poll(now: float) -> tuple[int, set[ModbusTag]]:
        waiting, found, requests = blocks.due(now), set(), 0
        while waiting:
            read = waiting.pop(0)
            requests += 1
            if set(range(read.address, read.address + read.count)) <= existing:
                blocks.answered(read)
                found.update(read.tags)
            else:
                waiting = blocks.refused(read, 2, now) + waiting
        return requests, found

    first, found = poll(0.0)
    assert found == {one for one in tags if set(range(one.register, one.register + one.count)) <= existing}
    now = 0.0
    for _ in range(len(tags)):
        now += 0.01
        _, again = poll(now)
        assert again == found
    requests, _ = poll(now)
    assert requests <= min(first, len(blocks))  # it was learned: nothing that is refused is asked for again
    later, _ = poll(now + QUARANTINE_S)
    assert later == len(blocks)  # but for what was set aside, now and then


def test_a_hole_costs_one_more_read_and_no_more() -> None:
    """However the cuts fell, what is left is one read on each side of what the device refuses."""
    blocks = Blocks(plan([tag(at) for at in (0, 10, 49, 51, 53, 90, 95, 99, 120)]))
    missing = set(range(50, 53))
    for now in range(8):
        waiting, requests = blocks.due(now), 0
        while waiting:
            read = waiting.pop(0)
            requests += 1
            if missing & set(range(read.address, read.address + read.count)):
                waiting = blocks.refused(read, 2, now) + waiting
            else:
                blocks.answered(read)
    assert requests == 2
    assert shape(blocks.due(8)) == [("holding", 0, 50), ("holding", 53, 68)]


def test_what_was_refused_is_tried_again_after_an_hour() -> None:
    blocks = Blocks(plan([tag(0), tag(5)]))
    (whole,) = blocks.due(0.0)
    for half in blocks.refused(whole, 2, 0.0):
        blocks.answered(half)
    assert len(blocks.due(MEMORY_S - 1)) == 2
    assert shape(blocks.due(MEMORY_S)) == shape([whole])
    blocks.answered(blocks.due(MEMORY_S)[0])
    assert len(blocks) == 1


def test_a_block_is_cut_at_its_widest_hole_first() -> None:
    (read,) = plan([tag(0), tag(1), tag(5), tag(6), tag(30)])
    halves = cut(read)
    assert halves is not None
    assert shape(list(halves)) == [("holding", 0, 7), ("holding", 30, 1)]


def test_a_failing_device_is_given_time_before_its_block_is_cut() -> None:
    blocks = Blocks(plan([tag(0), tag(1)]))
    (read,) = blocks.due(0.0)
    for _ in range(PATIENCE - 1):
        assert blocks.refused(read, 4, 0.0) == []
        assert blocks.due(0.0) == [read]
    assert len(blocks.refused(read, 4, 0.0)) == 2


def test_a_success_begins_the_count_of_failures_anew() -> None:
    blocks = Blocks(plan([tag(0), tag(1)]))
    (read,) = blocks.due(0.0)
    for _ in range(5):
        assert blocks.refused(read, 4, 0.0) == []
        blocks.answered(read)
    assert len(blocks) == 1


def test_a_function_that_a_device_does_not_know_is_not_cut_to_pieces() -> None:
    blocks = Blocks(plan([tag(0), tag(1)]))
    (read,) = blocks.due(0.0)
    assert blocks.refused(read, 1, 0.0) == []
    assert blocks.is_aside(read)
    assert blocks.due(QUARANTINE_S - 1) == []
    assert blocks.due(QUARANTINE_S) == [read]


def test_tags_that_overlap_are_parted_when_one_of_them_reaches_too_far() -> None:
    (read,) = plan([tag(10), tag(10, "uint32"), tag(9, "uint64")])
    halves = cut(read)
    assert halves is not None
    assert shape(list(halves)) == [("holding", 9, 4), ("holding", 10, 2)]
    again = cut(halves[1])
    assert again is not None and shape(list(again)) == [("holding", 10, 1), ("holding", 10, 2)]
    assert cut(again[0]) is None


@given(tags=TAGS, mute=st.sets(st.integers(0, 420)))
def test_what_a_device_leaves_unanswered_is_found_like_what_it_refuses(tags: list[ModbusTag], mute: set[int]) -> None:
    """A device that says nothing to requests for registers that it does not have; one tag it always answers."""
    tags = [each for each in tags if each.table == "holding" and each.device_id == 1]
    blocks = Blocks(plan([*tags, tag(1000)]))
    now, found = 0.0, set()
    for _ in range(6 * (len(tags) + 2) * PATIENCE):
        now, found, is_alive, waiting = now + 0.01, set(), False, blocks.due(now)
        while waiting:
            read = waiting.pop(0)
            if not mute & set(range(read.address, read.address + read.count)):
                is_alive = True
                blocks.answered(read)
                found.update(read.tags)
            elif not blocks.unanswered(read, is_alive, now):
                break
    assert found == {one for one in (*tags, tag(1000)) if not mute & set(range(one.register, one.register + one.count))}
    asked = [read for read in blocks.due(now) if mute & set(range(read.address, read.address + read.count))]
    assert asked == []


def test_a_lost_answer_or_a_dead_device_changes_no_block() -> None:
    blocks = Blocks(plan([tag(0), tag(1), tag(200)]))
    first, second = blocks.due(0.0)
    for _ in range(5 * PATIENCE):  # dead: nothing is answered
        assert not blocks.unanswered(blocks.due(0.0)[0], False, 0.0)
    for _ in range(PATIENCE - 1):  # lossy: now and then something is
        assert not blocks.unanswered(first, True, 0.0)
    for read in blocks.due(0.0):
        blocks.answered(read)
    assert blocks.due(0.0) == [first, second]
    assert not blocks.is_doubted(first)


def test_the_parts_of_a_block_without_an_answer_need_no_patience_of_their_own() -> None:
    blocks = Blocks(plan([tag(0), tag(1), tag(200)]))
    first, _ = blocks.due(0.0)
    assert [blocks.unanswered(first, True, 0.0) for _ in range(PATIENCE)] == [False] * (PATIENCE - 1) + [True]
    _, *halves = blocks.due(0.0)
    assert shape(halves) == [("holding", 0, 1), ("holding", 1, 1)]
    assert blocks.unanswered(halves[0], True, 0.0)
    assert blocks.is_aside(halves[0])
    assert blocks.due(0.0)[1:] == halves[1:], "what is in doubt is not put together with anything"


def test_who_had_no_answer_is_asked_last() -> None:
    blocks = Blocks(plan([tag(0), tag(200), tag(400)]))
    first, second, third = blocks.due(0.0)
    blocks.unanswered(first, False, 0.0)
    assert blocks.due(0.0) == [second, third, first]
    blocks.unanswered(second, False, 0.0)
    assert blocks.due(0.0) == [third, first, second]
    blocks.unanswered(first, False, 0.0)
    assert blocks.due(0.0) == [third, second, first]


def test_a_tag_that_is_never_answered_is_tried_less_and_less() -> None:
    blocks = Blocks(plan([tag(0), tag(200)]))
    _, mute = blocks.due(0.0)
    now, tries = 0.0, []
    while now < 24 * MEMORY_S:
        if mute in blocks.due(now):
            tries.append(now)
            blocks.unanswered(mute, True, now)
        now += 1.0
    assert tries[: PATIENCE + 2] == [0.0, 1.0, 2.0, 2.0 + QUARANTINE_S, 2.0 + 3 * QUARANTINE_S]
    assert len(tries) < 24 + 12
    assert tries[-1] - tries[-2] == MEMORY_S
    blocks.answered(mute)
    assert mute in blocks.due(now)


def test_a_longer_block_without_an_answer_is_asked_for_in_parts_again() -> None:
    blocks = Blocks(plan([tag(0), tag(5)]))
    (whole,) = blocks.due(0.0)
    halves = blocks.refused(whole, 2, 0.0)
    for half in halves:
        blocks.answered(half)
    blocks.unanswered(halves[0], False, 0.0)
    assert blocks.due(MEMORY_S) == [halves[1], halves[0]], "not while a part is in doubt"
    blocks.answered(halves[0])
    (both,) = blocks.due(MEMORY_S)
    assert blocks.is_doubted(both)
    assert not blocks.unanswered(both, False, MEMORY_S)
    assert blocks.due(MEMORY_S + 1) == halves
