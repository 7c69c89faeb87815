"""One job: what a trusted record commits to is replayed, all else refused in words; a difference is named exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hub.audit.examination import examine
from hub.audit.inspection import Job, inspect
from protocols.evidence import merkle
from protocols.evidence.bodies import Measurement
from protocols.evidence.merkle import NodeHash
from protocols.evidence.raw import Piece, compress, decode_chunk, decompress, encode_chunk
from protocols.evidence.record import SignedRecord
from tests.hub.audit.audit_kit import KID, LINE, MINUTE, Gateway, measured, off_by_one
from tests.support.evidence import GATEWAY_KEY, START_MS, private_key, signed

KEYS = {KID: (GATEWAY_KEY.public_key().public_bytes_raw(), frozenset({"filling"}))}


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return measured(minutes=62)


def job(gateway: Gateway, pieces: list[Piece] | None = None) -> Job:
    return Job(
        gateway.pieces if pieces is None else pieces,
        (),
        {(KID, made.record.sequence): made.raw for made in gateway.records},
        KEYS,
        {LINE.hash: LINE.to_data()},
    )


def test_every_window_comes_out_as_it_was_signed(gateway: Gateway) -> None:
    found = inspect(job(gateway)).lines["filling"]
    signed = [w.start_ms for w in gateway.windows]
    assert sorted(found.compared) == signed[:-1]  # the last closes after the last committed chunk
    assert not found.different and found.memory_fault_count == 0
    assert found.memory_checked == len(gateway.pieces) - 1
    assert (found.chunks, found.rows) == (len(signed), 60 * len(signed))
    assert inspect(replace(job(gateway), gather=7)).lines["filling"].compared == found.compared


def test_pieces_may_come_in_any_order_and_twice(gateway: Gateway) -> None:
    found = inspect(job(gateway, [*reversed(gateway.pieces), *gateway.pieces]))
    assert found.refused_count == 0
    assert len(found.lines["filling"].compared) == len(gateway.windows) - 1


@pytest.mark.parametrize("name", ["total_count", "transition_count", "standard_total_ns", "stop_count"])
def test_one_changed_integer_of_a_signed_window_is_named(name: str) -> None:
    at_ms = START_MS + 20 * MINUTE
    lying = measured(minutes=40, change=off_by_one(at_ms, name))
    found = inspect(job(lying)).lines["filling"]
    assert found.different == {at_ms}
    (first,) = found.differences
    assert (first.start_ms, first.field) == (at_ms, name)
    assert isinstance(first.signed, int) and first.signed - int(first.replayed) == 1


def test_a_missing_chunk_leaves_its_windows_out(gateway: Gateway) -> None:
    found = inspect(job(gateway, [piece for i, piece in enumerate(gateway.pieces) if i != 20])).lines["filling"]
    missing = {w.start_ms for w in gateway.windows[:-1]} - found.compared
    assert START_MS + 20 * MINUTE in missing and len(missing) <= 4  # and what a stop left undecided before it
    assert not found.different


def test_a_changed_sample_is_no_chunk_of_the_record(gateway: Gateway) -> None:
    piece = gateway.pieces[10]
    chunk = decode_chunk(decompress(piece.compressed))
    chunk.block.values[30, 2] += 1
    found = inspect(job(gateway, [replace(piece, compressed=compress(encode_chunk(chunk)))]))
    assert found.refused_count == 1 and "does not lead to the root" in found.refused[0]
    assert found.lines == {}


def test_what_is_not_committed_to_is_refused(gateway: Gateway) -> None:
    piece = gateway.pieces[10]
    wrong = [
        (replace(piece, sequence=2), "does not end within"),
        (replace(piece, sequence=0), "commits to no raw samples"),
        (replace(piece, sequence=99), "not a trusted one"),
        (replace(piece, kid=type(KID)(bytes(8))), "not a trusted one"),
        (replace(piece, leaf_index=9), "does not lead"),
        (replace(piece, path=(NodeHash(bytes(32)), *piece.path[1:])), "does not lead"),
        (replace(piece, path=piece.path[1:]), "too short"),
        (replace(piece, compressed=piece.compressed[:-1]), "zstd"),
    ]
    for forged, words in wrong:
        found = inspect(job(gateway, [forged]))
        assert found.refused_count == 1 and words in found.refused[0], words


def test_many_at_once_find_what_one_by_one_finds(gateway: Gateway) -> None:
    """The quick way is taken for whole jobs that are as they should be, and never believes more than the slow one."""
    good = gateway.pieces
    chunk = decode_chunk(decompress(good[10].compressed))
    chunk.block.values[30, 2] += 1
    forged = replace(good[10], compressed=compress(encode_chunk(chunk)))
    lying = measured(minutes=62, change=off_by_one(START_MS + 20 * MINUTE))
    cases = [
        (gateway, good),
        (gateway, good[7:41]),  # no commitment is whole at the ends: the paths are looked at
        (gateway, [*good[:20], *good[25:]]),
        (gateway, [*good, forged]),  # the same leaf twice
        (gateway, [forged, *good]),
        (gateway, [*good[:10], forged, *good[11:]]),
        (gateway, [*good[:3], replace(good[3], path=()), *good[5:]]),
        (gateway, [*good[:3], replace(good[3], sequence=2), *good[4:]]),
        (gateway, [*good, good[5]]),
        (lying, lying.pieces),
    ]
    for made, pieces in cases:
        slow, quick = inspect(job(made, pieces)), inspect(replace(job(made, pieces), gather=16))
        assert slow.refused == quick.refused and slow.refused_count == quick.refused_count
        one, other = slow.lines["filling"], quick.lines["filling"]
        assert (one.compared, one.different, one.differences) == (other.compared, other.different, other.differences)
        assert (one.chunks, one.rows, one.from_ms, one.to_ms) == (other.chunks, other.rows, other.from_ms, other.to_ms)
    others = replace(job(gateway), keys={KID: (KEYS[KID][0], frozenset({"packing"}))}, gather=16)
    assert inspect(others).refused_count == len(good)


def test_another_lines_or_a_strangers_records_are_refused(gateway: Gateway) -> None:
    piece = gateway.pieces[10]
    others = {KID: (KEYS[KID][0], frozenset({"packing"}))}
    found = inspect(replace(job(gateway, [piece]), keys=others))
    assert "not enrolled for line filling" in found.refused[0]
    stranger = private_key("stranger").public_key().public_bytes_raw()
    found = inspect(replace(job(gateway, [piece]), keys={KID: (stranger, frozenset({"filling"}))}))
    assert found.refused_count == 1 and found.lines == {}
    found = inspect(replace(job(gateway, [piece]), configurations={}))
    assert "is not in the log" in found.refused[0]


def test_a_memory_that_the_samples_do_not_give_is_said() -> None:
    """The gateway commits to a chunk whose kept memory says five pieces more than it had counted."""
    made = measured(minutes=13, statement_minutes=12)
    chunks = [decode_chunk(decompress(piece.compressed)) for piece in made.pieces[:12]]
    carry = dict(chunks[2].carry or {})
    memory = list(carry["memory"])
    memory[16 + 1] -= 5  # the first counter's last value
    chunks[2] = replace(chunks[2], carry={**carry, "memory": memory})
    plain = [encode_chunk(chunk) for chunk in chunks]
    leaves = [merkle.leaf_hash(data) for data in plain]
    statement = made.records[1].record
    assert isinstance(statement.body, Measurement)
    (line,) = statement.body.lines
    assert line.raw is not None
    body = Measurement((replace(line, raw=replace(line.raw, root=merkle.root(leaves))),))
    record: SignedRecord = signed(replace(statement, body=body))
    pieces = [
        Piece(KID, 1, i, tuple(merkle.inclusion_proof(leaves, i, 12)), compress(data)) for i, data in enumerate(plain)
    ]
    forged = replace(job(made, pieces), records={(KID, 1): record.raw})
    found = inspect(forged).lines["filling"]
    assert found.memory_faults == [chunks[2].start_ms] and not found.different
    # Alone the chunk would not be believed either: from its own memory other pieces come out.
    alone = inspect(replace(forged, pieces=pieces[2:]))
    assert alone.lines["filling"].different == {chunks[2].start_ms}


class _Evidence:
    """As much of `Evidence` as an examination asks for."""

    project_id, line_ids = "P-7", ("filling",)
    keys = KEYS
    configurations = {LINE.hash: LINE.to_data()}  # noqa: RUF012

    def __init__(self, gateway: Gateway) -> None:
        self._records = {(KID, made.record.sequence): made.raw for made in gateway.records}

    def places(self, *_: object) -> set[object]:
        return set()

    def records(self, places: object) -> dict[object, bytes]:
        return {place: self._records[place] for place in places if place in self._records}  # type: ignore[attr-defined]


@pytest.mark.parametrize("jobs", [1, 2])
def test_many_jobs_find_what_one_finds(gateway: Gateway, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import hub.audit.examination as examination

    whole = inspect(job(gateway)).lines["filling"]
    monkeypatch.setattr(examination, "PIECES_A_JOB", 25)
    done: list[int] = []
    found = examine(_Evidence(gateway), gateway.pieces, None, jobs, done.append, gather=1)  # type: ignore[arg-type]
    assert found.refused_count == 0
    assert found.lines["filling"].compared == whole.compared
    assert found.lines["filling"].memory_checked >= whole.memory_checked
    assert done[-1] == len(gateway.pieces)


def test_jobs_share_nothing_but_the_pieces_between_them(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    import hub.audit.examination as examination

    monkeypatch.setattr(examination, "PIECES_A_JOB", 25)
    made = list(examination._jobs(_Evidence(gateway), iter(gateway.pieces), None, None))  # type: ignore[arg-type]
    assert [piece for job in made for piece in job.pieces] == gateway.pieces
    for job in made:
        assert {(KID, piece.sequence) for piece in (*job.pieces, *job.tail)} <= job.records.keys()
        assert job.gather > 1  # several jobs: many chunks at once
