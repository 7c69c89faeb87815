"""What `doctor` finds, and that each mend is named."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import glance
from agent.__main__ import main
from agent.certificates import CERTIFICATE_FILE, FOLDER, load_or_make_identity
from agent.commissioning import doctor
from agent.commissioning.finding import Level
from agent.commissioning.look import look
from agent.commissioning.plan import SERVICE_FOLDER
from agent.config import load
from agent.keys import KEY_FILE, load_or_make_key, make_state_folder
from agent.spool import Spool
from protocols.errors import ConfigurationError
from protocols.evidence.note import Algorithm, VerifierKey
from tests.agent import factory
from tests.agent.commissioning.support import Served
from tests.agent.opcua.support import URI, Plc
from tests.simulators.broker import running_broker


def findings(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code = main(["doctor", "--config", str(config), "--json", *options])
    found = json.loads(capsys.readouterr().out)["findings"]
    return code, {each["about"]: each for each in found}


def test_a_fresh_gateway(plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.opcua(plant.endpoint), factory.modbus(plant.modbus_port))
    code, found = findings(config, capsys)
    assert code == 1
    assert found["signing key"]["level"] == "fail"
    assert "linetally-agent enrol" in found["signing key"]["mend"]
    assert "nothing answers there" in found["broker"]["words"]
    assert found["line filling"]["words"].endswith("answers, 3 of 3 tags can be measured")
    assert found["line packing"]["words"].endswith("answers, 3 of 3 tags can be measured")
    assert found["line filling, clock"]["level"] == "warn"  # the simulated plant lives in March
    assert all(each["mend"] for each in found.values() if each["level"] != "ok")


def test_a_gateway_that_is_well(
    plant: Served, tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with running_broker(tmp_path, port := free_port()):
        config = factory.write(tmp_path, factory.modbus(plant.modbus_port), broker_port=port)
        public = load_or_make_key(tmp_path / "state").public_key().public_bytes_raw()
        (tmp_path / "state" / "log.vkey").write_text(f"{VerifierKey('log', Algorithm.ED25519, public)}\n")
        Spool.open(tmp_path / "state").close()
        (tmp_path / "state" / glance.FILE).write_text("{}")
        code, found = findings(config, capsys)
    assert found["agent"]["level"] == "ok"
    assert code == 0, [each for each in found.values() if each["level"] == "fail"]
    assert found["broker"]["level"] == "ok"
    assert found["state folder"]["level"] == "ok"


def test_each_bad_tag_is_named(plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opcua = factory.opcua(plant.endpoint).replace("StateCurrent", "StateCurent")
    modbus = factory.modbus(plant.modbus_port).replace("register = 2", "register = 4712")
    code, found = findings(factory.write(tmp_path, opcua, modbus), capsys)
    assert code == 1
    assert "BadNoMatch" in found["line filling, state"]["words"]
    assert "browse" in found["line filling, state"]["mend"]
    assert "2 of 3 tags" in found["line filling"]["words"]
    assert "the register does not exist" in found["line packing, reject"]["words"]
    assert "linetally-agent probe 127.0.0.1" in found["line packing, reject"]["mend"]


def test_one_dead_device_does_not_hide_the_others(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A gateway to a serial line: device 1 answers, 9 never does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(12)
                if head[6] == 1:
                    writer.write(head[:4] + b"\0\5\1\3\2\0\2")
        writer.close()

    async def scenario() -> dict[str, dict[str, Any]]:
        line = factory.modbus(port := free_port()).replace("register = 1 }", "register = 1, device_id = 9 }")
        line = line.replace("register = 2 }", "register = 2, device_id = 9 }")
        async with await asyncio.start_server(serve, "127.0.0.1", port):
            return (await asyncio.to_thread(findings, factory.write(tmp_path, line), capsys))[1]

    found = asyncio.run(scenario())
    assert found["line packing"]["words"].endswith("1 of 3 tags can be measured")
    assert "no answer in time; is its device id (unit, slave) 9?" in found["line packing, device 9"]["words"]


def test_the_makers_number_is_known(plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Register 40002 is written for 1 by everybody once."""
    line = factory.modbus(plant.modbus_port).replace("register = 2 }", "register = 40003 }")
    _, found = findings(factory.write(tmp_path, line), capsys)
    mend = found["line packing, reject"]["mend"]
    assert 'register = 2, table = "holding"' in mend
    assert f"linetally-agent probe 127.0.0.1:{plant.modbus_port} {40_003:#x}" in mend


def test_a_value_that_cannot_be_measured_is_no_good_value(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent takes whole numbers; a server may give texts, lists and parts of pieces with the best quality."""
    plc = Plc(free_port())
    text = factory.opcua(plc.endpoint)
    names = {
        "state": "Text",
        "total": "Parts",
        "reject": "List",
        "product": "Product",
        "speed": "Speed",
        "mode": "Mode",
    }
    tags = "\n".join(f'{role} = {{ path = "line/{name}", namespace = "{URI}" }}' for role, name in names.items())
    text = text[: text.index("state = ")] + tags + "\n\n" + text[text.index("[[line.product]]") :]
    config = factory.write(tmp_path, text)

    async def scenario() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        await plc.start("State", "Product", "Mode")
        try:
            for name, value in {"Text": "Executing", "Parts": 12.5, "List": [1, 2], "Speed": 12.5}.items():
                await plc.add(name, value)
            await plc.write("Product", "Cola 500 ml")
            _, found = await asyncio.to_thread(findings, config, capsys)
            return found, {each.role: f"{each.value}: {each.trouble}" for each in await look(load(config))}
        finally:
            await plc.stop()

    found, seen = asyncio.run(scenario())
    assert found["line filling"]["words"].endswith("3 of 6 tags can be measured")
    assert 'line/Text = "Executing": a whole number is needed, it says a text' in found["line filling, state"]["words"]
    assert "texts = {" in found["line filling, state"]["mend"]
    assert "12.5: a whole number is needed, it says a number with decimals" in found["line filling, total"]["words"]
    assert "2 values: a whole number is needed, it says a list" in found["line filling, reject"]["words"]
    assert not {"line filling, speed", "line filling, product", "line filling, mode"} & set(found)
    assert {role for role, words in seen.items() if not words.endswith(": ")} == {"state", "total", "reject"}


def test_a_value_without_a_meaning_is_said(plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state that no [line.states] names is unknown time, a product that is not there has no ideal cycle."""
    modbus = factory.modbus(plant.modbus_port).replace("reject = {", "product = { register = 7 }\nreject = {")
    states = modbus[modbus.index("1 = ") : modbus.index("[[line.product]]")]
    _, found = findings(factory.write(tmp_path, modbus.replace(states, '99 = "EXECUTE"\n\n')), capsys)
    assert "which is not in [line.states]: unknown time" in found["line packing, state"]["words"]
    assert "which is no product of the configuration" in found["line packing, product"]["words"]
    assert found["line packing"]["words"].endswith("4 of 4 tags can be measured")


def test_a_plc_that_is_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.opcua("opc.tcp://127.0.0.1:1"), factory.modbus(1))
    code, found = findings(config, capsys)
    assert code == 1
    for line in ("filling", "packing"):
        assert "is the PLC on?" in found[f"line {line}"]["words"]


def test_a_line_that_only_the_agent_can_read_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A serial port serves one program, some PLCs one connection: the agent's word counts while it runs."""
    line = factory.modbus(1).replace(
        'host = "127.0.0.1"\nport = 1', 'transport = "serial"\ndevice = "/dev/nothing-here"'
    )
    config = factory.write(tmp_path, line)
    make_state_folder(tmp_path / "state")
    seen = {"line": "packing", "link": "connected to /dev/nothing-here, 3 of 3 tags", "reading": True, "tags": []}
    now = tmp_path / "state" / glance.FILE
    now.write_text(json.dumps({"time_ms": 1, "lines": [seen]}))
    _, found = findings(config, capsys)
    assert found["line packing"]["level"] == "ok"
    assert "connected to /dev/nothing-here" in found["line packing"]["words"]
    now.write_text(json.dumps({"time_ms": 1, "lines": [seen | {"reading": False}]}))
    assert findings(config, capsys)[1]["line packing"]["level"] == "fail"
    now.write_text(json.dumps({"time_ms": 1, "lines": [seen]}))
    os.utime(now, (1, 1))
    assert findings(config, capsys)[1]["line packing"]["level"] == "fail"


def test_a_running_agent_is_not_thrown_out_of_its_broker(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """deploy/mosquitto lets each certificate be one client: nobody else may come while the agent is there."""
    came = []

    async def scenario() -> tuple[dict[str, dict[str, Any]], ...]:
        def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(writer)
            writer.close()

        config = factory.write(tmp_path, factory.modbus(1), broker_port=(port := free_port()))
        make_state_folder(tmp_path / "state")
        now = tmp_path / "state" / glance.FILE
        out = []
        async with await asyncio.start_server(take, "127.0.0.1", port):
            for is_connected in (True, False):
                now.write_text(json.dumps(glance.glance([], is_connected)))
                out.append((await asyncio.to_thread(findings, config, capsys))[1])
                assert len(came) == (not is_connected)
        return tuple(out)

    there, away = asyncio.run(scenario())
    assert there["broker"]["level"] == "ok"
    assert "the running agent is connected" in there["broker"]["words"]
    assert away["broker"]["level"] == "fail"


def test_rights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.modbus(1))
    load_or_make_key(tmp_path / "state")
    (tmp_path / "state" / KEY_FILE).chmod(0o644)
    (tmp_path / "state").chmod(0o755)
    _, found = findings(config, capsys, "--offline")
    assert "chmod 600" in found["signing key"]["mend"]
    assert "chmod 700" in found["state folder"]["mend"]
    assert "broker" not in found


@contextmanager
def another_user() -> Iterator[None]:
    """As a maintenance engineer is: not root, and not the agent's user."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65_534, 65_534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_whoever_is_not_the_agents_user_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The state folder is the service's alone; whoever logs in on a gateway is somebody else."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own is root's alone
        folder = Path(name)
        folder.chmod(0o755)
        config = factory.write(folder, factory.modbus(1))
        make_state_folder(folder / "state")
        Spool.open(folder / "state").close()
        for command in ("doctor", "status", "check"):  # what they import is loaded by who may
            main([command, "--config", str(config)])
        if os.geteuid() != 0:
            (folder / "state").chmod(0)
        capsys.readouterr()
        try:
            with another_user():
                code, found = findings(config, capsys)
                codes = [main([command, "--config", str(config)]) for command in ("status", "check")]
        finally:
            (folder / "state").chmod(0o700)
    assert (code, codes) == (1, [2, 2])
    assert found["state folder"]["level"] == "fail"
    assert "signing key" not in found
    said = capsys.readouterr().err
    assert said.count("this user may not open it") == 2
    if os.geteuid() == 0:
        assert f"sudo -u root linetally-agent doctor --config {config}" in found["state folder"]["mend"]
        assert "sudo -u root linetally-agent status …" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_the_agents_is_not_to_be_taken_away_from_it() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        state = Path(name) / "state"
        make_state_folder(state)
        os.chown(state, 1, 1)
        with another_user(), pytest.raises(ConfigurationError, match="sudo -u daemon linetally-agent"):
            make_state_folder(state / "opcua")


def test_the_services_state_lies_where_it_may_write(tmp_path: Path) -> None:
    """A template names no state folder: it would be /etc/linetally/state, which the unit cannot write to."""
    here = factory.configuration(tmp_path, factory.modbus(1))
    service = replace(here, file=Path("/etc/linetally/agent.toml"), state_folder=Path("/etc/linetally/state"))
    (found,) = doctor.folder_findings(service)
    assert found.level is Level.FAIL
    assert f'state_folder = "{SERVICE_FOLDER}"' in found.mend
    (found,) = doctor.folder_findings(here)
    assert found.level is Level.OK
    (found,) = doctor.folder_findings(replace(service, state_folder=Path(SERVICE_FOLDER) / "x"))
    assert "the service may not write" not in found.words


def test_the_certificate(tmp_path: Path) -> None:
    configuration = factory.configuration(tmp_path, factory.opcua())
    identity = load_or_make_identity(configuration.state_folder, "GW-01")
    assert doctor.certificate_finding(configuration).level is Level.OK
    other = doctor.judge_certificate("it", identity.certificate, "urn:linetally:gateway:GW-02")
    assert other.level is Level.FAIL
    assert "urn:linetally:gateway:GW-01" in other.words

    class Short:
        """The certificate at another time."""

        def __init__(self, begins: timedelta, ends: timedelta) -> None:
            self.extensions = identity.certificate.extensions
            self.not_valid_before_utc = datetime.now(UTC) + begins
            self.not_valid_after_utc = datetime.now(UTC) + ends

    uri = identity.application_uri
    day = timedelta(days=1)
    assert "expired" in doctor.judge_certificate("it", Short(-2 * day, -day), uri).words
    assert doctor.judge_certificate("it", Short(-day, 10 * day), uri).level is Level.WARN
    assert "clock" in doctor.judge_certificate("it", Short(day, 99 * day), uri).mend
    (configuration.state_folder / FOLDER / CERTIFICATE_FILE).write_bytes(b"no certificate")
    assert doctor.certificate_finding(configuration).level is Level.FAIL


def test_receipts_that_do_not_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.modbus(1))
    (tmp_path / "state").mkdir(mode=0o700)
    with Spool.open(tmp_path / "state") as spool:
        spool.set_meta({"last_receipt": f"3 {time.time_ns() // 1_000_000 - 7_300_000}".encode()})
    _, found = findings(config, capsys, "--offline")
    assert found["receipts"] == {
        "about": "receipts", "level": "ok", "words": "0 records wait for a receipt; the last came 2 h ago", "mend": "",
    }  # fmt: skip
    with Spool.open(tmp_path / "state") as spool:
        spool.set_meta({"refused": b"4: not-enrolled"})
    _, found = findings(config, capsys, "--offline")
    assert found["receipts"]["level"] == "ok"
    assert main(["doctor", "--config", str(config), "--offline"]) == 1
    assert "the hub refuses record 4" in capsys.readouterr().out


def test_an_agent_that_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has measured once; its last look at the PLC is not told for what is now."""
    config = factory.write(tmp_path, factory.modbus(1))
    make_state_folder(tmp_path / "state")
    Spool.open(tmp_path / "state").close()
    now = tmp_path / "state" / glance.FILE
    now.write_text(json.dumps({"time_ms": 1, "lines": [{"line": "packing", "link": "connected to it", "tags": []}]}))
    assert main(["status", "--config", str(config)]) == 0
    assert "connected to it" in (said := capsys.readouterr().out)
    assert "NOT RUNNING" not in said
    os.utime(now, (then := time.time() - 3 * 86_400, then))
    _, found = findings(config, capsys, "--offline")
    assert found["agent"]["level"] == "fail"
    assert found["agent"]["words"].endswith("none has been seen for 72 h")
    assert "systemctl start linetally-agent" in found["agent"]["mend"]
    assert main(["status", "--config", str(config)]) == 0
    assert "NOT RUNNING: no agent has been seen since 20" in (said := capsys.readouterr().out)
    assert "connected to it" not in said
    now.unlink()
    assert findings(config, capsys, "--offline")[1]["agent"]["level"] == "fail"


def test_a_log_key_that_is_none_is_said_before_the_agent_refuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = factory.write(tmp_path, factory.modbus(1))
    load_or_make_key(tmp_path / "state")
    (tmp_path / "state" / "log.vkey").write_text("log+1+x\n")
    _, found = findings(config, capsys, "--offline")
    assert found["log's key"]["level"] == "fail"
    assert str(config) in found["log's key"]["mend"]


def test_commands_can_be_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = factory.write(tmp_path, factory.opcua("opc.tcp://127.0.0.1:1"))
    load_or_make_identity(tmp_path / "state", "GW-02")
    _, found = findings(config, capsys, "--offline")
    assert found["OPC UA certificate"]["level"] == "fail"
    assert f"certificates --config {config} --renew" in found["OPC UA certificate"]["mend"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = factory.configuration(tmp_path, factory.modbus(1))
    usage = os.statvfs(tmp_path)
    assert usage.f_bsize
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    found = doctor.disk_finding(configuration)
    assert found.level is Level.FAIL
    assert "raw.max_megabytes" in found.mend
