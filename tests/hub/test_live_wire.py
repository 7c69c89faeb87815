"""A gateway's live message: what is accepted of it, line by line, and that no line is lost for its neighbour's sake."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.live_wire import LiveParts, parse_live
from protocols.errors import Malformed
from protocols.measurement.definition import ISO, TPM
from protocols.wire.live import MAX_BYTES
from tests.hub.web.plant import live_message, wire


def parsed(payload: bytes, *, others: tuple[str, ...] = ()) -> LiveParts:
    return parse_live(payload, lambda line_id: line_id not in others)


def test_what_is_said_once_holds_for_every_line() -> None:
    parts = parsed(wire(live_message("filling"), live_message("packing", time_ms=1)))
    assert [told.line.line for told in parts.lines] == ["filling", "packing"] and not parts.refused
    first, second = parts.lines
    assert first.gateway is second.gateway and first.gateway.time_ms == live_message()["time_ms"]
    assert (first.definition, first.words) == (ISO, ISO.words)


@pytest.mark.parametrize(
    "change",
    [
        {"line": "../etc"}, {"line": "x" * 65}, {"line": 5}, {"name": "x" * 201}, {"since_ms": -1}, {"since_ms": 1.5},
        {"since_ms": "1"}, {"since_ms": 2**60}, {"state": "RUNNING"}, {"category": "<b>"}, {"shift_account": [1, 2]},
        {"shift_account": [2**63] * 27}, {"pieces_per_hour": float("nan")}, {"pieces_per_hour": -1},
        {"ribbon": [[1]]}, {"ribbon": [[1, 11]]}, {"ribbon": [[0, "FAILURE"]] * 1001}, {"definition": "zz"},
        {"definition_data": {"preset": "tpm"}}, {"definition_data": TPM.to_data()}, {"definition_words": "x" * 301},
        {"definition_data": [1]}, {"stops": [{"start_ms": 1}]}, {"late_count": -1},
    ],
)  # fmt: skip
def test_a_line_outside_the_limits_is_refused_and_its_neighbours_are_taken(change: dict[str, Any]) -> None:
    other = {"definition": TPM.hash.hex(), "definition_data": TPM.to_data()}
    bad = live_message("mixing") | change
    parts = parsed(wire(live_message("filling", **other), bad, live_message("packing", **other)))
    assert [told.line.line for told in parts.lines] == ["filling", "packing"]
    assert len(parts.refused) == 1 and str(bad["line"])[:64] in parts.refused[0]


def test_what_is_no_line_is_refused_by_itself_and_so_is_a_definition_that_is_not_brought() -> None:
    message = json.loads(wire(live_message("filling")))
    for odd in (None, 1, "filling", [], {}, {"line": None}):
        parts = parsed(json.dumps(message | {"lines": [odd, *message["lines"]]}).encode())
        assert (len(parts.lines), len(parts.refused)) == (1, 1)
    parts = parsed(json.dumps(message | {"definitions": {}}).encode())
    assert not parts.lines and "definition" in parts.refused[0]


def test_of_lines_that_are_not_the_gateways_nothing_is_looked_at() -> None:
    parts = parsed(wire(live_message("filling"), live_message("rival", name=5)), others=("rival",))
    assert [told.line.line for told in parts.lines] == ["filling"] and not parts.refused


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"time_ms": -1}, {"time_ms": 1.5}, {"time_ms": "1"}, {"time_ms": 2**60}, {"spool_depth": -1},
        {"interval_s": 0}, {"interval_s": 61}, {"interval_s": 1.5},
        {"receipt": {"sequence": 1}}, {"definitions": []}, {"lines": {}}, {"lines": [0] * 1001}, {"lines": None},
    ],
)  # fmt: skip
def test_a_message_outside_the_limits_is_refused_as_a_whole(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        parsed(wire(live_message(), **change))


def test_long_or_broken_bytes_are_refused() -> None:
    good = wire(live_message())
    assert parsed(good.ljust(MAX_BYTES)).lines
    for payload in (good.ljust(MAX_BYTES + 1), b"{", b"[]", b"\xff", b"", b"[" * 5_000, b'{"lines":' * 5_000):
        with pytest.raises(Malformed):
            parsed(payload)


def test_categories_may_be_numbers_and_unknown_keys_are_left_alone() -> None:
    (told,) = parsed(wire(live_message(ribbon=[[5, 1]], later="x"), later="y")).lines
    assert told.line.ribbon == [(5, 1)]
