"""The hub's side of a challenge: what is sent, what of an answer is kept, and who may sign an audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from hub import root
from hub.audit import challenges
from hub.audit.challenger import RESEND_MS, Challenger
from hub.audit.store import RawStore
from hub.config import load_config
from hub.database import open_database
from hub.report.reading import FolderLog
from protocols.evidence.audit import Audit, AuditedLine
from protocols.evidence.checkpoint import Checkpoint
from protocols.evidence.merkle import RootHash
from protocols.evidence.raw import Piece, encode_piece, read_pieces
from protocols.wire.challenge import Answer, Challenge, decode_challenge, encode_answer
from protocols.wire.receipt import Refusal
from tests.hub.audit.audit_kit import MINUTE, Gateway, hub_with, measured
from tests.support.evidence import GATEWAY, GATEWAY_KEY, SITE, START_MS, record, signed
from tests.support.hub import hub_in

WINDOW = (START_MS + 10 * MINUTE, START_MS + 11 * MINUTE)


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return measured(minutes=20)


@dataclass
class Hub:
    engine: Engine
    challenger: Challenger
    store: RawStore
    sent: list[tuple[str, Challenge]] = field(default_factory=list)
    acknowledged: int = 0
    now_ms: int = START_MS
    connected: bool = True

    def answer(self, *payloads: bytes, of: str = GATEWAY) -> challenges.Asked:
        """Lets the challenger take these; the only challenge as it stands then."""
        before = self.acknowledged
        for payload in payloads:
            self.challenger.offer(of, payload, self._acknowledge)
        self.challenger.take()
        assert self.acknowledged == before + len(payloads)
        (asked,) = challenges.listed(self.engine)
        return asked

    def _acknowledge(self) -> None:
        self.acknowledged += 1

    def kept(self) -> list[int]:
        found: list[int] = []
        for path in self.store.files(["filling"]):
            with path.open("rb") as file:
                found += [15 * (piece.sequence - 1) + piece.leaf_index for piece in read_pieces(file)]
        return found


@pytest.fixture
def hub(gateway: Gateway, tmp_path: Path) -> Iterator[Hub]:
    with hub_with(tmp_path, gateway) as path:
        config = load_config(path)
        engine = open_database(config.database_url)
        store = RawStore(config.raw_folder, 10**9)
        made = Hub(engine, None, store)  # type: ignore[arg-type]
        made.challenger = Challenger(
            engine, FolderLog(config.log_folder), store,  # type: ignore[arg-type]
            lambda gateway_id, payload: made.sent.append((gateway_id, decode_challenge(payload))),
            lambda: made.connected, lambda: made.now_ms,
        )  # fmt: skip
        head = Checkpoint("log", 1, RootHash(bytes(32)))
        challenges.ask(engine, "P-7", "filling", [WINDOW], {WINDOW: 90_000}, b"seed", head, START_MS)
        yield made
        engine.dispose()


def message(hub: Hub, number: int, of: int, piece: Piece | None, words: str = "") -> bytes:
    (asked,) = challenges.listed(hub.engine)
    return encode_answer(Answer(asked.id, number, of, None if piece is None else encode_piece(piece), words))


def test_a_challenge_is_sent_to_the_lines_gateway_until_it_is_answered(hub: Hub, gateway: Gateway) -> None:
    hub.connected = False
    hub.challenger.send_due()
    assert hub.sent == []
    hub.connected = True
    hub.challenger.send_due()
    ((to, challenge),) = hub.sent
    assert (to, challenge.line_id) == (GATEWAY, "filling")
    assert challenge.spans == ((WINDOW[0] - 1, WINDOW[1] + 90_001),)
    hub.challenger.send_due()
    assert len(hub.sent) == 1
    hub.now_ms += RESEND_MS + 1
    hub.challenger.send_due()
    assert hub.sent[1] == hub.sent[0]
    pieces = gateway.pieces[9:13]
    messages = [message(hub, i, 4, piece) for i, piece in enumerate(pieces)]
    asked = hub.answer(*messages[:2], messages[3], message(hub, 4, 4, None))
    assert (asked.state, asked.pieces) == ("waiting", 3)  # one was lost on the way
    asked = hub.answer(messages[2])
    assert (asked.state, asked.pieces, asked.refused, asked.words) == ("answered", 4, "", "")
    assert hub.kept() == [9, 10, 11, 12]
    hub.now_ms += RESEND_MS + 1
    hub.challenger.send_due()
    assert len(hub.sent) == 2
    assert hub.answer(*messages) == asked  # once more: taken, and changes nothing
    assert hub.kept() == [9, 10, 11, 12]


def test_what_does_not_prove_itself_or_was_not_asked_for_is_not_kept(hub: Hub, gateway: Gateway) -> None:
    good = gateway.pieces[10]
    for piece, words in (
        (replace(good, leaf_index=9), "does not lead"),
        (replace(good, sequence=99), "not in the log"),
        (gateway.pieces[3], "another line or time"),
    ):
        asked = hub.answer(message(hub, 0, 1, piece))
        assert words in asked.refused and asked.pieces == 0 and hub.kept() == []
    asked = hub.answer(message(hub, 0, 1, good), of="gateway-2")
    assert asked.pieces == 0 and hub.kept() == []
    asked = hub.answer(b"junk", encode_answer(Answer(bytes(16), 0, 0, None, "")))
    assert asked.state == "waiting"
    asked = hub.answer(message(hub, 0, 0, None, "3 min of it are not held"))
    assert (asked.state, asked.words, asked.pieces) == ("answered", "3 min of it are not held", 0)


AUDIT = Audit("P-7", "me", b"", (AuditedLine("filling", START_MS, START_MS + MINUTE, 1, 1, 1),), None)


def test_who_measures_cannot_sign_an_audit(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        (refusal,) = hub.take(signed(record(AUDIT, start_ms=START_MS, end_ms=START_MS)).raw)
        assert isinstance(refusal, Refusal) and refusal.code == "not-an-auditor"
        submission = root.leave(hub.engine, GATEWAY_KEY, GATEWAY, SITE, AUDIT, START_MS)
        hub.writer.take_submissions()
        with pytest.raises(Exception, match="enrolled to measure"):
            root.wait(hub.engine, submission, lambda: True)
