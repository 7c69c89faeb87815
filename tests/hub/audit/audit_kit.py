"""A gateway's raw samples, the records that commit to them, and a hub's folder that has these records in its log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hub.__main__ import main
from hub.database import open_database
from protocols.evidence import merkle
from protocols.evidence.bodies import Body, Configurations, Enrolment, Measurement, PlanStatement
from protocols.evidence.cose import key_id
from protocols.evidence.merkle import leaf_hash
from protocols.evidence.raw import Chunk, Piece, compress, encode_chunk, raw_commitment
from protocols.evidence.record import NO_PREVIOUS, SignedRecord
from protocols.evidence.statement import LineStatement
from protocols.measurement.account import Window
from protocols.measurement.calendar import Calendar
from protocols.measurement.configuration import Counter, LineConfiguration, Product
from protocols.measurement.definition import Definition
from protocols.measurement.meter import LineMeter
from protocols.measurement.plan import Plan
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from protocols.plc.sample import SampleBlock
from tests.support.evidence import GATEWAY, GATEWAY_KEY, START_MS, record, signed

KID = key_id(GATEWAY_KEY.public_key().public_bytes_raw())
MINUTE = 60_000
LINE = LineConfiguration(
    line_id="filling",
    name="Filling",
    calendar=Calendar("Asia/Hong_Kong"),
    products=(Product(1, "Cola", 250_000_000),),
    counters=(Counter(SignalRole.TOTAL, 65_536), Counter(SignalRole.REJECT, 65_536)),
    max_pieces_per_hour=20_000,
    definition=Definition(minor_stop_ms=90_000),
)


def samples(seconds: int, seed: int = 1, start_ms: int = START_MS) -> SampleBlock:
    """A row a second, some milliseconds off; runs, with a stop of up to two minutes now and then."""
    rng = np.random.default_rng(seed)
    time_ms = start_ms + np.arange(1, seconds + 1, dtype=np.int64) * 1000 - rng.integers(0, 9, seconds)
    state = np.full(seconds, State.EXECUTE)
    for at in range(int(rng.integers(30, 300)), seconds, 400):
        state[at : at + int(rng.integers(5, 130))] = State.HELD
    values = np.zeros((seconds, SignalRole.ORDER + 1), np.int64)
    values[:, SignalRole.STATE] = state
    values[:, SignalRole.TOTAL] = np.cumsum((state == State.EXECUTE) * rng.integers(0, 5, seconds)) % 65_536
    values[:, SignalRole.REJECT] = np.cumsum(rng.random(seconds) < 0.01)
    values[:, SignalRole.ORDER] = 1
    valid = sum(1 << role for role in (SignalRole.STATE, SignalRole.TOTAL, SignalRole.REJECT, SignalRole.ORDER))
    return SampleBlock(time_ms, values, np.full(seconds, valid, np.uint32))


@dataclass
class Gateway:
    """One gateway's chain and raw samples, before and after it is signed. `change`: what a thief does to windows."""

    records: list[SignedRecord] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)

    def sign(self, body: Body, start_ms: int, end_ms: int) -> SignedRecord:
        previous = self.records[-1].hash if self.records else NO_PREVIOUS
        made = record(body, sequence=len(self.records), previous=previous, start_ms=start_ms, end_ms=end_ms)
        self.records.append(signed(made))
        return self.records[-1]


def measured(
    configuration: LineConfiguration = LINE,
    minutes: int = 120,
    seed: int = 1,
    change: Callable[[Window], Window] = lambda window: window,
    statement_minutes: int = 15,
    without_edges: frozenset[int] = frozenset(),
) -> Gateway:
    """What a gateway signs and keeps of some minutes of one line, the last not among its windows.

    `without_edges`: minutes at which no chunk begins, so that the one before is longer.
    """
    block = samples(minutes * 60, seed)
    meter = LineMeter(configuration, START_MS)
    chunks: list[Chunk] = []
    windows: list[Window] = []
    carry: Mapping[str, Any] | None = None
    edges = [START_MS + minute * MINUTE for minute in range(minutes + 1) if minute not in without_edges]
    for at_ms, end_ms in pairwise(edges):
        first, last = np.searchsorted(block.time_ms, [at_ms, end_ms], "right")
        part = SampleBlock(block.time_ms[first:last], block.values[first:last], block.valid[first:last])
        chunks.append(Chunk(configuration.line_id, configuration.hash, at_ms, end_ms, carry, part))
        for row in range(0, len(part), 20):
            meter.push(
                SampleBlock(part.time_ms[row : row + 20], part.values[row : row + 20], part.valid[row : row + 20])
            )
            windows += meter.advance(int(part.time_ms[row : row + 20][-1]))
        kept = meter.carry()
        carry = deepcopy({name: value for name, value in kept.items() if name not in ("ended", "handed_ms", "live")})
    out = Gateway(windows=[change(window) for window in windows])
    out.sign(Configurations((configuration.to_data(),)), START_MS, START_MS)
    for first in range(0, len(windows), statement_minutes):
        stated = tuple(out.windows[first : first + statement_minutes])
        _state(out, configuration, stated, [c for c in chunks if stated[0].start_ms < c.end_ms <= stated[-1].end_ms])
    return out


def _state(out: Gateway, configuration: LineConfiguration, windows: tuple[Window, ...], chunks: list[Chunk]) -> None:
    plain = [encode_chunk(chunk) for chunk in chunks]
    leaves = [leaf_hash(data) for data in plain]
    raw = raw_commitment(leaves, sum(len(chunk.block) for chunk in chunks))
    line = LineStatement(configuration.line_id, configuration.hash, raw, windows)
    made = out.sign(Measurement((line,)), windows[0].start_ms, windows[-1].end_ms)
    out.pieces += [
        Piece(KID, made.record.sequence, i, tuple(merkle.inclusion_proof(leaves, i, len(leaves))), compress(data))
        for i, data in enumerate(plain)
    ]


def off_by_one(start_ms: int, name: str = "total_count") -> Callable[[Window], Window]:
    """Makes the window at `start_ms` claim one more of something."""

    def change(window: Window) -> Window:
        if window.start_ms != start_ms:
            return window
        account = replace(window.account, **{name: getattr(window.account, name) + 1})
        return replace(window, account=account)

    return change


@contextmanager
def hub_with(folder: Path, gateway: Gateway, plan: Plan | None = None) -> Iterator[Path]:
    """A hub, made by its commands, whose log has the gateway's records; gives its configuration file."""
    path = folder / "hub.toml"
    for words in (
        "init --origin log.test/hub",
        "enterprise add acme --name Acme",
        "project add P-7 --scheme manufacturing-plus --enterprise acme --title Upgrade",
        "line add filling --enterprise acme --project P-7 --name Filling",
    ):
        assert main([*words.split(), "--config", str(path)]) == 0
    from hub.commands.workplace import load_root_key, log_body
    from hub.config import load_config
    from hub.ingest import Arrival, Writer
    from hub.log.sequencer import Log
    from hub.root import load_log_key

    config = load_config(path)
    engine = open_database(config.database_url)
    from tests.support.hub import enrolled

    enrolled(engine)
    public_key = GATEWAY_KEY.public_key().public_bytes_raw()
    log_body(config, engine, load_root_key(folder / "root.key"), Enrolment(GATEWAY, public_key, ("filling",), ("P-7",)))
    if plan is not None:
        log_body(config, engine, load_root_key(folder / "root.key"), PlanStatement(plan.to_data()))
    with Log.open(config.log_folder, load_log_key(config)) as log:
        writer = Writer(engine, log, config.ingest, lambda: START_MS, lambda _id, _payload: None)
        writer.recover()
        writer.commit([Arrival(made.raw, GATEWAY) for made in gateway.records])
    engine.dispose()
    yield path
