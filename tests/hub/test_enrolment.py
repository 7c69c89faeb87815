"""Enrolment: what gets a key as far as pending, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub import enrolment
from hub.enrolment import TOKEN_LIFE_MS, issue_token
from hub.registry import GatewayState
from protocols.errors import Malformed, Refused
from tests.support.evidence import GATEWAY, GATEWAY_KEY, private_key
from tests.support.hub import NOW_MS, enrolled, enrolment_request, hub_in, raw_public

SMALL_ORDER = bytes(32)


def test_a_good_request_waits_for_a_person(tmp_path: Path) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        gateway = enrolled(hub.engine)
        assert gateway.state is GatewayState.PENDING
        assert gateway.lines == ("filling", "packing")
        assert gateway.public_key == raw_public(GATEWAY_KEY)
        assert hub.registry.gateway(GATEWAY) == gateway
        assert len(gateway.fingerprint.replace(" ", "")) == 32


def test_the_answer_that_was_lost_is_given_again_but_the_token_serves_nobody_else(tmp_path: Path) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        token = issue_token(hub.engine, "P-7", NOW_MS)
        first = enrolment.enrol(hub.engine, enrolment_request(token), NOW_MS)
        assert enrolment.enrol(hub.engine, enrolment_request(token), NOW_MS + 1) == first
        for request in (
            enrolment_request(token, "gateway-2"),
            enrolment_request(token, GATEWAY, private_key("other")),
        ):
            with pytest.raises(Refused, match="used up") as caught:
                enrolment.enrol(hub.engine, request, NOW_MS)
            assert caught.value.code == "bad-token"


def test_only_the_tokens_hash_is_kept(tmp_path: Path) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        token = issue_token(hub.engine, "P-7", NOW_MS)
    for file in tmp_path.glob("hub.sqlite*"):
        assert token.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"token": "lte_wrong"}, "bad-token"),
        ({"signature": "00" * 64}, "bad-signature"),
        ({"gateway": "gateway-2"}, "bad-signature"),
        ({"public_key": raw_public(private_key("other")).hex()}, "bad-signature"),
        ({"public_key": SMALL_ORDER.hex()}, "bad-key"),
        ({"lines": ["mixing"]}, "foreign-line"),
    ],
)
def test_refused(tmp_path: Path, change: dict[str, object], code: str) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        request = enrolment_request(issue_token(hub.engine, "P-7", NOW_MS)) | change
        with pytest.raises(Refused) as caught:
            enrolment.enrol(hub.engine, request, NOW_MS)
        assert caught.value.code == code
        assert hub.registry.gateways() == []


def test_a_token_ends_after_a_day(tmp_path: Path) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        request = enrolment_request(issue_token(hub.engine, "P-7", NOW_MS))
        with pytest.raises(Refused, match="24 hours"):
            enrolment.enrol(hub.engine, request, NOW_MS + TOKEN_LIFE_MS)
        enrolment.enrol(hub.engine, request, NOW_MS + TOKEN_LIFE_MS - 1)


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1}, {"token": None}, {"token": ""}, {"gateway": "a/b"}, {"gateway": "../x"}, {"public_key": "zz"},
        {"public_key": "AA" * 32}, {"signature": ["00"]}, {"lines": "filling"}, {"lines": [1]},
    ],
)  # fmt: skip
def test_malformed(tmp_path: Path, change: dict[str, object]) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        request = enrolment_request("lte_x") | change
        with pytest.raises(Malformed):
            enrolment.enrol(hub.engine, request, NOW_MS)
        with pytest.raises(Malformed):
            enrolment.enrol(hub.engine, {}, NOW_MS)


def test_an_active_id_or_key_cannot_be_enrolled_again(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        for gateway, key in ((GATEWAY, private_key("other")), ("gateway-2", GATEWAY_KEY)):
            with pytest.raises(Refused, match="already"):
                enrolled(hub.engine, gateway, key)
        assert hub.registry.gateway(GATEWAY).state is GatewayState.ACTIVE  # type: ignore[union-attr]


def test_a_pending_gateway_may_enrol_again_with_a_new_key(tmp_path: Path) -> None:
    with hub_in(tmp_path, enrol=False) as hub:
        enrolled(hub.engine)
        second = enrolled(hub.engine, key=private_key("second"))
        assert hub.registry.gateways() == [second]


def test_a_project_without_lines_takes_no_gateway(tmp_path: Path) -> None:
    from hub.registry import Project

    with hub_in(tmp_path, enrol=False) as hub:
        hub.registry.add_project(Project("P-8", "nifs", "acme", "Another"))
        request = enrolment_request(issue_token(hub.engine, "P-8", NOW_MS))
        with pytest.raises(Refused, match="line add"):
            enrolment.enrol(hub.engine, request, NOW_MS)


def test_only_what_is_pending_is_approved_and_only_what_is_active_revoked(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        with pytest.raises(Refused, match="active already"):
            enrolment.approval(hub.registry, GATEWAY)
        with pytest.raises(Refused, match="no gateway"):
            enrolment.approval(hub.registry, "nobody")
        enrolled(hub.engine, "gateway-2", private_key("two"))
        with pytest.raises(Refused, match="pending"):
            enrolment.revocation(hub.registry, "gateway-2", 0, "x")
        body = enrolment.approval(hub.registry, "gateway-2")
        assert body.line_ids == ("filling", "packing") and body.project_ids == ("P-7",)
