"""Challenges and answers: one form each, and bounds that hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.errors import Malformed
from protocols.evidence import canonical
from protocols.wire.challenge import (
    MAX_ANSWER_BYTES,
    MAX_ASKED_MS,
    MAX_SPANS,
    Answer,
    Challenge,
    decode_answer,
    decode_challenge,
    encode_answer,
    encode_challenge,
)

ID = bytes(range(16))
CHALLENGE = Challenge(ID, "L1", ((0, 60_000), (60_000, 120_000), (600_000, 660_000)))


def test_both_come_back_the_same() -> None:
    assert decode_challenge(encode_challenge(CHALLENGE)) == CHALLENGE
    for answer in (Answer(ID, 0, 2, b"piece"), Answer(ID, 2, 2, None, "3 minutes are gone"), Answer(ID, 0, 0, None)):
        assert decode_answer(encode_answer(answer)) == answer


def test_the_most_that_may_be_asked_for_fits() -> None:
    spans = tuple((10**12 + i * 10**7, 10**12 + i * 10**7 + MAX_ASKED_MS // MAX_SPANS) for i in range(MAX_SPANS))
    assert len(decode_challenge(encode_challenge(replace(CHALLENGE, line_id="L" * 64, spans=spans))).spans) == 1000


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ((), "1 to 1000"),
        (tuple((i, i + 1) for i in range(MAX_SPANS + 1)), "1 to 1000"),
        (((5, 5),), "empty"),
        (((0, 10), (9, 20)), "in order"),
        (((20, 30), (0, 10)), "in order"),
        (((0, MAX_ASKED_MS + 1),), "31 days"),
        (((-1, 5),), "between"),
    ],
)
def test_spans_out_of_bounds_are_refused(spans: tuple[tuple[int, int], ...], words: str) -> None:
    with pytest.raises(Malformed, match=words):
        encode_challenge(replace(CHALLENGE, spans=spans))
    with pytest.raises(Malformed, match=words):
        decode_challenge(canonical.encode([1, ID, "L1", [list(span) for span in spans]]))


@pytest.mark.parametrize(
    "wire",
    [
        [2, ID, "L1", [[0, 1]]], [1, ID[:15], "L1", [[0, 1]]], [1, ID, "L/1", [[0, 1]]], [1, ID, "L1", [[0, 1, 2]]],
        [1, ID, "L1"], {},
    ],
)  # fmt: skip
def test_another_form_of_challenge_is_refused(wire: object) -> None:
    with pytest.raises(Malformed):
        decode_challenge(canonical.encode(wire))


@pytest.mark.parametrize(
    "wire",
    [
        [2, ID, 0, 0, None, ""], [1, ID, 1, 0, None, ""], [1, ID, 0, 1, None, ""], [1, ID, 1, 1, b"p", ""],
        [1, ID, 0, 1, b"p", "words"], [1, ID, 0, 1, "p", ""], [1, b"", 0, 0, None, ""], [1, ID, 0, 0, None, "a\nb"],
        [1, ID, 0, 0, None], [1, ID, 0, 1, bytes(MAX_ANSWER_BYTES), ""],
    ],
)  # fmt: skip
def test_another_form_of_answer_is_refused(wire: object) -> None:
    with pytest.raises(Malformed):
        decode_answer(canonical.encode(wire))
