"""A replay: a plant's history through the same meter, spool, seal and publisher, as fast as they go.

Decides its pace (the plant's time goes on in steps, and waits when too many records have no receipt) and what a
person sees of it. Killed, it goes on where the spool ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.clock import ManualClock
from agent.config import AgentConfiguration
from agent.config_line import ReplaySource
from agent.publisher import Publisher
from agent.recorder import Recorder
from agent.sources.replay import ReplayedLine
from agent.spool import Spool
from protocols.evidence.cose import key_id
from protocols.evidence.note import VerifierKey

STEP_MS: Final = 6 * 3_600_000
"""The plant's time between two commits: seldom enough for a disk that syncs slowly."""
MAX_WAITING: Final = 2000
"""Records without a receipt at which the replay waits."""
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "replay"})


class Progress(Protocol):
    """Told how much of the history is done."""

    def __call__(self, done_ms: int, words: str) -> None: ...


async def run_replay(
    configuration: AgentConfiguration,
    spool: Spool,
    key: Ed25519PrivateKey,
    log_key: VerifierKey,
    stop: asyncio.Event,
) -> int:
    """0 when all of it is in the hub's log, 1 when it was stopped before."""
    starts = {}
    for line in configuration.lines:
        assert isinstance(line.source, ReplaySource)
        starts[line.line_id] = line.source.from_ms
    at_ms = min(max(start, _kept_ms(spool, line_id)) for line_id, start in starts.items())
    # A new boot id for each run: this clock's elapsed time begins again at 0.
    boot_id = hashlib.sha256(f"replay {configuration.gateway_id} {at_ms}".encode()).digest()[:16]
    clock = ManualClock(at_ms, boot_id)
    recorder = Recorder(configuration, spool, key, clock)
    kid = key_id(key.public_key().public_bytes_raw())
    publisher = Publisher(configuration, spool, kid, log_key, clock.now_ms, recorder.checkpoint_seen)
    started = recorder.start(starts)
    days = configuration.raw.keep_days
    lines = [ReplayedLine(line, started[line.line_id].meter, days) for line in configuration.lines]
    end_ms = max(line.end_ms for line in lines)
    first_ms = min(starts.values())
    done = asyncio.Event()

    async def measure() -> None:
        with progress_bar(first_ms, end_ms) as show:
            await _steps(lines, recorder, publisher, clock, end_ms, show)
            while publisher.depth:
                publisher.progress.clear()
                show(end_ms, f"{publisher.depth} records wait for a receipt")
                await publisher.progress.wait()
        done.set()
        stop.set()

    from agent.app import until_stopped

    await until_stopped(stop, ("replay", measure()), ("publish", publisher.run()))
    if not done.is_set():
        _log.warning("stopped before the end; run the same command again to go on")
        return 1
    _log.info("done; all of it is in the hub's log")
    return 0


async def _steps(
    lines: list[ReplayedLine], recorder: Recorder, publisher: Publisher, clock: ManualClock, end_ms: int, show: Progress
) -> None:
    while clock.now_ms() < end_ms:
        now = clock.now_ms()
        clock.advance_to(min(end_ms, now - now % STEP_MS + STEP_MS))
        closed = []
        for line in lines:
            closed.append((line.meter, line.step(clock.now_ms())))
            await asyncio.sleep(0)
        recorder.keep([(meter, windows) for meter, windows in closed if windows or meter.has_chunks])
        at_end = clock.now_ms() >= end_ms
        closed_ms = [line.meter.closed_until_ms for line in lines if line.end_ms >= clock.now_ms()]
        # At the end the last windows are sealed even where their interval is not full.
        recorder.seal_due(
            max(line.meter.closed_until_ms for line in lines) if at_end else min(closed_ms), all_of_it=at_end
        )
        publisher.refresh()
        show(clock.now_ms(), "")
        while publisher.depth > MAX_WAITING:
            publisher.progress.clear()
            show(clock.now_ms(), f"{publisher.depth} records wait for a receipt")
            await publisher.progress.wait()


def _kept_ms(spool: Spool, line_id: str) -> int:
    kept = spool.carry(line_id)
    return 0 if kept is None else int(kept[1]["closed_ms"])


@contextmanager
def progress_bar(first_ms: int, end_ms: int) -> Iterator[Progress]:
    """A bar on a terminal, otherwise a line in the log each tenth."""
    if not sys.stderr.isatty():
        said = -1

        def tell(done_ms: int, words: str) -> None:
            nonlocal said
            tenth = (done_ms - first_ms) * 10 // (end_ms - first_ms)
            if tenth > said:
                said = tenth
                _log.info("%d %% %s", tenth * 10, words)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("replay"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[words]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task("replay", total=end_ms - first_ms, words="")
        yield lambda done_ms, words: bar.update(task, completed=done_ms - first_ms, words=words)
