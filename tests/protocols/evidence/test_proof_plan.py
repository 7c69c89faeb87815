"""Which records of a chain are proven one by one, so that the chain's order ties the rest to them."""

from __future__ import annotations

from protocols.evidence.proof_plan import DAY_MS, sequences_to_prove
from protocols.evidence.record import RecordType

M = RecordType.MEASUREMENT


def test_the_last_record_before_each_change_of_day_and_the_last_of_all() -> None:
    records = [(i, M, day * DAY_MS + i, day * DAY_MS + i + 1) for i, day in enumerate([3, 3, 4, 4, 4, 5])]
    assert sequences_to_prove(records) == [1, 4, 5]


def test_a_day_that_comes_back_is_proven_again() -> None:
    records = [(i, M, day * DAY_MS + i, day * DAY_MS + i + 1) for i, day in enumerate([3, 4, 3, 3, 4])]
    assert sequences_to_prove(records) == [0, 1, 3, 4]


def test_configurations_and_the_first_measurement_of_a_period() -> None:
    records = [(0, RecordType.CONFIG, 0, 0), (1, M, 0, 10), (2, M, 10, 20), (3, M, 20, 30), (4, M, 30, 40)]
    assert sequences_to_prove(records, (20,)) == [0, 3, 4]
