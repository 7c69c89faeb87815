"""The simulated line: deterministic, legal by PackML, and the same seen as truth, image, counts and blocks."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.simulator.plant import Plant, Segment
from agent.simulator.spec import LineSpec, ShiftSpec, load_plant
from protocols.plc.packml import Mode, State, is_legal
from protocols.plc.roles import ROLES, SignalRole
from protocols.plc.sample import SampleBlock

PLANT = Path(__file__).parents[3] / "deploy" / "examples" / "plant.toml"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LINES = ["filling", "packing", "moulding"]


def line(name: str) -> LineSpec:
    return load_plant(PLANT).line(name)


def start_of(spec: LineSpec, day: str = "2026-08-29") -> int:
    return round(datetime.fromisoformat(day).replace(tzinfo=spec.timezone).timestamp() * 1000)


def joined(plant: Plant, from_ms: int, to_ms: int, poll_ms: int) -> SampleBlock:
    blocks = list(plant.blocks(from_ms, to_ms, poll_ms))
    return SampleBlock(
        np.concatenate([block.time_ms for block in blocks]),
        np.concatenate([block.values for block in blocks]),
        np.concatenate([block.valid for block in blocks]),
    )


@pytest.mark.parametrize("name", LINES)
def test_the_same_specification_and_start_give_the_same_line(name: str) -> None:
    spec = line(name)
    start_ms = start_of(spec)
    one, two = Plant(spec, start_ms), Plant(spec, start_ms)
    late = one.image(start_ms + 3 * DAY_MS)  # asked for in another order
    assert one.truth(start_ms, start_ms + DAY_MS) == two.truth(start_ms, start_ms + DAY_MS)
    assert two.image(start_ms + 3 * DAY_MS) == late
    other = Plant(dataclasses.replace(spec, seed=spec.seed + 1), start_ms)
    assert other.truth(start_ms, start_ms + DAY_MS) != one.truth(start_ms, start_ms + DAY_MS)


def test_one_concern_does_not_shift_another() -> None:
    spec = line("filling")
    start_ms = start_of(spec)
    plain = Plant(spec, start_ms)
    worse = Plant(dataclasses.replace(spec, reject_rate=0.5), start_ms)
    end_ms = start_ms + DAY_MS
    assert plain.truth(start_ms, end_ms) == worse.truth(start_ms, end_ms)
    assert plain.counts(end_ms)[0] == worse.counts(end_ms)[0]
    assert plain.counts(end_ms)[2] < worse.counts(end_ms)[2]


@pytest.mark.parametrize("name", LINES)
def test_truth_is_contiguous_and_legal(name: str) -> None:
    spec = line(name)
    start_ms = start_of(spec)
    segments = Plant(spec, start_ms).truth(start_ms + 1_234, start_ms + 9 * DAY_MS)
    assert (segments[0].start_ms, segments[-1].end_ms) == (start_ms + 1_234, start_ms + 9 * DAY_MS)
    for before, after in pairwise(segments):
        assert before.end_ms == after.start_ms
        assert before.start_ms < before.end_ms
        assert is_legal(before.state, after.state), (before, after)
    seen = {segment.state for segment in segments}
    assert {State.EXECUTE, State.HELD, State.SUSPENDED, State.ABORTED, State.RESETTING, State.COMPLETE} <= seen
    products = {segment.product for segment in segments}
    assert len(products) > 1
    assert products <= {product.code for product in spec.products}


@pytest.mark.parametrize("minutes", [1, 45])
def test_short_gaps_between_shifts_stay_legal(minutes: int) -> None:
    shifts = tuple(
        ShiftSpec(f"{at}", at, at + 60 - minutes, frozenset(range(1, 8)), ((at + 5, at + 6),))
        for at in range(0, 24 * 60, 60)
    )
    spec = dataclasses.replace(line("filling"), shifts=shifts)
    start_ms = start_of(spec)
    segments = Plant(spec, start_ms).truth(start_ms, start_ms + 2 * DAY_MS)
    assert all(is_legal(before.state, after.state) for before, after in pairwise(segments))
    assert all(segment.order == 0 for segment in segments if segment.state is State.STOPPING)


@pytest.mark.parametrize("name", LINES)
def test_blocks_are_what_a_naive_loop_over_images_gives(name: str) -> None:
    spec = line(name)
    start_ms = start_of(spec)
    plant = Plant(spec, start_ms)
    from_ms, to_ms, poll_ms = start_ms + 8 * HOUR_MS + 777, start_ms + 12 * HOUR_MS, 10_000
    block = joined(plant, from_ms, to_ms, poll_ms)
    times = set(range(from_ms, to_ms, poll_ms))
    times |= {segment.start_ms for segment in plant.truth(from_ms, to_ms)}
    assert block.time_ms.tolist() == sorted(times)
    assert (block.valid == (1 << ROLES) - 1).all()
    for time_ms, values in zip(block.time_ms.tolist(), block.values.tolist(), strict=True):
        assert tuple(values) == plant.image(time_ms)


@pytest.mark.parametrize("name", LINES)
def test_image_truth_and_counts_agree(name: str) -> None:
    spec = line(name)
    start_ms = start_of(spec)
    plant = Plant(spec, start_ms)
    last = (0, 0, 0)
    for segment in plant.truth(start_ms, start_ms + 12 * HOUR_MS):
        for time_ms in (segment.start_ms, segment.end_ms - 1):
            image, counts = plant.image(time_ms), plant.counts(time_ms)
            assert image[SignalRole.STATE] == segment.raw_state
            assert image[SignalRole.MODE] == segment.mode
            assert image[SignalRole.PRODUCT] == segment.product
            assert image[SignalRole.ORDER] == segment.order
            assert image[SignalRole.TOTAL] == (spec.counter_start + counts[0]) % spec.counter_modulus
            assert image[SignalRole.REJECT] == counts[2] % spec.counter_modulus
            assert counts[0] == counts[1] + counts[2]
            assert all(now >= before for now, before in zip(counts, last, strict=True))
            last = counts
        if segment.state is not State.EXECUTE:  # a last piece may be completed at the very ms of the change
            assert plant.counts(segment.start_ms) == last


def test_pieces_are_made_at_the_cycle_time() -> None:
    spec = dataclasses.replace(line("filling"), speed_loss=0.0)
    start_ms = start_of(spec)
    plant = Plant(spec, start_ms)
    cycles = {product.code: product.cycle_ms for product in spec.products}
    for segment in plant.truth(start_ms, start_ms + 6 * HOUR_MS):
        if segment.state is State.EXECUTE:
            made = plant.counts(segment.end_ms)[0] - plant.counts(segment.start_ms)[0]
            assert abs(made - (segment.end_ms - segment.start_ms) / cycles[segment.product]) <= 1


def test_rejects_come_at_their_rates() -> None:
    spec = line("filling")
    start_ms = start_of(spec)
    total, _, reject = Plant(spec, start_ms).counts(start_ms + 5 * DAY_MS)
    assert 0.009 < reject / total < 0.015  # start-ups come on top


def test_sixteen_bit_counters_roll_over_and_a_restart_begins_at_zero() -> None:
    spec = line("packing")
    start_ms = start_of(spec)
    plant = Plant(spec, start_ms)
    block = joined(plant, start_ms, start_ms + 2 * DAY_MS, 1_000)
    total = block.values[:, SignalRole.TOTAL]
    assert total.max() < 65536
    steps = np.diff(total)
    assert (steps < 0).sum() == (spec.counter_start + plant.counts(start_ms + 2 * DAY_MS)[0]) // 65536 >= 2
    assert (steps % 65536).sum() == plant.counts(int(block.time_ms[-1]))[0] - plant.counts(start_ms)[0]

    reset_ms = start_ms + 7 * HOUR_MS + 3
    restarted = Plant(dataclasses.replace(spec, counter_reset_ms=(reset_ms,)), start_ms)
    assert restarted.image(reset_ms - 1) == plant.image(reset_ms - 1)
    assert restarted.image(reset_ms)[SignalRole.TOTAL] == 0
    later_ms = reset_ms + HOUR_MS
    made = plant.counts(later_ms)[0] - plant.counts(reset_ms)[0]
    assert restarted.image(later_ms)[SignalRole.TOTAL] == made
    assert restarted.counts(later_ms) == plant.counts(later_ms)


def rates(plant: Plant, from_ms: int, to_ms: int) -> tuple[float, float, float]:
    """Pieces an hour of running, failures an hour of running, rejects a piece."""
    segments = plant.truth(from_ms, to_ms)
    running_ms = sum(each.end_ms - each.start_ms for each in segments if each.state is State.EXECUTE)
    failures = sum(each.state is State.ABORTED for each in segments)
    before, after = plant.counts(from_ms), plant.counts(to_ms)
    made = after[0] - before[0]
    return made / running_ms * HOUR_MS, failures / running_ms * HOUR_MS, (after[2] - before[2]) / made


def test_the_upgrade_makes_it_a_better_machine() -> None:
    spec = line("moulding")
    start_ms = start_of(spec, "2026-06-01")
    assert spec.upgrade is not None
    plant = Plant(spec, start_ms)
    old = rates(plant, start_ms, spec.upgrade.at_ms)
    up_ms = spec.upgrade.at_ms + spec.upgrade.install_ms
    new = rates(plant, up_ms, up_ms + 90 * DAY_MS)
    assert 1.10 < new[0] / old[0] < 1.18
    assert 0.35 < new[1] / old[1] < 0.7
    assert 0.029 < old[2] < 0.045
    assert 0.015 < new[2] < 0.03
    installing = plant.truth(spec.upgrade.at_ms, up_ms)
    assert {(each.state, each.mode, each.order) for each in installing} == {(State.STOPPED, Mode.MAINTENANCE, 0)}


def off(segments: list[Segment], at_ms: int) -> bool:
    segment = next(each for each in segments if each.start_ms <= at_ms < each.end_ms)
    return segment.state is State.STOPPED and segment.order == 0


def test_shifts_and_breaks_are_local_time() -> None:
    spec = line("moulding")
    start_ms = start_of(spec)
    segments = Plant(spec, start_ms).truth(start_ms, start_ms + DAY_MS)
    assert off(segments, start_ms + 6 * HOUR_MS)
    assert not off(segments, start_ms + 7 * HOUR_MS + 60_000)
    assert off(segments, start_ms + 11 * HOUR_MS + 35 * 60_000)
    assert not off(segments, start_ms + 15 * HOUR_MS)
    assert off(segments, start_ms + 23 * HOUR_MS + 60_000)


def test_a_time_before_the_start_is_refused() -> None:
    spec = line("moulding")
    with pytest.raises(ValueError, match="starts at"):
        Plant(spec, 1_000).image(999)
