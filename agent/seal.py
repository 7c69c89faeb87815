"""From windows to signed records: which windows a record holds, and its place in the chain.

Decides the cut into statements (each interval of the wall clock one, split where an entry of the log would be too
long), which raw chunks each part commits to, and the clock fields. Pure: the same windows, chunks, head, key and clock
give the same bytes. Durability is the spool's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.clock import Clock, ClockState
from agent.spool import SpooledRecord, SpooledWindow
from agent.spool_raw import RawSpan
from protocols.evidence.bodies import Body, Measurement
from protocols.evidence.record import CheckpointSeen, Record, RecordHash, SignedRecord, fits, sign_record
from protocols.evidence.record import Clock as RecordClock
from protocols.evidence.statement import LineStatement, RawCommitment

_EDGES_KEPT: Final = 64


class ClockLog:
    """Remembers CLOCK_BOOTTIME at edges of the wall clock, so that a record can name both of its edges."""

    def __init__(self, clock: Clock, interval_ms: int) -> None:
        self._clock = clock
        self._interval_ms = interval_ms
        self._boot_id = clock.boot_id()
        self._edges: dict[int, int] = {}
        self.look()

    def use(self, interval_ms: int) -> None:
        """Another interval; its edges from now on. Of an edge that was passed before it the time is told from now."""
        self._interval_ms = interval_ms
        self.look()

    def look(self) -> None:
        """To be called often: notes the boot time of the edge that was just passed."""
        now, boot = self._clock.now_ms(), self._clock.boot_ms()
        edge = now - now % self._interval_ms
        if edge not in self._edges:
            self._edges[edge] = boot - (now - edge)
            while len(self._edges) > _EDGES_KEPT:
                del self._edges[next(iter(self._edges))]

    def fields(self, start_ms: int, end_ms: int) -> tuple[bytes, RecordClock]:
        """(boot id, clock fields) of a record that spans [start_ms, end_ms)."""
        state: ClockState = self._clock.sync()
        end = self._boot_ms(end_ms)
        return self._boot_id, RecordClock(
            min(self._boot_ms(start_ms), end),
            end,
            state.source,
            state.offset_ms,
            state.error_ms,
            state.age_ms if state.age_ms >= 0 else None,
        )

    def _boot_ms(self, wall_ms: int) -> int:
        edge = wall_ms - wall_ms % self._interval_ms
        if edge in self._edges:
            return max(self._edges[edge] + wall_ms - edge, 0)
        return max(self._clock.boot_ms() - (self._clock.now_ms() - wall_ms), 0)  # before this boot: 0


@dataclass(frozen=True, slots=True)
class Statement:
    """Windows that go into one record, and their ids in the spool."""

    start_ms: int
    end_ms: int
    lines: tuple[LineStatement, ...]
    window_ids: tuple[int, ...]


def statements(windows: Sequence[SpooledWindow], interval_ms: int) -> Iterator[Statement]:
    """The statements that windows (sorted by start, then line) make: at least one for each interval.

    A line that has a hole, or another configuration, inside an interval goes on in a further statement.
    """
    group: dict[str, list[SpooledWindow]] = {}
    interval = -1
    for spooled in windows:
        of = spooled.window.start_ms // interval_ms
        before = group.get(spooled.line_id)
        broken = before is not None and (
            before[-1].window.end_ms != spooled.window.start_ms
            or before[-1].configuration_hash != spooled.configuration_hash
        )
        if group and (of != interval or broken):
            yield _statement(group)
            group = {}
        interval = of
        group.setdefault(spooled.line_id, []).append(spooled)
    if group:
        yield _statement(group)


def _statement(group: dict[str, list[SpooledWindow]]) -> Statement:
    lines = tuple(
        LineStatement(line_id, found[0].configuration_hash, None, tuple(spooled.window for spooled in found))
        for line_id, found in sorted(group.items())
    )
    return Statement(
        min(line.windows[0].start_ms for line in lines),
        max(line.windows[-1].end_ms for line in lines),
        lines,
        tuple(spooled.id for found in group.values() for spooled in found),
    )


@dataclass(frozen=True, slots=True)
class Sealer:
    """Signs records one after the other. Holds the chain's head; the spool holds the durable one."""

    key: Ed25519PrivateKey
    gateway_id: str
    site: str
    clock_log: ClockLog
    sequence: int
    previous: RecordHash
    checkpoint_seen: CheckpointSeen | None = None
    commitment: Callable[[RawSpan], RawCommitment | None] = lambda _: None
    """What is held in raw chunks of a span."""

    def seal(self, body: Body, start_ms: int, end_ms: int) -> tuple[Sealer, list[SpooledRecord]]:
        """The records that carry `body`, and the sealer after them. A long measurement is split into several."""
        boot_id, clock = self.clock_log.fields(start_ms, end_ms)
        spans: tuple[RawSpan, ...] = ()
        if isinstance(body, Measurement):
            body, spans = self._committed(body)
        record = Record(self.sequence, self.previous, boot_id, start_ms, end_ms, clock, body, self.checkpoint_seen)
        if isinstance(body, Measurement) and not fits(record, issuer=self.gateway_id, subject=self.site):
            sealer, out = self, []
            for half in _halves(body):
                start = min(line.windows[0].start_ms for line in half.lines)
                end = max(line.windows[-1].end_ms for line in half.lines)
                sealer, records = sealer.seal(half, start, end)
                out += records
            return sealer, out
        signed = sign_record(self.key, record, issuer=self.gateway_id, subject=self.site)
        return self._after(signed), [
            SpooledRecord(self.sequence, signed.hash, record.type.value, end_ms, signed.raw, spans)
        ]

    def _committed(self, body: Measurement) -> tuple[Measurement, tuple[RawSpan, ...]]:
        """With each line's raw commitment; and the spans that have one."""
        lines = tuple(replace(line, raw=self.commitment(RawSpan.of(line))) for line in body.lines)
        return Measurement(lines), tuple(RawSpan.of(line) for line in lines if line.raw is not None)

    def _after(self, signed: SignedRecord) -> Sealer:
        return replace(self, sequence=self.sequence + 1, previous=signed.hash)


def _halves(body: Measurement) -> tuple[Measurement, Measurement]:
    lines = body.lines
    if len(lines) > 1:
        middle = len(lines) // 2
        return Measurement(lines[:middle]), Measurement(lines[middle:])
    windows = lines[0].windows
    # A row is some 100 bytes and its texts are bounded: one window always fits.
    assert len(windows) > 1, "one window is longer than an entry of the log"
    middle = len(windows) // 2
    return (
        Measurement((replace(lines[0], windows=windows[:middle]),)),
        Measurement((replace(lines[0], windows=windows[middle:]),)),
    )
