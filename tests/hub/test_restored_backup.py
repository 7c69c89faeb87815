"""The hub's operator as the thief: a backup put back, a second history. Real writer, log, publisher and spool."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.clock import ManualClock
from agent.publisher import Publisher
from agent.seal import ClockLog, Sealer
from agent.spool import Spool
from hub import enrolment
from hub.config import IngestConfig
from hub.database import open_database
from hub.ingest import Arrival, Writer
from hub.judge import LOG_BEHIND
from hub.log.sequencer import Log
from protocols.evidence import proof
from protocols.evidence.bodies import Heartbeat
from protocols.evidence.cose import key_id
from protocols.evidence.record import CheckpointSeen
from protocols.evidence.succession import Consistency
from protocols.wire.receipt import Receipt, Refusal, encode_receipt
from tests.agent import factory
from tests.support.evidence import GATEWAY, GATEWAY_KEY, SITE, START_MS, private_key, record, signed
from tests.support.hub import LOG_SIGNER, NOW_MS, HubInFolder, enrolled, hub_in, raw_public

OTHER_KEY = private_key("gateway-2")


class Line:
    """A broker that loses nothing: the hub's writer stands at the other end of the publisher's link."""

    has_room = True

    def __init__(self, hub: HubInFolder) -> None:
        self.hub = hub
        self.waiting: list[bytes] = []

    def publish(self, topic: str, payload: bytes, qos: int, properties: dict[str, str] | None = None) -> None:
        assert qos == 1 and properties is not None
        answers: list[bytes] = []
        publish, self.hub.writer._publish = self.hub.writer._publish, lambda _gateway, raw: answers.append(raw)
        self.hub.writer.commit([Arrival(payload, topic.split("/")[2], seen_size=int(*properties.values()))])
        self.hub.writer._publish = publish
        self.waiting += answers


class Gateway:
    """A spool and a publisher, driven by hand: no broker, no waiting."""

    def __init__(self, folder: Path, gateway_id: str, key: Ed25519PrivateKey) -> None:
        folder.mkdir(exist_ok=True)
        self.key, self.id = key, gateway_id
        self.spool = Spool.open(folder)
        self.seen: CheckpointSeen | None = None
        configuration = replace(factory.configuration(folder), gateway_id=gateway_id)
        kid = key_id(raw_public(key))
        self.publisher = Publisher(configuration, self.spool, kid, LOG_SIGNER.verifier, lambda: NOW_MS, self._saw)

    def _saw(self, seen: CheckpointSeen) -> None:
        self.seen = seen

    def measure(self, count: int = 1) -> None:
        sequence, previous = self.spool.head()
        sealer = Sealer(self.key, self.id, SITE, ClockLog(ManualClock(START_MS), 60_000), sequence, previous, self.seen)
        for _ in range(count):
            sealer, records = sealer.seal(Heartbeat(), START_MS, START_MS)
            self.spool.append(records)

    def exchange(self, hub: HubInFolder, rounds: int = 8) -> None:
        """Sends and takes answers, as often as a patient gateway does."""
        line = Line(hub)
        self.publisher._begin()
        for _ in range(rounds):
            self.publisher._flow.hold_until_s = 0.0
            self.publisher._send(line)  # type: ignore[arg-type]
            answers, line.waiting = line.waiting, []
            self.publisher._take(answers)


@contextmanager
def gateway(folder: Path, gateway_id: str = GATEWAY, key: Ed25519PrivateKey = GATEWAY_KEY) -> Iterator[Gateway]:
    made = Gateway(folder, gateway_id, key)
    try:
        yield made
    finally:
        made.spool.close()


def let_in(hub: HubInFolder, gateway_id: str, key: Ed25519PrivateKey) -> None:
    enrolled(hub.engine, gateway_id, key)
    hub.root_signed(enrolment.approval(hub.registry, gateway_id))


def test_every_record_is_done_with_a_proof_that_the_log_only_grew(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub, gateway(tmp_path / "gw") as gw:
        let_in(hub, "gateway-2", OTHER_KEY)
        for _ in range(5):
            gw.measure(40)  # more than are under way at once: receipts name several checkpoints
            gw.exchange(hub)
            assert gw.spool.depth() == 0
        assert gw.publisher.log_alarm is None
        assert gw.seen == CheckpointSeen(hub.log.size, hub.log.root_at(hub.log.size))
        assert hub.writer.halted is None


@pytest.mark.parametrize("lost_every", [2, 3])
def test_receipts_that_get_lost_stop_nothing(tmp_path: Path, lost_every: int) -> None:
    with hub_in(tmp_path) as hub, gateway(tmp_path / "gw") as gw:
        gw.measure(60)
        line, turn = Line(hub), 0
        gw.publisher._begin()
        for _ in range(60):
            gw.publisher._flow.hold_until_s = 0.0
            gw.publisher._flow.resend_s = 0.0  # whatever was not answered is sent again at once
            gw.publisher._send(line)  # type: ignore[arg-type]
            answers, line.waiting = line.waiting, []
            kept = []
            for answer in answers:
                turn += 1
                kept += [] if turn % lost_every == 0 else [answer]
            gw.publisher._take(kept)
            gw.publisher._watch_silence(line)  # type: ignore[arg-type]
        assert gw.spool.depth() == 0 and gw.publisher.log_alarm is None


def test_a_hub_restored_from_a_backup_stops_itself_and_gateways_keep_what_they_have(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with gateway(tmp_path / "gw") as gw:
        with hub_in(data) as hub:
            gw.measure(3)
            gw.exchange(hub)
        shutil.copytree(data, tmp_path / "backup")
        with hub_in(data) as hub:
            gw.measure(5)
            gw.exchange(hub)
            assert gw.spool.depth() == 0
            lost_size = hub.log.size
        shutil.move(data, tmp_path / "newest")
        shutil.copytree(tmp_path / "backup", data)  # the operator's mistake, or wish
        gw.measure(4)  # these name the checkpoint that the hub no longer has
        with hub_in(data) as hub:
            size = hub.log.size
            gw.exchange(hub)
            assert hub.log.size == size, "nothing was signed"
            assert gw.spool.depth() == 4, "nothing was forgotten"
            words = hub.writer.counts().alarm
            assert words is not None and f"has verified a checkpoint of {lost_size}" in words and "backup" in words
            assert LOG_BEHIND in (gw.spool.meta("refused") or b"").decode()
            hub.root_signed()
            assert hub.writer.take_submissions() == 0
        with hub_in(data) as hub:  # a restart does not make it forget
            assert hub.writer.halted is not None
            gw.exchange(hub)
            assert hub.log.size == size
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "newest", data)
        with hub_in(data) as hub:  # the right files are back
            gw.exchange(hub)
            assert gw.spool.depth() == 0 and hub.writer.halted is None and hub.writer.counts().alarm is None


def test_the_claim_goes_when_only_the_logs_files_are_put_back(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        seen = CheckpointSeen(hub.log.size + 2, bytes(32))
        (told,) = hub.take(signed(record(Heartbeat(), seen=seen)).raw)
        assert isinstance(told, Refusal) and told.code == LOG_BEHIND
        claim = hub.log.folder / "private" / "foreseen"
        assert claim.exists()
        claim.write_text(claim.read_text().replace(str(seen.size), "1").replace("00" * 32, hub.log.root_at(1).hex()))
    with hub_in(tmp_path) as hub:
        assert hub.writer.halted is None and not claim.exists()


def test_a_restored_hub_that_went_on_is_caught_by_its_other_root(tmp_path: Path) -> None:
    """Another gateway's records made the restored log as long as it was: its size tells nothing, its root does."""
    data = tmp_path / "data"
    data.mkdir()
    with gateway(tmp_path / "gw") as gw, gateway(tmp_path / "gw2", "gateway-2", OTHER_KEY) as other:
        with hub_in(data) as hub:
            let_in(hub, "gateway-2", OTHER_KEY)
            shutil.copytree(data, tmp_path / "backup")
            gw.measure(5)
            gw.exchange(hub)
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "backup", data)
        gw.measure(2)
        with hub_in(data) as hub:
            other.measure(30)  # it has seen nothing of the lost entries
            other.exchange(hub)
            assert other.spool.depth() == 0
            gw.exchange(hub)
            assert hub.writer.halted is not None and "another tree" in hub.writer.halted
            assert gw.spool.depth() == 2


def test_a_hub_with_two_histories_is_caught_by_the_gateway(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A hub whose software does not check itself shows this gateway one history, and later another."""
    data = tmp_path / "data"
    data.mkdir()
    with gateway(tmp_path / "gw") as gw:
        with hub_in(data) as hub:
            shutil.copytree(data, tmp_path / "backup")
            gw.measure(5)
            gw.exchange(hub)
            gw.measure(2)
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "backup", data)
        with hub_in(data) as hub:
            # The second history: the log has what the gateway says, and other entries before it.
            hub.log.append([b"an entry that was never there"])
            hub.log.append([spooled.raw for s in range(7) if (spooled := gw.spool.record(s)) is not None])
            answers = []
            for sequence in (5, 6):
                spooled = gw.spool.record(sequence)
                assert spooled is not None and gw.seen is not None
                text = proof.format(hub.log.proof(list(hub.log.entries()).index(spooled.raw))).decode()
                proofs = (Consistency(gw.seen.size, tuple(hub.log.consistency_proof(gw.seen.size))),)
                answers.append(encode_receipt(Receipt(gw.publisher._kid, sequence, spooled.hash, text, proofs)))
            gw.publisher._begin()
            gw.publisher._take(answers)
            assert gw.spool.depth() == 2
            assert gw.publisher.log_alarm is not None and "does not begin with" in gw.publisher.log_alarm
            assert "does not begin with" in caplog.text


def test_a_gateway_that_lies_stops_the_hub_until_it_is_disbelieved(tmp_path: Path) -> None:
    lie = signed(record(Heartbeat(), seen=CheckpointSeen(10**9, bytes(32))))
    with hub_in(tmp_path) as hub:
        (told,) = hub.take(lie.raw)
        assert isinstance(told, Refusal) and told.code == LOG_BEHIND
        assert GATEWAY in str(hub.writer.halted) and "log.disbelieve" in str(hub.writer.halted)
    engine = open_database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    with Log.open(tmp_path / "log", LOG_SIGNER) as log:
        sent: list[bytes] = []
        writer = Writer(engine, log, IngestConfig(), lambda: NOW_MS, lambda _id, raw: sent.append(raw), (GATEWAY,))
        writer.recover()
        assert writer.halted is None
        writer.commit([Arrival(lie.raw, GATEWAY), Arrival(signed(record(Heartbeat())).raw, GATEWAY)])
        assert log.size == 2 and len(sent) == 2
    engine.dispose()


def test_one_claim_stops_the_whole_batch(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        let_in(hub, "gateway-2", OTHER_KEY)
        size = hub.log.size
        good = signed(record(Heartbeat())).raw
        claim = signed(record(Heartbeat(), seen=CheckpointSeen(99, bytes(32))), OTHER_KEY, "gateway-2").raw
        hub.writer.commit([Arrival(good, GATEWAY), Arrival(claim, "gateway-2")])
        assert hub.log.size == size


def test_a_strangers_claim_stops_nothing(tmp_path: Path) -> None:
    with hub_in(tmp_path) as hub:
        hub.take(signed(record(Heartbeat(), seen=CheckpointSeen(99, bytes(32))), private_key("thief")).raw)
        assert hub.writer.halted is None
