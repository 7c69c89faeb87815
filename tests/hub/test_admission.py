"""Admission, a row for each outcome; and no bytes at all make it raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.admission import Admitted, Ahead, Duplicate, Fork, Head, Key, NotAdmitted, State, admit
from protocols.evidence.bodies import Configurations, Gap, Heartbeat, Measurement, PlanStatement, RawGap, Revocation
from protocols.evidence.cose import key_id
from protocols.evidence.record import MAX_BYTES, SignedRecord
from tests.support.evidence import GATEWAY, GATEWAY_KEY, ROOT_KEY, chain, line_statement, private_key, record, signed

OTHER_KEY = private_key("other")
KID, ROOT_KID, OTHER_KID = (key_id(k.public_key().public_bytes_raw()) for k in (GATEWAY_KEY, ROOT_KEY, OTHER_KEY))
LINES = frozenset({"filling", "packing"})
KEYS = {
    KID: Key(GATEWAY_KEY.public_key().public_bytes_raw(), GATEWAY, LINES),
    ROOT_KID: Key(ROOT_KEY.public_key().public_bytes_raw(), "root", is_root=True),
}
CHAIN = chain(Heartbeat(), Measurement((line_statement(),)), Heartbeat())
EMPTY = State(KEYS, {}, {})
AFTER_TWO = State(
    KEYS,
    {KID: Head(2, CHAIN[1].hash, CHAIN[1].subject)},
    {(KID, 0): CHAIN[0].hash, (KID, 1): CHAIN[1].hash},
)


def _flipped(raw: bytes, at: int) -> bytes:
    at %= len(raw)
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def test_the_next_record_is_admitted() -> None:
    assert admit(CHAIN[0].raw, EMPTY, GATEWAY) == Admitted(CHAIN[0])
    assert admit(CHAIN[2].raw, AFTER_TWO, GATEWAY) == Admitted(CHAIN[2])


def test_the_same_record_again_is_a_duplicate() -> None:
    assert admit(CHAIN[1].raw, AFTER_TWO, GATEWAY) == Duplicate(CHAIN[1])


def test_another_record_with_a_logged_sequence_is_a_fork() -> None:
    forked = chain(Heartbeat(), Heartbeat())[1]
    assert admit(forked.raw, AFTER_TWO, GATEWAY) == Fork(forked, CHAIN[1].hash)


def test_a_record_that_came_too_early_is_ahead() -> None:
    assert admit(CHAIN[2].raw, EMPTY, GATEWAY) == Ahead(CHAIN[2], 0)


def test_a_record_that_follows_another_one_is_refused() -> None:
    strange = signed(record(Heartbeat(), sequence=2, previous=CHAIN[0].hash))
    verdict = admit(strange.raw, AFTER_TWO, GATEWAY)
    assert isinstance(verdict, NotAdmitted) and verdict.code == "broken-chain" and verdict.expected_sequence == 2


def _with(**changes: object) -> State:
    return replace(EMPTY, keys={KID: replace(KEYS[KID], **changes)})  # type: ignore[arg-type]


def _subject_changed() -> State:
    return replace(AFTER_TWO, heads={KID: replace(AFTER_TWO.heads[KID], subject="another site")})


REFUSALS: list[tuple[str, Callable[[], bytes], Callable[[], State], str | None]] = [
    ("too-large", lambda: bytes(MAX_BYTES + 1), lambda: EMPTY, GATEWAY),
    ("malformed", lambda: b"", lambda: EMPTY, GATEWAY),
    ("malformed", lambda: CHAIN[0].raw + b"\0", lambda: EMPTY, GATEWAY),
    ("malformed", lambda: CHAIN[0].raw[:-1], lambda: EMPTY, GATEWAY),
    ("not-enrolled", lambda: signed(record(Heartbeat()), OTHER_KEY).raw, lambda: EMPTY, GATEWAY),
    ("not-approved", lambda: CHAIN[0].raw, lambda: _with(refusal=("not-approved", "wait")), GATEWAY),
    ("revoked", lambda: CHAIN[0].raw, lambda: _with(refusal=("revoked", "no")), GATEWAY),
    ("signature", lambda: _flipped(CHAIN[0].raw, -1), lambda: EMPTY, GATEWAY),
    ("signature", lambda: CHAIN[0].raw, lambda: _with(public_key=bytes(32)), GATEWAY),
    ("wrong-topic", lambda: CHAIN[0].raw, lambda: EMPTY, "gateway-2"),
    ("wrong-issuer", lambda: signed(record(Heartbeat()), issuer="gateway-2").raw, lambda: EMPTY, GATEWAY),
    ("foreign-line", lambda: chain(Measurement((line_statement("mixing"),)))[0].raw, lambda: EMPTY, GATEWAY),
    ("foreign-line", lambda: chain(Gap("mixing", 1, 2, "off"))[0].raw, lambda: EMPTY, GATEWAY),
    ("foreign-line", lambda: chain(RawGap("mixing", 1, 2, 1, "old"))[0].raw, lambda: EMPTY, GATEWAY),
    ("malformed", lambda: chain(Configurations(({"line_id": "filling"},)))[0].raw, lambda: EMPTY, GATEWAY),
    ("wrong-subject", lambda: CHAIN[2].raw, _subject_changed, GATEWAY),
    ("wrong-signer", lambda: chain(Revocation("g", KID, 0, "x"))[0].raw, lambda: EMPTY, GATEWAY),
    ("wrong-signer", lambda: chain(Heartbeat(), key=ROOT_KEY, issuer="root")[0].raw, lambda: EMPTY, None),
    (
        "malformed",
        lambda: chain(PlanStatement({"title": "x"}), key=ROOT_KEY, issuer="root")[0].raw,
        lambda: EMPTY,
        None,
    ),
    (
        "wrong-way",
        lambda: chain(Revocation("g", KID, 0, "x"), key=ROOT_KEY, issuer="root")[0].raw,
        lambda: EMPTY,
        "root",
    ),
]


@pytest.mark.parametrize(
    ("code", "raw", "state", "topic"), REFUSALS, ids=[f"{i}-{r[0]}" for i, r in enumerate(REFUSALS)]
)
def test_refusals(code: str, raw: Callable[[], bytes], state: Callable[[], State], topic: str | None) -> None:
    verdict = admit(raw(), state(), topic)
    assert isinstance(verdict, NotAdmitted)
    assert verdict.code == code
    assert verdict.words


def test_a_root_signed_record_is_admitted_from_a_local_submission() -> None:
    revocation = chain(Revocation("gateway-1", KID, 0, "stolen"), key=ROOT_KEY, issuer="root")[0]
    assert isinstance(admit(revocation.raw, EMPTY), Admitted)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(CHAIN[0].raw) - 1), st.integers(1, 255)))
def test_never_raises_and_never_admits_what_was_changed(bytes_or_flip: bytes | tuple[int, int]) -> None:
    if isinstance(bytes_or_flip, bytes):
        raw = bytes_or_flip
    else:
        at, mask = bytes_or_flip
        raw = CHAIN[0].raw[:at] + bytes([CHAIN[0].raw[at] ^ mask]) + CHAIN[0].raw[at + 1 :]
    assert isinstance(admit(raw, EMPTY, GATEWAY), NotAdmitted)


_DATA = st.recursive(
    st.none() | st.integers(-(2**63), 2**63) | st.text(max_size=5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "line_id", "name"]), inner),
    max_leaves=10,
)
_CONFIGURATION_KEYS = (
    "calendar", "counters", "definition", "line_id", "max_pieces_per_hour", "name", "production_modes", "products",
    "source", "staleness_ms", "states", "window_ms",
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(_CONFIGURATION_KEYS, _DATA) | {"line_id": st.just("filling")}))
def test_a_signed_configuration_of_any_shape_never_raises(data: dict[str, object]) -> None:
    try:
        made = chain(Configurations((data,)))[0]
    except Exception:  # noqa: BLE001 (what cannot be signed cannot arrive)
        return
    assert isinstance(admit(made.raw, EMPTY, GATEWAY), Admitted | NotAdmitted)


def test_a_verdict_shows_the_record_it_is_about() -> None:
    verdict = admit(_flipped(CHAIN[0].raw, -1), EMPTY, GATEWAY)
    assert isinstance(verdict, NotAdmitted) and isinstance(verdict.record, SignedRecord) and not verdict.genuine
