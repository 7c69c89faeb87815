"""One job of an audit: pieces to chunks, chunks to windows, windows against what was signed. Pure; runs in a process.

Decides in which order a piece is believed: the record's signature, the commitment in it, the path to the chunk, and
only then the chunk's rows. What is refused is counted and said, and never replayed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import zstandard

from hub.audit.unpacking import Committed, Tree, prefix_of
from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence.bodies import Measurement
from protocols.evidence.cose import Kid
from protocols.evidence.keys import load_public_key
from protocols.evidence.raw import Chunk, Piece, decompress, verify_piece
from protocols.evidence.record import SignedRecord
from protocols.evidence.statement import LineStatement
from protocols.measurement.account import Window
from protocols.measurement.comparison import Difference, compare
from protocols.measurement.configuration import LineConfiguration
from protocols.measurement.replay import RawRows, replay

Place = tuple[Kid, int]
"""A record: its key and sequence."""
_SAID: Final = 5  # of each kind of fault, the first few are told


@dataclass(frozen=True, slots=True)
class Job:
    """What one process works on. All of it is bytes, numbers and texts.

    `pieces`: of any lines, in any order. `tail`: pieces after them that only help to decide the last windows.
    `records`: the messages that the pieces name, and those that state windows of their time besides. `keys`: public
    keys (32 bytes) of trusted gateways, and their lines. `configurations`: `LineConfiguration.to_data()` by hash, as
    the log has them. `asked`: by line, the starts of the windows to be compared; None: all. `gather`: as of `replay`.
    """

    pieces: Sequence[Piece]
    tail: Sequence[Piece]
    records: Mapping[Place, bytes]
    keys: Mapping[Kid, tuple[bytes, frozenset[str]]]
    configurations: Mapping[bytes, Mapping[str, Any]]
    asked: Mapping[str, frozenset[int]] | None = None
    gather: int = 1


@dataclass(slots=True)
class LineFound:
    """What was found of one line. `differences`: the first few; `memory_faults`: times (ms), the first few.

    `compared`: starts of the windows that were asked for and replayed; `different`: of those that came out otherwise.
    The findings of two jobs may be added.
    """

    chunks: int = 0
    rows: int = 0
    compared: set[int] = field(default_factory=set)
    different: set[int] = field(default_factory=set)
    from_ms: int = 2**62
    to_ms: int = 0
    memory_checked: int = 0
    memory_fault_count: int = 0
    memory_faults: list[int] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> int:
        return len(self.compared) - len(self.different)

    def add(self, other: LineFound) -> None:
        self.chunks += other.chunks
        self.rows += other.rows
        self.compared |= other.compared
        self.different |= other.different
        self.from_ms, self.to_ms = min(self.from_ms, other.from_ms), max(self.to_ms, other.to_ms)
        self.memory_checked += other.memory_checked
        self.memory_fault_count += other.memory_fault_count
        self.memory_faults = sorted({*self.memory_faults, *other.memory_faults})[:_SAID]
        found = sorted((*self.differences, *other.differences), key=lambda each: each.start_ms)
        self.differences = found[:_SAID]


@dataclass(slots=True)
class Inspected:
    """What a job, or all of them, found. `refused`: why pieces were not believed, the first few in words."""

    lines: dict[str, LineFound] = field(default_factory=dict)
    refused_count: int = 0
    refused: list[str] = field(default_factory=list)

    def add(self, other: Inspected) -> None:
        for line_id, found in other.lines.items():
            self.lines.setdefault(line_id, LineFound()).add(found)
        self.refused_count += other.refused_count
        self.refused = (self.refused + other.refused)[:_SAID]

    def refuse(self, words: str) -> None:
        self.refused_count += 1
        if len(self.refused) < _SAID:
            self.refused.append(words)


def inspect(job: Job) -> Inspected:
    """Everything that can be said of a job's pieces. Raises nothing for what they hold."""
    records = _Records(job)
    if job.gather > 1 and (swiftly := _swiftly(job, records)) is not None:
        return swiftly
    out = Inspected()
    own = _chunks(job.pieces, records, out)
    tail = _chunks(job.tail, records, Inspected())  # the next job says what is wrong with these
    for key, chunks in own.items():
        line_id, configuration_hash = key
        found = out.lines.setdefault(line_id, LineFound())
        data = job.configurations.get(configuration_hash)
        if data is None:
            out.refuse(f"line {line_id}: its configuration {configuration_hash.hex()[:16]}… is not in the log")
            continue
        one = LineFound(len(chunks), sum(len(chunk.block) for chunk in chunks.values()))
        one.from_ms, one.to_ms = min(start_ms for start_ms, _ in chunks), max(end_ms for _, end_ms in chunks)
        both = chunks | tail.get(key, {})
        rows = [RawRows(*span, both[span].carry, both[span].block) for span in sorted(both)]
        try:
            _replay(job, records, key, rows, job.gather, one)
        except Malformed as error:
            out.refuse(f"line {line_id}: {error}")
        found.add(one)
    return out


_Chunks = dict[tuple[int, int], Chunk]
_OTHER: Final = "two different raw chunks of line {} for the same time: the gateway committed to both"


def _chunks(pieces: Sequence[Piece], records: _Records, out: Inspected) -> dict[tuple[str, bytes], _Chunks]:
    """The chunks that are what a trusted record commits to, by line and configuration, then by span."""
    found: dict[tuple[str, bytes], _Chunks] = {}
    places: dict[tuple[str, bytes, int, int], tuple[Kid, int, int]] = {}
    for piece in pieces:
        try:
            chunk = verify_piece(piece, records.trusted((piece.kid, piece.sequence)))
            records.check_line(piece.kid, chunk.line_id)
        except (Malformed, Unverified, Refused) as error:
            out.refuse(str(error))
            continue
        key, place = (chunk.line_id, chunk.configuration_hash), (piece.kid, piece.sequence, piece.leaf_index)
        if places.setdefault((*key, chunk.start_ms, chunk.end_ms), place) != place:
            out.refuse(_OTHER.format(chunk.line_id))
            continue
        of_line = found.setdefault(key, {})
        of_line[chunk.start_ms, chunk.end_ms] = chunk
    return found


def _swiftly(job: Job, records: _Records) -> Inspected | None:
    """The same for many pieces that are as they should be; None where one may not be: then each is looked at alone."""
    out = Inspected()
    try:
        own, tail = (_committed(pieces, records) for pieces in (job.pieces, job.tail))
        for key, committed in own.items():
            rows, more = committed.rows(job.gather), tail[key].rows(job.gather) if key in tail else []
            if rows is None or more is None or key[1] not in job.configurations:
                return None
            found = out.lines.setdefault(key[0], LineFound())
            one = LineFound(len(committed.plain), sum(len(each.block) for each in rows))
            one.from_ms, one.to_ms = rows[0].start_ms, rows[-1].end_ms
            _replay(job, records, key, [*rows, *more], 1, one)
            found.add(one)
    except (Malformed, Unverified, Refused):
        return None
    return out


def _committed(pieces: Sequence[Piece], records: _Records) -> dict[tuple[str, bytes], Committed]:
    """Plain chunks that are committed to, by line and configuration. Raises Malformed, Unverified or Refused."""
    found: dict[tuple[str, bytes], Committed] = {}
    trees: dict[tuple[Place, str], Tree] = {}
    decompressor = zstandard.ZstdDecompressor()
    for piece in pieces:
        place = piece.kid, piece.sequence
        plain = decompress(piece.compressed, decompressor)
        line = next((line for prefix, line in records.prefixes(place) if plain.startswith(prefix)), None)
        if line is None:
            raise Unverified("a raw chunk of a line or configuration that its record does not state")
        trees.setdefault((place, line.line_id), Tree(line)).add(piece, plain)
        committed = found.setdefault((line.line_id, line.configuration_hash), Committed())
        committed.add(plain, line.windows[0].start_ms, line.windows[-1].end_ms)
    for (place, line_id), tree in trees.items():
        records.check_line(place[0], line_id)
        tree.check()
    return found


def _replay(
    job: Job, records: _Records, key: tuple[str, bytes], rows: Sequence[RawRows], gather: int, out: LineFound
) -> None:
    line_id, configuration_hash = key
    configuration = LineConfiguration.from_data(job.configurations[configuration_hash])
    asked = None if job.asked is None else job.asked.get(line_id, frozenset())
    signed = records.windows(line_id, configuration_hash)
    found = replay(configuration, rows, gather)
    mine = [window for window in found.windows if window.start_ms < out.to_ms]
    wanted = signed
    if asked is not None:  # also where the replay cuts otherwise, and no window begins when the signed one does
        starts = sorted(asked)
        mine = [w for w in mine if bisect_left(starts, w.start_ms) < bisect_left(starts, w.end_ms)]
        wanted = [window for window in signed if window.start_ms in asked]
    told = compare(wanted, mine)
    out.compared, out.different = set(told.starts), set(told.different)
    out.differences = [] if told.first is None else [told.first]
    out.memory_checked = found.memory_checked
    faults = [at_ms for at_ms in found.memory_faults if at_ms <= out.to_ms]
    out.memory_fault_count, out.memory_faults = len(faults), faults[:_SAID]


class _Records:
    """The records of a job, each parsed and its signature checked once, when it is first asked for."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._trusted: dict[Place, SignedRecord] = {}
        self._prefixes: dict[Place, list[tuple[bytes, LineStatement]]] = {}

    def trusted(self, place: Place) -> SignedRecord:
        """Raises Refused or Unverified for a record that is not there, or that no trusted gateway signed."""
        record = self._trusted.get(place)
        if record is None:
            kid, sequence = place
            raw, key = self._job.records.get(place), self._job.keys.get(kid)
            if raw is None or key is None:
                raise Refused("not-logged", f"record {sequence} of key {kid.hex()} is not a trusted one of this log")
            record = SignedRecord(raw)
            record.verify(load_public_key(key[0]))
            self._trusted[place] = record
        return record

    def prefixes(self, place: Place) -> list[tuple[bytes, LineStatement]]:
        """How the chunks begin that a trusted record may commit to, and the statement that does."""
        if place not in self._prefixes:
            body = self.trusted(place).record.body
            self._prefixes[place] = [
                (prefix_of(line), line)
                for line in (body.lines if isinstance(body, Measurement) else ())
                if line.raw is not None
            ]
        return self._prefixes[place]

    def check_line(self, kid: Kid, line_id: str) -> None:
        """Raises Refused for a line that the key may not speak about."""
        if line_id not in self._job.keys[kid][1]:
            raise Refused("wrong-line", f"key {kid.hex()} is not enrolled for line {line_id}")

    def windows(self, line_id: str, configuration_hash: bytes) -> list[Window]:
        """What the job's trusted records state of a line, in order of time."""
        found: dict[int, Window] = {}
        for place in self._job.records:
            try:
                body = self.trusted(place).record.body
            except (Malformed, Unverified, Refused):
                continue  # whoever signed it: not a gateway of this scheme
            for line in body.lines if isinstance(body, Measurement) else ():
                if line.line_id == line_id and line.configuration_hash == configuration_hash:
                    found |= {window.start_ms: window for window in line.windows}
        return [found[start_ms] for start_ms in sorted(found)]
