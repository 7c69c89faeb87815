"""The recorder: closed windows into the spool, and from there into the chain of signed records.

Decides when what is written: windows and raw chunks as they close, a statement when every line has closed an interval,
a config record before the first measurement under it, a gap record for time in which the agent did not run, an
amendment when somebody made one, a raw-gap record where raw chunks went, a heartbeat when nothing else was said for an
hour. While the disk takes nothing, what closed stays in memory (`held`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import amendments
from agent.clock import Clock
from agent.config import AgentConfiguration
from agent.config_line import LineSettings
from agent.held import Held
from agent.raw_bounds import DAY_MS, LOSSES_META, RawBounds
from agent.raw_meter import RawMeter, closed_chunk
from agent.seal import ClockLog, Sealer, Statement, statements
from agent.spool import LineBatch, Spool, SpooledRecord, SpoolFull
from agent.spool_salvage import DAMAGED, GAP_META, RAW_LOST_META, raw_lost
from protocols.errors import ConfigurationError, Malformed
from protocols.evidence.bodies import Body, Configurations, Gap, Heartbeat, Measurement
from protocols.evidence.cose import key_id
from protocols.evidence.raw import decode_chunk
from protocols.evidence.record import CheckpointSeen
from protocols.measurement.account import Window
from protocols.measurement.configuration import LineConfiguration
from protocols.plc.roles import ROLES
from protocols.plc.sample import SampleBlock

HEARTBEAT_MS: Final = 3_600_000
AGAIN_MS: Final = 10_000
"""How often it is tried to sign while the chain has no room."""
_RECORDS_A_COMMIT: Final = 64
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "spool"})

NOT_RUNNING: Final = "agent not running"
CHANGED: Final = "the line's configuration was changed"


@dataclass(frozen=True, slots=True)
class Started:
    """A line's meter, and what was not watched since the last run."""

    meter: RawMeter
    gap: Gap | None


class Recorder:
    """Owns the chain's head. Not for several threads at once."""

    def __init__(self, configuration: AgentConfiguration, spool: Spool, key: Ed25519PrivateKey, clock: Clock) -> None:
        self._spool = spool
        self._clock = clock
        self._interval_ms = configuration.interval_ms
        self._lines = configuration.lines
        self._clock_log = ClockLog(clock, configuration.interval_ms)
        self._held = Held()
        self._loses = False
        self._seal_again_ms: int | None = None
        self.disk_full_since_ms: int | None = None
        self._check_owner(configuration.gateway_id, key)
        sequence, previous = spool.head()
        self._sealer = Sealer(
            key, configuration.gateway_id, configuration.site, self._clock_log, sequence, previous, _seen(spool),
            spool.shelf.commitment,
        )  # fmt: skip
        self._raw_keep_ms = configuration.raw.keep_days * DAY_MS
        kid = key_id(key.public_key().public_bytes_raw())
        line_ids = [line.line_id for line in self._lines]
        self._bounds = RawBounds(configuration.raw, spool.shelf, kid, line_ids, spool.meta(LOSSES_META))
        self.raw_full = (spool.meta("raw_full") or b"").decode() or None
        """Why no new raw samples are kept, as `status` says it too."""

    def start(self, starts_ms: Mapping[str, int] | None = None) -> dict[str, Started]:
        """Takes up where the last run ended, and writes what must stand in the chain before the first measurement.

        A line that never ran begins at `starts_ms` (a replay), or now.
        """
        started = self._start(self._lines, starts_ms or {})
        self._tell_raw_lost()
        if self._spool.meta(GAP_META):
            self._spool.set_meta({GAP_META: b""})  # a line that is added later was not lost with the spool
        return started

    def use(self, configuration: AgentConfiguration) -> None:
        """How often statements are signed, and how much is kept of raw samples, from now on."""
        if configuration.interval_ms != self._interval_ms:
            self._interval_ms = configuration.interval_ms
            self._clock_log.use(self._interval_ms)
        self._raw_keep_ms = configuration.raw.keep_days * DAY_MS
        self._bounds.use(configuration.raw)

    def reload(self, lines: tuple[LineSettings, ...], begun: Iterable[str]) -> dict[str, Started]:
        """`lines` are measured from now on; those named by `begun` are new, or are other ones than before.

        To be called when everything closed is kept. The others' meters go on.
        """
        self._lines = lines
        self._bounds.watch(line.line_id for line in lines)
        named = set(begun)
        return self._start([line for line in lines if line.line_id in named], {})

    def _start(self, lines: Sequence[LineSettings], starts_ms: Mapping[str, int]) -> dict[str, Started]:
        now = self._clock.now_ms()
        changed = [line for line in lines if not self._is_logged(line.configuration)]
        if changed:
            # Windows of an older configuration must be sealed before the new one is announced.
            for settings in changed:
                self._end_meter(settings)
            self._seal(statements(self._spool.unsealed(2**62), self._interval_ms))
            self._announce([line.configuration for line in changed], now)
        started = {
            line.line_id: self._start_line(line, starts_ms.get(line.line_id, now), line.line_id in starts_ms)
            for line in lines
        }
        gaps = [line.gap for line in started.values() if line.gap is not None]
        for first in range(0, len(gaps), _RECORDS_A_COMMIT):  # a slow card takes as long for one record as for many
            sealer, records = self._sealer, list[SpooledRecord]()
            for gap in gaps[first : first + _RECORDS_A_COMMIT]:
                sealer, made = sealer.seal(gap, gap.from_ms, gap.to_ms)
                records += made
            self._append(sealer, records, [])
        return started

    def _start_line(self, line: LineSettings, now_ms: int, replayed: bool) -> Started:
        configuration = line.configuration
        kept = self._spool.carry(line.line_id)
        open_chunk = self._spool.shelf.open_chunk(line.line_id, configuration.hash)
        # A replay says itself from when on it keeps chunks.
        keeps = self._raw_keep_ms > 0 and (open_chunk is not None or not replayed)
        if kept is None:
            lost = self._spool.meta(f"{GAP_META}{line.line_id}") or self._spool.meta(GAP_META)
            lost_ms = int(lost) if lost else now_ms
            gap = Gap(line.line_id, lost_ms, now_ms, DAMAGED) if lost_ms < now_ms else None
            return Started(RawMeter(configuration, now_ms, keeps=keeps), gap)
        hash_, carry = kept
        same = hash_ == configuration.hash
        # What the last minute held under another configuration cannot be counted under this one.
        meter = RawMeter(configuration, carry["closed_ms"], carry if same else None, open_chunk, keeps=keeps)
        if replayed and same:
            return Started(meter, None)  # its rows are all still there
        unseen_ms = meter.floor_ms
        if unseen_ms >= now_ms:
            return Started(meter, None)  # the clock was set back; until it comes by again nothing is measured
        # The last value was good for a while, but nobody was there to see it change.
        meter.push(SampleBlock.from_rows([(unseen_ms, (0,) * ROLES, 0)]))
        return Started(meter, Gap(line.line_id, unseen_ms, now_ms, NOT_RUNNING if same else CHANGED))

    def _tell_raw_lost(self) -> None:
        """After a salvage: which raw chunks are not held any more. Cut short between the two it is said again."""
        now = self._clock.now_ms()
        lost = raw_lost(self._spool, [line.line_id for line in self._lines], self._raw_keep_ms)
        for gap in lost:
            self._chain(gap, now, now)
        if self._spool.meta(RAW_LOST_META):
            self._spool.set_meta({RAW_LOST_META: b""})

    def _end_meter(self, line: LineSettings) -> None:
        """Closes the raw chunk of a configuration that is not the line's any more, where its last window ended."""
        kept = self._spool.carry(line.line_id)
        if kept is None or kept[0] == line.configuration.hash:
            return
        end_ms = kept[1]["closed_ms"]
        last = None
        open_chunk = self._spool.shelf.open_chunk(line.line_id, kept[0])
        if open_chunk is not None and self._spool.is_unsealed(line.line_id, end_ms - 1):
            chunk = decode_chunk(open_chunk)
            if chunk.start_ms < end_ms:
                block = chunk.block
                rows = slice(int(block.time_ms.searchsorted(end_ms, "right")))
                block = SampleBlock(block.time_ms[rows], block.values[rows], block.valid[rows])
                last = closed_chunk(replace(chunk, end_ms=end_ms, block=block))
        self._spool.end_meter(line.line_id, end_ms, last)

    def keep(self, closed: Iterable[tuple[RawMeter, Sequence[Window]]]) -> None:
        """Makes closed windows, raw chunks and the meters' memory durable; in memory only while the disk is full."""
        self._clock_log.look()
        closed = list(closed)
        for meter, windows in closed:
            stops = tuple(meter.take_stops())  # before the carry, which holds those that were not taken
            configuration = meter.configuration
            chunks = tuple(meter.take_chunks())
            self._bounds.lost(meter.take_lost())
            meter.no_room = self._bounds.no_room
            self._held.add(
                LineBatch(
                    configuration.line_id, configuration.hash, tuple(windows), meter.carry(), stops, chunks,
                    meter.open_chunk(),
                )
            )  # fmt: skip
        batches = self._held.batches
        if not batches or (self.disk_full_since_ms is not None and not closed):
            return  # all that waits is not written in vain at each tick
        try:
            self._spool.commit(batches, self._bounds.losses_meta())
        except SpoolFull as error:
            self._note_full(error)
            return
        self._bounds.added(chunk for batch in batches for chunk in batch.chunks)
        self._held.saved()

    def seal_due(self, closed_until_ms: int, *, all_of_it: bool = False) -> int:
        """Seals every whole interval that all lines have closed; the number of records that this made."""
        if self._held.batches:
            return 0  # what is not durable yet must not be overtaken
        if (
            self._seal_again_ms is not None
            and self._seal_again_ms - AGAIN_MS <= self._clock.now_ms() < self._seal_again_ms
        ):
            return 0
        until_ms = closed_until_ms if all_of_it else closed_until_ms - closed_until_ms % self._interval_ms
        before = self._sealer.sequence
        try:
            while (gap := self._held.gap) is not None:
                self._chain(gap, gap.from_ms, gap.to_ms)
                self._held.told()
            self._seal(statements(self._spool.unsealed(until_ms), self._interval_ms))
            self._amend()
            self._tidy_raw()
            newest = self._spool.newest_record_end_ms()
            now = self._clock.now_ms()
            if newest is not None and now - newest >= HEARTBEAT_MS:
                self._chain(Heartbeat(), now, now)
            self._seal_again_ms = None
            self._note_room()  # only now: there may be room for windows, and none for the chain
        except SpoolFull as error:
            self._seal_again_ms = self._clock.now_ms() + AGAIN_MS
            self._note_full(error)
        return self._sealer.sequence - before

    @property
    def sequence(self) -> int:
        """How many records the chain has."""
        return self._sealer.sequence

    @property
    def raw_bytes(self) -> int:
        """What raw samples take on the disk, about."""
        return self._bounds.size_bytes

    def _amend(self) -> None:
        """Signs what people amended (`linetally-agent amend`); one that contradicts the chain by now is refused."""
        for queued in self._spool.next_amendments():
            amendment = amendments.from_bytes(queued.body)
            if amendments.must_wait(self._spool, amendment):
                continue
            if words := amendments.refusal(self._spool, amendment):
                self._spool.refuse_amendment(queued.id, words)
                _log.warning("amendment %d is refused: %s", queued.id, words)
                continue
            now = self._clock.now_ms()
            sealer, records = self._sealer.seal(amendment, now, now)
            self._spool.append(records, amendment=queued.id)
            self._sealer = sealer
            _log.info("amendment %d by %s is record %d", queued.id, amendment.who, records[-1].sequence)

    def _tidy_raw(self) -> None:
        """Drops raw chunks that are too old or too many, and says which are not there any more."""
        now = self._clock.now_ms()
        for gap, drop in self._bounds.due(now):
            sealer, records = self._sealer.seal(gap, now, now)
            self._spool.append(records, drop=drop)
            self._sealer = sealer
            self._bounds.dropped(drop)
        self._bounds.settled()
        if self._bounds.no_room != self.raw_full:
            self._spool.set_meta({"raw_full": (self._bounds.no_room or "").encode()})
            self.raw_full = self._bounds.no_room
        while (lost := self._bounds.to_tell()) is not None:
            self._chain(lost, now, now)
            self._bounds.told()

    def checkpoint_seen(self, seen: CheckpointSeen) -> None:
        """A newer checkpoint was verified: records from now on name it."""
        self._sealer = replace(self._sealer, checkpoint_seen=seen)

    def _seal(self, parts: Iterable[Statement]) -> None:
        sealer, records, ids = self._sealer, list[SpooledRecord](), list[int]()
        for part in parts:
            sealer, made = sealer.seal(Measurement(part.lines), part.start_ms, part.end_ms)
            records += made
            ids += part.window_ids
            if len(records) >= _RECORDS_A_COMMIT:
                self._append(sealer, records, ids)
                records, ids = [], []
        if records:
            self._append(sealer, records, ids)

    def _append(self, sealer: Sealer, records: list[SpooledRecord], ids: list[int]) -> None:
        # The head moves only when the records are durable: a full disk leaves both as they were.
        self._spool.append(records, ids)
        self._sealer = sealer

    def _chain(self, body: Body, start_ms: int, end_ms: int) -> None:
        sealer, records = self._sealer.seal(body, start_ms, end_ms)
        self._append(sealer, records, [])

    def _announce(self, configurations: list[LineConfiguration], now_ms: int) -> None:
        """One config record if it fits, otherwise one for each line."""
        try:
            sealer, records = self._sealer.seal(_config_body(configurations), now_ms, now_ms)
        except Malformed:
            for configuration in configurations:
                self._chain(_config_body([configuration]), now_ms, now_ms)
        else:
            self._append(sealer, records, [])
        self._spool.set_meta({f"config:{c.line_id}": c.hash for c in configurations})

    def _is_logged(self, configuration: LineConfiguration) -> bool:
        return self._spool.meta(f"config:{configuration.line_id}") == configuration.hash

    def _check_owner(self, gateway_id: str, key: Ed25519PrivateKey) -> None:
        """A spool holds one key's chain: another key would break it, another gateway's would be a fork."""
        owner = gateway_id.encode() + b" " + key_id(key.public_key().public_bytes_raw()).hex().encode()
        kept = self._spool.meta("owner")
        if kept is None:
            self._spool.set_meta({"owner": owner})
        elif kept != owner:
            raise ConfigurationError(
                f"the state folder holds the records of {kept.decode()}, not of {owner.decode()}",
                mend="give each gateway its own state_folder, or put the old key back",
            )

    def _note_full(self, error: SpoolFull) -> None:
        if self.disk_full_since_ms is None:
            self.disk_full_since_ms = self._clock.now_ms()
            _log.error("%s. Nothing is lost: what is measured now waits in memory", error)
        self._bounds.lost(self._held.shrink())
        if not self._loses and self._held.gap is not None:
            self._loses = True
            _log.error("%s. The memory for it is full too: the oldest windows go, and become a signed gap", error)

    def _note_room(self) -> None:
        if self.disk_full_since_ms is not None:
            self.disk_full_since_ms = None
            self._loses = False
            _log.info("the disk takes data again; what waited in memory is safe now")


def _config_body(configurations: list[LineConfiguration]) -> Configurations:
    return Configurations(tuple(configuration.to_data() for configuration in configurations))


def _seen(spool: Spool) -> CheckpointSeen | None:
    size, root = spool.meta("checkpoint_size"), spool.meta("checkpoint_root")
    return None if size is None or root is None else CheckpointSeen(int(size), root)
