"""Hearing many records at once: what `Testimony.hear` does, by whole columns.

Decides nothing of its own. A batch is either exactly what the slow way would accept without a word, and is then heard
with the same effect, or it is left alone (False), and the slow way says what is wrong with which record. So every rule
here is one of `record`, `statement`, `chain` or `testimony`, and must be at least as strict (tests compare the two on
corrupted bundles). Nothing is changed before everything has been checked, signatures included.

Configurations are left to the slow way: what comes after one depends on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from protocols.errors import Malformed, Refused, Unverified
from protocols.evidence import canonical, cose
from protocols.evidence.chain import ChainState
from protocols.evidence.clockwatch import ClockRow
from protocols.evidence.examination import At, Entry, Failed
from protocols.evidence.keys import SIGNATURE_LENGTH, verify_signature
from protocols.evidence.lockstep import PADDING, Unusual, Walk, demand
from protocols.evidence.record import (
    CONTENT_TYPE,
    Amendment,
    CheckpointSeen,
    RecordHash,
    RecordType,
    SignedRecord,
)
from protocols.evidence.swift_records import read_frames, read_seen
from protocols.evidence.swift_rows import Rows, read_lines
from protocols.evidence.swift_statements import Texts
from protocols.evidence.testimony import Hearing, Testimony, check_line
from protocols.evidence.verdict import Step

Spread = Callable[[Callable[[range], bool], Iterable[range]], Iterable[bool]]
"""`map`, or that of a pool of threads: signatures are checked while columns are read."""

_TAKEN: Final = re.compile(rb"\xa9\x01\x01\x02(?:\x6bmeasurement|\x69heartbeat|\x63gap|\x69amendment)\x03")
_SIGNATURES_AT_ONCE: Final = 256
_TAIL: Final = b"\x58\x40"  # a byte string of 64


class SwiftHearing:
    """A `testimony.Swift`."""

    def __init__(self, spread: Spread = map) -> None:
        self._spread = spread
        self._texts = Texts()

    def takes(self, raw: bytes) -> bool:
        """Whether it looks like a record that may stand in a batch."""
        return _TAKEN.search(raw, 0, cose.MAX_BYTES) is not None

    def hear(self, testimony: Testimony, hearing: Hearing, entries: Sequence[Entry]) -> bool:
        assert hearing.state is not None
        self._texts.make_room()
        try:
            batch = _Batch(testimony, hearing, hearing.state, entries, self._texts)
            signed = self._spread(batch.signatures_hold, batch.slices())
            batch.read()
            demand(all(signed))
        except (Unusual, Malformed, Refused, Unverified, Failed):
            return False
        batch.take_in()
        return True


class _Batch:
    """The records being looked at. `trial`: the hearing as it would be after them."""

    def __init__(
        self, testimony: Testimony, hearing: Hearing, state: ChainState, entries: Sequence[Entry], texts: Texts
    ) -> None:
        self.testimony = testimony
        self.hearing = hearing
        self.state = state
        self.entries = entries
        self.texts = texts
        self.trial = replace(hearing, clock=hearing.clock.copy())
        self.raws = [entry.raw for entry in entries]
        gateway = hearing.gateway
        protected = cose.protected_header(hearing.kid, gateway.gateway_id, state.subject, CONTENT_TYPE)
        demand((state.kid, state.issuer) == (hearing.kid, gateway.gateway_id))
        self.envelope = cose.HEAD + canonical.encode(protected) + b"\xa0"
        # The signed bytes are this and the payload with its head, which stand together in the message.
        self.signed_prefix = cose.sig_structure(protected, b"")[:-1]
        ends = np.cumsum([len(raw) for raw in self.raws])
        starts = np.concatenate(([0], ends[:-1]))
        self.data = np.frombuffer(b"".join([*self.raws, bytes(PADDING)]), np.uint8)
        walk = Walk.of(self.data, starts, ends)
        walk.expect(self.envelope)
        payload, length = walk.byte_string()
        walk.expect(_TAIL)
        walk.skip(SIGNATURE_LENGTH)
        walk.ended()
        self.payload = Walk(self.data, payload, payload + length, walk.steps)
        self.payload_ends = (payload + length - starts).tolist()
        self.lines: dict[str, Rows] = {}
        self.sources: set[str] = set()
        self.asides: list[SignedRecord] = []
        self.hashes: list[RecordHash] = []
        self.reporting: list[int] = []
        self.sequences = np.zeros(0, np.int64)

    def slices(self) -> list[range]:
        """Who checks which signatures."""
        total = len(self.raws)
        return [range(i, min(total, i + _SIGNATURES_AT_ONCE)) for i in range(0, total, _SIGNATURES_AT_ONCE)]

    def signatures_hold(self, which: range) -> bool:
        first, key = len(self.envelope), self.hearing.public_key
        for i in which:
            raw, end = self.raws[i], self.payload_ends[i]
            try:
                verify_signature(key, raw[-SIGNATURE_LENGTH:], self.signed_prefix + raw[first:end])
            except Unverified:
                return False
        return True

    def read(self) -> None:
        """Checks all but the signatures. Raises Unusual, or what the slow way would, of whatever is not plain."""
        walk = self.payload
        frames = read_frames(walk, self.texts)
        types, start_ms, end_ms = frames.types, frames.start_ms, frames.end_ms
        demand(all(each in _NUMBER for each in types))
        self.sequences, self.sources = frames.sequences, set(frames.sources)
        self._follow(frames.previous)
        kinds = np.array([_NUMBER[each] for each in types])
        beats = np.flatnonzero(kinds == _NUMBER[RecordType.HEARTBEAT])
        part = walk.part(beats)
        part.expect(b"\xa0")
        walk.join(part, beats)
        measured = np.flatnonzero(kinds == _NUMBER[RecordType.MEASUREMENT])
        part = walk.part(measured)
        lines = read_lines(part, start_ms[measured], end_ms[measured], self.texts)
        walk.join(part, measured)
        for line in lines:
            line.record = measured[line.record]
        plain = np.sort(np.concatenate((beats, measured)))
        seen: list[CheckpointSeen | None] = [None] * len(types)
        for i, each in zip(plain.tolist(), read_seen(walk.part(plain)), strict=True):
            seen[i] = each
        # What is told aside is rare: it is read as an object, which checks all of it again.
        for i in sorted({*range(len(types))} - {*plain.tolist()}):
            record = SignedRecord(self.raws[i])
            self.asides.append(record)
            seen[i] = record.record.checkpoint_seen
        rows = map(
            ClockRow, frames.sequences.tolist(), types, frames.boot_ids, start_ms.tolist(), end_ms.tolist(),
            frames.boot_start_ms.tolist(), frames.boot_end_ms.tolist(), frames.sources, frames.error_ms, frames.age_ms,
            [None if each is None else each.size for each in seen],
        )  # fmt: skip
        self._places(list(rows))
        self._lines(lines)

    def _follow(self, previous: Sequence[RecordHash]) -> None:
        state = self.state
        self.hashes = [RecordHash(hashlib.sha256(raw).digest()) for raw in self.raws]
        demand(np.array_equal(self.sequences, np.arange(len(self.raws)) + state.next_sequence))
        demand(previous == [state.head, *self.hashes[:-1]])

    def _places(self, rows: Sequence[ClockRow]) -> None:
        """Proofs, days, clocks and the reporting period's beginning, record after record."""
        testimony, trial = self.testimony, self.trial
        for raw, row in zip(self.raws, rows, strict=True):
            trial.index = testimony.log_index(trial, row.sequence, raw)
            if not trial.begun and testimony.is_reporting(row.type, row.end_ms):
                self.reporting.append(testimony.after_the_plan(trial.index))
                trial.begun = True
            trial.clock.add(row, trial.index)
            testimony.pass_day(trial, row.start_ms)

    def _lines(self, lines: Sequence[Rows]) -> None:
        """May the gateway speak of each line, under that configuration, at that time?"""
        testimony, gateway = self.testimony, self.hearing.gateway
        for record in self.asides:
            if isinstance(record.record.body, Amendment):
                check_line(gateway, record.record.body.line_id)
        for line_id in {line.line_id for line in lines}:
            check_line(gateway, line_id)
            rows = Rows.together([line for line in lines if line.line_id == line_id])
            for configuration_hash, first_ms, last_ms in rows.configurations(testimony.plan):
                testimony.check_configuration(line_id, configuration_hash, first_ms, last_ms)
            if line_id in testimony.times:
                end_ms = testimony.times[line_id].end_ms
                demand(np.all(rows.start_ms[1:] >= rows.end_ms[:-1]))
                demand(end_ms is None or bool(rows.start_ms[0] >= end_ms))
                self.lines[line_id] = rows

    def take_in(self) -> None:
        """Everything holds: what `Testimony.hear` would have done, record after record."""
        testimony, hearing, trial = self.testimony, self.hearing, self.trial
        last = self.entries[-1]
        next_sequence = self.state.next_sequence + len(self.entries)
        for record in self.asides:
            testimony.hear_body(record, hearing, At(Step.RECORDS))
        for line_id, rows in self.lines.items():
            rows.take_in(testimony.times[line_id], self.sequences, hearing.places, self.texts)
        testimony.clock_sources |= self.sources
        testimony.reporting_indices += self.reporting
        testimony.record_count += len(self.entries)
        hearing.places.offsets.extend(entry.offset for entry in self.entries)
        hearing.state = replace(self.state, next_sequence=next_sequence, head=self.hashes[-1])
        hearing.at = At(Step.INCLUSION, last.file, last.number, next_sequence - 1, last.offset)
        hearing.begun, hearing.day, hearing.clock = trial.begun, trial.day, trial.clock
        hearing.proven_day, hearing.index, hearing.last_index = trial.proven_day, trial.index, trial.last_index


_NUMBER: Final = {
    each: i
    for i, each in enumerate(
        (RecordType.MEASUREMENT, RecordType.HEARTBEAT, RecordType.GAP, RecordType.RAW_GAP, RecordType.AMENDMENT)
    )
}
