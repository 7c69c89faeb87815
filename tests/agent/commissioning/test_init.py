"""The guided start, without a terminal and on one, at the simulator's servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from asyncua import ua

from agent.__main__ import main
from agent.commissioning.look import look
from agent.commissioning.plan import SERVICE_FOLDER, Plan, is_of_service
from agent.config import load
from agent.config_modbus import ModbusTag
from agent.config_opcua import OpcuaTag
from protocols.measurement.machine import PackML, StateValues
from protocols.plc.packml import State
from protocols.plc.roles import SignalRole
from tests.agent.commissioning.support import ROOT, Served, Terminal
from tests.agent.opcua.support import Plc, trust_server
from tests.support.opcua import node_server


def test_opcua_without_a_question(plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    words = ["init", "--no-input", "--file", str(file), "--endpoint", plant.endpoint, "--gateway-id", "GW-07",
             "--site", "Tai Po", "--product", "Soy milk=1.2", "--shifts", "none"]  # fmt: skip
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "filling/Status/StateCurrent" in shown
    configuration = load(file)
    line = configuration.lines[0]
    assert configuration.gateway_id == "GW-07"
    assert isinstance(line.configuration.mapping, PackML)
    assert {tag.role for tag in line.tags} == {
        SignalRole.STATE, SignalRole.TOTAL, SignalRole.REJECT, SignalRole.PRODUCT, SignalRole.ORDER,
    }  # fmt: skip
    assert [counter.modulus for counter in line.configuration.counters] == [2_147_483_648] * 2
    assert line.configuration.products[0].code in (101, 102, 103)  # what the PLC says now
    before = file.read_text()
    assert main(words) == 2, "it was overwritten without a question"
    assert file.read_text() == before
    assert main([*words, "--force", "--site", "Yuen Long"]) == 0
    assert (tmp_path / "agent.toml.bak").read_text() == before


def test_modbus_without_a_question(plant: Served, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    assert main(["init", "--no-input", "--file", str(file), "--protocol", "modbus", "--host",
                 f"127.0.0.1:{plant.modbus_port}", "--tag", "state=40001", "--tag", "total=1:uint16", "--tag",
                 "reject=2:uint32:CDAB", "--states", "2=execute 1=stopped",
                 "--product", "Carton=0.68"]) == 0  # fmt: skip
    line = load(file).lines[0]
    assert line.configuration.mapping == StateValues(((1, State.STOPPED), (2, State.EXECUTE)))
    tags = {tag.role: tag for tag in line.tags if isinstance(tag, ModbusTag)}
    assert tags[SignalRole.STATE].register == 0
    assert (tags[SignalRole.REJECT].type, tags[SignalRole.REJECT].little_words) == ("uint32", True)


@pytest.mark.needs("node")
def test_a_server_that_must_trust_this_gateway_first(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no configuration yet by which `certificates` could show it."""
    with node_server(tmp_path, free_port(), acceptUnknown=False) as server:
        trust_server(tmp_path / "state", server.certificate)
        assert main(["init", "--no-input", "--file", str(tmp_path / "agent.toml"), "--endpoint", server.endpoint]) == 2
    said = capsys.readouterr().out
    assert "accept this gateway's certificate on the server" in said
    assert f"This gateway's certificate: {tmp_path / 'state' / 'opcua' / 'own.der'}, fingerprint " in said


@pytest.mark.parametrize("is_there", [True, False])
def test_a_type_and_an_order_that_were_named_are_kept(is_there: bool, plant: Served, tmp_path: Path) -> None:
    """Whether the device answers or not: a counter in another order than was said counts nonsense."""
    file = tmp_path / "agent.toml"
    host = f"127.0.0.1:{plant.modbus_port if is_there else 1}"
    tags = {"running": "10.3" if not is_there else "0.1", "total": "1:int32:CDAB", "reject": "2:uint16:BA"}
    assert main(["init", "--no-input", "--file", str(file), "--protocol", "modbus", "--host", host, "--machine",
                 "running", "--product", "Carton=0.68",
                 *(word for role, where in tags.items() for word in ("--tag", f"{role}={where}"))]) == 0  # fmt: skip
    found = {tag.role: tag for tag in load(file).lines[0].tags if isinstance(tag, ModbusTag)}
    total, reject, running = (found[role] for role in (SignalRole.TOTAL, SignalRole.REJECT, SignalRole.RUNNING))
    assert (total.type, total.little_words, total.little_bytes) == ("int32", True, False)
    assert (reject.type, reject.little_words, reject.little_bytes) == ("uint16", False, True)
    assert running.mask == (2 if is_there else 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "modbus", "--host", "127.0.0.1:1", "--tag", "state=1:uint33"], "a type and an order"),
        (["--protocol", "modbus", "--host", "127.0.0.1:1", "--tag", "state=1:uint16:CDAB"], "a type and an order"),
        (["--protocol", "modbus", "--host", "127.0.0.1:1", "--tag", "state=1.16"], "bit 0 to 15"),
        (["--endpoint", "opc.tcp://127.0.0.1:1"], "is the PLC on?"),
        (["--protocol", "modbus", "--host", "127.0.0.1:1"], "give --tag state"),
        (["--endpoint", "http://x"], "opc.tcp://192.168.0.10:4840"),
        (["--gateway-id", "two words"], "no spaces"),
        (["--shifts", "6-14"], "06:00-14:00"),
        (["--shifts", "22:00-06:00,05:00-07:00"], "two of these shifts overlap"),
        (["--device-id", "3"], "--device-id: not asked for here"),
        (["--tag", "fault=filling/Status/StateCurrent"], "--tag fault: not asked for here"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(
    words: list[str], said: str, plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agent.toml"
    start = ["init", "--no-input", "--file", str(file)]
    needed = [] if "--endpoint" in words or "--protocol" in words else ["--endpoint", plant.endpoint]
    assert main([*start, *needed, *words]) in (1, 2)
    captured = capsys.readouterr()
    assert said in captured.err + captured.out
    assert not file.exists()


def test_a_person_at_a_terminal(plant: Served, tmp_path: Path) -> None:
    """Wrong answers are asked again with the mend; what is offered can be taken by its number."""
    with Terminal("init", folder=tmp_path) as person:
        person.answer("Gateway's name", "my gateway")
        person.answer("no spaces", "GW-09")
        person.answer("Site", "Kwun Tong")
        person.answer("Hub's address")
        person.answer("MQTT broker")
        person.answer("Line's short name", "filling")
        person.answer("Line's name", "Filling line")
        person.answer("Time zone", "Hongkong time")
        person.answer("IANA name", "Asia/Hong_Kong")
        person.answer("The PLC speaks", "1")
        person.answer("Endpoint", "opc.tcp://127.0.0.1:1")
        person.answer("Try again")
        person.answer("Endpoint", plant.endpoint)
        person.answer("Security")
        person.answer("User name", "none")
        person.answer("connected: 8 variables", "")
        person.answer("StateCurrent = ", "find count")
        person.answer("filling/Admin/ProdProcessedCount/AccCount = ", "1")
        person.answer("“total”", "filling/Admin/ProdProcessedCount/AccCount")
        person.answer("“reject”", "none")
        person.answer("“product”", "")
        person.answer("“reason”", "")
        person.answer("“order”", "none")
        person.answer("Its number in the product tag", "101")
        person.answer("Product", "Soy milk")
        person.answer("Ideal cycle in seconds", "fast")
        person.answer("seconds for one piece", "1.2")
        person.answer("Another product", "n")
        person.answer("Most pieces an hour", "")
        person.answer("Shifts", "06:00-14:00,13:00-22:00")
        person.answer("two of these shifts overlap", "06:00-14:00")
        person.see("What it sees now")
        person.see("wrote agent.toml")
        assert person.end() == 0
    line = load(tmp_path / "agent.toml").lines[0]
    assert [tag.role.name for tag in line.tags] == ["STATE", "TOTAL", "PRODUCT"]
    assert (line.configuration.products[0].code, line.configuration.products[0].ideal_cycle_ns) == (101, 1_200_000_000)


@pytest.mark.needs("node")
def test_a_secured_server(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """The strongest security is proposed; its certificate is trusted only after somebody said so; with a login."""
    (tmp_path / "plc.password").write_text("only 4 reading\n")
    (tmp_path / "plc.password").chmod(0o600)
    words = ["--gateway-id", "GW-09", "--site", "x", "--hub", "none", "--broker", "127.0.0.1", "--line", "l1",
             "--name", "L1", "--timezone", "UTC", "--protocol", "opcua", "--machine", "pieces"]  # fmt: skip
    with (
        node_server(tmp_path, free_port(), users={"agent": "only 4 reading"}) as server,
        Terminal("init", *words, "--endpoint", server.endpoint, folder=tmp_path) as person,
    ):
        person.answer("Security [Aes256Sha256RsaPss]")
        person.answer("User name", "agent")
        person.answer("File with the password", "nothing.here")
        person.answer("cannot be read", "plc.password")
        person.see("The server shows a certificate with the fingerprint")
        person.answer("Is it the same", "n")
        person.answer("Try again")
        person.answer("Endpoint", server.endpoint)
        person.answer("Security")
        person.answer("User name [agent]")
        person.answer("File with the password")
        person.answer("Is it the same", "y")
        person.see("connected: ")
    assert not (tmp_path / "agent.toml").exists()


def test_what_was_answered_is_not_lost(plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What only the whole shows to be wrong: the file is kept as a draft, and the error names its line."""
    file = tmp_path / "agent.toml"
    assert main(["init", "--no-input", "--file", str(file), "--endpoint", plant.endpoint, "--machine", "pieces",
                 "--product", "Soy milk"]) == 2  # fmt: skip
    draft = tmp_path / "agent.toml.draft"
    said = capsys.readouterr().err
    assert f"{draft}, line " in said
    assert f"mv {draft} {file}" in said
    assert 'name = "Soy milk"' in draft.read_text()
    assert not file.exists()


def test_without_the_server_it_ends_before_more_is_asked(tmp_path: Path) -> None:
    words = ["--gateway-id", "GW-09", "--site", "x", "--hub", "none", "--broker", "127.0.0.1", "--line", "l1",
             "--name", "L1", "--timezone", "UTC", "--protocol", "opcua",
             "--endpoint", "opc.tcp://127.0.0.1:1"]  # fmt: skip
    with Terminal("init", *words, folder=tmp_path) as person:
        person.answer("Try again", "n")
        person.see("without the server its nodes cannot be named; nothing was written")
        person.see("linetally-agent templates")
        assert person.end() == 2
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_speaks_texts(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The words of a companion specification are known; the product is what its tag says."""
    plc = Plc(free_port())
    file = tmp_path / "agent.toml"
    words = ["--gateway-id", "GW-09", "--site", "x", "--hub", "none", "--broker", "127.0.0.1", "--line", "l1",
             "--name", "L1", "--timezone", "UTC", "--protocol", "opcua", "--endpoint", plc.endpoint, "--security",
             "None", "--username", "none", "--machine", "values", "--tag", "state=line/Machine", "--tag",
             "total=line/Total", "--tag", "reject=none", "--tag", "product=line/Product", "--tag", "reason=none",
             "--tag", "order=none", "--max-pieces-per-hour", "6000", "--shifts", "none"]  # fmt: skip

    def ask() -> None:
        with Terminal("init", *words, folder=tmp_path) as person:
            person.answer("Texts (now: NotExecuting) [NotAvailable=UNDEFINED")
            person.answer("Product [Cola]")
            person.answer("Ideal cycle", "1.2")
            person.answer("Another product", "y")
            person.answer("Product [product 2]", "Cola")
            person.answer("Cola is given already", "Fanta")
            person.answer("Ideal cycle")
            person.answer("Another product")
            person.see("wrote agent.toml")
            assert person.end() == 0

    async def scenario() -> dict[str, str]:
        await plc.start()
        try:
            await plc.add("Machine", ua.LocalizedText("NotExecuting", "en"))
            await plc.write("Product", "Cola")
            await asyncio.to_thread(ask)
            return {each.role: f"{each.value}: {each.trouble}" for each in await look(load(file))}
        finally:
            await plc.stop()

    assert asyncio.run(scenario()) == {"state": '"NotExecuting": ', "total": "0: ", "product": '"Cola": '}
    line = load(file).lines[0]
    tag = next(tag for tag in line.tags if isinstance(tag, OpcuaTag) and tag.texts)
    assert isinstance(line.configuration.mapping, StateValues)
    means = dict(line.configuration.mapping.values)
    assert {text: means[number] for text, number in tag.texts} == {
        "NotAvailable": State.UNDEFINED, "OutOfService": State.STOPPED, "NotExecuting": State.IDLE,
        "Executing": State.EXECUTE,
    }  # fmt: skip
    assert line.product_codes == {"Cola": 1, "Fanta": 2}


def test_the_services_file_names_the_folder_that_the_service_may_write_to() -> None:
    unit = (ROOT / "deploy" / "systemd" / "linetally-agent.service").read_text()
    assert is_of_service(Path("/etc/linetally/agent.toml"))
    assert f"StateDirectory={Path(SERVICE_FOLDER).name}\n" in unit
    plan = Plan("G", "x", "", "b", 8883, True, "l", "L", "UTC", state_folder=SERVICE_FOLDER)
    assert f'state_folder = "{SERVICE_FOLDER}"' in plan.text("x")
    assert f'key_file = "{SERVICE_FOLDER}/gateway-G.key"' in plan.text("x")
    assert not is_of_service(Path("agent.toml"))


def test_a_wrong_device_id_is_said_at_once(plant: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Something answers there, and says that it has no such device."""
    host = f"127.0.0.1:{plant.modbus_port}"
    words = ["init", "--no-input", "--file", str(tmp_path / "agent.toml"), "--protocol", "modbus", "--host", host]
    assert main([*words, "--device-id", "9"]) == 2
    assert f"{host} answers" not in (said := capsys.readouterr().out)
    assert "is its device id (unit, slave) 9?" in said
    assert main([*words, "--device-id", "1"]) == 2
    assert f"{host} answers" in capsys.readouterr().out


def test_ctrl_c_writes_nothing(tmp_path: Path) -> None:
    with Terminal("init", folder=tmp_path) as person:
        person.see("Gateway's name")
        person.interrupt()
        assert person.end() == 130
    assert list(tmp_path.iterdir()) == []
