"""Topics: a gateway can name its own and no other's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.wire.topics import (
    Channel,
    all_gateways,
    challenge_topic,
    live_topic,
    operator_answer_topic,
    operator_topic,
    parse_topic,
    raw_topic,
    receipt_topic,
    statement_topic,
    topic,
)


@given(st.text("abcXYZ019_-", min_size=1, max_size=64), st.sampled_from(Channel))
def test_parse_inverts_topic(gateway_id: str, channel: Channel) -> None:
    assert parse_topic(topic(gateway_id, channel)) == (gateway_id, channel)


def test_the_names() -> None:
    assert statement_topic("gw-1") == "linetally/v1/gw-1/statement"
    assert receipt_topic("gw-1") == "linetally/v1/gw-1/receipt"
    assert live_topic("gw-1") == "linetally/v1/gw-1/live"
    assert challenge_topic("gw-1") == "linetally/v1/gw-1/challenge"
    assert raw_topic("gw-1") == "linetally/v1/gw-1/raw"
    assert operator_topic("gw-1") == "linetally/v1/gw-1/operator"
    assert operator_answer_topic("gw-1") == "linetally/v1/gw-1/operator-answer"
    assert all_gateways(Channel.LIVE) == "linetally/v1/+/live"


@pytest.mark.parametrize("gateway_id", ["", "+", "#", "a/b", "a b", "a\n", "é", "x" * 65, "../a"])
def test_an_id_cannot_reach_out_of_its_level(gateway_id: str) -> None:
    with pytest.raises(Malformed):
        topic(gateway_id, Channel.STATEMENT)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "linetally/v1/a",
        "linetally/v2/a/live",
        "linetally/v1/a/live/b",
        "/linetally/v1/a/live",
        "linetally/v1/a/live\n",
    ],
)
def test_other_topics_are_refused(name: str) -> None:
    with pytest.raises(Malformed):
        parse_topic(name)
