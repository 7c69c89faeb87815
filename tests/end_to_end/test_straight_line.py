"""From the PLC's tag to the offline verdict, with the real commands, through kill -9 of agent and hub.

The truth comes from the plant itself: its own states and counts, and the images that its Modbus server says it served.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from agent.clock import SimulatedClock
from agent.simulator.command import plant_start_ms
from agent.simulator.plant import Plant
from agent.simulator.spec import load_plant
from hub.config import load_config
from hub.log.sequencer import Log
from hub.root import load_key
from protocols.evidence.bodies import Gap, Measurement
from protocols.evidence.policy import Trust
from protocols.evidence.record import SignedRecord
from protocols.evidence.verify import verify
from protocols.measurement.account import CalendarKind, TimeAccount, Window
from tests.reference.line_truth import Moment, Timeline, timeline
from tests.support.commands import Cast, answers, command, json_of

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]

HERE = Path(__file__).parent
SPEED = 120
START = "2026-03-02T22:55:00+08:00"  # half an hour, or fifteen seconds, for a slow machine to begin
START_MS = 1_772_463_300_000
MINUTE = 60_000
SHIFTS = {"A": "23:25", "B": "23:35", "C": "23:45", "D": "00:05", "E": "00:15", "F": "00:25"}
SHIFT_OFFSETS = (30, 40, 50, 70, 80, 90)  # minutes from START
END_MS = START_MS + 103 * MINUTE  # all shifts are over
MINOR_STOP_MS = 300_000
STALENESS_MS = 240_000
# The vendor's status words, as PackML states, written down here a second time.
VENDOR = {1: 2, 2: 6, 3: 9, 4: 5, 5: 5, 6: 15, 7: 4}


@dataclass
class Run:
    """What is left of a run: the hub's folder, and what the log says of each line."""

    folder: Path
    windows: Mapping[str, list[Window]]
    gaps: list[Gap]
    sequences: list[int]

    @property
    def config(self) -> Path:
        return self.folder / "hub.toml"


@pytest.fixture(scope="module", params=["embedded", pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto"))])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp(request.param)
    with Cast(folder) as cast:
        yield play(cast, folder, request.param == "embedded")


def play(cast: Cast, folder: Path, embedded: bool) -> Run:
    """The whole play: everything is set up by commands, and agent and hub are killed on the way."""
    from tests.conftest import a_free_port

    page, broker, opcua, modbus = (a_free_port() for _ in range(4))
    config, agent = folder / "hub.toml", folder / "agent.toml"
    configure(folder, broker, opcua, modbus)
    command(
        "linetally-hub", "init", "--config", config, "--port", page, "--broker-port", broker, "--access", "loopback"
    )
    if not embedded:
        config.write_text(config.read_text("utf-8").replace("embedded = true", "embedded = false"), "utf-8")
        (folder / "mosquitto.conf").write_text(f"listener {broker} 127.0.0.1\nallow_anonymous true\n", "utf-8")
        cast.start("mosquitto", mosquitto(), "-c", folder / "mosquitto.conf")
    enter(config)
    serve = ("linetally-hub", "serve", "--config", config)
    cast.start("hub", *serve)
    cast.until(lambda: answers(f"http://127.0.0.1:{page}/"), "the hub")
    token = json_of("linetally-hub", "gateway", "token", "P-1", "--config", config)["token"]
    command("linetally-agent", "enrol", "--config", agent, "--hub", f"http://127.0.0.1:{page}", "--token", token)
    command("linetally-hub", "gateway", "approve", "GW-01", "--config", config)
    measure = ("linetally-agent", "run", "--config", agent)
    cast.start("agent", *measure)
    # Its kernels are compiled, which may take long at the first time, before the plant's time begins to run.
    cast.until(lambda: "waiting for the simulator" in cast.log("agent"), "the agent", 120)
    cast.start(
        "plant", "linetally-agent", "simulate", "--plant", HERE / "plant.toml", "--clock-file", folder / "clock.json",
        "--start", START, "--speed", SPEED, "--opcua-port", opcua, "--modbus-port", modbus,
        "--request-log", folder / "requests.jsonl",
    )  # fmt: skip
    cast.until(lambda: (folder / "clock.json").exists() and "ready" in cast.log("plant"), "the plant")
    clock = SimulatedClock.read(folder / "clock.json")

    cast.until(lambda: clock.now_ms() > START_MS + 47 * MINUTE, "the middle of shift B", 120)
    cast.kill("agent")
    cast.start("agent", *measure)
    cast.until(lambda: clock.now_ms() > START_MS + 75 * MINUTE, "the middle of shift D", 120)
    cast.kill("hub")
    cast.until(lambda: clock.now_ms() > START_MS + 79 * MINUTE, "two seconds without a hub", 120)
    cast.start("hub", *serve)
    cast.until(lambda: everything_is_logged(agent), "the last shift in the log", 180)
    assert cast.end("agent") == 0
    assert cast.end("plant") == 0
    assert cast.end("hub") == 0
    return read_log(folder)


def mosquitto() -> str:
    return "/usr/sbin/mosquitto"


def configure(folder: Path, broker: int, opcua: int, modbus: int) -> None:
    shifts = "".join(
        f'\n[[line.shift]]\nname = "{name}"\nstart = "{start}"\nend = "{start[:2]}:{int(start[3:]) + 10:02d}"\n'
        for name, start in SHIFTS.items()
    )
    text = (HERE / "agent.toml").read_text("utf-8")
    (folder / "agent.toml").write_text(text.format(broker=broker, opcua=opcua, modbus=modbus, shifts=shifts), "utf-8")


def enter(config: Path) -> None:
    hub = ("--config", config)
    command("linetally-hub", "enterprise", "add", "acme", "--name", "Acme Foods", *hub)
    command(
        "linetally-hub", "project", "add", "P-1", "--scheme", "manufacturing-plus", "--enterprise", "acme",
        "--title", "Upgrade", "--grant", "250000", "--cost", "750000", *hub,
    )  # fmt: skip
    for line in ("filling", "packing"):
        command(
            "linetally-hub", "line", "add", line, "--enterprise", "acme", "--project", "P-1", "--name", line,
            "--simulated", *hub,
        )  # fmt: skip
    before = ("--simulated-time", "2026-03-01T00:00:00Z")
    command("linetally-hub", "plan", "P-1", "--file", HERE / "plan.toml", *before, *hub)


def everything_is_logged(agent: Path) -> bool:
    status = json_of("linetally-agent", "status", "--config", agent)
    return status["spool_depth"] == 0 and all((line["measured_until_ms"] or 0) >= END_MS for line in status["lines"])


def read_log(folder: Path) -> Run:
    """Every record of the gateway in the log, leaf by leaf."""
    config = load_config(folder / "hub.toml")
    windows: dict[str, list[Window]] = {"filling": [], "packing": []}
    gaps, sequences = [], []
    with Log.open(config.log_folder, load_key(config.log.key_file, "the key", "")) as log:
        for raw in log.entries():
            signed = SignedRecord(raw)
            if signed.issuer != "GW-01":
                continue
            sequences.append(signed.record.sequence)
            if isinstance(signed.record.body, Measurement):
                for line in signed.record.body.lines:
                    windows[line.line_id] += line.windows
            elif isinstance(signed.record.body, Gap):
                gaps.append(signed.record.body)
    return Run(folder, windows, gaps, sequences)


def plant_of(run: Run, line_id: str) -> Plant:
    line = load_plant(HERE / "plant.toml").line(line_id)
    return Plant(line, plant_start_ms(line, SimulatedClock.read(run.folder / "clock.json")))


def filling_truth(run: Run) -> Timeline:
    plant = plant_of(run, "filling")
    segments = plant.truth(START_MS, END_MS)
    moments = [Moment(s.start_ms, int(s.state), bool(s.order), s.product) for s in segments]
    return timeline(moments, START_MS, END_MS, MINOR_STOP_MS, None)


def packing_truth(run: Run) -> Timeline:
    """A poll is all that can be known of this line: its truth is what the server served, and when."""
    moments = []
    for line in (run.folder / "requests.jsonl").read_text("utf-8").splitlines():
        served = json.loads(line)
        if served.get("protocol") == "modbus" and "registers" in served:
            registers = served["registers"]
            at_ms = int.from_bytes(b"".join(word.to_bytes(2, "big") for word in registers[6:10]), "big")
            moments.append(Moment(at_ms, VENDOR[registers[0]], bool(registers[4]), registers[3]))
    return timeline(moments, START_MS, END_MS, MINOR_STOP_MS, STALENESS_MS)


TRUTHS: Mapping[str, Callable[[Run], Timeline]] = {"filling": filling_truth, "packing": packing_truth}


def is_planned(at_ms: int) -> bool:
    return any(0 <= at_ms - START_MS - offset * MINUTE < 10 * MINUTE for offset in SHIFT_OFFSETS)


def test_every_window_is_in_the_log_exactly_once(run: Run) -> None:
    assert run.sequences == list(range(len(run.sequences)))
    for windows in run.windows.values():
        assert windows[-1].end_ms >= END_MS
        assert all(before.end_ms == after.start_ms for before, after in pairwise(windows))


def test_the_kills_left_gaps_and_nothing_worse(run: Run) -> None:
    assert {gap.line_id for gap in run.gaps} == {"filling", "packing"}
    assert all(gap.reason == "agent not running" for gap in run.gaps)
    for windows in run.windows.values():
        assert sum(w.account.unknown_ms for w in windows) > 0
        assert sum(w.account.unknown_ms == 0 for w in windows) > len(windows) * 6 // 10


@pytest.mark.parametrize("line_id", ["filling", "packing"])
def test_pieces_equal_what_the_plant_made(run: Run, line_id: str) -> None:
    """Production begins after the agent's start and ends before its end: not one piece may be missing or doubled."""
    total, good, reject = plant_of(run, line_id).counts(END_MS)
    before = plant_of(run, line_id).counts(START_MS + 29 * MINUTE)
    accounts = [w.account for w in run.windows[line_id]]
    assert total - before[0] > 2000
    assert sum(a.total_count for a in accounts) == total - before[0]
    assert sum(a.good_count for a in accounts) == good - before[1]
    assert sum(a.reject_count for a in accounts) == reject - before[2]
    assert sum(a.lower_bound_count for a in accounts) == 0


@pytest.mark.parametrize("line_id", ["filling", "packing"])
def test_observed_time_equals_the_truth(run: Run, line_id: str) -> None:
    """Where all was observed each category is right to the millisecond.

    Windows with unknown time are left out, and those of a stop that reaches into one: that stop was not seen whole.
    """
    truth = TRUTHS[line_id](run)
    windows = [w for w in run.windows[line_id] if w.start_ms >= START_MS + 29 * MINUTE and w.end_ms <= END_MS]
    unknown = [(w.start_ms, w.end_ms) for w in windows if w.account.unknown_ms]
    compared = 0
    for window in windows:
        planned = is_planned(window.start_ms)
        assert (window.kind is CalendarKind.SCHEDULED) is planned
        if window.account.unknown_ms:
            continue
        stops = truth.touches_stop(window.start_ms, window.end_ms)
        # A stop that was not seen whole has another class than the truth knows.
        if any(start < to_ms and end > from_ms for start, end in stops for from_ms, to_ms in unknown):
            continue
        expected = truth.sums(window.start_ms, window.end_ms, planned)
        assert list(window.account.category_ms) == expected, f"{line_id}, {window}"
        compared += 1
    assert compared > len(windows) // 2


@pytest.fixture(scope="module")
def bundle(run: Run) -> Path:
    out = run.folder / "outcome.zip"
    command("linetally-hub", "report", "P-1", "--config", run.config, "--out", out)
    command("linetally-hub", "policy", "--config", run.config, "--output", run.folder / "policy.txt")
    return out


def test_the_reports_sums_equal_the_plants(run: Run, bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        report = json.loads(archive.read("report.json"))
        assert archive.read("report.pdf").startswith(b"%PDF")
    for period, from_minute, to_minute in (("baseline", 29, 63), ("reporting", 69, 103)):
        found = {line: TimeAccount.from_ints(ints) for line, ints, _ in report[period]["by_line"]}
        for line_id, account in found.items():
            plant = plant_of(run, line_id)
            total, good, _ = (
                after - before
                for before, after in zip(
                    plant.counts(START_MS + from_minute * MINUTE),
                    plant.counts(START_MS + to_minute * MINUTE),
                    strict=True,
                )
            )
            assert (account.total_count, account.good_count) == (total, good)
            # Its times are those of the log's windows, which another test compares with the truth, to the last integer.
            span = range(report[period]["from_ms"], report[period]["to_ms"])
            rows = [w.account.as_ints() for w in run.windows[line_id] if w.start_ms in span]
            assert list(account.as_ints()) == [sum(column) for column in zip(*rows, strict=True)]
            assert account.planned_ms >= 30 * MINUTE


def test_the_verdict_is_pass(run: Run, bundle: Path) -> None:
    verdict = json_of("linetally-verify", bundle, "--policy", run.folder / "policy.txt")
    assert verdict["ok"] is True


def test_each_of_a_thousand_changed_bytes_is_found(run: Run, bundle: Path) -> None:
    trust = Trust.parse((run.folder / "policy.txt").read_bytes(), "policy.txt")
    with zipfile.ZipFile(bundle) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    assert verify(io.BytesIO(rewritten(files)), trust).ok
    names = [name for name in files if name.endswith(".cbor-seq")]
    dice = random.Random(2026)
    for _ in range(1000):
        name = dice.choices(names, [len(files[name]) for name in names])[0]
        at, change = dice.randrange(len(files[name])), dice.randrange(1, 256)
        changed = bytearray(files[name])
        changed[at] ^= change
        verdict = verify(io.BytesIO(rewritten(files | {name: bytes(changed)})), trust)
        assert not verdict.ok, f"{name}: byte {at} changed by {change:#x} and nobody saw it"
        failure = verdict.first_failure
        assert failure is not None
        assert failure.file == name and failure.index is not None, f"{failure} does not name a record of {name}"


def rewritten(files: Mapping[str, bytes]) -> bytes:
    """A bundle with whole ZIP checksums: the format's own would find any change, and prove nothing.

    The ZIP itself is as docs/formats.md has it, or that would be what is found.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o644 << 16
            with archive.open(info, "w", force_zip64=name.startswith("records/")) as member:
                member.write(data)
    return out.getvalue()


def test_nobody_wrote_to_a_plc(run: Run) -> None:
    last = json.loads((run.folder / "requests.jsonl").read_text("utf-8").splitlines()[-1])
    assert last["writes_seen"] == 0 and last["requests"] > 100
