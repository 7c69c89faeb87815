"""A gateway's new key, from the agent's command to the hub's, and on with the chain; and each half of it forged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select

from agent import rotate
from agent.keys import KEY_FILE, NEXT_KEY_FILE, load_key, write_private
from hub import database as db
from hub import enrolment, root
from protocols.errors import LinetallyError, Malformed
from protocols.evidence.bodies import Heartbeat, Rotation
from protocols.evidence.cose import key_id
from protocols.evidence.record import RecordHash
from protocols.evidence.rotation import check_rotation, rotation, rotation_from_json, rotation_to_json
from protocols.wire.receipt import Refusal
from tests.agent import factory
from tests.hub.test_restored_backup import Gateway, gateway
from tests.support.evidence import GATEWAY, GATEWAY_KEY, private_key, record, signed
from tests.support.hub import NOW_MS, ROOT_SIGNER, enrolled, hub_in, raw_public

NEW_KEY = private_key("gateway's second key")


def state_with_key(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_private(folder / KEY_FILE, GATEWAY_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_from_the_old_key_to_the_new(tmp_path: Path) -> None:
    folder = tmp_path / "gw"
    folder.mkdir()
    configuration = replace(factory.configuration(folder), gateway_id=GATEWAY, state_folder=folder)
    state_with_key(folder)
    request = tmp_path / "request"
    with hub_in(tmp_path) as hub:
        with gateway(folder) as gw:
            gw.measure(3)
            shown = rotate.request(configuration, request)
            assert rotate.request(configuration, request) == shown, "the same new key again"
        with pytest.raises(LinetallyError, match="3 records of the old key have no receipt"):
            rotate.finish(configuration)
        with gateway(folder) as gw:
            gw.exchange(hub)
        hub.root_signed(rotation_from_json(request.read_bytes()))
        assert rotate.finish(configuration) == shown
        assert rotate.finish(configuration) == shown, "again after a crash"
        new = load_key(folder)
        assert not (folder / NEXT_KEY_FILE).exists()
        with gateway(folder, key=new) as gw:
            gw.measure(2)
            gw.exchange(hub)
            assert gw.spool.depth() == 0 and gw.publisher.log_alarm is None
        # The old key is out, and the chain of the new one began with 0.
        (late,) = hub.take(signed(record(Heartbeat(), sequence=3, previous=RecordHash(b"\1" * 32))).raw)
        assert isinstance(late, Refusal) and late.code == "not-enrolled"
        known = hub.registry.gateway(GATEWAY)
        assert known is not None and known.kid == key_id(raw_public(new)) and known.state.value == "active"


def test_the_request_comes_back_the_same_and_nothing_else_is_one() -> None:
    body = rotation(GATEWAY, GATEWAY_KEY, NEW_KEY)
    assert rotation_from_json(rotation_to_json(body)) == body
    check_rotation(body, raw_public(GATEWAY_KEY))
    good = json.loads(rotation_to_json(body))
    for bad in (b"", b"[]", b"{}", b"\xff", json.dumps(good | {"old_kid": "00"}).encode(), b"[" * 10_000):
        with pytest.raises(Malformed):
            rotation_from_json(bad)


GOOD = rotation(GATEWAY, GATEWAY_KEY, NEW_KEY)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (replace(GOOD, new_signature=bytes(64)), "new key did not sign"),
        (replace(GOOD, old_signature=bytes(64)), "old key did not sign"),
        (replace(GOOD, new_signature=GOOD.old_signature), "new key did not sign"),
        (replace(GOOD, public_key=bytes(32)), "small order"),
        (replace(GOOD, old_kid=key_id(raw_public(NEW_KEY))), "is not a key of"),
        (replace(GOOD, gateway_id="gateway-2"), "is not a key of"),
        (rotation(GATEWAY, GATEWAY_KEY, GATEWAY_KEY), "is enrolled already"),
        (rotation(GATEWAY, GATEWAY_KEY, private_key("other")), "is enrolled already"),
    ],
)
def test_the_hub_admits_no_rotation_that_a_key_did_not_sign(tmp_path: Path, body: Rotation, words: str) -> None:
    with hub_in(tmp_path) as hub:
        if words == "is enrolled already":
            enrolled(hub.engine, "gateway-9", private_key("other"))
            hub.root_signed(enrolment.approval(hub.registry, "gateway-9"))
        size = hub.log.size
        hub.root_signed(body)
        assert hub.log.size == size
        with hub.engine.connect() as connection:
            newest = select(db.submission.c.words).order_by(db.submission.c.id.desc()).limit(1)
            assert words in str(connection.scalar(newest))


def test_a_rotation_that_waits_after_a_crash_is_a_duplicate(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        root.submit(hub.engine, ROOT_SIGNER, GOOD, NOW_MS)
        with hub.engine.connect() as connection:
            raw = connection.scalars(select(db.submission.c.raw).where(db.submission.c.state == "waiting")).one()
        hub.log.append([bytes(raw)])  # as if the process had died right after the append
    with hub_in(tmp_path) as hub:
        size = hub.log.size
        hub.writer.take_submissions()
        with hub.engine.connect() as connection:
            assert "waiting" not in set(connection.scalars(select(db.submission.c.state)))
            assert "refused" not in set(connection.scalars(select(db.submission.c.state)))
        assert hub.log.size == size


def test_a_spool_with_open_records_begins_no_chain(tmp_path: Path) -> None:
    made = Gateway(tmp_path / "gw", GATEWAY, GATEWAY_KEY)
    made.measure(1)
    with pytest.raises(LinetallyError, match="no receipt"):
        made.spool.begin_chain(b"")
    assert made.spool.depth() == 1
    made.spool.close()
