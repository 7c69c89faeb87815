"""The agent at work: one task group with the lines' sources, the measuring and telling, the publisher, and the word to
systemd.

Decides what runs beside what, and how it ends: sources stop first, the meters are brought up to now, and what they
remember is stored before the process goes. SIGHUP reads the configuration again (`reload`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent.clock import Clock, SimulatedClock, SystemClock
from agent.config import AgentConfiguration
from agent.glance import write_glances
from agent.journal import is_journal, shown
from agent.keys import load_key, load_log_key
from agent.late import LateCounts
from agent.line import Line
from agent.live import Teller
from agent.publisher import Publisher
from agent.recorder import Recorder
from agent.reload import Reloader
from agent.reporter import Reporter
from agent.running import Running
from agent.sources.choice import Sources
from agent.spool import Spool
from agent.spool_check import check_raw_chunks
from agent.spool_salvage import open_or_salvage
from agent.watchdog import Notifier, Progress, watch
from protocols.errors import ConfigurationError, LinetallyError, Malformed, Refused
from protocols.evidence.cose import key_id
from protocols.evidence.note import VerifierKey
from protocols.measurement.kernels import check
from protocols.measurement.kernels.jit import enabled, switch_off
from protocols.measurement.meter import LineMeter
from protocols.plc.roles import ROLES
from protocols.plc.sample import SampleBlock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


TICK_S: Final = 1.0
"""How often everything is measured, stored, signed and told."""
FIRST_TICK_S: Final = 0.02
"""How often it is looked, until something was told, whether a line was connected."""
NEWS_TICK_S: Final = 0.1
"""The same in the first seconds after that, for lines of which nothing was told yet."""
STARTED_S: Final = 10.0
"""After so long everything is loaded, and what can be connected is."""
_CLOCK_WAIT_S: Final = 20.0
_MAKER: Final = (  # it imports from where this process does, and from nowhere else
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from protocols.measurement.kernels import check; check.holds()"
)
_log = logging.LoggerAdapter(logging.getLogger("linetally"), {"line": "agent"})


async def run(configuration: AgentConfiguration) -> int:
    """Runs until SIGINT or SIGTERM (a replay: until it is done). Raises LinetallyError when it cannot start."""
    key = load_key(configuration.state_folder)
    log_key = read_log_key(configuration)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    spool, key = open_or_salvage(configuration.state_folder, key, int(time.time() * 1000))
    with spool:
        if configuration.is_replay:
            from agent.replay import run_replay  # numpy-heavy, and only for a history

            gc.enable()
            return await run_replay(configuration, spool, key, log_key, stop)
        await warm_up(configuration)
        clock = await open_clock(configuration, stop)
        await _run_lines(configuration, spool, key, log_key, clock, stop)
    return 0


async def _run_lines(
    configuration: AgentConfiguration,
    spool: Spool,
    key: Ed25519PrivateKey,
    log_key: VerifierKey,
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    recorder = Recorder(configuration, spool, key, clock)
    sparkplug = None
    if configuration.sparkplug_group:
        from agent.sparkplug import Sparkplug  # only where it is wanted

        sparkplug = Sparkplug(configuration.sparkplug_group, configuration.gateway_id, clock.now_ms)
    kid = key_id(key.public_key().public_bytes_raw())
    publisher = Publisher(configuration, spool, kid, log_key, clock.now_ms, recorder.checkpoint_seen, sparkplug)
    started = recorder.start()
    told = asyncio.Event()
    sources = Sources(configuration, clock, told)
    running = Running([Line(line, started[line.line_id].meter, clock) for line in configuration.lines], sources.read)
    lines = running.lines
    late = LateCounts(spool, [line.line_id for line in configuration.lines])
    reloader = Reloader(configuration, running, recorder, publisher, late, clock)
    notifier, progress = Notifier(), Progress()
    teller = Teller(publisher, clock, sparkplug, configuration.live_interval_s)
    facts = Reporter(lines, recorder, publisher, progress)
    await until_stopped(
        stop,
        ("publish", publisher.run()),  # first: while it connects, in a thread, the sources are loaded
        ("sources", running.run()),
        ("measure", _measure(lines, recorder, publisher, teller, clock, late, progress, told)),
        ("reload", _reload_on_signal(reloader, notifier)),
        ("health", _serve_health(configuration.health_port, facts)),
        ("glance", write_glances(configuration.state_folder, lines, lambda: publisher.connected)),
        ("watchdog", watch(notifier, facts.parts, facts.status)),
        ("memory", _begin_collecting()),
        ("check", check_raw_chunks(configuration.state_folder)),
    )
    notifier.tell("STOPPING=1")
    _finish(lines, recorder, clock)
    late.keep(_late(lines), clock.now_ms(), at_once=True)


async def _reload_on_signal(reloader: Reloader, notifier: Notifier) -> None:
    """SIGHUP (systemctl reload) reads the configuration again. Says that the agent is up, too."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    notifier.tell("READY=1")
    while True:
        await asked.wait()
        asked.clear()
        notifier.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        await reloader.reload()
        notifier.tell("READY=1")


async def _begin_collecting() -> None:
    """Garbage is collected from now on. What the start has made stays, and need not be looked through again; what it
    has left behind goes first (some 1.5 MB, most of it of the classes of libraries), or it would stay as well."""
    await asyncio.sleep(STARTED_S)
    gc.collect()
    gc.freeze()
    gc.enable()


async def _serve_health(port: int, facts: Reporter) -> None:
    if port:
        from agent.health import serve_health  # only where it is wanted

        await serve_health(port, facts.facts)


async def warm_up(configuration: AgentConfiguration) -> None:
    """Compiles the kernels, or loads what is kept of them, and checks them before anything is under way: at the
    first start this takes seconds, in which no PLC must wait for an answer."""
    if not configuration.jit:
        switch_off()
    elif enabled() and check.is_missing():
        # In a process of its own, whose memory is given back. Where it fails, this one tries, and says why not.
        maker = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", _MAKER, json.dumps(sys.path))
        await maker.wait()

    def measure_one_row() -> None:
        if check.holds():
            meter = LineMeter(configuration.lines[0].configuration, 0)
            meter.push(SampleBlock.from_rows([(0, (0,) * ROLES, 0)]))

    await asyncio.to_thread(measure_one_row)


async def until_stopped(stop: asyncio.Event, *tasks: tuple[str, Coroutine[Any, Any, None]]) -> None:
    """Runs named tasks until `stop` is set, or one of them fails: its error is raised, alone if it is ours."""
    try:
        async with asyncio.TaskGroup() as group:
            pending = {group.create_task(task, name=name) for name, task in tasks}
            try:
                await stop.wait()
            finally:
                # More than once: in Python 3.11 asyncio.wait_for, which the protocols' libraries use, loses a
                # cancellation that comes together with its result.
                while pending:
                    for task in pending:
                        task.cancel()
                    _, pending = await asyncio.wait(pending, timeout=0.5)
    except BaseExceptionGroup as errors:
        ours, others = errors.split(LinetallyError)
        if others is None and ours is not None:
            raise _first(ours) from errors
        raise


def _first(group: BaseExceptionGroup[LinetallyError]) -> LinetallyError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, LinetallyError)
    return error


def read_log_key(configuration: AgentConfiguration) -> VerifierKey:
    """The log's key, from the configuration or from enrolment. Raises ConfigurationError."""
    text = configuration.log_key or load_log_key(configuration.state_folder)
    if text is None:
        mend = "enrol first (linetally-agent enrol --help), or set hub.log_key"
        raise ConfigurationError("the log's key is not known", file=str(configuration.file), mend=mend)
    try:
        return VerifierKey.parse(text)
    except (Malformed, Refused) as error:
        mend = "take the line from the hub's page, or enrol again"
        raise ConfigurationError(
            f"the log's key is not one: {error}", file=str(configuration.file), mend=mend
        ) from error


async def open_clock(configuration: AgentConfiguration, stop: asyncio.Event) -> Clock:
    """The machine's clock, or the simulator's, for whose file it waits a little."""
    if configuration.simulation is None:
        return SystemClock()
    for waited in range(int(_CLOCK_WAIT_S / 0.2)):
        if configuration.simulation.exists() or stop.is_set():
            break
        if waited == 10:
            _log.info("waiting for the simulator's clock %s", configuration.simulation)
        await asyncio.sleep(0.2)
    clock = SimulatedClock.read(configuration.simulation)
    _log.info("simulated time, %g times as fast as real time", clock.speed)
    return clock


async def _measure(
    lines: Sequence[Line],
    recorder: Recorder,
    publisher: Publisher,
    teller: Teller,
    clock: Clock,
    late: LateCounts,
    progress: Progress,
    told: asyncio.Event,
) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    started = due + STARTED_S
    while True:
        pause_s = (NEWS_TICK_S if told.is_set() else FIRST_TICK_S) if loop.time() < started else TICK_S
        await asyncio.sleep(min(pause_s, max(0.0, due - loop.time())))
        is_due = loop.time() >= due
        news = len(teller.news(lines))
        if not is_due and not news:
            continue
        late.keep(_late(lines), clock.now_ms())
        if measure(lines, recorder, clock.now_ms(), progress):
            publisher.refresh()
        if is_due:
            teller.tell(lines)
            due = max(due + TICK_S, loop.time())
        else:
            teller.tell_news(lines)
        if len(teller.news(lines)) < news:
            told.set()


def _late(lines: Sequence[Line]) -> dict[str, int]:
    return {line.settings.line_id: line.late_count for line in lines}


def measure(lines: Sequence[Line], recorder: Recorder, now_ms: int, progress: Progress | None = None) -> int:
    """One tick: every line measured up to now, what closed made durable, what is due sealed. Records made."""
    closed = [(line.meter, line.close_windows(now_ms)) for line in lines]
    recorder.keep([(meter, windows) for meter, windows in closed if windows or meter.has_chunks])
    if progress is not None:
        progress.stored()
    made = recorder.seal_due(min(line.meter.closed_until_ms for line in lines))
    if progress is not None:
        progress.signed()
    return made


def _finish(lines: Sequence[Line], recorder: Recorder, clock: Clock) -> None:
    now_ms = clock.now_ms()
    closed = [(line.meter, line.close_windows(now_ms + line.delay_ms)) for line in lines]
    recorder.keep(closed)  # also without a new window: the memory of the minute under way
    recorder.seal_due(min(line.meter.closed_until_ms for line in lines))
    if recorder.disk_full_since_ms is None:
        _log.info("stopped; everything measured is in the spool")
    else:
        _log.error("stopped with a disk that takes nothing: what waited in memory is gone, and becomes a signed gap")


def configure_logging(level: int = logging.INFO) -> None:
    """Lines for a person, on stderr or in the journal: time, whom it is about, what."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("linetally").setLevel(level)
    with contextlib.suppress(ValueError):
        handler.stream.reconfigure(errors="replace")  # type: ignore[attr-defined]


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._journal = is_journal()  # which has its own times

    def format(self, record: logging.LogRecord) -> str:
        about = getattr(record, "line", record.name.split(".")[0])
        mark = "error: " if record.levelno >= logging.ERROR else ""
        moment = "" if self._journal else f"{self.formatTime(record, '%H:%M:%S')} "
        text = f"{moment}{about:<10} {mark}{record.getMessage()}"
        if record.exc_info is not None:
            text += f"\n{self.formatException(record.exc_info)}"
        return shown(text, record.levelno, journal=self._journal)
