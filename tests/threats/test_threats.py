"""The thief, played: one class a threat, with the real hub, gateway, witness, report and verifier.

Each class says who attacks, how, who notices, when, and by which check. docs/threats.md is the same as a table.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from pypdf import PdfReader
from sqlalchemy import delete, update

from hub import database as db
from hub import enrolment, root
from hub.log.sequencer import Log
from hub.witness.state import KEY_FILE, LOGS_FILE, Witness
from protocols.evidence import bundle as bundles
from protocols.evidence import merkle, tiles
from protocols.evidence.bodies import Enrolment, Heartbeat, PlanStatement, Revocation
from protocols.evidence.bundle import BundleParts
from protocols.evidence.chain import is_fork
from protocols.evidence.note import Algorithm, SignerKey
from protocols.evidence.policy import Policy, Revoked, parse, with_quorum
from protocols.evidence.record import RecordType, SignedRecord
from protocols.evidence.rotation import rotation
from protocols.evidence.verdict import Step
from protocols.wire import add_checkpoint
from protocols.wire.receipt import Receipt, Refusal
from tests.hub.test_restored_backup import gateway
from tests.support.evidence import GATEWAY, START_MS, private_key, record, signed
from tests.support.hub import LOG_SIGNER, hub_in, measurements
from tests.threats import story
from tests.threats.stage import Hub, accepted, refused, verdict_of, with_files
from tests.threats.story import KEY, LOG, NEW_KEY, ONE, PLAN, ROOT_KEY, TWO, WITNESSES, Journal, kid_of


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real hub's report with its PDF."""
    return Hub.make(tmp_path_factory.mktemp("genuine") / "hub", story.whole()).report()


def honest() -> BundleParts:
    return story.whole().parts()


def codes(answers: list[Receipt | Refusal]) -> list[str]:
    return ["receipt" if isinstance(answer, Receipt) else answer.code for answer in answers]


def raws(journal: Journal, key: Any) -> list[bytes]:
    return [record.raw for record in journal.chains()[kid_of(key)]]


def test_the_honest_bundle_is_accepted(tmp_path: Path, genuine: Path) -> None:
    """Without this, every refusal below would prove nothing."""
    verdict = accepted(honest(), tmp_path)
    assert [check["result"] for check in verdict["checks"]] == ["passed"] * len(Step)
    assert accepted(genuine, tmp_path)["figures"] == story.whole().report(), "the hub's report and the story's agree"


class TestEditedAfterTheFact:
    """Attacker: whoever likes other numbers better: the factory (has the gateway's key), or the hub's operator (has
    files and database, not the key). How: a signed window is changed once the result is known. Noticed by: the hub at
    once (fork), fsck, and every verifier. By: chain and inclusion; signature; figures computed again."""

    def test_the_factory_signs_another_past(self, tmp_path: Path) -> None:
        """Its key signs better numbers, and everything after them anew. The hub keeps both as proof of a fork; a
        bundle with the new past has no proofs for it, and those of the old past do not fit."""
        with hub_in(tmp_path) as hub:
            assert codes(hub.take(*(record.raw for record in measurements(3)))) == ["receipt"] * 3
            better = measurements(3, windows=14)
            assert codes(hub.take(*(record.raw for record in better))) == ["fork"] * 3
            assert hub.log.size == 4 and hub.writer.counts().fork_count == 3
        journal = story.Journal()
        story.begin(journal)
        for hour in (0, 1):
            for name in (ONE, TWO):
                journal.measure(KEY[name], name, hour, 60 + hour)  # a worse baseline makes a better upgrade
        for part in (story.new_key, story.reporting, story.afterwards):
            part(journal)
        parts = honest()
        kid = kid_of(KEY[TWO])
        changed = dict(parts.chains) | {kid: raws(journal, KEY[TWO])}
        refused(replace(parts, chains=changed), tmp_path, Step.INCLUSION, "")

    def test_one_record_signed_again(self, tmp_path: Path) -> None:
        """The same, one record only: the next one names the old one's hash."""
        parts, journal = honest(), story.whole()
        records = journal.chains()[kid_of(KEY[TWO])]
        at = next(i for i, each in enumerate(records) if each.record.type is RecordType.MEASUREMENT)
        better = replace(records[at].record, body=story.statement("packing", records[at].record.start_ms, 60))
        forged = story.sign_record(KEY[TWO], better, issuer=TWO, subject=records[at].subject)
        chain = [*(r.raw for r in records[:at]), forged.raw, *(r.raw for r in records[at + 1 :])]
        failure = refused(
            replace(parts, chains=dict(parts.chains) | {kid_of(KEY[TWO]): chain}), tmp_path, Step.CHAIN,
            "names another record",
        )  # fmt: skip
        assert failure["index"] == at + 1

    def test_the_operator_edits_the_database(self, tmp_path: Path) -> None:
        """Figures of the report come from the index, which its owner can write. The verifier computes them from the
        signed records; one command fills the index from the log again."""
        hub = Hub.make(tmp_path / "hub", story.whole())
        honest_report = accepted(hub.report(), tmp_path)["figures"]
        engine = hub.database()
        with engine.begin() as connection:
            connection.execute(
                update(db.window)
                .where(db.window.c.start_ms >= PLAN.reporting.from_ms)
                .values(good_count=db.window.c.good_count + 40, total_count=db.window.c.total_count + 40)
            )
        engine.dispose()
        refused(hub.report("edited.zip"), tmp_path, Step.FIGURES, "does not follow from the records")
        hub.run("rebuild")
        assert accepted(hub.report("again.zip"), tmp_path)["figures"] == honest_report

    def test_the_operator_edits_the_logs_files(self, tmp_path: Path) -> None:
        """One entry; then also its hash; then the whole log, signed anew with the log's key, which he has. The entry
        itself is signed by a key that he does not have."""
        journal = story.whole()
        hub = Hub.make(tmp_path / "hub", journal)
        size = len(journal.records)
        bundle, hashes = (hub.log_folder / path for path in (tiles.entries_path(0, size), tiles.tile_path(0, 0, size)))
        entries = tiles.decode_bundle(bundle.read_bytes())
        at = next(i for i, each in enumerate(journal.records) if each.record.type is RecordType.MEASUREMENT)
        entries[at] = entries[at].replace(b"Cola 330 ml", b"Cola 331 ml")
        bundle.write_bytes(tiles.encode_bundle(entries))
        # The newest file is already compared when the log is opened; the older ones by fsck (test_flips_elsewhere.py).
        assert bundle.name in hub.run("fsck", ok=False)
        hashes.write_bytes(b"".join(merkle.leaf_hash(raw) for raw in entries))
        assert "the head" in hub.run("fsck", ok=False) or "tile" in hub.run("fsck", ok=False)
        refused(hub.report(), tmp_path, Step.ROOT, "does not lead to the root")
        journal.records[at] = SignedRecord(entries[at])
        anew = Hub.make(tmp_path / "anew", journal)
        assert "sound" in anew.run("fsck")
        failure = refused(anew.report(), tmp_path, Step.RECORDS, "these bytes are not what the key signed")
        assert failure["sequence"] == journal.records[at].record.sequence


class TestDeletedAtTheHub:
    """Attacker: the hub's operator. How: takes entries out, in the index, in the log's files, or by writing the whole
    log anew with the log's key. Noticed by: the report itself; the verifier; each gateway and witness that has seen the
    longer log. By: completeness of chains; chain; consistency."""

    def test_rows_of_the_index(self, tmp_path: Path) -> None:
        hub = Hub.make(tmp_path / "hub", story.whole())
        engine = hub.database()
        with engine.begin() as connection:
            connection.execute(delete(db.record).where(db.record.c.kid == kid_of(KEY[TWO]), db.record.c.sequence == 2))
        engine.dispose()
        words = hub.run("report", story.PROJECT, "--out", str(tmp_path / "no.zip"), ok=False)
        assert "the index lacks" in words and "rebuild" in words

    def test_a_record_in_the_middle(self, tmp_path: Path) -> None:
        parts = honest()
        chain = list(parts.chains[kid_of(KEY[TWO])])
        del chain[2]
        refused(
            replace(parts, chains=dict(parts.chains) | {kid_of(KEY[TWO]): chain}), tmp_path, Step.CHAIN, "1 left out"
        )

    def test_the_whole_log_written_anew(self, tmp_path: Path) -> None:
        """The operator has the log's key: a new log without the unwanted record is flawless by itself. Whoever saw
        the old one proves it wrong: a witness refuses it and keeps both heads, a gateway holds its records."""
        data = tmp_path / "hub"
        data.mkdir()
        with gateway(tmp_path / "gw") as gw:
            with hub_in(data) as hub:
                gw.measure(4)
                gw.exchange(hub)
                kept = list(hub.log.entries())
                old_size, old = hub.log.size, hub.log.checkpoint()
            with _witness(tmp_path / "w", LOG_SIGNER) as witness:
                assert witness.add_checkpoint(add_checkpoint.encode(0, [], old)).status == 200
                shutil.rmtree(data / "log")
                with Log.create(data / "log", LOG_SIGNER.name, LOG_SIGNER) as log:
                    fillers = [signed(record(Heartbeat()), private_key(name)).raw for name in ("x", "y")]
                    log.append([*kept[:2], *kept[3:], *fillers])
                    proof = log.consistency_proof(old_size)
                    answer = witness.add_checkpoint(add_checkpoint.encode(old_size, proof, log.checkpoint()))
                    assert answer.status == 422
                assert list((tmp_path / "w" / "evidence").iterdir())
            gw.measure(1)  # it names the checkpoint that it has verified
            with hub_in(data) as hub:
                gw.exchange(hub)
                assert hub.writer.halted is not None and "another tree" in hub.writer.halted
            assert gw.spool.depth() == 1


def _witness(folder: Path, log: SignerKey, name: str = "w.example") -> Witness:
    folder.mkdir()
    root.make_key(folder / KEY_FILE, name, Algorithm.COSIGNATURE)
    (folder / LOGS_FILE).write_text(f"{log.verifier}\n")
    return Witness.open(folder, lambda: PLAN.reporting.to_ms // 1000)


class TestDroppedTail:
    """Attacker: whoever makes the bundle. How: leaves out a chain's last records, where no later one names them.
    Noticed by: the verifier. By: the last record must be proven; with the log's help it is, and then the hole is
    shown as a gap without a signed reason. What cannot be seen: see `test_what_was_said_last_can_be_left_out`."""

    def test_without_the_logs_help(self, tmp_path: Path) -> None:
        parts = honest()
        chain = list(parts.chains[kid_of(KEY[TWO])])[:-1]
        refused(
            replace(parts, chains=dict(parts.chains) | {kid_of(KEY[TWO]): chain}), tmp_path, Step.INCLUSION,
            "the chain's last record has no proof",
        )  # fmt: skip

    def test_with_a_genuine_proof_the_hole_shows(self, tmp_path: Path) -> None:
        """The operator proves the new last record. All is genuine, and an hour is missing: said, and not covered."""
        journal = story.whole()
        short, dropped = _without_tail(journal, KEY[TWO], 2)
        assert dropped[0].record.type is RecordType.MEASUREMENT
        verdict = accepted(short, tmp_path)
        (gap,) = [gap for gap in verdict["gaps"] if gap["to_ms"] == PLAN.reporting.to_ms]
        assert (gap["line_id"], gap["missing_ms"], gap["reason"]) == ("packing", story.HOUR_MS, "")
        covered = {(each["line_id"], each["period"]): each["permille"] for each in verdict["coverage"]}
        assert covered["packing", "reporting"] == 500
        reasons = {code for code, _ in verdict["figures"]["reasons"]}
        assert {"coverage-too-low", "coverage-differs"} <= reasons, "the plan's gate: no improvement from half a period"
        honest_reasons = {code for code, _ in journal.report()["reasons"]}
        assert not {"coverage-too-low", "coverage-differs"} & honest_reasons

    def test_what_was_said_last_can_be_left_out(self, tmp_path: Path) -> None:
        """A limit, shown on purpose: late rejects at the very end of a chain, dropped together with all that follows,
        leave no trace in the bundle. They stand in the log, which its mirrors and the gateway's receipts show."""
        journal = story.whole()
        short, dropped = _without_tail(journal, NEW_KEY, 3)
        assert [record.record.type for record in dropped] == [RecordType.AMENDMENT] * 2 + [RecordType.HEARTBEAT]
        assert accepted(short, tmp_path)["notes"] == []
        logged = {record.hash for record in journal.records}
        assert all(record.hash in logged for record in dropped), "anybody who reads the log finds them"


def _without_tail(journal: Journal, key: Any, count: int) -> tuple[BundleParts, list[SignedRecord]]:
    """The bundle without the last records of a key, whatever proofs and figures that needs; and what was left out."""
    whole = journal.parts()
    records = journal.chains()[kid_of(key)]
    kept, dropped = records[:-count], records[-count:]
    told = replace(journal, records=[record for record in journal.records if record not in dropped])
    parts = replace(
        whole, chains=dict(whole.chains) | {kid_of(key): [record.raw for record in kept]}, report=told.report()
    )
    unwanted = {(record.kid, record.record.sequence) for record in dropped}
    parts = replace(parts, proofs={at: text for at, text in parts.proofs.items() if at not in unwanted})
    return story.with_proof(parts, journal, kept[-1]), dropped


class TestReplayed:
    """Attacker: anybody who can copy bytes. How: genuine records again, or those of another project's gateway.
    Noticed by: the hub at once, the verifier. By: identity (key, sequence, hash); enrolment; topic."""

    def test_records_of_another_project(self, tmp_path: Path) -> None:
        journal = Journal()
        public = KEY[TWO].public_key().public_bytes_raw()
        journal.say(ROOT_KEY, story.SCHEME, Enrolment(TWO, public, ("packing",), ("project-2",)))
        one = KEY[ONE].public_key().public_bytes_raw()
        journal.say(ROOT_KEY, story.SCHEME, Enrolment(ONE, one, ("filling",), (story.PROJECT,)))
        journal.say(ROOT_KEY, story.SCHEME, PlanStatement(PLAN.to_data()))
        for name in (ONE, TWO):
            line = story.configuration(story.LINE_OF[name]).to_data()
            journal.say(KEY[name], name, story.Configurations((line,)))
        for part in (story.baseline, story.new_key, story.reporting, story.afterwards):
            part(journal)
        refused(journal.parts(), tmp_path, Step.RECORDS, "gateway-2 is not enrolled for project project-1")

    def test_a_record_of_another_line(self, tmp_path: Path) -> None:
        """A gateway that speaks for the line beside it."""
        with hub_in(tmp_path) as hub:
            journal = Journal()
            journal.say(KEY[ONE], GATEWAY, story.statement("mixing", START_MS, 90), START_MS, START_MS + story.HOUR_MS)
            assert codes(hub.take(journal.records[0].raw)) == ["foreign-line"]

    def test_by_another_gateways_topic(self, tmp_path: Path) -> None:
        with hub_in(tmp_path) as hub:
            (record,) = measurements(1)
            assert codes(hub.take(record.raw, topic="gateway-2")) == ["wrong-topic"]
            assert hub.log.size == 1

    def test_the_same_again(self, tmp_path: Path) -> None:
        """At the hub once in the log; in a bundle an endless loop of a good hour ends at its second round."""
        with hub_in(tmp_path) as hub:
            (record,) = measurements(1)
            assert codes(hub.take(record.raw, record.raw)) == ["receipt", "receipt"]
            assert codes(hub.take(record.raw)) == ["receipt"]
            assert hub.log.size == 2
        parts = honest()
        chain = list(parts.chains[kid_of(KEY[TWO])])
        twice = [*chain[:3], chain[2], *chain[3:]]
        refused(
            replace(parts, chains=dict(parts.chains) | {kid_of(KEY[TWO]): twice}), tmp_path, Step.CHAIN,
            "stands there twice",
        )  # fmt: skip


class TestClonedGateway:
    """Attacker: the factory, with a copy of the gateway's disk (key and spool). How: two gateways, one key; the better
    one is to count. Noticed by: the hub, at the second record with a sequence that was used. By: fork; the two records
    prove it to anybody, and both are kept."""

    def test_two_agents_with_one_key(self, tmp_path: Path) -> None:
        with hub_in(tmp_path) as hub:
            with gateway(tmp_path / "gw") as first:
                first.measure(2)
                first.exchange(hub)
            shutil.copytree(tmp_path / "gw", tmp_path / "copy")
            with gateway(tmp_path / "gw") as first, gateway(tmp_path / "copy") as second:
                first.measure(1)
                first.exchange(hub)
                assert first.spool.depth() == 0
                size = hub.log.size
                sequence, previous = second.spool.head()
                second.measure(1)
                spooled = second.spool.record(sequence)
                assert spooled is not None
                one = SignedRecord(spooled.raw)
                # The copy measured something else in the meantime.
                other = story.sign_record(
                    second.key,
                    replace(one.record, end_ms=one.record.end_ms + 1),
                    issuer=second.id,
                    subject=one.subject,
                )
                assert codes(hub.take(other.raw)) == ["fork"]
                assert hub.log.size == size and hub.writer.counts().fork_count == 1
                with hub.engine.connect() as connection:
                    row = connection.execute(db.quarantine.select()).one()
                logged = SignedRecord(hub.log.entry(row.logged_index))
                assert is_fork(SignedRecord(bytes(row.raw)), logged), "a proof by itself"
                assert logged.record.previous == previous

    def test_the_copy_goes_on_first(self, tmp_path: Path) -> None:
        """Whoever comes first is in the chain; the other one cannot follow: its next record is a fork or broken."""
        with hub_in(tmp_path) as hub:
            honest_records = measurements(4)
            hub.take(honest_records[0].raw)
            copied = measurements(2, windows=14)
            # Both went on from the same record, the copy was faster.
            journal = Journal()
            journal.heads[honest_records[0].kid] = honest_records[0]
            fast = journal.say(KEY[ONE], GATEWAY, Heartbeat())
            assert codes(hub.take(fast.raw)) == ["receipt"]
            assert codes(hub.take(honest_records[1].raw)) == ["fork"]
            assert codes(hub.take(honest_records[2].raw)) == ["broken-chain"]
            assert codes(hub.take(copied[1].raw)) == ["fork"]


class TestStolenKey:
    """Attacker: a thief with the gateway's key, who chooses every time he writes. How: signs after the theft was
    reported. Noticed by: the hub at once, the verifier. By: revocation, which names a place in the log, not a time."""

    def test_the_hub_takes_nothing_more(self, tmp_path: Path) -> None:
        with hub_in(tmp_path) as hub:
            first, second, third = measurements(3)
            assert codes(hub.take(first.raw, second.raw)) == ["receipt"] * 2
            hub.root_signed(enrolment.revocation(hub.registry, GATEWAY, hub.log.size, "stolen"))
            assert codes(hub.take(third.raw)) == ["revoked"]

    def test_a_colluding_hub_logs_it_all_the_same(self, tmp_path: Path) -> None:
        """The thief dates his records before the theft. Their entries stand after the revocation, whatever they say."""
        journal = Journal()
        for part in (story.begin, story.baseline, story.new_key):
            part(journal)
        assert all(record.record.type is not RecordType.HEARTBEAT for record in journal.records)
        journal.say(KEY[ONE], ONE, Heartbeat(), START_MS + 1)
        for part in (story.reporting, story.afterwards):
            part(journal)
        at = next(i for i, r in enumerate(journal.records) if r.record.type is RecordType.ROTATE)
        refused(journal.parts(), tmp_path, Step.INCLUSION, f"revoked from {at}")

    def test_an_old_key_is_found_after_its_rotation(self, tmp_path: Path) -> None:
        """Nobody revoked it: it was only replaced. Its chain ends where the new key's begins, in the log's order."""
        journal = Journal()
        story.begin(journal)
        story.baseline(journal)
        journal.say(ROOT_KEY, story.SCHEME, rotation(ONE, KEY[ONE], NEW_KEY))
        at = len(journal.records) - 1
        line = story.configuration("filling").to_data()
        journal.say(NEW_KEY, ONE, story.Configurations((line,)), START_MS + 2 * story.HOUR_MS)
        story.reporting(journal)
        story.afterwards(journal)
        accepted(journal.parts(), tmp_path)
        journal.measure(KEY[ONE], ONE, 2, 110)
        refused(journal.parts(), tmp_path, Step.INCLUSION, f"revoked from {at}")

    def test_the_revocation_is_left_out(self, tmp_path: Path) -> None:
        """What the root key signed last can be left out of a bundle as well. The scheme's policy says it once more."""
        journal = story.whole()
        kid = kid_of(KEY[TWO])
        journal.say(ROOT_KEY, story.SCHEME, Revocation(TWO, kid, 8, "stolen long before it was noticed"))
        refused(journal.parts(), tmp_path, Step.INCLUSION, "revoked from 8")
        root_records = [record for record in journal.records if record.kid == kid_of(ROOT_KEY)]
        parts = journal.parts()
        proofs = {at: text for at, text in parts.proofs.items() if at != (root_records[-1].kid, len(root_records) - 1)}
        short = replace(parts, root_records=[record.raw for record in root_records[:-1]], proofs=proofs)
        accepted(short, tmp_path)
        told = replace(story.POLICY, revoked=(Revoked(kid, 8),))
        refused(short, tmp_path, Step.INCLUSION, "revoked from 8", trusted=told)

    def test_the_hub_writes_revocations_into_the_policy(self, tmp_path: Path) -> None:
        journal = story.whole()
        hub = Hub.make(tmp_path / "hub", journal)
        rotated, revoked = (
            next(i for i, each in enumerate(journal.records) if each.record.type is wanted)
            for wanted in (RecordType.ROTATE, RecordType.REVOKE)
        )
        written = parse(hub.run("policy").encode())
        assert written.revoked == (Revoked(kid_of(KEY[ONE]), rotated), Revoked(kid_of(KEY[ONE]), revoked))

    def test_the_thief_enrols_a_key_of_his_own(self, tmp_path: Path) -> None:
        """With a root key of his own he enrols whom he likes; the policy names the scheme's."""
        journal, his = Journal(), private_key("thief's root")
        his_gateway = private_key("thief's gateway").public_key().public_bytes_raw()
        journal.say(his, story.SCHEME, Enrolment(ONE, his_gateway, ("filling",), (story.PROJECT,)))
        parts = honest()
        forged = replace(parts, root_records=[record.raw for record in journal.records])
        refused(forged, tmp_path, Step.ROOT, "which the policy does not name as root")


class TestBackdated:
    """Attacker: factory, scheme and hub in any combination, after the result is known. How: rules or records that
    claim to be older. Noticed by: the verifier. By: order in the log."""

    def test_the_plan_after_the_fact(self, tmp_path: Path) -> None:
        """The rules of the evaluation, chosen by their result. The record's own time says the year before."""
        journal = Journal()
        story.begin(journal)
        del journal.records[2:]  # all but the enrolments
        journal.heads = {each.kid: each for each in journal.records}
        for name in (ONE, TWO):
            line = story.configuration(story.LINE_OF[name]).to_data()
            journal.say(KEY[name], name, story.Configurations((line,)))
        for part in (story.baseline, story.new_key, story.reporting):
            part(journal)
        journal.say(ROOT_KEY, story.SCHEME, PlanStatement(PLAN.to_data()), START_MS - 365 * 24 * story.HOUR_MS)
        story.afterwards(journal)
        failure = refused(journal.parts(), tmp_path, Step.PLAN, "the plan only entry")
        assert "reporting period's first record is entry" in failure["words"]

    def test_the_first_record_logged_once_more(self, tmp_path: Path) -> None:
        """The operator appends the reporting period's first records again, after the late plan, and proves the second
        place. The records after them stand before that: the order of a chain is the order of the log.

        If he logs all that follows once more, too, the order holds. Then the log has most of the period twice, for
        every reader, and witnesses' times lie months after those of the records."""
        journal = Journal()
        story.begin(journal)
        del journal.records[2:]
        journal.heads = {each.kid: each for each in journal.records}
        for name in (ONE, TWO):
            line = story.configuration(story.LINE_OF[name]).to_data()
            journal.say(KEY[name], name, story.Configurations((line,)))
        for part in (story.baseline, story.new_key, story.reporting, story.afterwards):
            part(journal)
        journal.say(ROOT_KEY, story.SCHEME, PlanStatement(PLAN.to_data()))
        honest_parts = journal.parts()
        first = {}
        for each in journal.records:
            if each.record.type is RecordType.MEASUREMENT and each.record.end_ms > PLAN.reporting.from_ms:
                first.setdefault(each.kid, each)
        assert len(first) == 2
        journal.records += first.values()
        note = journal.note()
        places = {(each.kid, each.record.sequence): i for i, each in enumerate(journal.records)}
        proofs = {at: journal.proof(places[at], note) for at in honest_parts.proofs}
        forged = replace(honest_parts, proofs=proofs, checkpoint=note, dated=journal.dated())
        refused(forged, tmp_path, Step.INCLUSION, "and a record before it is entry")

    def test_two_plans_to_choose_from(self, tmp_path: Path) -> None:
        """Both registered in time, the kinder one used: allowed, and said to every reader."""
        journal = Journal()
        story.begin(journal)
        kinder = replace(PLAN, minimum_effect_permille=1, title="the same, but kinder")
        journal.say(ROOT_KEY, story.SCHEME, PlanStatement(kinder.to_data()))
        for part in (story.baseline, story.new_key, story.reporting, story.afterwards):
            part(journal)
        notes = accepted(journal.parts(), tmp_path)["notes"]
        assert any("2 different plans were registered for this project" in note for note in notes)

    def test_windows_over_windows(self, tmp_path: Path) -> None:
        """A clock set back measures an hour twice, or a good hour is put over a bad one."""
        journal = Journal()
        for part in (story.begin, story.baseline, story.new_key, story.reporting):
            part(journal)
        journal.measure(NEW_KEY, ONE, 4, 130)
        for name, key in ((ONE, NEW_KEY), (TWO, KEY[TWO])):
            journal.say(key, name, Heartbeat(), PLAN.reporting.to_ms)
        parts = journal.parts(report=dict(story.whole().report()))
        refused(parts, tmp_path, Step.TIME, "time would count twice")


class TestClockPlayedWith:
    """Attacker: the factory, which sets the gateway's clock. How: records that claim to be older or younger than they
    are. Noticed by: the verifier. By: the clock's sandwich: a record is younger than the checkpoint that it names, and
    older than the first checkpoint that holds it; both are dated by witnesses. Between two records of one boot the wall
    clock moves as the uptime does. What is late without a contradiction is told, not refused."""

    def _until_the_end(self) -> Journal:
        journal = Journal()
        for part in (story.begin, story.baseline, story.new_key, story.reporting):
            part(journal)
        return journal

    def test_older_than_what_it_rests_on(self, tmp_path: Path) -> None:
        """A reason is "told in time": the record names a checkpoint that did not exist then."""
        journal = self._until_the_end()
        journal.say(NEW_KEY, ONE, Heartbeat(), PLAN.reporting.to_ms)
        journal.say(KEY[TWO], TWO, Heartbeat(), PLAN.reporting.to_ms)
        accepted(journal.parts(), tmp_path)
        journal.say(NEW_KEY, ONE, story.late_rejects(), PLAN.reporting.from_ms + story.HALF_MS)
        refused(journal.parts(), tmp_path, Step.CLOCK, "it is backdated")

    def test_younger_than_its_place_in_the_log(self, tmp_path: Path) -> None:
        """Time that has not been yet, filled with production: a witness saw the record in the log before."""
        journal = Journal()
        for part in (story.begin, story.baseline):
            part(journal)
        story.new_key(journal)
        lost = START_MS + 2 * story.HOUR_MS
        journal.say(KEY[TWO], TWO, story.Gap("packing", lost, lost + story.HOUR_MS, "no power"), lost, lost + 1)
        for hour in (3, 4):
            journal.measure(NEW_KEY, ONE, hour, 110)
            journal.measure(KEY[TWO], TWO, hour, 110)
        for key, name in ((NEW_KEY, ONE), (KEY[TWO], TWO)):
            journal.say(key, name, Heartbeat(), PLAN.reporting.to_ms)
        journal.seen_by_witnesses(
            PLAN.reporting.from_ms + story.HALF_MS
        )  # two hours are measured, half an hour is over
        refused(journal.parts(), tmp_path, Step.CLOCK, "but a witness saw it in the log at")

    def test_the_wall_clock_moves_against_the_uptime(self, tmp_path: Path) -> None:
        """Set back by an hour within one boot, to measure a good hour again. Told: an honest clock is set as well."""
        journal = self._until_the_end()
        last = journal.heads[kid_of(NEW_KEY)].record
        clock = replace(last.clock, boot_start_ms=last.clock.boot_end_ms, boot_end_ms=last.clock.boot_end_ms)
        at = last.end_ms + story.HOUR_MS
        moved = replace(
            last, sequence=last.sequence + 1, previous=journal.heads[kid_of(NEW_KEY)].hash, start_ms=at, end_ms=at,
            clock=clock, body=Heartbeat(),
        )  # fmt: skip
        signed_by = story.sign_record(NEW_KEY, moved, issuer=ONE, subject=journal.records[0].subject)
        journal.records.append(signed_by)
        journal.say(KEY[TWO], TWO, Heartbeat(), PLAN.reporting.to_ms)
        notes = accepted(journal.parts(), tmp_path)["notes"]
        assert any("the gateway's clock moved by 3600 s against its uptime" in note for note in notes)

    def test_a_period_logged_once_more_months_later(self, tmp_path: Path) -> None:
        """The late plan of `TestBackdated`, with all that follows logged again in order: nothing contradicts itself,
        and the witnesses' times are months away from the records'. Told, record by record."""
        journal = Journal()
        story.begin(journal)
        del journal.records[2:]
        journal.heads = {each.kid: each for each in journal.records}
        for name in (ONE, TWO):
            line = story.configuration(story.LINE_OF[name]).to_data()
            journal.say(KEY[name], name, story.Configurations((line,)))
        for part in (story.baseline, story.new_key, story.reporting, story.afterwards):
            part(journal)
        journal.cosigned_s = {size: at for size, at in journal.cosigned_s.items() if size < 9}
        gateways_said = [each for each in journal.records if each.kid != kid_of(ROOT_KEY)]
        first = next(i for i, each in enumerate(gateways_said) if each.record.start_ms >= PLAN.reporting.from_ms)
        honest_proofs = journal.parts().proofs
        journal.say(ROOT_KEY, story.SCHEME, PlanStatement(PLAN.to_data()), PLAN.baseline.from_ms)
        journal.records += gateways_said[first:]
        months = 90 * 24 * story.HOUR_MS
        journal.seen_by_witnesses(PLAN.reporting.to_ms + months)
        note = journal.note(time_s=(PLAN.reporting.to_ms + months) // 1000 + 600)
        places = {(each.kid, each.record.sequence): i for i, each in enumerate(journal.records)}
        parts = journal.parts(note)
        proofs = {at: journal.proof(places[at], note) for at in {*honest_proofs, *parts.proofs}}
        verdict = accepted(replace(parts, proofs=proofs), tmp_path)
        assert any("others can date it to" in text for text in verdict["notes"]), verdict["notes"]


class TestHubRestoredFromABackup:
    """Attacker: the hub's operator (or his mistake). How: an old copy of the data folder; what was logged since is to
    be forgotten. Noticed by: the hub's own software at the next record of a gateway that saw more; any gateway and
    witness, at the next checkpoint. By: the checkpoint that each record names; consistency.

    The plays with spool, publisher and writer are in tests/hub/test_restored_backup.py, those over HTTP with witness
    processes in tests/hub/witness/test_over_http.py (docs/threats.md names them). Here: the offline side."""

    def test_a_bundle_of_the_second_history_lacks_the_quorum(self, tmp_path: Path) -> None:
        """The witnesses have cosigned the longer log, and the restored one is not its continuation."""
        lost = story.whole()
        restored = replace(lost, records=lost.records[:-2], heads=dict(lost.heads))
        restored.records += [restored.say(KEY[TWO], TWO, Heartbeat(), PLAN.reporting.to_ms, logged=False)]
        restored.records += [restored.say(KEY[TWO], TWO, Heartbeat(), PLAN.reporting.to_ms, logged=False)]
        restored.records += [restored.say(KEY[TWO], TWO, Heartbeat(), PLAN.reporting.to_ms, logged=False)]
        old_size = len(lost.records)
        with _witness(tmp_path / "w1", LOG, "w0.example") as one, _witness(tmp_path / "w2", LOG, "w1.example") as two:
            for witness in (one, two):
                assert witness.add_checkpoint(add_checkpoint.encode(0, [], lost.note(()))).status == 200
            proof = merkle.consistency_proof(restored.leaves(), old_size, len(restored.records))
            request = add_checkpoint.encode(old_size, proof, restored.note(()))
            assert [witness.add_checkpoint(request).status for witness in (one, two)] == [422, 422]
        refused(restored.parts(restored.note(())), tmp_path, Step.LOG, "lacks the quorum")


class TestSplitView:
    """Attacker: the hub's operator. How: two histories under one log key, one for each audience. Noticed by: witnesses,
    when they are shown the other one; verifiers, because neither history gets a quorum. By: cosignatures.

    With witness processes over HTTP: tests/hub/witness/test_over_http.py."""

    def test_neither_history_gets_both_witnesses(self, tmp_path: Path) -> None:
        bad = story.whole()
        good = Journal()
        for part in (story.begin, story.baseline, story.new_key, story.reporting):
            part(good)
        for key, name in ((NEW_KEY, ONE), (KEY[TWO], TWO)):  # without the late rejects
            good.say(key, name, Heartbeat(), PLAN.reporting.to_ms)
        bad.cosigned_s, good.cosigned_s = {}, {}  # other witnesses'
        keys = []
        with _witness(tmp_path / "w1", LOG, "w1") as one, _witness(tmp_path / "w2", LOG, "w2") as two:
            notes = []
            for witness, journal in ((one, bad), (two, good)):
                plain = journal.note(())
                answer = witness.add_checkpoint(add_checkpoint.encode(0, [], plain))
                assert answer.status == 200
                notes.append(plain + answer.body)
                keys.append(witness.signer.verifier)
            # Shown to the other, neither is a continuation of what that one has cosigned.
            for witness, journal, seen in ((one, good, bad), (two, bad, good)):
                old = len(seen.records)
                hashes = merkle.consistency_proof(
                    journal.leaves(), min(old, len(journal.records)), len(journal.records)
                )
                answer = witness.add_checkpoint(
                    add_checkpoint.encode(min(old, len(journal.records)), hashes, journal.note(()))
                )
                assert answer.status in (409, 422)
        whole = Policy((LOG.verifier,), (("w1", keys[0]), ("w2", keys[1])), root_keys=story.POLICY.root_keys)
        for note, journal in zip(notes, (bad, good), strict=True):
            parts = journal.parts(note)
            assert verdict_of(parts, tmp_path, with_quorum(whole, 1))["ok"], "with one witness both would pass"
            refused(
                parts, tmp_path, Step.LOG, "1 of 2 witnesses cosigned it", trusted=with_quorum(whole, 2)
            )  # fmt: skip

    def test_a_proof_from_the_other_tree(self, tmp_path: Path) -> None:
        """One bundle, two trees: each proof must be at the bundle's own checkpoint."""
        parts, other = honest(), Journal()
        for part in (story.begin, story.baseline):
            part(other)
        note = other.note()
        strange = {
            (record.kid, record.record.sequence): other.proof(i, note) for i, record in enumerate(other.records[:2])
        }
        refused(replace(parts, proofs=dict(parts.proofs) | strange), tmp_path, Step.ROOT, "at another checkpoint")

    def test_witnesses_of_his_own(self, tmp_path: Path) -> None:
        """Cosignatures of witnesses whom the policy does not name count for nothing."""
        journal = story.whole()
        his = [replace(witness, seed=bytes([i] * 32)) for i, witness in enumerate(WITNESSES[:2], 1)]
        note = journal.note(his)
        refused(journal.parts(note), tmp_path, Step.LOG, "lacks the quorum")


class TestForgedReport:
    """Attacker: whoever hands the report on. How: edits the PDF, report.json, or both alike. Noticed by: the verifier;
    of the PDF in other hands, the reader who compares it. By: figures computed again; the manifest; the evidence hash
    that is printed on each page. The verdict says in words that the PDF is only a view."""

    def test_the_pdf_in_the_bundle(self, tmp_path: Path, genuine: Path) -> None:
        accepted(genuine, tmp_path)
        with ZipFile(genuine) as archive:
            pdf = archive.read("report.pdf")
        forged = {"report.pdf": pdf[:-200] + pdf[-200:].replace(b"%%EOF", b"%%FOE")}
        assert forged["report.pdf"] != pdf
        refused(with_files(genuine, forged, manifest_too=False), tmp_path, Step.MANIFEST, "report.pdf")

    def test_the_pdf_and_the_manifest(self, tmp_path: Path, genuine: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With all checksums made right the bundle passes: the PDF is no evidence. The verifier shows its own figures
        and says what the PDF is worth."""
        forged = with_files(genuine, {"report.pdf": b"%PDF-1.7 OEE: 99.9 %"}, manifest_too=True)
        assert accepted(forged, tmp_path)["figures"] == accepted(genuine, tmp_path)["figures"]
        from hub.verify import main

        assert main([str(tmp_path / "given.zip"), "--policy", str(tmp_path / "scheme.policy")]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "that the PDF shows the same: it is only a view" in said

    def test_the_pdf_of_another_report(self, tmp_path: Path, genuine: Path) -> None:
        """A genuine PDF beside other evidence: the hash on its pages is that of its own."""
        other = replace(PLAN, title="Another upgrade")
        strange = Hub.make(tmp_path / "other", story.whole(other)).report()
        printed, computed = [], []
        for path in (genuine, strange):
            with path.open("rb") as file:
                opened = bundles.read(file)
                listed = json.loads(opened.read("manifest.json"))["files"]
                views = {"README.txt", "report.pdf", "report.xlsx"}
                hashes = {name: each["sha256"] for name, each in listed.items() if name not in views}
                computed.append(bundles.evidence_hash(hashes).hex())
                pages = PdfReader(BytesIO(opened.read("report.pdf"))).pages
                printed.append([page.extract_text() for page in pages])
        for i in (0, 1):
            assert all(computed[i] in page and computed[1 - i] not in page for page in printed[i])
        assert accepted(genuine, tmp_path)["evidence_sha256"] == computed[0]

    def test_the_figures(self, tmp_path: Path, genuine: Path) -> None:
        """report.json, with the manifest made right: named by its path, with what the records give."""
        report = _report(genuine)
        report["figures"][0]["change_ppm"] = 123_456
        forged = {"report.json": bundles.report_bytes(report)}
        refused(with_files(genuine, forged, manifest_too=True), tmp_path, Step.FIGURES, "figures[0].change_ppm")

    def test_figures_and_pdf_alike(self, tmp_path: Path, genuine: Path) -> None:
        """Everything that people look at, changed alike, in a second hub with a polished index: the records remain."""
        report = _report(genuine)
        report["finding"] = "improved"
        forged = {"report.json": bundles.report_bytes(report), "report.pdf": b"%PDF-1.7 improved"}
        refused(with_files(genuine, forged, manifest_too=True), tmp_path, Step.FIGURES, "finding is")

    def test_the_form_of_the_figures(self, tmp_path: Path, genuine: Path) -> None:
        """The same figures with spaces: one content has one form, so that its hash can be printed."""
        forged = {"report.json": json.dumps(_report(genuine), indent=1).encode()}
        refused(with_files(genuine, forged, manifest_too=True), tmp_path, Step.FIGURES, "written in another form")


def _report(path: Path) -> dict[str, Any]:
    with ZipFile(path) as archive:
        report: dict[str, Any] = json.loads(archive.read("report.json"))
    return report
