"""Which records are under way: so many in order, the oldest alone after a silence, and never before its time."""

from __future__ import annotations

from agent.flow import LONGEST_RESEND_S, OUTSTANDING, RESEND_S, Flow


def filled(now_s: float = 0.0) -> Flow:
    flow = Flow()
    flow.begin(now_s)
    while flow.may_send(now_s):
        flow.sent(flow.next, now_s)
    return flow


def test_so_many_in_order_and_one_more_for_each_receipt() -> None:
    flow = filled()
    assert (flow.next, flow.is_full) == (OUTSTANDING, True)
    assert not flow.receipted([0, 1], 1.0)
    assert flow.may_send(1.0) and flow.is_awaited(2) and not flow.is_awaited(1)


def test_after_a_silence_the_oldest_goes_alone_later_and_later_until_a_receipt() -> None:
    flow = filled()
    assert flow.silence_s(RESEND_S - 0.1, goes_out=True) is None
    now_s, waits = RESEND_S, []
    for _ in range(6):
        assert flow.silence_s(now_s, goes_out=True) is not None
        assert flow.next == 0 and flow.may_send(now_s)
        flow.sent(0, now_s)
        assert flow.is_full, "one at a time"
        began_s = now_s
        while flow.silence_s(now_s, goes_out=True) is None:
            now_s += 0.5
        waits.append(now_s - began_s)
        flow.again(now_s, 0.0)
        flow.sent(0, now_s)
        now_s += flow.resend_s
    assert waits == sorted(waits) and waits[0] >= RESEND_S and waits[-1] == LONGEST_RESEND_S
    assert flow.receipted([0], now_s)
    assert not flow.receipted([], now_s) and flow.resend_s == RESEND_S


def test_where_nothing_is_under_way_there_is_no_silence() -> None:
    flow = Flow()
    flow.begin(0.0)
    assert flow.silence_s(1000.0, goes_out=True) is None


def test_a_network_that_has_not_taken_it_yet_is_given_longer() -> None:
    flow = filled()
    assert flow.silence_s(RESEND_S, goes_out=False) is None
    assert flow.silence_s(LONGEST_RESEND_S, goes_out=False) == LONGEST_RESEND_S


def test_an_answer_that_was_none_holds_all_and_begins_where_it_says() -> None:
    flow = filled()
    flow.again(5.0, 30.0, from_sequence=7)
    assert not flow.may_send(34.9) and flow.silence_s(34.9, goes_out=True) is None
    assert flow.may_send(35.0) and flow.next == 7
    flow.sent(7, 35.0)
    assert not flow.may_send(35.0)
    flow.begin(36.0)
    assert flow.may_send(36.0) and flow.next == 0
