"""Chains: the first record that does not follow is named, with how it fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.evidence.chain import Break, ChainBroken, ChainState, check_chain, is_beginning, is_fork
from protocols.evidence.record import Gap, Heartbeat, RecordHash, SignedRecord, sign_record
from tests.support.evidence import GATEWAY, GATEWAY_KEY, ROOT_KEY, chain, signed

RECORDS = chain(*(Heartbeat() for _ in range(6)))
OTHER = chain(*(Gap("filling", i, i + 1, "forked") for i in range(6)))


def test_an_unbroken_chain() -> None:
    state = check_chain(RECORDS)
    assert state is not None
    assert (state.next_sequence, state.head, state.issuer) == (6, RECORDS[-1].hash, GATEWAY)
    assert is_beginning(RECORDS[0])
    assert not is_beginning(RECORDS[1])
    assert check_chain([]) is None


@pytest.mark.parametrize("cut", range(1, 6))
def test_going_on_from_a_state_is_the_same_as_going_through(cut: int) -> None:
    assert check_chain(RECORDS[cut:], check_chain(RECORDS[:cut])) == check_chain(RECORDS)
    assert check_chain(RECORDS[cut:]) == check_chain(RECORDS)  # begun in the middle


def resigned(record: SignedRecord, **changes: object) -> SignedRecord:
    return signed(replace(record.record, **changes))  # type: ignore[arg-type]


CASES: dict[str, tuple[list[SignedRecord], Break, int]] = {
    "left out": ([*RECORDS[:2], *RECORDS[3:]], Break.MISSING, 3),
    "twice": ([*RECORDS[:3], RECORDS[2]], Break.REPEATED, 2),
    "out of order": ([RECORDS[0], RECORDS[1], RECORDS[0]], Break.FORK, 0),
    "a fork": ([*RECORDS[:3], OTHER[2]], Break.FORK, 2),
    "another history": ([*RECORDS[:3], OTHER[3]], Break.PREVIOUS, 3),
    "another previous": (
        [*RECORDS[:3], resigned(RECORDS[3], previous=RecordHash(b"\x01" * 32))],
        Break.PREVIOUS,
        3,
    ),
    "another key": ([*RECORDS[:3], chain(*(Heartbeat(),) * 4, key=ROOT_KEY)[3]], Break.OTHER_KEY, 3),
    "another issuer": ([*RECORDS[:3], signed(RECORDS[3].record, issuer="gateway-2")], Break.OTHER_ISSUER, 3),
    "another site": (
        [*RECORDS[:3], sign_record(GATEWAY_KEY, RECORDS[3].record, issuer=GATEWAY, subject="elsewhere")],
        Break.OTHER_ISSUER,
        3,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_that_does_not_follow(name: str) -> None:
    records, kind, sequence = CASES[name]
    with pytest.raises(ChainBroken) as caught:
        check_chain(records)
    assert (caught.value.kind, caught.value.record.record.sequence) == (kind, sequence)
    assert caught.value.record in records


def test_a_fork_proves_itself() -> None:
    assert is_fork(RECORDS[2], OTHER[2])
    assert not is_fork(RECORDS[2], RECORDS[2])
    assert not is_fork(RECORDS[2], OTHER[3])
    assert not is_fork(RECORDS[2], chain(*(Gap("filling", 1, 2, "x"),) * 3, key=ROOT_KEY)[2])
    assert ChainState.after(RECORDS[2]).next_sequence == 3
