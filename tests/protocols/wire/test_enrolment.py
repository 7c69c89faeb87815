"""The request for enrolment: its two halves are inverse, and whatever is changed in it is refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.errors import Malformed, Unverified
from protocols.wire.enrolment import EnrolmentRequest

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
REQUEST = EnrolmentRequest.make("lte_1", "GW-01", "Tai Po", ("filling",), KEY.public_key().public_bytes_raw(), KEY.sign)


def test_what_a_gateway_makes_a_hub_reads_and_accepts() -> None:
    read = EnrolmentRequest.from_json(REQUEST.to_json())
    assert read == REQUEST
    read.check()


@pytest.mark.parametrize("change", [{"token": "lte_2"}, {"gateway": "GW-02"}, {"signature": "00" * 64}])
def test_a_signature_is_bound_to_token_and_gateway(change: dict[str, str]) -> None:
    with pytest.raises(Unverified):
        EnrolmentRequest.from_json(REQUEST.to_json() | change).check()


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"public_key": "00"},
        {"public_key": "G" * 64},
        {"lines": "filling"},
        {"gateway": "a/b"},
        {"token": ""},
    ],
)
def test_anything_else_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        EnrolmentRequest.from_json(REQUEST.to_json() | change)
